"""An ensemble of value models and its temporal differences.

Every leaf of its parameters has a leading axis over its members.
"""

import jax
import jax.numpy as jnp
import optax

from utils.data.datasets import Batch
from utils.models import returns, train_state
from utils.models.returns import ReturnMap
from utils.models.train_state import Params, TrainState
from utils.models.value_models import ValueModel

Metrics = dict[str, jax.Array]


def init(model: ValueModel, key: jax.Array, num: int) -> Params:
    """Returns untrained parameters of `num` members."""
    return jax.vmap(model.init)(jax.random.split(key, num))


def losses(
    model: ValueModel,
    return_map: ReturnMap,
    params: Params,
    target_params: Params,
    batch: Batch,
    next_actions: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Temporal differences of all members, each against its own target.

    Args:
        model: of a member.
        return_map: between units of reward and the nets'.
        params, target_params: of the ensemble.
        batch: with rewards in units of reward.
        next_actions: (batch, h * action_dim), of the backup.
        key: random key.

    Returns:
        The sum of the members' losses, and metrics with their mean as `value_loss`.
    """
    scaled = returns.scale_rewards(return_map, batch)
    support = returns.support(return_map)

    def member_loss(params: Params, target_params: Params, key: jax.Array):
        return model.loss(params, target_params, scaled, next_actions, support, key)

    num = len(jax.tree.leaves(params)[0])
    own, metrics = jax.vmap(member_loss)(params, target_params, jax.random.split(key, num))
    metrics = {name: jnp.mean(metric) for name, metric in metrics.items()}
    mean = returns.to_reward_units(return_map, metrics['return_mean'])
    deviation = return_map.std * metrics['return_std']
    metrics = dict(value_loss=jnp.mean(own), return_mean=mean, return_std=deviation)
    return jnp.sum(own), metrics


def update(
    model: ValueModel,
    return_map: ReturnMap,
    value: TrainState,
    batch: Batch,
    next_actions: jax.Array,
    key: jax.Array,
    tx: optax.GradientTransformation,
    tau: float,
) -> tuple[TrainState, Metrics]:
    """One temporal-difference step of every member; see `losses`.

    Args:
        model, return_map, batch, next_actions, key: as for `losses`.
        value: the ensemble's parameters, their target and the optimiser's state.
        tx: the optimiser.
        tau: Polyak step of the target.
    """

    def objective(params: Params) -> tuple[jax.Array, Metrics]:
        return losses(model, return_map, params, value.target_params, batch, next_actions, key)

    value, metrics, grad_norm = train_state.descend(value, objective, tx, tau)
    return value, metrics | {'value_grad_norm': grad_norm}
