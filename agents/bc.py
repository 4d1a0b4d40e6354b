"""BC: the base policy alone, by flow-matching behaviour cloning. It is EVOR with one candidate."""

from typing import Any, NamedTuple

import jax
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import COMMON, FLOW_STEPS
from utils.data.datasets import Batch
from utils.models import base_policy, networks, train_state
from utils.models.networks import VelocityField
from utils.models.settings import Declared
from utils.models.train_state import TrainState

Metrics = dict[str, jax.Array]

SETTINGS: Declared = COMMON | dict(flow_steps=FLOW_STEPS)
SHARED = ('policy',)


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the network and the optimiser of a config."""
    net = networks.policy_field(config, spec.action_dim)
    return Model(config, spec, net, optax.adam(config.lr))


@struct.dataclass
class State:
    """Everything that training changes."""

    policy: TrainState


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
    return base_policy.diagnose(model.policy_net, state.policy, batch, key)


def act(
    model: Model, state: State, observations: jax.Array, key: jax.Array, settings: Any
) -> Decision:
    """Samples one action chunk for each of (n, observation_dim) observations."""
    candidates = base_policy.sample_many(
        model.policy_net, state.policy.params, observations, key, 1, settings.flow_steps
    )
    return Decision.unweighed(candidates[:, 0], model.config.chunk_length)
