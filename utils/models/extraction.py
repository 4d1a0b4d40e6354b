"""From reward-to-go samples to an action: soft values and the softmax pick (EVOR, phase 3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from utils.errors import UserError
from utils.models import draws

# Of a quadrature: float32 has no normal number for the outer weights of more nodes.
MAX_NODES = 50


class Noise(NamedTuple):
    """Base noise of the reward-to-go flow.

    Attributes:
        z_0: (..., num) points.
        weights: (num,), positive, summing to 1; with them the points integrate over N(0, 1).
    """

    z_0: jax.Array
    weights: jax.Array


def return_noise(key: jax.Array, batch_shape: tuple[int, ...], num: int, kind: str) -> Noise:
    """Draws base noise of the reward-to-go flow.

    Args:
        key: random key; unused by 'quadrature'.
        batch_shape: shape of the problems that each get `num` points.
        num: number of points.
        kind: 'random' for independent samples, of which the first of many are those of few, or
            'quadrature' for the Gauss-Hermite nodes, which integrate polynomials of degree
            2 num - 1 exactly. One node is the point 0.

    Returns:
        Noise with `z_0` of shape (*batch_shape, num).

    Raises:
        UserError: more nodes than float32 has weights for.
    """
    if kind == 'random':
        z_0 = draws.draw_each(key, num, lambda own: jax.random.normal(own, batch_shape), axis=-1)
        return Noise(z_0, jnp.full((num,), 1.0 / num))
    check_nodes(num)
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    noise = jnp.broadcast_to(jnp.asarray(nodes, jnp.float32), (*batch_shape, num))
    return Noise(noise, jnp.asarray(weights / weights.sum(), jnp.float32))


def check_nodes(num: int) -> None:
    """Checks that there are weights for so many nodes of a quadrature.

    Raises:
        UserError: more than float32 has weights for.
    """
    if num > MAX_NODES:
        raise UserError(
            f'agent.num_return_samples, agent.backup_return_samples: {num} with '
            f'agent.return_noise=quadrature; at most {MAX_NODES}, or take return_noise=random'
        )


def soft_value(returns: jax.Array, weights: jax.Array, temperature: jax.Array) -> jax.Array:
    """The regularised value tau ln E[exp(z / tau)] of weighted points (arXiv 2510.08218, Q*).

    Args:
        returns: (..., num) points z of the distribution.
        weights: their probabilities, broadcastable to `returns`, summing to 1.
        temperature: tau >= 0, broadcastable to `returns.shape[:-1]`. Zero gives the largest return
            of positive probability, infinity the mean.

    Returns:
        (...,) values, accurate in float32 at any temperature: returns are taken relative to their
        mean; where they are small against tau, expm1 and log1p keep a large tau from cancelling,
        elsewhere a log-sum-exp keeps a small one from overflowing.
    """
    weights = jnp.broadcast_to(weights, returns.shape)
    temperature = jnp.asarray(temperature, returns.dtype)
    temperature = jnp.broadcast_to(temperature, returns.shape[:-1])
    tau = jnp.where((temperature > 0) & jnp.isfinite(temperature), temperature, 1.0)
    mean = jnp.sum(returns * weights, axis=-1)
    best = jnp.max(jnp.where(weights > 0, returns, -jnp.inf), axis=-1)
    gaps = (returns - mean[..., None]) / tau[..., None]
    near = jnp.log1p(jnp.sum(weights * jnp.expm1(jnp.clip(gaps, -1.0, 1.0)), axis=-1))
    far = jax.scipy.special.logsumexp(gaps, axis=-1, b=weights)
    soft = mean + tau * jnp.where(jnp.max(jnp.abs(gaps), axis=-1) <= 1.0, near, far)
    return jnp.where(jnp.isinf(temperature), mean, jnp.where(temperature > 0, soft, best))


def compared(values: jax.Array, low: jax.Array, high: jax.Array, q_scale: str) -> jax.Array:
    """Values as `pick` compares them: on the 'linear' scale, or by `log_above_least`."""
    return log_above_least(values, low, high) if q_scale == 'log' else values


def log_above_least(values: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """The log of how far values are above the least return; its softmax compares their ratios.

    Where a reward of -1 ends at success, Q - low is E[discount ** T] / (1 - discount), T steps to
    success: the chance of getting there with a chance `discount` of living on at each step. At
    tau = 1 the softmax of the log is then the base policy's posterior given success (control as
    inference, arXiv 1805.00909), and one temperature means the same near the goal and far away.

    Args:
        values: (...,) values.
        low, high: bounds of every return, finite. What is within a millionth of the interval from
            the least one counts as that.
    """
    # Where all rewards are 0 so is the interval; without a chance of anything all count the same.
    floor = jnp.maximum(1e-6 * (high - low), jnp.finfo(values.dtype).tiny)
    return jnp.log(jnp.maximum(values - low, floor))


def pick(key: jax.Array, values: jax.Array, temperature: jax.Array) -> jax.Array:
    """Samples an index from softmax(values / tau), by the Gumbel-max trick.

    A candidate's Gumbel noise depends neither on the temperature nor on how many there are, so that
    both are compared on common random numbers.

    Args:
        key: random key.
        values: (batch, num) values of the candidates.
        temperature: tau >= 0, broadcastable to (batch,). Zero picks among the best, infinity
            uniformly.

    Returns:
        (batch,) int32 indices.
    """
    if values.shape[-1] == 1:
        # Without a choice nobody needs the values, and a compiler can leave them out.
        return jnp.zeros(values.shape[:-1], jnp.int32)
    *batch_shape, num = values.shape
    gumbels = draws.draw_each(key, num, lambda own: jax.random.gumbel(own, batch_shape), axis=-1)
    return jnp.argmax(pick_logits(values, temperature) + gumbels, axis=-1).astype(jnp.int32)


def pick_logits(values: jax.Array, temperature: jax.Array) -> jax.Array:
    """Logits of `pick`, (batch, num), at most 0."""
    temperature = jnp.asarray(temperature, values.dtype)
    temperature = jnp.broadcast_to(temperature, values.shape[:-1])[..., None]
    gaps = values - jnp.max(values, axis=-1, keepdims=True)
    # A compiler may compute the values twice, rounded differently, so that none equals the largest;
    # the index of the largest is right nevertheless.
    best = jax.nn.one_hot(jnp.argmax(values, axis=-1), values.shape[-1], dtype=bool)
    greedy = jnp.where(best | (gaps == 0), 0.0, -jnp.inf)
    return jnp.where(temperature > 0, gaps / jnp.where(temperature > 0, temperature, 1.0), greedy)


def take(candidates: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the picked one of (n, num, ...) candidates, (n, ...), by (n,) indices."""
    index = index.reshape(-1, *[1] * (candidates.ndim - 1))
    return jnp.take_along_axis(candidates, index, axis=1)[:, 0]
