"""EVOR: Expressive Value Learning for Offline RL (arXiv 2510.08218).

Read from top to bottom: three phases and the functions that put them together.

1. A base policy is trained by flow-matching behaviour cloning; it never sees a reward
   (`utils/models/base_policy.py`).
2. The return distribution of a state and action is trained by temporal differences
   (`utils/models/value_models/ensemble.py`). The paper's model of it is a flow (`flow_value.py`
   there); `config.value_model` exchanges it, with everything else equal.
3. Acting samples candidates from the base policy, values each by a log-sum-exp over the learned
   return distribution, and picks one by softmax. Nothing is distilled and no gradient is taken.

An "action" below is a chunk of `h` environment actions, flattened to `h * action_dim` numbers;
`h = 1` is the paper's EVOR. Returns live in the net's units, z = (G - mean) / std.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from agents.interface import Decision, Spec
from agents.settings import AFFINE, COMMON, FLOW_STEPS, N_PI, PHASES, VALUE_AGGREGATION, inference
from utils.data.datasets import Batch, flatten
from utils.errors import UserError
from utils.models import base_policy, critics, extraction, returns, train_state, value_models
from utils.models.networks import VelocityField, policy_field
from utils.models.returns import ReturnMap
from utils.models.settings import Declared, Setting, at_inference, at_least, one_of, temperature
from utils.models.train_state import Params, TrainState
from utils.models.value_models import ValueModel, ensemble

Metrics = dict[str, jax.Array]

SETTINGS: Declared = COMMON | PHASES | value_models.SETTINGS
SETTINGS |= dict(
    return_map=AFFINE,
    num_value_nets=Setting(1, at_least(1), 'size of the value ensemble; 1 is the paper'),
    value_aggregation=VALUE_AGGREGATION,
    next_action=Setting('policy', one_of('policy', 'dataset'), 'whose next action is backed up'),
    backup_candidates=Setting(1, at_least(1), 'samples the backup picks from; 1 is the paper'),
    backup_picker=Setting('target', one_of('target', 'online'), 'net that picks among the samples'),
    backup_pick=Setting('softmax', one_of('softmax', 'best'), 'as acting picks, or the best'),
    backup_return_samples=Setting(8, at_least(1), 'reward-to-go samples of each, if several'),
    # The summaries of the paper give n_pi; temperatures, in units of the returns' std, and
    # num_return_samples are our choice. A temperature of 0 or infinity is meant literally.
    tau_r=at_inference(1.0, temperature, 'log-sum-exp temperature over returns; inf: mean, 0: max'),
    tau_q=at_inference(
        0.02, temperature, 'softmax temperature over candidates; 0: argmax, inf: base policy'
    ),
    q_scale=at_inference(
        'linear',
        one_of('linear', 'log'),
        'on which tau_q compares: values in deviations of the return, or the log of what they are '
        'above the least return',
    ),
    n_pi=N_PI,
    num_return_samples=at_inference(8, at_least(1), 'reward-to-go samples of each candidate'),
    flow_steps=FLOW_STEPS,
    return_flow_steps=at_inference(
        10, at_least(1), 'steps of return samples; one of Euler: a cheap mean'
    ),
    return_noise=at_inference('random', one_of('random', 'quadrature'), 'of return samples'),
)
SHARED = ('policy',)


def check(config: ConfigDict) -> None:
    """Checks what is between several settings; see `agents.settings.check`."""
    value_models.check(config)
    if config.backup_candidates > 1 and config.next_action == 'dataset':
        raise UserError(
            'agent.backup_candidates: a choice needs agent.next_action=policy; '
            'the data has one next action'
        )
    samples = [config.num_return_samples]
    samples += [config.backup_return_samples] * (config.backup_candidates > 1)
    if config.return_noise == 'quadrature':
        extraction.check_nodes(max(samples))
    if config.q_scale == 'log' and config.discount == 1.0:
        raise UserError(
            'agent.q_scale: log needs bounded returns, which agent.discount=1 has not; take linear'
        )


def needs_next_actions(config: ConfigDict) -> bool:
    """Whether updates use the recorded next actions."""
    return config.next_action == 'dataset'


class Model(NamedTuple):
    """What does not change during training: networks, optimiser and settings."""

    config: ConfigDict
    spec: Spec
    policy_net: VelocityField
    value_model: ValueModel
    tx: optax.GradientTransformation


def build(config: ConfigDict, spec: Spec) -> Model:
    """Returns the networks and the optimiser of a config."""
    chunk_dim = config.chunk_length * spec.action_dim
    return Model(
        config=config,
        spec=spec,
        policy_net=policy_field(config, spec.action_dim),
        value_model=value_models.create(config, spec.observation_dim, chunk_dim),
        tx=optax.adam(config.lr),
    )


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


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state."""
    spec, config = model.spec, model.config
    policy_key, value_key = jax.random.split(key)
    policy = base_policy.init(model.policy_net, policy_key, spec.observation_dim)
    value = ensemble.init(model.value_model, value_key, config.num_value_nets)
    return State(
        policy=train_state.create(policy, model.tx, with_target=False),
        value=train_state.create(value, model.tx, with_target=True),
        returns=returns.create(config.return_map, spec.scale),
    )


# Phase 1, the base policy, is utils/models/base_policy.py. Phase 2: the return distribution.


