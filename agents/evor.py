"""EVOR: Expressive Value Learning for Offline RL (arXiv 2510.08218).

Read from top to bottom: three phases and the functions that put them together.

1. A base policy is trained by flow-matching behaviour cloning; it never sees a reward.
2. The law of the reward-to-go of a state and action is trained by flow-based temporal differences.
3. Acting samples candidates from the base policy, values each by a log-sum-exp over reward-to-go
   samples, and picks one by softmax. Nothing is distilled and no gradient is taken.

An "action" below is a chunk of `h` environment actions, flattened to `h * action_dim` numbers;
`h = 1` is the paper's EVOR. Returns live in the net's units, z = (G - return_mean) / return_std.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Agent, Decision, Spec
from utils import extraction, flow, train_state
from utils.datasets import Batch
from utils.errors import UserError, did_you_mean
from utils.networks import VelocityField
from utils.train_state import TrainState

Metrics = dict[str, jax.Array]


class Model(NamedTuple):
    """What does not change during training: networks, optimiser and settings."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    value_net: VelocityField
    tx: optax.GradientTransformation


@struct.dataclass
class State:
    """Everything that training changes, and the scale that its values are in.

    Attributes:
        policy: the base policy's velocity v(x, a_t, t).
        value: the reward-to-go's velocity s(x, a, z_t, t); every leaf has a leading axis over the
            ensemble's members.
        return_mean, return_std: scalars mu and sigma of z = (G - mu) / sigma.
    """

    policy: TrainState
    value: TrainState
    return_mean: jax.Array
    return_std: jax.Array


@struct.dataclass
class Settings:
    """Inference settings. Changing a static one compiles a new program, a temperature does not.

    Attributes:
        tau_r: temperature of the log-sum-exp over reward-to-go samples, scalar or (n,).
        tau_q: temperature of the softmax over candidates, scalar or (n,).
            Both are in units of return_std; 0 and infinity are meant literally.
        n_pi: number of candidates (static).
        num_return_samples: number N of reward-to-go samples of each candidate (static).
        flow_steps: Euler steps of the base policy (static).
        return_flow_steps: Euler steps of the reward-to-go; 1 gives a cheap mean (static).
        return_noise: 'random' or 'quadrature' base noise (static).
    """

    tau_r: jax.Array
    tau_q: jax.Array
    n_pi: int = struct.field(pytree_node=False)
    num_return_samples: int = struct.field(pytree_node=False)
    flow_steps: int = struct.field(pytree_node=False)
    return_flow_steps: int = struct.field(pytree_node=False)
    return_noise: str = struct.field(pytree_node=False)


# Phase 1: base policy.


def policy_loss(
    model: Model, params: train_state.Params, batch: Batch, key: jax.Array
) -> jax.Array:
    """Flow-matching behaviour cloning: E || v(x, a_t, t) - (a - a_0) ||^2.

    Steps of a chunk after a trajectory's cut do not count.
    """
    noise_key, time_key = jax.random.split(key)
    a_1 = _flatten(batch.actions)
    a_0 = jax.random.normal(noise_key, a_1.shape)
    t = jax.random.uniform(time_key, (a_1.shape[0], 1))
    velocity = model.policy_net.apply(params, flow.interpolate(a_0, a_1, t), t, batch.observations)
    mask = jnp.repeat(batch.action_mask, model.spec.action_dim, axis=1)
    return flow.matching_loss(velocity, a_1 - a_0, mask)


def sample_actions(
    model: Model,
    params: train_state.Params,
    observations: jax.Array,
    key: jax.Array,
    flow_steps: int,
) -> jax.Array:
    """Samples one action of the base policy for each of (..., observation_dim) observations.

    Returns:
        (..., h * action_dim), clipped to the action range [-1, 1].
    """
    action_dim = model.policy_net.output_dim
    a_0 = jax.random.normal(key, (*observations.shape[:-1], action_dim))

    def velocity(a_t: jax.Array, t: jax.Array) -> jax.Array:
        return model.policy_net.apply(params, a_t, t, observations)

    return jnp.clip(flow.integrate(velocity, a_0, flow_steps), -1.0, 1.0)


# Phase 2: reward-to-go.


def velocity_target(
    rewards: jax.Array, discounts: jax.Array, next_velocity: jax.Array
) -> jax.Array:
    """The paper's target as summarised: u = r + g s_bar(z_t, t, x', a').

    It does not learn the return law. Where reward and successor are determined by (x, a), the fixed
    point is s = Q for all z and t: the law N(Q, 1), whose spread is that of the base noise. Where
    they are random, z_t tells of them, and the fixed point s = E[r + g s | z_t] is wider still and
    can be biased. At t = 0, where z_t tells nothing, s(z_0, 0) = Q always holds: read the mean of
    this target in one step (`return_flow_steps=1`).
    """
    return rewards + discounts * next_velocity


