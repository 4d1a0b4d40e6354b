"""The reward-to-go as a flow from noise to returns, trained by flow-based TD (arXiv 2510.08218)."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils import flow
from utils.datasets import Batch, flatten
from utils.extraction import Noise
from utils.networks import TrunkVelocityField, VelocityField
from utils.train_state import Params

Net = VelocityField | TrunkVelocityField


def network(config: ConfigDict) -> Net:
    """The velocity s(z, t | x, a)."""
    sizes = tuple(config.hidden_dims), 1, config.value_layer_norm
    sizes += config.matmul_precision, config.kernel_init
    if config.value_net == 'trunk':
        return TrunkVelocityField(*sizes, tuple(config.head_dims))
    return VelocityField(*sizes)


def init(net: Net, key: jax.Array, observation_dim: int, chunk_dim: int) -> Params:
    """Returns untrained parameters."""
    z, t = jnp.zeros((1, 1)), jnp.zeros((1, 1))
    return net.init(key, z, t, jnp.zeros((1, observation_dim)), jnp.zeros((1, chunk_dim)))


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


def loss(
    net: Net,
    config: ConfigDict,
    params: Params,
    target_params: Params,
    batch: Batch,
    next_actions: jax.Array,
    support: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Flow-based temporal difference; see `ValueModel.loss`."""
    del support
    noise_key, time_key = jax.random.split(key)
    rewards, discounts, mask = (
        array[:, None] for array in (batch.rewards, batch.discounts, batch.td_mask)
    )
    z_0 = jax.random.normal(noise_key, rewards.shape)
    t = jax.random.uniform(time_key, rewards.shape)

    next_velocity = _velocity(net, target_params, batch.next_observations, next_actions)
    next_z_1 = jax.lax.stop_gradient(
        flow.integrate(next_velocity, z_0, config.backup_flow_steps, config.solver)
    )
    z_1 = rewards + discounts * next_z_1
    z_t = flow.interpolate(z_0, z_1, t)
    if config.td_target == 'velocity':
        target = velocity_target(rewards, discounts, next_velocity(z_t, t))
    elif config.lam == 0.0:
        target = z_1 - z_0
    else:
        next_z_t = flow.interpolate(z_0, next_z_1, t)
        target = coupled_target(
            rewards, discounts, z_0, next_z_1, next_velocity(next_z_t, t), config.lam
        )
    velocity = _velocity(net, params, batch.observations, flatten(batch.actions))(z_t, t)
    value = flow.matching_loss(velocity, jax.lax.stop_gradient(target), mask)
    return value, {'return_mean': jnp.mean(z_1), 'return_std': jnp.std(z_1)}


def _velocity(
    net: Net, params: Params, observations: jax.Array, actions: jax.Array
) -> flow.Velocity:
    """The field of (..., d) observations and actions; what does not move is computed once."""
    features = net.apply(params, observations, actions, method='features')
    return lambda z, t: net.apply(params, z, t, features, method='velocity')


def sample_returns(
    net: Net,
    config: ConfigDict,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    z_0: jax.Array,
    flow_steps: int,
) -> jax.Array:
    """Carries base noise to reward-to-go samples.

    Args:
        net, config, params: of one member of the ensemble.
        observations: (..., observation_dim).
        actions: (..., h * action_dim).
        z_0: (..., num) noise.
        flow_steps: steps. One Euler step gives z_0 + s(z_0, 0) = E[z_1 | z_0], whose average over
            the noise is the mean return.

    Returns:
        (..., num).
    """
    conditions = observations[..., None, :], actions[..., None, :]
    velocity = _velocity(net, params, *conditions)
    return flow.integrate(velocity, z_0[..., None], flow_steps, config.solver)[..., 0]


def law(
    net: Net,
    config: ConfigDict,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    noise: Noise,
    support: tuple[jax.Array, jax.Array],
    flow_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Samples of the learned law; see `ValueModel.law`."""
    del support
    z = sample_returns(net, config, params, observations, actions, noise.z_0, flow_steps)
    return z, jnp.broadcast_to(noise.weights, z.shape)
