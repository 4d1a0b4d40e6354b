"""SAC: soft actor-critic (arXiv 1812.05905), for the experts that walk OGBench's mazes.

It learns online, from an environment, hence is no agent of `main.py`: see scripts/train_expert.py.
Two critics, the least one counts; the entropy's weight is tuned to a target.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from utils.generation.replay import Transitions
from utils.models import critics, train_state
from utils.models.networks import MLP
from utils.models.train_state import Params, TrainState

Metrics = dict[str, jax.Array]
# Of the logarithm of the Gaussian's deviation, before the tanh.
LOG_STD_RANGE = (-5.0, 2.0)
NUM_CRITICS = 2


def ogbench_config() -> ConfigDict:
    """Returns the settings with which OGBench trained its ant (arXiv 2410.20092).

    They are those of OGBench's impls/agents/sac.py, the 400,000 steps those of its
    data_gen_scripts/commands.sh.
    """
    return ConfigDict(
        dict(
            hidden_dims=(256, 256),
            value_layer_norm=False,
            # OGBench scales the variance of the kernel by 0.01, hence the kernel by its root.
            actor_output_scale=0.1,
            lr=1e-4,
            batch_size=256,
            discount=0.99,
            tau=0.005,
            target_entropy=-0.5,  # of each of the action's numbers
            random_steps=10_000,  # of uniform actions, before learning begins
        )
    ).lock()


@struct.dataclass
class State:
    """Everything that training changes."""

    actor: TrainState
    critic: TrainState
    log_temperature: TrainState


class Model(NamedTuple):
    """What does not change during training."""

    config: ConfigDict
    observation_dim: int
    action_dim: int
    actor_net: MLP
    critic_net: MLP
    tx: optax.GradientTransformation


class Learner(NamedTuple):
    """Pure functions over a `State`.

    Attributes:
        init: (key) -> State.
        update: (state, transitions, key) -> (State, metrics), one step of every model.
        act: (state, observations (n, observation_dim), key) -> actions (n, action_dim).
    """

    init: Callable
    update: Callable
    act: Callable


def sample_actions(
    model: Model, params: Params, observations: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws tanh(u), u Gaussian; returns (n, action_dim) and log-densities (n,)."""
    mean, log_std = jnp.split(model.actor_net.apply(params, observations), 2, axis=-1)
    log_std = jnp.clip(log_std, *LOG_STD_RANGE)
    noise = jax.random.normal(key, mean.shape)
    u = mean + jnp.exp(log_std) * noise
    log_density = -0.5 * jnp.square(noise) - log_std - 0.5 * np.log(2.0 * np.pi)
    # log(1 - tanh(u)^2) without the cancellation that makes it -inf for large u.
    log_slope = 2.0 * (np.log(2.0) - u - jax.nn.softplus(-2.0 * u))
    return jnp.tanh(u), jnp.sum(log_density - log_slope, axis=-1)


def critic_targets(model: Model, state: State, batch: Transitions, key: jax.Array) -> jax.Array:
    """The reward plus g (min_i Q_bar_i(x', a') - T log pi(a'|x')), (n,)."""
    next_actions, log_density = sample_actions(
        model, state.actor.params, batch.next_observations, key
    )
    next_values = critics.values(
        model.critic_net, state.critic.target_params, batch.next_observations, next_actions
    )
    temperature = jnp.exp(state.log_temperature.params)
    soft = critics.aggregate(next_values, 'min') - temperature * log_density
    return batch.rewards + model.config.discount * batch.masks * soft


def actor_loss(
    model: Model, state: State, params: Params, batch: Transitions, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Mean of T log pi(a|x) - min_i Q_i(x, a) over fresh actions."""
    actions, log_density = sample_actions(model, params, batch.observations, key)
    values = critics.values(model.critic_net, state.critic.params, batch.observations, actions)
    temperature = jnp.exp(state.log_temperature.params)
    loss = jnp.mean(temperature * log_density - critics.aggregate(values, 'min'))
    return loss, {'actor_loss': loss, 'entropy': -jnp.mean(log_density)}


def init(model: Model, key: jax.Array) -> State:
    """Returns the untrained state; the temperature begins at 1."""
    actor_key, critic_key = jax.random.split(key)
    actor = model.actor_net.init(actor_key, jnp.zeros((1, model.observation_dim)))
    input_dim = model.observation_dim + model.action_dim
    critic = critics.init(model.critic_net, critic_key, input_dim, NUM_CRITICS)
    return State(
        actor=train_state.create(actor, model.tx, with_target=False),
        critic=train_state.create(critic, model.tx, with_target=True),
        log_temperature=train_state.create(jnp.zeros(()), model.tx, with_target=False),
    )


def update(model: Model, state: State, batch: Transitions, key: jax.Array) -> tuple[State, Metrics]:
    """One optimiser step of the critics, then of the actor, then of the temperature."""
    next_key, actor_key = jax.random.split(key)
    targets = critic_targets(model, state, batch, next_key)

    def critic_loss(params: Params) -> tuple[jax.Array, Metrics]:
        values = critics.values(model.critic_net, params, batch.observations, batch.actions)
        loss = critics.squared_error(values, targets, jnp.ones_like(targets))
        return loss, {'critic_loss': loss, 'value_mean': jnp.mean(values)}

    critic, metrics, _ = train_state.descend(state.critic, critic_loss, model.tx, model.config.tau)
    state = state.replace(critic=critic)
    actor, actor_metrics, _ = train_state.descend(
        state.actor, lambda params: actor_loss(model, state, params, batch, actor_key), model.tx
    )
    target_entropy = model.config.target_entropy * model.action_dim

    def temperature_loss(log_temperature: jax.Array) -> tuple[jax.Array, Metrics]:
        excess = jax.lax.stop_gradient(actor_metrics['entropy'] - target_entropy)
        return jnp.exp(log_temperature) * excess, {'temperature': jnp.exp(log_temperature)}

    log_temperature, temperature_metrics, _ = train_state.descend(
        state.log_temperature, temperature_loss, model.tx
    )
    state = state.replace(actor=actor, log_temperature=log_temperature)
    return state, metrics | actor_metrics | temperature_metrics


def act(model: Model, state: State, observations: jax.Array, key: jax.Array) -> jax.Array:
    """Actions to explore with, (n, action_dim), for (n, observation_dim)."""
    return sample_actions(model, state.actor.params, observations, key)[0]


def create(config: ConfigDict, observation_dim: int, action_dim: int) -> Learner:
    """Binds a config, such as `ogbench_config()`, and sizes to the functions above."""
    hidden_dims = tuple(config.hidden_dims)
    model = Model(
        config=config,
        observation_dim=observation_dim,
        action_dim=action_dim,
        actor_net=MLP(hidden_dims, 2 * action_dim, output_scale=config.actor_output_scale),
        critic_net=MLP(hidden_dims, 1, layer_norm=config.value_layer_norm),
        tx=optax.adam(config.lr),
    )
    return Learner(partial(init, model), partial(update, model), partial(act, model))
