"""IFQL: implicit Q-learning with a flow policy and best-of-N at evaluation (arXiv 2502.02538).

The flow variant of IDQL: critics and an expectile value as in IQL, a base policy by flow-matching
behaviour cloning, and the best of N samples by the least critic when acting.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Agent, Decision, Spec
from utils.data.datasets import Batch
from utils.models import (
    base_policy,
    checks,
    critics,
    implicit_values,
    networks,
    returns,
    train_state,
)
from utils.models.implicit_values import ImplicitValues
from utils.models.networks import VelocityField
from utils.models.returns import ReturnMap
from utils.models.train_state import TrainState

Metrics = dict[str, jax.Array]


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    nets: implicit_values.Nets
    tx: optax.GradientTransformation


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    models: ImplicitValues
    returns: ReturnMap


@struct.dataclass
class Settings:
    """Inference settings: candidates and Euler steps of the policy (static)."""

    n_pi: int = struct.field(pytree_node=False)
    flow_steps: int = struct.field(pytree_node=False)


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
        returns.create(config.return_map, *spec[2:]),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, the critics and the value."""
    policy, metrics = state.policy, {}
    if not model.config.frozen_policy:
        policy, metrics = base_policy.update(model.policy_net, state.policy, batch, key, model.tx)
    models, value_metrics = implicit_values.update(
        model.nets, model.config, state.models, state.returns, batch, model.tx
    )
    return state.replace(policy=policy, models=models), metrics | value_metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """All losses on a held-out batch, without a step."""
    metrics = implicit_values.diagnose(model.nets, model.config, state.models, state.returns, batch)
    if model.config.frozen_policy:
        return metrics
    policy_loss = base_policy.loss(model.policy_net, state.policy.params, batch, key)
    return metrics | {'policy_loss': policy_loss}


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Settings,
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


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Binds a config and what is known of the data to the functions above.

    Raises:
        UserError: a setting out of range.
    """
    check(config)
    net = networks.policy_field(config, spec.action_dim)
    nets = implicit_values.networks(config)
    model = Model(config, spec, net, nets, optax.adam(config.lr))
    return Agent(
        init=partial(init, model),
        update=partial(update, model),
        diagnose=partial(diagnose, model),
        act=partial(act, model),
        settings=settings_from(config),
        configure=partial(settings_from, config),
        needs_next_actions=False,
        shared=('policy',),
        discount=config.discount,
    )


def settings_from(config: ConfigDict, **changes: object) -> Settings:
    """Returns the inference settings of a config, with some of them changed."""
    values = {name: changes.get(name, config[name]) for name in Settings.__dataclass_fields__}
    check(ConfigDict(dict(config) | values))
    return Settings(**values)


def check(config: ConfigDict) -> None:
    """Checks a config by itself.

    Raises:
        UserError: a setting out of range.
    """
    checks.common(config)
    checks.at_least(config, 1, ('flow_steps', 'n_pi'))
    checks.phases(config)
    implicit_values.check(config)
