"""Implicit Q-learning's critics and expectile value (arXiv 2110.06169), for IQL and IFQL.

The critics bootstrap from V, and V is an expectile of the critics over the data's own actions, so
that no action outside the data is ever valued in training.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import critics, train_state
from utils.models.losses import expectile_loss, masked_mean
from utils.models.networks import MLP, critic
from utils.models.returns import ReturnMap
from utils.models.settings import Declared, Setting, at_least, within
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]

SETTINGS: Declared = dict(
    num_value_nets=Setting(2, at_least(1), 'critics; the least one counts'),
    expectile=Setting(0.9, within(0.0, 1.0), "expectile of the critics over the data's actions"),
)


class Nets(NamedTuple):
    """A net of the critics Q(x, a) and one of the value V(x)."""

    critic: MLP
    value: MLP


@struct.dataclass
class ImplicitValues:
    """The critics, every leaf with a leading axis over them, and the value."""

    critic: TrainState
    value: TrainState


def networks(config: ConfigDict) -> Nets:
    """Returns the nets of a config."""
    net = critic(config)
    return Nets(net, net)


def init(
    nets: Nets,
    config: ConfigDict,
    key: jax.Array,
    observation_dim: int,
    chunk_dim: int,
    tx: optax.GradientTransformation,
) -> ImplicitValues:
    """Returns the untrained models."""
    critic_key, value_key = jax.random.split(key)
    critic = critics.init(
        nets.critic, critic_key, observation_dim + chunk_dim, config.num_value_nets
    )
    value = nets.value.init(value_key, jnp.zeros((1, observation_dim)))
    return ImplicitValues(
        train_state.create(critic, tx, with_target=True),
        train_state.create(value, tx, with_target=False),
    )


def state_values(nets: Nets, params: Params, observations: jax.Array) -> jax.Array:
    """V(x), (n,), in the net's units."""
    return nets.value.apply(params, observations)[..., 0]


def least_critic(
    nets: Nets, params: Params, observations: jax.Array, actions: jax.Array
) -> jax.Array:
    """The least critic's Q(x, a), (...,), in the net's units."""
    return critics.values(nets.critic, params, observations, actions).min(axis=0)


def expectile_value_loss(
    nets: Nets, config: ConfigDict, params: Params, target_critic: Params, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """Expectile regression of V(x) on the least target critic at the data's actions."""
    target_q = least_critic(nets, target_critic, batch.observations, flatten(batch.actions))
    errors = jax.lax.stop_gradient(target_q) - state_values(nets, params, batch.observations)
    loss = masked_mean(expectile_loss(errors, config.expectile), batch.td_mask)
    return loss, {'expectile_loss': loss}


def td_loss(
    nets: Nets,
    config: ConfigDict,
    return_map: ReturnMap,
    params: Params,
    value_params: Params,
    batch: Batch,
) -> tuple[jax.Array, Metrics]:
    """Mean squared difference of all critics to r + g V(x'); logged as `value_loss`, as others'."""
    next_values = state_values(nets, value_params, batch.next_observations)
    targets = critics.td_targets(return_map, batch, next_values, config.clip_returns)
    return critics.loss(nets.critic, return_map, params, batch, targets)


def update(
    nets: Nets,
    config: ConfigDict,
    models: ImplicitValues,
    return_map: ReturnMap,
    batch: Batch,
    tx: optax.GradientTransformation,
) -> tuple[ImplicitValues, Metrics]:
    """One optimiser step of V and of the critics."""
    value, value_metrics, _ = train_state.descend(
        models.value,
        lambda params: expectile_value_loss(
            nets, config, params, models.critic.target_params, batch
        ),
        tx,
    )
    critic, critic_metrics, grad_norm = train_state.descend(
        models.critic,
        lambda params: td_loss(nets, config, return_map, params, models.value.params, batch),
        tx,
        config.tau,
    )
    metrics = value_metrics | critic_metrics | {'value_grad_norm': grad_norm}
    return ImplicitValues(critic, value), metrics


def diagnose(
    nets: Nets, config: ConfigDict, models: ImplicitValues, return_map: ReturnMap, batch: Batch
) -> Metrics:
    """Both losses on a held-out batch, without a step."""
    critic, value = models.critic, models.value
    _, value_metrics = expectile_value_loss(nets, config, value.params, critic.target_params, batch)
    _, critic_metrics = td_loss(nets, config, return_map, critic.params, value.params, batch)
    return value_metrics | critic_metrics