def coupled_target(
    rewards: jax.Array,
    discounts: jax.Array,
    z_0: jax.Array,
    next_z_1: jax.Array,
    next_velocity: jax.Array,
    lam: float,
) -> jax.Array:
    """A target that keeps the return law: (z_1 - z_0) + lam g (s_bar(z'_t) - (z'_1 - z_0)).

    Here z_1 = r + g z'_1, with z'_1 the successor's return from the same noise z_0. `lam = 0` is
    flow matching to bootstrapped samples; `lam = 1` uses the successor's velocity alone, with less
    variance and a small bias (the family of arXiv 2605.08253).

    Args:
        rewards, discounts, z_0, next_z_1: (batch, 1).
        next_velocity: (batch, 1), s_bar at the successor's own point z'_t = (1-t) z_0 + t z'_1.
        lam: control variate in [0, 1].
    """
    z_1 = rewards + discounts * next_z_1
    return (z_1 - z_0) + lam * discounts * (next_velocity - (next_z_1 - z_0))


def value_loss(
    model: Model,
    params: train_state.Params,
    target_params: train_state.Params,
    batch: Batch,
    next_actions: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """Flow-based temporal difference of one member of the ensemble.

    Args:
        model: networks and settings.
        params, target_params: of one member.
        batch: with `rewards` and `discounts` in the net's units (`scale_rewards`).
        next_actions: (batch, h * action_dim).
        key: random key.
    """
    config = model.config
    noise_key, time_key = jax.random.split(key)
    actions = _flatten(batch.actions)
    rewards, discounts, mask = (
        array[:, None] for array in (batch.rewards, batch.discounts, batch.td_mask)
    )
    z_0 = jax.random.normal(noise_key, rewards.shape)
    t = jax.random.uniform(time_key, rewards.shape)

    def next_velocity(z: jax.Array, t: jax.Array) -> jax.Array:
        return model.value_net.apply(target_params, z, t, batch.next_observations, next_actions)

    next_z_1 = flow.integrate(next_velocity, z_0, config.flow_steps)
    z_1 = rewards + discounts * next_z_1
    z_t = flow.interpolate(z_0, z_1, t)
    if config.td_target == 'velocity':
        target = velocity_target(rewards, discounts, next_velocity(z_t, t))
    else:
        next_z_t = flow.interpolate(z_0, next_z_1, t)
        target = coupled_target(
            rewards, discounts, z_0, next_z_1, next_velocity(next_z_t, t), config.lam
        )
    velocity = model.value_net.apply(params, z_t, t, batch.observations, actions)
    loss = flow.matching_loss(velocity, jax.lax.stop_gradient(target), mask)
    return loss, {'return_mean': jnp.mean(z_1), 'return_std': jnp.std(z_1)}


def scale_rewards(state: State, batch: Batch) -> Batch:
    """Puts rewards in the net's units; the Bellman recursion stays exact.

    With z = (G - mu) / sigma, G = r + g G' becomes z = (r + g mu - mu) / sigma + g z'.
    """
    mean, std = state.return_mean, state.return_std
    return batch.replace(rewards=(batch.rewards + (batch.discounts - 1.0) * mean) / std)


def sample_returns(
    model: Model,
    params: train_state.Params,
    observations: jax.Array,
    actions: jax.Array,
    z_0: jax.Array,
    flow_steps: int,
) -> jax.Array:
    """Carries base noise to reward-to-go samples, in the net's units.

    Args:
        model, params: of one member of the ensemble.
        observations: (..., observation_dim).
        actions: (..., h * action_dim).
        z_0: (..., num) noise.
        flow_steps: Euler steps. One step gives z_0 + s(z_0, 0) = E[z_1 | z_0], whose average over
            the noise is the mean return.

    Returns:
        (..., num).
    """
    conditions = [
        jnp.broadcast_to(array[..., None, :], (*z_0.shape, array.shape[-1]))
        for array in (observations, actions)
    ]

    def velocity(z: jax.Array, t: jax.Array) -> jax.Array:
        return model.value_net.apply(params, z, t, *conditions)

    return flow.integrate(velocity, z_0[..., None], flow_steps)[..., 0]


# Phase 3: policy extraction at inference.


def value_candidates(
    model: Model,
    state: State,
    observations: jax.Array,
    candidates: jax.Array,
    key: jax.Array,
    settings: Settings,
) -> jax.Array:
    """Regularised values of candidates, Q = tau_R ln mean_j exp(z_j / tau_R), in the net's units.

    The noise is shared across the candidates of an observation, so that it cancels when they are
    compared, and across the ensemble's members, whose values are averaged or the least one taken.

    Args:
        model, state: of the agent.
        observations: (n, observation_dim).
        candidates: (n, n_pi, h * action_dim).
        key: random key.
        settings: of inference.

    Returns:
        (n, n_pi).
    """
    n, n_pi, _ = candidates.shape
    z_0, weights = extraction.return_noise(
        key, (n, 1), settings.num_return_samples, settings.return_noise
    )
    z_0 = jnp.broadcast_to(z_0, (n, n_pi, settings.num_return_samples))
    observations = jnp.broadcast_to(observations[:, None], (n, n_pi, observations.shape[-1]))

    def member_value(params: train_state.Params) -> jax.Array:
        returns = sample_returns(
            model, params, observations, candidates, z_0, settings.return_flow_steps
        )
        tau_r = jnp.broadcast_to(settings.tau_r, (n,))[:, None]
        return extraction.soft_value(returns, weights, tau_r)

    values = jax.vmap(member_value)(state.value.params)
    return values.min(axis=0) if model.config.value_aggregation == 'min' else values.mean(axis=0)


def act(
    model: Model, state: State, observations: jax.Array, key: jax.Array, settings: Settings
) -> Decision:
    """Chooses an action chunk for each observation, in one call.

    Args:
        model, state: of the agent.
        observations: (n, observation_dim).
        key: random key.
        settings: of inference; `n_pi = 1` is behaviour cloning.
    """
    policy_key, value_key, pick_key = jax.random.split(key, 3)
    n = observations.shape[0]
    repeated = jnp.broadcast_to(observations[:, None], (n, settings.n_pi, observations.shape[-1]))
    candidates = sample_actions(
        model, state.policy.params, repeated, policy_key, settings.flow_steps
    )
    values = value_candidates(model, state, observations, candidates, value_key, settings)
    index = extraction.pick(pick_key, values, settings.tau_q)
    candidates = candidates.reshape(
        n, settings.n_pi, model.config.chunk_length, model.spec.action_dim
    )
    actions = jnp.take_along_axis(candidates, index[:, None, None, None], axis=1)[:, 0]
    values = state.return_mean + state.return_std * values
    return Decision(actions, candidates, values, index)


# Putting them together.


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    spec, config = model.spec, model.config
    policy_key, value_key = jax.random.split(key)
    observation = jnp.zeros((1, spec.observation_dim))
    action = jnp.zeros((1, model.policy_net.output_dim))
    z, t = jnp.zeros((1, 1)), jnp.zeros((1, 1))
    policy_params = model.policy_net.init(policy_key, action, t, observation)
    value_keys = jax.random.split(value_key, config.num_value_nets)
    value_params = jax.vmap(lambda k: model.value_net.init(k, z, t, observation, action))(
        value_keys
    )
    affine = config.return_map == 'affine'
    return State(
        policy=train_state.create(policy_params, model.tx, with_target=False),
        value=train_state.create(value_params, model.tx, with_target=True),
        return_mean=jnp.asarray(spec.return_mean if affine else 0.0, jnp.float32),
        return_std=jnp.asarray(spec.return_std if affine else 1.0, jnp.float32),
    )


def update_policy(
    model: Model, policy: TrainState, batch: Batch, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """One step of behaviour cloning; needs no reward."""
    loss, grads = jax.value_and_grad(partial(policy_loss, model))(policy.params, batch, key)
    metrics = {'policy_loss': loss, 'policy_grad_norm': optax.tree.norm(grads)}
    return train_state.apply_gradients(policy, grads, model.tx), metrics


def update_value(
    model: Model, value: TrainState, batch: Batch, next_actions: jax.Array, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """One temporal-difference step of every member, on rewards in the net's units."""

    def loss_and_grads(params, target_params, key):
        loss = partial(value_loss, model)
        return jax.value_and_grad(loss, has_aux=True)(
            params, target_params, batch, next_actions, key
        )

    keys = jax.random.split(key, model.config.num_value_nets)
    (losses, metrics), grads = jax.vmap(loss_and_grads)(value.params, value.target_params, keys)
    metrics = {name: jnp.mean(metric) for name, metric in metrics.items()}
    metrics |= {'value_loss': jnp.mean(losses), 'value_grad_norm': optax.tree.norm(grads)}
    return train_state.apply_gradients(value, grads, model.tx, model.config.tau), metrics


def choose_next_actions(
    model: Model, policy_params: train_state.Params, batch: Batch, key: jax.Array
) -> jax.Array:
    """Next actions of the backup, (batch, h * action_dim): the base policy's or the data's own."""
    if model.config.next_action == 'dataset':
        return _flatten(batch.next_actions)
    return sample_actions(
        model, policy_params, batch.next_observations, key, model.config.flow_steps
    )


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy and of the reward-to-go."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state.policy.params, batch, next_key)
    policy, policy_metrics = update_policy(model, state.policy, batch, policy_key)
    scaled = scale_rewards(state, batch)
    value, value_metrics = update_value(model, state.value, scaled, next_actions, value_key)
    metrics = _in_reward_units(state, policy_metrics | value_metrics)
    return state.replace(policy=policy, value=value), metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """Both losses and the bootstrapped returns on a held-out batch, without a step."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state.policy.params, batch, next_key)
    scaled = scale_rewards(state, batch)

    def loss(params, target_params):
        return value_loss(model, params, target_params, scaled, next_actions, value_key)

    losses, metrics = jax.vmap(loss)(state.value.params, state.value.target_params)
    metrics = {name: jnp.mean(metric) for name, metric in metrics.items()}
    metrics['value_loss'] = jnp.mean(losses)
    metrics['policy_loss'] = policy_loss(model, state.policy.params, batch, policy_key)
    return _in_reward_units(state, metrics)


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Binds a config and what is known of the data to the functions above.

    Raises:
        UserError: a setting out of range.
    """
    check(config)
    chunk_dim = config.chunk_length * spec.action_dim
    hidden_dims = tuple(config.hidden_dims)
    model = Model(
        config=config,
        spec=spec,
        policy_net=VelocityField(hidden_dims, chunk_dim, config.policy_layer_norm),
        value_net=VelocityField(hidden_dims, 1, config.value_layer_norm),
        tx=optax.adam(config.lr),
    )
    return Agent(
        init=partial(init, model),
        update=partial(update, model),
        diagnose=partial(diagnose, model),
        act=partial(act, model),
        settings=settings_from(config),
        configure=partial(settings_from, config),
        needs_next_actions=config.next_action == 'dataset',
    )


def settings_from(config: ConfigDict, **changes: object) -> Settings:
    """Returns the inference settings of a config, with some of them changed.

    Raises:
        UserError: a setting out of range.
    """
    names = Settings.__dataclass_fields__
    values = {name: changes.get(name, config[name]) for name in names}
    check(ConfigDict(dict(config) | values))
    temperatures = {name: jnp.float32(values[name]) for name in ('tau_r', 'tau_q')}
    return Settings(**(values | temperatures))


CHOICES = {
    'td_target': ('velocity', 'coupled'),
    'next_action': ('policy', 'dataset'),
    'return_map': ('affine', 'none'),
    'return_noise': ('random', 'quadrature'),
    'value_aggregation': ('mean', 'min'),
}
AT_LEAST_ONE = (
    'batch_size',
    'chunk_length',
    'flow_steps',
    'return_flow_steps',
    'n_pi',
    'num_return_samples',
    'num_value_nets',
)
RANGES = {'discount': (0.0, 1.0), 'tau': (0.0, 1.0), 'lam': (0.0, 1.0)}


def check(config: ConfigDict) -> None:
    """Checks a config by itself.

    Raises:
        UserError: a setting out of range.
    """
    for name, choices in CHOICES.items():
        if config[name] not in choices:
            hint = did_you_mean(config[name], choices)
            raise UserError(
                f"agent.{name}: '{config[name]}' is not one of {', '.join(choices)}.{hint}"
            )
    for name in AT_LEAST_ONE:
        if config[name] < 1:
            raise UserError(f'agent.{name}: must be at least 1, not {config[name]}')
    for name, (low, high) in RANGES.items():
        if not low <= config[name] <= high:
            raise UserError(f'agent.{name}: must lie in [{low}, {high}], not {config[name]}')
    for name in ('tau_r', 'tau_q'):
        if not config[name] >= 0:
            raise UserError(f'agent.{name}: a temperature is at least 0, not {config[name]}')
    if not config.hidden_dims or min(config.hidden_dims) < 1:
        raise UserError(f'agent.hidden_dims: needs widths of at least 1, not {config.hidden_dims}')
    if not config.lr > 0:
        raise UserError(f'agent.lr: must be positive, not {config.lr}')


def _flatten(chunks: jax.Array) -> jax.Array:
    return chunks.reshape(chunks.shape[0], -1)


def _in_reward_units(state: State, metrics: Metrics) -> Metrics:
    mean = state.return_mean + state.return_std * metrics['return_mean']
    return metrics | {'return_mean': mean, 'return_std': state.return_std * metrics['return_std']}
