"""The affine map between returns in units of reward and the numbers that value nets see."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from utils.data.datasets import Batch


class ReturnScale(NamedTuple):
    """What is known of a dataset's returns, in units of reward.

    Attributes:
        mean, std: of its reward-to-go.
        low, high: bounds of every return.
    """

    mean: float = 0.0
    std: float = 1.0
    low: float = -math.inf
    high: float = math.inf


@struct.dataclass
class ReturnMap:
    """z = (G - mean) / std, and the interval that returns G lie in.

    Attributes:
        mean, std: scalars, in units of reward.
        low, high: scalars, bounds of every return, in units of reward: read by C51's atoms and by
            `clip_returns`.
    """

    mean: jax.Array
    std: jax.Array
    low: jax.Array
    high: jax.Array


def create(kind: str, scale: ReturnScale) -> ReturnMap:
    """Returns the 'affine' map of a dataset, or 'none': returns enter the nets as they are."""
    if kind == 'none':
        scale = scale._replace(mean=0.0, std=1.0)
    return ReturnMap(*(jnp.asarray(x, jnp.float32) for x in scale))


def scale_rewards(returns: ReturnMap, batch: Batch) -> Batch:
    """Puts rewards in the nets' units; the Bellman recursion stays exact.

    With z = (G - mu) / sigma, G = r + g G' becomes z = (r + g mu - mu) / sigma + g z'.
    """
    shift = (batch.discounts - 1.0) * returns.mean
    return batch.replace(rewards=(batch.rewards + shift) / returns.std)


def to_reward_units(returns: ReturnMap, z: jax.Array) -> jax.Array:
    """Returns G = mean + std z."""
    return returns.mean + returns.std * z


def bound(z: jax.Array, support: tuple[jax.Array, jax.Array], clips: bool) -> jax.Array:
    """Returns bootstrapped returns clipped to what a return can be, if `config.clip_returns`.

    A net's error is carried on by its own target: without bounds values drift beyond what rewards
    allow. C51's projection has them anyway.
    """
    return jnp.clip(z, *support) if clips else z


def support(returns: ReturnMap) -> tuple[jax.Array, jax.Array]:
    """Returns the bounds of every return in the nets' units."""
    return (returns.low - returns.mean) / returns.std, (returns.high - returns.mean) / returns.std
