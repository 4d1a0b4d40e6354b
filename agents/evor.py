"""EVOR: Expressive Value Learning for Offline RL (arXiv 2510.08218).

Read from top to bottom: three phases and the functions that put them together.

1. A base policy is trained by flow-matching behaviour cloning; it never sees a reward
   (`utils/models/base_policy.py`).
2. The law of the reward-to-go of a state and action is trained by temporal differences. The paper's
   model of it is a flow (`utils/models/value_models/flow_value.py`); `config.value_model` exchanges
   it for a scalar, categorical or quantile model with everything else equal.
3. Acting samples candidates from the base policy, values each by a log-sum-exp over the learned
   law, and picks one by softmax. Nothing is distilled and no gradient is taken.

An "action" below is a chunk of `h` environment actions, flattened to `h * action_dim` numbers;
`h = 1` is the paper's EVOR. Returns live in the net's units, z = (G - mean) / std.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Agent, Decision, Spec, num_candidates
from utils.data.datasets import Batch, flatten
from utils.errors import UserError
from utils.models import (
    base_policy,
    checks,
    critics,
    extraction,
    flow,
    networks,
    returns,
    train_state,
    value_models,
)
from utils.models.networks import VelocityField
from utils.models.returns import ReturnMap
from utils.models.train_state import Params, TrainState
from utils.models.value_models import ValueModel

Metrics = dict[str, jax.Array]


class Model(NamedTuple):
    """What does not change during training: networks, optimiser and settings."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    value_model: ValueModel
    tx: optax.GradientTransformation


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in.

    Attributes:
        policy: the base policy's velocity v(x, a_t, t).
        value: the reward-to-go model; every leaf has a leading axis over the ensemble's members.
        returns: the map between units of reward and the net's.
    """

    policy: TrainState
    value: TrainState
    returns: ReturnMap


@struct.dataclass
class Settings:
    """Inference settings. Changing a static one compiles a new program, a temperature does not.

    Attributes:
        tau_r: temperature of the log-sum-exp over the reward-to-go's law, scalar or (n,).
        tau_q: temperature of the softmax over candidates, scalar or (n,).
            Both are in units of the returns' std; 0 and infinity are meant literally.
        n_pi: number of candidates (static).
        num_return_samples: number N of reward-to-go samples of each candidate (static).
        flow_steps: Euler steps of the base policy (static).
        return_flow_steps: steps of the reward-to-go; 1 of Euler gives a cheap mean (static).
        return_noise: 'random' or 'quadrature' base noise (static).
    """

    tau_r: jax.Array
    tau_q: jax.Array
    n_pi: int = struct.field(pytree_node=False)
    num_return_samples: int = struct.field(pytree_node=False)
    flow_steps: int = struct.field(pytree_node=False)
    return_flow_steps: int = struct.field(pytree_node=False)
    return_noise: str = struct.field(pytree_node=False)


# Extraction: from candidates to an action, at inference and, if asked for, in the backup.


def value_candidates(
    model: Model,
    value_params: Params,
    return_map: ReturnMap,
    observations: jax.Array,
    candidates: jax.Array,
    key: jax.Array,
    settings: Settings,
) -> jax.Array:
    """Regularised values of candidates, Q = tau_R ln E[exp(z / tau_R)], in the net's units.

    The noise is shared across the candidates of an observation, so that it cancels when they are
    compared, and across the ensemble's members, whose values are averaged or the least one taken.

    Args:
        model: of the agent.
        value_params: of the ensemble.
        return_map: of the state.
        observations: (n, observation_dim).
        candidates: (n, n_pi, h * action_dim).
        key: random key.
        settings: of inference.

    Returns:
        (n, n_pi).
    """
    n, n_pi, _ = candidates.shape
    num = settings.num_return_samples
    noise = extraction.return_noise(key, (n, 1), num, settings.return_noise)
    noise = noise._replace(z_0=jnp.broadcast_to(noise.z_0, (n, n_pi, num)))
    observations = jnp.broadcast_to(observations[:, None], (n, n_pi, observations.shape[-1]))
    support = returns.support(return_map)
    tau_r = jnp.broadcast_to(settings.tau_r, (n,))[:, None]

    def member_value(params: Params) -> jax.Array:
        steps = settings.return_flow_steps
        z, weights = model.value_model.law(params, observations, candidates, noise, support, steps)
        return extraction.soft_value(z, weights, tau_r)

    values = jax.vmap(member_value)(value_params)
    return critics.aggregate(values, model.config.value_aggregation)


def extract(
    model: Model,
    policy: TrainState | None,
    value_params: Params,
    return_map: ReturnMap,
    observations: jax.Array,
    key: jax.Array,
    settings: Settings,
    candidates: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Samples candidates, values them and picks one for each of (n, observation_dim) observations.

    `candidates`, (n, num, h * action_dim), take the place of the base policy's samples.

    Returns:
        candidates (n, n_pi, h * action_dim), values (n, n_pi) in the net's units, index (n,).
    """
    policy_key, value_key, pick_key = jax.random.split(key, 3)
    candidates = base_policy.candidates(
        model.policy_net, policy, observations, policy_key, settings, candidates
    )
    values = value_candidates(
        model, value_params, return_map, observations, candidates, value_key, settings
    )
    return candidates, values, extraction.pick(pick_key, values, settings.tau_q)


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Settings,
    candidates: jax.Array | None = None,
) -> Decision:
    """Chooses an action chunk for each observation, in one call.

    Args:
        model, state: of the agent.
        observations: (n, observation_dim).
        key: random key.
        settings: of inference; `n_pi = 1` is behaviour cloning.
        candidates: (n, num, h * action_dim) to choose from, of a base policy that is somebody
            else's; None: `n_pi` samples of the agent's own.
    """
    candidates, values, index = extract(
        model,
        state.policy,
        state.value.params,
        state.returns,
        observations,
        key,
        settings,
        candidates,
    )
    values = returns.to_reward_units(state.returns, values)
    return Decision.of(candidates, values, index, model.config.chunk_length)


