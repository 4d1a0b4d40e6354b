"""IFQL: implicit Q-learning with a flow policy and best-of-N at evaluation (arXiv 2502.02538).

The flow variant of IDQL: critics and an expectile value as in IQL, a base policy by flow-matching
behaviour cloning, and the best of N samples by the least critic when acting.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import COMMON, FLOW_STEPS, N_PI, PHASES
from utils.data.datasets import Batch
from utils.models import (
    base_policy,
    critics,
    implicit_values,
    networks,
    returns,
    train_state,
)
from utils.models.implicit_values import ImplicitValues
from utils.models.networks import VelocityField
from utils.models.returns import ReturnMap
from utils.models.settings import Declared
from utils.models.train_state import TrainState

Metrics = dict[str, jax.Array]

SETTINGS: Declared = COMMON | PHASES | implicit_values.SETTINGS
SETTINGS |= dict(n_pi=N_PI, flow_steps=FLOW_STEPS)
SHARED = ('policy',)


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    nets: implicit_values.Nets
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    net, nets = networks.policy_field(config, spec.action_dim), implicit_values.networks(config)
    return Model(config, spec, net, nets, optax.adam(config.lr))


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    models: ImplicitValues
    returns: ReturnMap


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    policy_key, values_key = jax.random.split(key)
    spec, config = model.spec, model.config
    policy = base_policy.init(model.policy_net, policy_key, spec.observation_dim)
    chunk_dim = model.policy_net.output_dim
    return State(
        train_state.create(policy, model.tx, with_target=False),
        implicit_values.init(
            model.nets, config, values_key, spec.observation_dim, chunk_dim, model.tx
        ),
        returns.create(config.return_map, spec.scale),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, the critics and the value."""
    policy, metrics = base_policy.update(
        model.policy_net, state.policy, batch, key, model.tx, model.config.frozen_policy
    )
    models, value_metrics = implicit_values.update(
        model.nets, model.config, state.models, state.returns, batch, model.tx
    )
    return state.replace(policy=policy, models=models), metrics | value_metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """All losses on a held-out batch, without a step."""
    metrics = implicit_values.diagnose(model.nets, model.config, state.models, state.returns, batch)
    return metrics | base_policy.diagnose(
        model.policy_net, state.policy, batch, key, model.config.frozen_policy
    )


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    candidates: jax.Array | None = None,
) -> Decision:
    """Chooses the best of N samples for each of (n, observation_dim) observations.

    The samples are `candidates`, (n, N, h * action_dim), or of the agent's own base policy.
    """
    candidates = base_policy.candidates(
        model.policy_net, state.policy, observations, key, settings, candidates
    )
    values = critics.values_of_candidates(
        model.nets.critic, state.models.critic.params, observations, candidates
    )
    values = critics.aggregate(values, 'min')
    index = jnp.argmax(values, axis=1)
    values = returns.to_reward_units(state.returns, values)
    return Decision.of(candidates, values, index, model.config.chunk_length)
