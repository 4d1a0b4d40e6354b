"""Nets of (x, a), and ensembles of scalar critics Q(x, a), as QC, FQL, IFQL and IQL use them.

Every leaf of an ensemble's parameters has a leading axis over its members.
"""

import jax
import jax.numpy as jnp

from utils.data.datasets import Batch, flatten
from utils.models import blocks, returns
from utils.models.flow import matching_loss
from utils.models.losses import masked_mean
from utils.models.networks import MLP
from utils.models.returns import ReturnMap
from utils.models.train_state import Params


def init_one(net: MLP, key: jax.Array, observation_dim: int, chunk_dim: int) -> Params:
    """Returns untrained parameters of a net of (x, a)."""
    return net.init(key, jnp.zeros((1, observation_dim + chunk_dim)))


def read_one(net: MLP, params: Params, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """Evaluates a net of (x, a) at (..., observation_dim) and flat (..., h * action_dim)."""
    return net.apply(params, jnp.concatenate([observations, actions], axis=-1))


def init(net: MLP, key: jax.Array, input_dim: int, num: int) -> Params:
    """Returns untrained parameters of `num` members."""
    return jax.vmap(lambda k: net.init(k, jnp.zeros((1, input_dim))))(jax.random.split(key, num))


def values(net: MLP, params: Params, *inputs: jax.Array) -> jax.Array:
    """Returns every member's value, (members, ...), of inputs (..., d) that belong together."""
    joined = jnp.concatenate(inputs, axis=-1)
    return jax.vmap(lambda member: net.apply(member, joined)[..., 0])(params)


def values_of_candidates(
    net: MLP, params: Params, observations: jax.Array, candidates: jax.Array
) -> jax.Array:
    """Returns every member's value, (members, n, num), of an observation's own candidates.

    Args:
        net, params: of the ensemble.
        observations: (n, observation_dim).
        candidates: (n, num, h * action_dim).
    """
    num = candidates.shape[1]

    def values_of_row(observation: jax.Array, own: jax.Array) -> jax.Array:
        return values(net, params, jnp.tile(observation, (num, 1)), own)

    evaluations = num * len(jax.tree.leaves(params)[0])
    by_row = blocks.map_rows(values_of_row, observations, candidates, evaluations=evaluations)
    return jnp.swapaxes(by_row, 0, 1)


def aggregate(ensemble_values: jax.Array, how: str) -> jax.Array:
    """Returns the 'mean' or the 'min' over the members, the leading axis."""
    return ensemble_values.min(axis=0) if how == 'min' else ensemble_values.mean(axis=0)


def td_targets(
    return_map: ReturnMap, batch: Batch, next_values: jax.Array, clips: bool
) -> jax.Array:
    """R + g Q_bar, (batch,), in the net's units.

    Args:
        return_map, batch: of the transitions.
        next_values: (batch,) Q_bar at the successors, in the net's units.
        clips: whether they are kept within what a return can be, `config.clip_returns`.
    """
    next_values = returns.bound(next_values, returns.support(return_map), clips)
    return returns.scale_rewards(return_map, batch).rewards + batch.discounts * next_values


def squared_error(ensemble_values: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean squared error of (members, batch) values against (batch,) targets where mask is 1."""
    shape = ensemble_values.shape
    targets = jax.lax.stop_gradient(jnp.broadcast_to(targets, shape))
    return matching_loss(ensemble_values, targets, jnp.broadcast_to(mask, shape))


def loss(
    net: MLP, return_map: ReturnMap, params: Params, batch: Batch, targets: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared temporal difference of all critics, for (batch,) targets in the net's units."""
    own = values(net, params, batch.observations, flatten(batch.actions))
    error = squared_error(own, targets, batch.td_mask)
    mean = returns.to_reward_units(return_map, masked_mean(targets, batch.td_mask))
    return error, {'value_loss': error, 'return_mean': mean}
