"""Flow matching on straight paths: interpolant, loss and integrators (arXiv 2210.02747)."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from utils.models.losses import masked_mean

Velocity = Callable[[jax.Array, jax.Array], jax.Array]


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


def euler(velocity: Velocity, x: jax.Array, t: jax.Array, dt: float) -> jax.Array:
    """One evaluation a step, error of first order."""
    return x + dt * velocity(x, t)


def midpoint(velocity: Velocity, x: jax.Array, t: jax.Array, dt: float) -> jax.Array:
    """Two evaluations a step, error of second order; never evaluates at the end of the step."""
    return x + dt * velocity(x + 0.5 * dt * velocity(x, t), t + 0.5 * dt)


def heun(velocity: Velocity, x: jax.Array, t: jax.Array, dt: float) -> jax.Array:
    """Two evaluations a step, error of second order; the trapezoidal rule."""
    slope = velocity(x, t)
    return x + 0.5 * dt * (slope + velocity(x + dt * slope, t + dt))


SOLVERS = {'euler': euler, 'midpoint': midpoint, 'heun': heun}


def integrate(
    velocity: Velocity, x_0: jax.Array, num_steps: int, solver: str = 'euler'
) -> jax.Array:
    """Solves dx/dt = velocity(x, t) from t = 0 to 1 with `num_steps` steps of equal size.

    Args:
        velocity: maps (x, t) with t a scalar to an array shaped like x.
        x_0: the starting point.
        num_steps: at least 1.
        solver: a key of `SOLVERS`.

    Returns:
        x at t = 1, shaped like `x_0`.
    """
    step = partial(SOLVERS[solver], velocity, dt=1.0 / num_steps)
    if num_steps == 1:
        return step(x_0, jnp.zeros((), x_0.dtype))
    return jax.lax.fori_loop(
        0, num_steps, lambda k, x: step(x, k.astype(x_0.dtype) / num_steps), x_0
    )
