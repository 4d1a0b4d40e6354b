"""IQL: implicit Q-learning (arXiv 2110.06169).

Critics and an expectile value that never value an action outside the data, and a Gaussian policy of
unit deviation by advantage-weighted regression. Its mean acts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import COMMON
from utils.data.datasets import Batch, flatten
from utils.models import implicit_values, networks, returns, train_state
from utils.models.implicit_values import ImplicitValues
from utils.models.losses import masked_mean
from utils.models.networks import MLP
from utils.models.returns import ReturnMap
from utils.models.settings import Declared, Setting, not_negative
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]

# None is of inference: the mean acts.
SETTINGS: Declared = COMMON | implicit_values.SETTINGS
SETTINGS |= dict(
    alpha=Setting(10.0, not_negative, 'inverse temperature of the advantage weights'),
)
SHARED = ()

# Weights beyond this are cut, as in the released code of IQL.
MAX_WEIGHT = 100.0


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: MLP
    nets: implicit_values.Nets
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    chunk_dim = config.chunk_length * spec.action_dim
    net = networks.mlp(config, chunk_dim, config.policy_layer_norm)
    return Model(config, spec, net, implicit_values.networks(config), optax.adam(config.lr))


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    models: ImplicitValues
    returns: ReturnMap


def advantage_weights(advantages: jax.Array, alpha: float) -> jax.Array:
    """min(exp(alpha * advantage), 100), elementwise."""
    return jnp.minimum(jnp.exp(alpha * advantages), MAX_WEIGHT)


def weighted_imitation(
    means: jax.Array, actions: jax.Array, weights: jax.Array, mask: jax.Array
) -> jax.Array:
    """Weighted negative log-likelihood under a Gaussian of unit deviation, less its constant.

    Args:
        means, actions, mask: (batch, h * action_dim).
        weights: (batch,).
    """
    log_losses = 0.5 * jnp.sum(jnp.square(means - actions) * mask, axis=1)
    return jnp.mean(weights * log_losses)


def policy_loss(
    model: Model, state: State, params: Params, batch: Batch
) -> tuple[jax.Array, Metrics]:
    """Advantage-weighted regression on the data's actions."""
    nets, models = model.nets, state.models
    actions = flatten(batch.actions)
    q = implicit_values.least_critic(nets, models.critic.params, batch.observations, actions)
    v = implicit_values.state_values(nets, models.value.params, batch.observations)
    weights = advantage_weights(jax.lax.stop_gradient(q - v), model.config.alpha)
    means = model.policy_net.apply(params, batch.observations)
    mask = jnp.repeat(batch.action_mask, model.spec.action_dim, axis=1)
    loss = weighted_imitation(means, actions, weights * batch.td_mask, mask)
    return loss, {'policy_loss': loss, 'weight': masked_mean(weights, batch.td_mask)}


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    policy_key, values_key = jax.random.split(key)
    spec, config = model.spec, model.config
    policy = model.policy_net.init(policy_key, jnp.zeros((1, spec.observation_dim)))
    chunk_dim = model.policy_net.output_dim
    return State(
        train_state.create(policy, model.tx, with_target=False),
        implicit_values.init(
            model.nets, config, values_key, spec.observation_dim, chunk_dim, model.tx
        ),
        returns.create(config.return_map, spec.scale),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the policy, the critics and the value."""
    del key
    policy, metrics, grad_norm = train_state.descend(
        state.policy, lambda params: policy_loss(model, state, params, batch), model.tx
    )
    models, value_metrics = implicit_values.update(
        model.nets, model.config, state.models, state.returns, batch, model.tx
    )
    metrics |= value_metrics | {'policy_grad_norm': grad_norm}
    return state.replace(policy=policy, models=models), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """All losses on a held-out batch, without a step."""
    del key
    _, metrics = policy_loss(model, state, state.policy.params, batch)
    return metrics | implicit_values.diagnose(
        model.nets, model.config, state.models, state.returns, batch
    )


def act(
    model: Model, state: State, observations: jax.Array, key: jax.Array, settings: Any
) -> Decision:
    """The policy's mean for each of (n, observation_dim) observations."""
    del key, settings
    means = model.policy_net.apply(state.policy.params, observations)
    return Decision.unweighed(jnp.clip(means, -1.0, 1.0), model.config.chunk_length)
