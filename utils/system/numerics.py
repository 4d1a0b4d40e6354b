"""What JAX's environment variables may not change: numbers that a run's record says nothing of."""

import sys

import jax

# JAX's own defaults. With others a run draws other random numbers or stops at the first update, and
# one that goes on would be two halves of different runs.
PINNED = dict(
    jax_enable_x64=False,
    jax_default_prng_impl='threefry2x32',
    jax_threefry_partitionable=True,
    jax_random_seed_offset=0,
    jax_default_matmul_precision=None,  # agents have a setting for that
    jax_numpy_dtype_promotion='standard',
)


def pin() -> None:
    """Sets them, and says which the environment had otherwise."""
    for name, value in PINNED.items():
        found = getattr(jax.config, name, value)
        if found != value:
            what = f'{name.upper()}={found} is not heeded; it is {value} here'
            print(f'note: {what}', file=sys.stderr)
            jax.config.update(name, value)
