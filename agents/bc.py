"""BC: the base policy alone, by flow-matching behaviour cloning. It is EVOR with one candidate."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Agent, Decision, Spec
from utils.data.datasets import Batch
from utils.models import base_policy, checks, networks, train_state
from utils.models.networks import VelocityField
from utils.models.train_state import TrainState

Metrics = dict[str, jax.Array]


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    tx: optax.GradientTransformation


@struct.dataclass
class State:
    """Everything that training changes."""

    policy: TrainState


@struct.dataclass
class Settings:
    """Inference settings: Euler steps of the policy (static)."""

    flow_steps: int = struct.field(pytree_node=False)


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    params = base_policy.init(model.policy_net, key, model.spec.observation_dim)
    return State(train_state.create(params, model.tx, with_target=False))


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One step of behaviour cloning."""
    policy, metrics = base_policy.update(model.policy_net, state.policy, batch, key, model.tx)
    return State(policy), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """The matching loss on a held-out batch."""
    return {'policy_loss': base_policy.loss(model.policy_net, state.policy.params, batch, key)}


def act(
    model: Model, state: State, observations: jax.Array, key: jax.Array, settings: Settings
) -> Decision:
    """Samples one action chunk for each of (n, observation_dim) observations."""
    candidates = base_policy.sample_many(
        model.policy_net, state.policy.params, observations, key, 1, settings.flow_steps
    )
    n = observations.shape[0]
    index = jnp.zeros(n, jnp.int32)
    unweighed = jnp.full((n, 1), jnp.nan)
    return Decision.of(candidates, unweighed, index, model.config.chunk_length)


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Binds a config and what is known of the data to the functions above.

    Raises:
        UserError: a setting out of range.
    """
    check(config)
    net = networks.policy_field(config, spec.action_dim)
    model = Model(config, spec, net, optax.adam(config.lr))
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
    checks.at_least(config, 1, ('flow_steps',))
