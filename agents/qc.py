"""QC: Q-chunking with best-of-N (arXiv 2507.07969).

A flow base policy, scalar critics of action chunks, and the best of N base-policy samples by the
mean critic, both in the backup and at evaluation. QC-1 and QC-5 are chunks of one and five actions.
An "action" below is a chunk, flattened to `h * action_dim` numbers.

Rewards of a chunk are summed up to success, where the episode ends; the released code sums those
after it too, which only chunks of several actions notice.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Agent, Decision, Spec, num_candidates
from utils.data.datasets import Batch, flatten
from utils.models import base_policy, checks, critics, extraction, networks, returns, train_state
from utils.models.networks import MLP, VelocityField
from utils.models.returns import ReturnMap
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    critic_net: MLP
    tx: optax.GradientTransformation


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in."""

    policy: TrainState
    critic: TrainState
    returns: ReturnMap


@struct.dataclass
class Settings:
    """Inference settings: candidates and Euler steps of the policy (static)."""

    n_pi: int = struct.field(pytree_node=False)
    flow_steps: int = struct.field(pytree_node=False)


def best_of_n(
    model: Model,
    state: State,
    critic_params: Params,
    observations: jax.Array,
    key: jax.Array,
    settings: Settings,
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
        settings_from(config, n_pi=config.backup_candidates),
        batch.next_candidates if config.frozen_policy else None,
    )
    next_values = critics.values(
        model.critic_net,
        state.critic.target_params,
        batch.next_observations,
        extraction.take(candidates, index),
    )
    next_value = critics.aggregate(next_values, config.value_aggregation)
    next_value = returns.bound(next_value, returns.support(state.returns), config.clip_returns)
    scaled = returns.scale_rewards(state.returns, batch)
    return scaled.rewards + batch.discounts * next_value


def critic_loss(
    model: Model, return_map: ReturnMap, params: Params, batch: Batch, targets: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Mean squared temporal difference of all critics."""
    values = critics.values(model.critic_net, params, batch.observations, flatten(batch.actions))
    loss = critics.squared_error(values, targets, batch.td_mask)
    mean = returns.to_reward_units(return_map, jnp.mean(targets))
    return loss, {'value_loss': loss, 'return_mean': mean}


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
        returns.create(config.return_map, *spec[2:]),
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, and of the critics."""
    policy_key, next_key = jax.random.split(key)
    targets = critic_targets(model, state, batch, next_key)
    policy, metrics = state.policy, {}
    if not model.config.frozen_policy:
        policy, metrics = base_policy.update(
            model.policy_net, state.policy, batch, policy_key, model.tx
        )
    critic, critic_metrics, grad_norm = train_state.descend(
        state.critic,
        lambda params: critic_loss(model, state.returns, params, batch, targets),
        model.tx,
        model.config.tau,
    )
    metrics |= critic_metrics | {'value_grad_norm': grad_norm}
    return state.replace(policy=policy, critic=critic), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """Both losses on a held-out batch, without a step."""
    policy_key, next_key = jax.random.split(key)
    targets = critic_targets(model, state, batch, next_key)
    _, metrics = critic_loss(model, state.returns, state.critic.params, batch, targets)
    if model.config.frozen_policy:
        return metrics
    policy_loss = base_policy.loss(model.policy_net, state.policy.params, batch, policy_key)
    return metrics | {'policy_loss': policy_loss}


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Settings,
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


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Binds a config and what is known of the data to the functions above.

    Raises:
        UserError: a setting out of range.
    """
    check(config)
    model = Model(
        config=config,
        spec=spec,
        policy_net=networks.policy_field(config, spec.action_dim),
        critic_net=networks.critic(config),
        tx=optax.adam(config.lr),
    )
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
        num_candidates=num_candidates(config),
    )


def settings_from(config: ConfigDict, **changes: object) -> Settings:
    """Returns the inference settings of a config, with some of them changed."""
    values = {name: changes.get(name, config[name]) for name in Settings.__dataclass_fields__}
    check(ConfigDict(dict(config) | values))
    return Settings(**values)


CHOICES = {'value_aggregation': ('mean', 'min'), 'backup_picker': ('target', 'online')}


def check(config: ConfigDict) -> None:
    """Checks a config by itself.

    Raises:
        UserError: a setting out of range.
    """
    checks.common(config)
    checks.choices(config, CHOICES)
    checks.at_least(config, 1, ('flow_steps', 'n_pi', 'backup_candidates', 'num_value_nets'))
    checks.phases(config)
