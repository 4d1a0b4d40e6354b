"""Flow matching on straight paths: interpolant, loss and integrator (arXiv 2210.02747)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from utils.losses import masked_mean


def interpolate(x_0: jax.Array, x_1: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the point at time `t` in [0, 1] on the straight path from `x_0` to `x_1`."""
    return (1.0 - t) * x_0 + t * x_1


def matching_loss(
    velocity: jax.Array, target: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Mean squared distance of velocities, over the entries that count.

    Args:
        velocity, target: float array of the same shape.
        mask: 1 where an entry counts, 0 elsewhere, of the same shape; None: all count.
    """
    errors = jnp.square(velocity - target)
    if mask is None:
        return jnp.mean(errors)
    return masked_mean(errors, mask)


def integrate(
    velocity: Callable[[jax.Array, jax.Array], jax.Array], x_0: jax.Array, num_steps: int
) -> jax.Array:
    """Solves dx/dt = velocity(x, t) from t = 0 to 1 with `num_steps` Euler steps of equal size.

    Args:
        velocity: maps (x, t) with t a scalar to an array shaped like x.
        x_0: the starting point.
        num_steps: at least 1; the global error is of first order in 1 / num_steps.

    Returns:
        x at t = 1, shaped like `x_0`.
    """

    def step(k: jax.Array, x: jax.Array) -> jax.Array:
        return x + velocity(x, k / num_steps) / num_steps

    if num_steps == 1:
        return step(jnp.zeros((), x_0.dtype), x_0)
    return jax.lax.fori_loop(0, num_steps, lambda k, x: step(k.astype(x_0.dtype), x), x_0)
