"""The base policy: flow-matching behaviour cloning of action chunks (arXiv 2210.02747).

It never sees a reward. A chunk of `h` actions is one flat vector of `h * action_dim` numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from utils.data.datasets import Batch, flatten
from utils.models import blocks, draws, flow, train_state
from utils.models.networks import VelocityField
from utils.models.train_state import Params, TrainState


def init(net: VelocityField, key: jax.Array, observation_dim: int) -> Params:
    """Returns untrained parameters."""
    action, t = jnp.zeros((1, net.output_dim)), jnp.zeros((1, 1))
    return net.init(key, action, t, jnp.zeros((1, observation_dim)))


def loss(net: VelocityField, params: Params, batch: Batch, key: jax.Array) -> jax.Array:
    """Flow matching: E || v(x, a_t, t) - (a - a_0) ||^2, per number that counts.

    Steps of a chunk after a trajectory's cut do not count.
    """
    noise_key, time_key = jax.random.split(key)
    a_1 = flatten(batch.actions)
    a_0 = jax.random.normal(noise_key, a_1.shape)
    t = jax.random.uniform(time_key, (a_1.shape[0], 1))
    velocity = net.apply(params, flow.interpolate(a_0, a_1, t), t, batch.observations)
    mask = jnp.repeat(batch.action_mask, batch.actions.shape[-1], axis=1)
    return flow.matching_loss(velocity, a_1 - a_0, mask)


def transport(
    net: VelocityField, params: Params, observations: jax.Array, a_0: jax.Array, flow_steps: int
) -> jax.Array:
    """Carries noise to actions.

    Args:
        net, params: of the velocity field.
        observations: (..., observation_dim), with axes of 1 where they serve many samples.
        a_0: (..., h * action_dim) noise.
        flow_steps: Euler steps.

    Returns:
        (..., h * action_dim), clipped to the action range [-1, 1].
    """
    features = net.apply(params, observations, method='features')

    def velocity(a_t: jax.Array, t: jax.Array) -> jax.Array:
        return net.apply(params, a_t, t, features, method='velocity')

    return jnp.clip(flow.integrate(velocity, a_0, flow_steps), -1.0, 1.0)


def sample(
    net: VelocityField, params: Params, observations: jax.Array, key: jax.Array, flow_steps: int
) -> jax.Array:
    """Samples one action for each of (..., observation_dim) observations; see `transport`."""
    a_0 = jax.random.normal(key, (*observations.shape[:-1], net.output_dim))
    return transport(net, params, observations, a_0, flow_steps)


def sample_many(
    net: VelocityField,
    params: Params,
    observations: jax.Array,
    key: jax.Array,
    num: int,
    flow_steps: int,
) -> jax.Array:
    """Samples (n, num, h * action_dim) actions for (n, observation_dim) observations.

    The first of many are those of few: see `draws.draw_each`.
    """
    shape = observations.shape[0], net.output_dim
    a_0 = draws.draw_each(key, num, lambda own: jax.random.normal(own, shape), axis=1)

    def transport_row(observation: jax.Array, a_0: jax.Array) -> jax.Array:
        return transport(net, params, observation[None], a_0, flow_steps)

    return blocks.map_rows(transport_row, observations, a_0, evaluations=num)


def candidates(
    net: VelocityField,
    policy: TrainState | None,
    observations: jax.Array,
    key: jax.Array,
    settings: Any,
    given: jax.Array | None = None,
) -> jax.Array:
    """What an agent chooses among, (n, num, h * action_dim): what it is given, or its own samples.

    Args:
        net, policy: of the base policy; the policy is None where it is somebody else's.
        observations: (n, observation_dim).
        key: random key.
        settings: of inference, with `n_pi` and `flow_steps`.
        given: (n, num, h * action_dim), drawn before or elsewhere.
    """
    if given is not None:
        return given
    numbers = settings.n_pi, settings.flow_steps
    return sample_many(net, policy.params, observations, key, *numbers)


def update(
    net: VelocityField,
    policy: TrainState,
    batch: Batch,
    key: jax.Array,
    tx: optax.GradientTransformation,
    frozen: bool = False,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of behaviour cloning; none, and no metrics, where the policy is frozen."""
    if frozen:
        return policy, {}

    def objective(params: Params) -> tuple[jax.Array, dict[str, jax.Array]]:
        value = loss(net, params, batch, key)
        return value, {'policy_loss': value}

    policy, metrics, grad_norm = train_state.descend(policy, objective, tx)
    return policy, metrics | {'policy_grad_norm': grad_norm}


def diagnose(
    net: VelocityField, policy: TrainState, batch: Batch, key: jax.Array, frozen: bool = False
) -> dict[str, jax.Array]:
    """The matching loss on a held-out batch; nothing where the policy is frozen."""
    return {} if frozen else {'policy_loss': loss(net, policy.params, batch, key)}