# Training.


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    spec, config = model.spec, model.config
    policy_key, value_key = jax.random.split(key)
    policy_params = base_policy.init(model.policy_net, policy_key, spec.observation_dim)
    value_params = jax.vmap(model.value_model.init)(
        jax.random.split(value_key, config.num_value_nets)
    )
    return State(
        policy=train_state.create(policy_params, model.tx, with_target=False),
        value=train_state.create(value_params, model.tx, with_target=True),
        returns=returns.create(config.return_map, *spec[2:]),
    )


def choose_next_actions(model: Model, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Next actions of the backup, (batch, h * action_dim).

    The data's own, or a sample of the base policy (the paper), or the pick among
    `backup_candidates` samples by the rule that `act` follows, valued by `backup_picker`: then the
    law that is learned is that of an improved policy, not of the base policy. Samples of a frozen
    policy were drawn before and come with the batch.
    """
    config = model.config
    if config.next_action == 'dataset':
        return flatten(batch.next_actions)
    if config.backup_candidates == 1:
        if config.frozen_policy:
            return batch.next_candidates[:, 0]
        return base_policy.sample(
            model.policy_net, state.policy.params, batch.next_observations, key, config.flow_steps
        )
    picker = state.value.params if config.backup_picker == 'online' else state.value.target_params
    candidates, _, index = extract(
        model,
        state.policy,
        picker,
        state.returns,
        batch.next_observations,
        key,
        backup_settings(config),
        batch.next_candidates if config.frozen_policy else None,
    )
    return extraction.take(candidates, index)


def value_losses(
    model: Model,
    return_map: ReturnMap,
    params: Params,
    target_params: Params,
    batch: Batch,
    next_actions: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Temporal differences of all members, each against its own target.

    Returns:
        The sum of the members' losses, and metrics with their mean as `value_loss`.
    """
    scaled = returns.scale_rewards(return_map, batch)
    support = returns.support(return_map)

    def member_loss(params: Params, target_params: Params, key: jax.Array):
        return model.value_model.loss(params, target_params, scaled, next_actions, support, key)

    keys = jax.random.split(key, model.config.num_value_nets)
    losses, metrics = jax.vmap(member_loss)(params, target_params, keys)
    metrics = {name: jnp.mean(metric) for name, metric in metrics.items()}
    mean = returns.to_reward_units(return_map, metrics['return_mean'])
    deviation = return_map.std * metrics['return_std']
    metrics = dict(value_loss=jnp.mean(losses), return_mean=mean, return_std=deviation)
    return jnp.sum(losses), metrics


def update_value(
    model: Model,
    return_map: ReturnMap,
    value: TrainState,
    batch: Batch,
    next_actions: jax.Array,
    key: jax.Array,
) -> tuple[TrainState, Metrics]:
    """One temporal-difference step of every member."""

    def objective(params: Params) -> tuple[jax.Array, Metrics]:
        return value_losses(
            model, return_map, params, value.target_params, batch, next_actions, key
        )

    value, metrics, grad_norm = train_state.descend(value, objective, model.tx, model.config.tau)
    return value, metrics | {'value_grad_norm': grad_norm}


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, and of the reward-to-go."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state, batch, next_key)
    value, value_metrics = update_value(
        model, state.returns, state.value, batch, next_actions, value_key
    )
    if model.config.frozen_policy:
        return state.replace(value=value), value_metrics
    policy, policy_metrics = base_policy.update(
        model.policy_net, state.policy, batch, policy_key, model.tx
    )
    return state.replace(policy=policy, value=value), policy_metrics | value_metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """Both losses and the bootstrapped returns on a held-out batch, without a step."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state, batch, next_key)
    value = state.value
    _, metrics = value_losses(
        model, state.returns, value.params, value.target_params, batch, next_actions, value_key
    )
    if model.config.frozen_policy:
        return metrics
    policy_loss = base_policy.loss(model.policy_net, state.policy.params, batch, policy_key)
    return metrics | {'policy_loss': policy_loss}


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Binds a config and what is known of the data to the functions above.

    Raises:
        UserError: a setting out of range.
    """
    check(config)
    if config.value_model == 'categorical' and not math.isfinite(spec.return_high):
        raise UserError(
            'agent.value_model: categorical needs bounded returns, which agent.discount=1 has not'
        )
    model = build(config, spec)
    return Agent(
        init=partial(init, model),
        update=partial(update, model),
        diagnose=partial(diagnose, model),
        act=partial(act, model),
        settings=settings_from(config),
        configure=partial(settings_from, config),
        needs_next_actions=config.next_action == 'dataset',
        shared=('policy',),
        discount=config.discount,
        num_candidates=num_candidates(config),
    )


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    chunk_dim = config.chunk_length * spec.action_dim
    return Model(
        config=config,
        spec=spec,
        policy_net=networks.policy_field(config, spec.action_dim),
        value_model=value_models.create(config, spec.observation_dim, chunk_dim),
        tx=optax.adam(config.lr),
    )


def settings_from(config: ConfigDict, **changes: object) -> Settings:
    """Returns the inference settings of a config, with some of them changed.

    Raises:
        UserError: a setting out of range.
    """
    values = {name: changes.get(name, config[name]) for name in Settings.__dataclass_fields__}
    check(ConfigDict(dict(config) | values))
    temperatures = {name: jnp.float32(values[name]) for name in ('tau_r', 'tau_q')}
    return Settings(**(values | temperatures))


def backup_settings(config: ConfigDict) -> Settings:
    """Returns the settings by which the backup picks among its candidates."""
    return settings_from(
        config, n_pi=config.backup_candidates, num_return_samples=config.backup_return_samples
    )


CHOICES = {
    'value_model': tuple(value_models.MODULES),
    'td_target': ('velocity', 'velocity_successor', 'coupled'),
    'next_action': ('policy', 'dataset'),
    'backup_picker': ('target', 'online'),
    'value_net': ('mlp', 'trunk'),
    'backup_solver': tuple(flow.SOLVERS),
    'return_solver': tuple(flow.SOLVERS),
    'return_noise': ('random', 'quadrature'),
    'value_aggregation': ('mean', 'min'),
}
AT_LEAST_ONE = (
    'flow_steps',
    'backup_flow_steps',
    'return_flow_steps',
    'n_pi',
    'num_return_samples',
    'num_value_nets',
    'num_quantiles',
    'num_levels',
    'backup_candidates',
    'backup_return_samples',
)


def check(config: ConfigDict) -> None:
    """Checks a config by itself.

    Raises:
        UserError: a setting out of range.
    """
    checks.common(config)
    checks.choices(config, CHOICES)
    checks.at_least(config, 1, AT_LEAST_ONE)
    checks.at_least(config, 2, ('num_atoms',))
    checks.ranges(config, {'lam': (0.0, 1.0), 'mean_share': (0.0, 1.0)})
    checks.temperatures(config, ('tau_r', 'tau_q'))
    checks.positive(config, ('kappa',))
    checks.widths(config, 'head_dims')
    checks.phases(config)
    if config.backup_candidates > 1 and config.next_action == 'dataset':
        raise UserError(
            'agent.backup_candidates: a choice needs agent.next_action=policy; '
            'the data has one next action'
        )
