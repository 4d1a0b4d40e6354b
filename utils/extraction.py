"""From reward-to-go samples to an action: soft values and the softmax pick (EVOR, phase 3)."""

import jax
import jax.numpy as jnp
import numpy as np


def return_noise(
    key: jax.Array, batch_shape: tuple[int, ...], num: int, kind: str
) -> tuple[jax.Array, jax.Array]:
    """Base noise of the reward-to-go flow, with weights that integrate over N(0, 1).

    Args:
        key: random key; unused by 'quadrature'.
        batch_shape: shape of the problems that each get `num` points.
        num: number of points.
        kind: 'random' for independent samples, or 'quadrature' for the Gauss-Hermite nodes, which
            integrate polynomials of degree 2 num - 1 exactly. One node is the point 0.

    Returns:
        noise: (*batch_shape, num).
        weights: (num,), positive, summing to 1.
    """
    if kind == 'random':
        return jax.random.normal(key, (*batch_shape, num)), jnp.full((num,), 1.0 / num)
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    noise = jnp.broadcast_to(jnp.asarray(nodes, jnp.float32), (*batch_shape, num))
    return noise, jnp.asarray(weights / weights.sum(), jnp.float32)


def soft_value(returns: jax.Array, weights: jax.Array, temperature: jax.Array) -> jax.Array:
    """The regularised value tau ln E[exp(z / tau)] of weighted returns (arXiv 2510.08218, Q*).

    Args:
        returns: (..., num) reward-to-go samples z.
        weights: (num,) positive, summing to 1.
        temperature: tau >= 0, broadcastable to `returns.shape[:-1]`. Zero gives the largest return,
            infinity the mean.

    Returns:
        (...,) values. Exact in float32 at any temperature: the log-sum-exp is taken around the
        largest return, with expm1 and log1p so that a large tau does not cancel.
    """
    temperature = jnp.asarray(temperature, returns.dtype)
    temperature = jnp.broadcast_to(temperature, returns.shape[:-1])
    best = jnp.max(returns, axis=-1)
    mean = returns @ weights
    tau = jnp.where((temperature > 0) & jnp.isfinite(temperature), temperature, 1.0)
    gaps = (returns - best[..., None]) / tau[..., None]
    soft = best + tau * jnp.log1p(jnp.expm1(gaps) @ weights)
    return jnp.where(jnp.isinf(temperature), mean, jnp.where(temperature > 0, soft, best))


def pick(key: jax.Array, values: jax.Array, temperature: jax.Array) -> jax.Array:
    """Samples an index from softmax(values / tau).

    Args:
        key: random key.
        values: (batch, num) values of the candidates.
        temperature: tau >= 0, broadcastable to (batch,). Zero picks among the best, infinity
            uniformly.

    Returns:
        (batch,) int32 indices.
    """
    return jax.random.categorical(key, pick_logits(values, temperature), axis=-1)


def pick_logits(values: jax.Array, temperature: jax.Array) -> jax.Array:
    """Logits of `pick`, (batch, num), at most 0."""
    temperature = jnp.asarray(temperature, values.dtype)
    temperature = jnp.broadcast_to(temperature, values.shape[:-1])[..., None]
    gaps = values - jnp.max(values, axis=-1, keepdims=True)
    greedy = jnp.where(gaps == 0, 0.0, -jnp.inf)
    return jnp.where(temperature > 0, gaps / jnp.where(temperature > 0, temperature, 1.0), greedy)