def choose_next_actions(model: Model, state: State, batch: Batch, key: jax.Array) -> jax.Array:
    """Next actions of the backup, (batch, h * action_dim).

    The data's own, or a sample of the base policy (the paper), or the pick among
    `backup_candidates` samples by the rule that `act` follows or, by `backup_pick`, the best of
    them, valued by `backup_picker`: then the return distribution that is learned is that of an
    improved policy, not of the base policy.
    Samples of a frozen policy were drawn before and come with the batch.
    """
    config, given = model.config, None
    if config.next_action == 'dataset':
        return flatten(batch.next_actions)
    if config.frozen_policy:
        given = batch.next_candidates
    if config.backup_candidates == 1:
        if given is not None:
            return given[:, 0]
        return base_policy.sample(
            model.policy_net, state.policy.params, batch.next_observations, key, config.flow_steps
        )
    picker = state.value.params if config.backup_picker == 'online' else state.value.target_params
    settings = backup_settings(config)
    candidates, _, index = extract(
        model, state, picker, batch.next_observations, key, settings, given
    )
    return extraction.take(candidates, index)


def backup_settings(config: ConfigDict) -> Any:
    """Returns the inference settings by which the backup picks among its candidates."""
    changes = dict(n_pi=config.backup_candidates, num_return_samples=config.backup_return_samples)
    if config.backup_pick == 'best':
        changes['tau_q'] = 0.0
    return inference(SETTINGS, config, **changes)


def update_value(
    model: Model, state: State, batch: Batch, next_actions: jax.Array, key: jax.Array
) -> tuple[TrainState, Metrics]:
    """One temporal-difference step of every member of the ensemble."""
    optimiser = model.tx, model.config.tau
    return ensemble.update(
        model.value_model, state.returns, state.value, batch, next_actions, key, *optimiser
    )


# Phase 3: extraction, from candidates to an action.


def value_candidates(
    model: Model,
    value_params: Params,
    return_map: ReturnMap,
    observations: jax.Array,
    candidates: jax.Array,
    key: jax.Array,
    settings: Any,
) -> jax.Array:
    """Regularised values of candidates, Q = tau_R ln E[exp(z / tau_R)], in the net's units.

    The noise is shared across the candidates of an observation, so that it cancels when they are
    compared, and across the ensemble's members, whose values are averaged or the least one taken.
    Observations are (n, observation_dim), candidates (n, n_pi, h * action_dim), values (n, n_pi).
    """
    n, n_pi, _ = candidates.shape
    num = settings.num_return_samples
    noise = extraction.return_noise(key, (n, 1), num, settings.return_noise)
    noise = noise._replace(z_0=jnp.broadcast_to(noise.z_0, (n, n_pi, num)))
    observations = jnp.broadcast_to(observations[:, None], (n, n_pi, observations.shape[-1]))
    support = returns.support(return_map)
    tau_r = jnp.broadcast_to(settings.tau_r, (n,))[:, None]

    def member_value(params: Params) -> jax.Array:
        drawn = noise, support, settings.return_flow_steps
        z, weights = model.value_model.distribution(params, observations, candidates, *drawn)
        return extraction.soft_value(z, weights, tau_r)

    values = jax.vmap(member_value)(value_params)
    return critics.aggregate(values, model.config.value_aggregation)


def extract(
    model: Model,
    state: State,
    value_params: Params,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    candidates: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Samples candidates, values them and picks one for each of (n, observation_dim) observations.

    `candidates`, (n, num, h * action_dim), take the place of the base policy's samples.

    Returns:
        candidates (n, n_pi, h * action_dim), values (n, n_pi) in the net's units, index (n,).
    """
    policy_key, value_key, pick_key = jax.random.split(key, 3)
    candidates = base_policy.candidates(
        model.policy_net, state.policy, observations, policy_key, settings, candidates
    )
    values = value_candidates(
        model, value_params, state.returns, observations, candidates, value_key, settings
    )
    compared = extraction.compared(values, *returns.support(state.returns), settings.q_scale)
    return candidates, values, extraction.pick(pick_key, compared, settings.tau_q)


def act(
    model: Model,
    state: State,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    candidates: jax.Array | None = None,
) -> Decision:
    """Chooses an action chunk for each of (n, observation_dim) observations, in one call.

    The chunks are `candidates`, (n, num, h * action_dim), of a base policy that is somebody else's,
    or `n_pi` samples of the agent's own; `n_pi = 1` is behaviour cloning.
    """
    candidates, values, index = extract(
        model, state, state.value.params, observations, key, settings, candidates
    )
    values = returns.to_reward_units(state.returns, values)
    return Decision.of(candidates, values, index, model.config.chunk_length)


# Training, phases 1 and 2 together.


def update(model: Model, state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the base policy, unless it is frozen, and of the reward-to-go."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state, batch, next_key)
    value, value_metrics = update_value(model, state, batch, next_actions, value_key)
    frozen = model.config.frozen_policy
    policy, policy_metrics = base_policy.update(
        model.policy_net, state.policy, batch, policy_key, model.tx, frozen
    )
    return state.replace(policy=policy, value=value), policy_metrics | value_metrics


def diagnose(model: Model, state: State, batch: Batch, key: jax.Array) -> Metrics:
    """Both losses and the bootstrapped returns on a held-out batch, without a step."""
    policy_key, next_key, value_key = jax.random.split(key, 3)
    next_actions = choose_next_actions(model, state, batch, next_key)
    value, scale = state.value, state.returns
    _, metrics = ensemble.losses(
        model.value_model, scale, value.params, value.target_params, batch, next_actions, value_key
    )
    return metrics | base_policy.diagnose(
        model.policy_net, state.policy, batch, policy_key, model.config.frozen_policy
    )
