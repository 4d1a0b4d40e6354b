"""Random draws that do not change when more of them are made."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def draw_each(
    key: jax.Array, num: int, draw: Callable[[jax.Array], jax.Array], axis: int
) -> jax.Array:
    """Draws `num` times, each with a key of its own, and stacks the draws along `axis`.

    Draw `i` depends on the key and on `i` alone: those of a small `num` are the first ones of a
    large one. So numbers of candidates or of samples are compared on common random numbers. A
    single draw of all of them promises no such thing.

    Args:
        key: random key.
        num: number of draws.
        draw: (key) -> one of them.
        axis: of the result.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num))
    return jax.vmap(draw, out_axes=axis)(keys)
