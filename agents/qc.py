"""QC: Q-chunking with best-of-N (arXiv 2507.07969).

A flow base policy, scalar critics of action chunks, and the best of N base-policy samples by the
mean critic, both in the backup and at evaluation. QC-1 and QC-5 are chunks of one and five actions.
An "action" below is a chunk, flattened to `h * action_dim` numbers.

Rewards of a chunk are summed up to success, where the episode ends; the released code sums those
after it too, which only chunks of several actions notice.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import AFFINE, COMMON, FLOW_STEPS, N_PI, PHASES, VALUE_AGGREGATION, inference
from utils.data.datasets import Batch
from utils.models import base_policy, critics, extraction, networks, returns, train_state
from utils.models.networks import MLP, VelocityField
from utils.models.returns import ReturnMap
from utils.models.settings import Declared, Setting, at_least, one_of
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]

# Returns are standardised as EVOR's are, so that this is no difference between the two; as
# released they are not.
SETTINGS: Declared = COMMON | PHASES
SETTINGS |= dict(
    return_map=AFFINE,
    num_value_nets=Setting(2, at_least(1), 'critics'),
    value_aggregation=VALUE_AGGREGATION,
    backup_candidates=Setting(32, at_least(1), 'candidates in the backup'),
    backup_picker=Setting(
        'online', one_of('online', 'target'), 'critics that pick among the candidates'
    ),
    n_pi=N_PI,
    flow_steps=FLOW_STEPS,
)
SHARED = ('policy',)


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    critic_net: MLP
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    return Model(
        config=config,
        spec=spec,
        policy_net=networks.policy_field(config, spec.action_dim),
        critic_net=networks.critic(config),
        tx=optax.adam(config.lr),
    )


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    critic: TrainState
    returns: ReturnMap


def best_of_n(
    model: Model,
    state: State,
    critic_params: Params,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    candidates: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best of `n_pi` base-policy samples for each of (n, observation_dim) observations.

    `candidates`, (n, num, h * action_dim), take the place of the base policy's samples.

    Returns:
        candidates (n, n_pi, h * action_dim), values (n, n_pi) in the net's units, index (n,).
    """
    candidates = base_policy.candidates(
        model.policy_net, state.policy, observations, key, settings, candidates
    )
    values = critics.values_of_candidates(model.critic_net, critic_params, observations, candidates)
    values = critics.aggregate(values, model.config.value_aggregation)
    return candidates, values, jnp.argmax(values, axis=1)


def critic_targets(model: Model, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """R + g Q_bar(x', best of N), (batch,), in the net's units."""
    config, critic = model.config, state.critic
    candidates, _, index = best_of_n(
        model,
        state,
        critic.params if config.backup_picker == 'online' else critic.target_params,
        batch.next_observations,
        key,
        inference(SETTINGS, config, n_pi=config.backup_candidates),
        batch.next_candidates if config.frozen_policy else None,
    )
    next_values = critics.values(
        model.critic_net,
        state.critic.target_params,
        batch.next_observations,
        extraction.take(candidates, index),
    )
    next_value = critics.aggregate(next_values, config.value_aggregation)
    return critics.td_targets(state.returns, batch, next_value, config.clip_returns)


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    policy_key, critic_key = jax.random.split(key)
    spec, config = model.spec, model.config
    policy = base_policy.init(model.policy_net, policy_key, spec.observation_dim)
    input_dim = spec.observation_dim + model.policy_net.output_dim
    critic = critics.init(model.critic_net, critic_key, input_dim, config.num_value_nets)
    return State(
        train_state.create(policy, model.tx, with_target=False),
        train_state.create(critic, model.tx, with_target=True),
        returns.create(config.return_map, spec.scale),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, and of the critics."""
    policy_key, next_key = jax.random.split(key)
    targets = critic_targets(model, state, batch, next_key)
    policy, metrics = base_policy.update(
        model.policy_net, state.policy, batch, policy_key, model.tx, model.config.frozen_policy
    )
    critic, critic_metrics, grad_norm = train_state.descend(
        state.critic,
        lambda params: critics.loss(model.critic_net, state.returns, params, batch, targets),
        model.tx,
        model.config.tau,
    )
    metrics |= critic_metrics | {'value_grad_norm': grad_norm}
    return state.replace(policy=policy, critic=critic), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """Both losses on a held-out batch, without a step."""
    policy_key, next_key = jax.random.split(key)
    targets = critic_targets(model, state, batch, next_key)
    _, metrics = critics.loss(model.critic_net, state.returns, state.critic.params, batch, targets)
    return metrics | base_policy.diagnose(
        model.policy_net, state.policy, batch, policy_key, model.config.frozen_policy
    )


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    candidates: jax.Array | None = None,
) -> Decision:
    """Chooses the best of N chunks for each of (n, observation_dim) observations.

    The chunks are `candidates`, (n, N, h * action_dim), or samples of the agent's own base policy.
    """
    candidates, values, index = best_of_n(
        model, state, state.critic.params, observations, key, settings, candidates
    )
    values = returns.to_reward_units(state.returns, values)
    return Decision.of(candidates, values, index, model.config.chunk_length)
