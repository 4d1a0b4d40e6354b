"""The reward-to-go as a flow from noise to returns, trained by flow-based TD (arXiv 2510.08218)."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import flow, returns
from utils.models.extraction import Noise
from utils.models.losses import masked_moments
from utils.models.networks import TrunkVelocityField, VelocityField
from utils.models.settings import Declared, Setting, at_least, one_of, widths, within
from utils.models.train_state import Params

Net = VelocityField | TrunkVelocityField

SETTINGS: Declared = dict(
    td_target=Setting(
        'velocity',
        one_of('velocity', 'velocity_successor', 'coupled'),
        'flow: velocity (the paper; learns the mean), velocity_successor (the same with z_t from '
        'the sampled successor; biased) or coupled (learns the return distribution)',
    ),
    lam=Setting(0.0, within(0.0, 1.0), 'flow: control variate of coupled'),
    mean_share=Setting(
        0.25, within(0.0, 1.0), 'flow: share of a batch that learns the mean return, at t = 0'
    ),
    value_net=Setting(
        'mlp',
        one_of('mlp', 'trunk'),
        'flow: one net, or a trunk with a small head for every sample and step',
    ),
    head_dims=Setting((64, 64, 64), widths, 'flow: hidden widths of the head of trunk'),
    backup_flow_steps=Setting(5, at_least(1), 'flow: steps of the reward-to-go in the backup'),
    # Few Euler steps lose rare successes (`python -m benchmarks.flow_steps`).
    backup_solver=Setting(
        'midpoint', one_of(*flow.SOLVERS), 'flow: solver in the backup; Euler needs more steps'
    ),
    return_solver=Setting('euler', one_of(*flow.SOLVERS), 'flow: solver at inference'),
)


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

    It learns the mean return, not the return distribution. The source does not say how z_t is
    drawn. `td_target='velocity'` draws it from the model's own return at (x, a), so that it tells
    nothing of the sampled reward and successor: u is an unbiased sample of r + g E[s_bar], a
    g-contraction whose fixed point is s = Q(x, a) for all z and t. The model's distribution is
    then N(Q, 1), its mean right at any number of steps. `td_target='velocity_successor'` draws
    z_t from the successor that gives the target, z_1 = r + g z'_1: where these are random, z_t
    tells of them, the fixed point s = E[r + g s | z_t] is wider than N(Q, 1) and biased unless
    read in one step.
    """
    return rewards + discounts * next_velocity


def coupled_target(
    rewards: jax.Array,
    discounts: jax.Array,
    z_0: jax.Array,
    next_z_1: jax.Array,
    next_velocity: jax.Array,
    lam: jax.Array | float,
) -> jax.Array:
    """Learns the return distribution: (z_1 - z_0) + lam g (s_bar(z'_t) - (z'_1 - z_0)).

    Here z_1 = r + g z'_1, with z'_1 the successor's return from the same noise z_0. `lam = 0` is
    flow matching to bootstrapped samples; `lam = 1` uses the successor's velocity alone, with less
    variance and a small bias (the family of arXiv 2605.08253). At t = 0, where z_t = z'_t = z_0,
    `lam = 1` says z_0 + s = r + g (z_0 + s_bar): the mean return, read in one step, is bootstrapped
    from the mean return, without any error of integration.

    Args:
        rewards, discounts, z_0, next_z_1: (batch, 1).
        next_velocity: (batch, 1), s_bar at the successor's own point z'_t = (1-t) z_0 + t z'_1.
        lam: control variate in [0, 1], broadcastable.
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
    """Flow-based temporal difference; see `ValueModel.loss`.

    A share `config.mean_share` of the batch is trained at t = 0, which one step reads and uniform
    times hardly ever come near. With `td_target='coupled'` it learns the mean return minus z_0
    there, and the field just after t = 0 is another one: noise and return go down the chain
    together. Readings of several Euler steps take their first one by the mean, and are a little
    narrower than the distribution. With the velocity targets the field is the same at all times.
    """
    noise_key, time_key = jax.random.split(key)
    size = batch.rewards.shape[0]
    rewards, discounts, mask = (
        array[:, None] for array in (batch.rewards, batch.discounts, batch.td_mask)
    )
    z_0 = jax.random.normal(noise_key, rewards.shape)
    # Rows of a batch are in random order: the first ones are a random share.
    at_start = (jnp.arange(size) < round(config.mean_share * size))[:, None]
    t = jnp.where(at_start, 0.0, jax.random.uniform(time_key, rewards.shape))

    actions = flatten(batch.actions)
    velocity = _velocity(net, params, batch.observations, actions)
    next_velocity = _velocity(net, target_params, batch.next_observations, next_actions)

    def integrate(field: flow.Velocity) -> jax.Array:
        return flow.integrate(field, z_0, config.backup_flow_steps, config.backup_solver)

    if config.td_target == 'velocity':
        z_1 = integrate(_velocity(net, target_params, batch.observations, actions))
        z_t = flow.interpolate(z_0, z_1, t)
        # This velocity is a mean return itself, at every point and time.
        next_value = returns.bound(next_velocity(z_t, t), support, config.clip_returns)
        target = velocity_target(rewards, discounts, next_value)
    elif config.td_target == 'velocity_successor':
        z_1 = rewards + discounts * integrate(next_velocity)
        z_t = flow.interpolate(z_0, z_1, t)
        next_value = returns.bound(next_velocity(z_t, t), support, config.clip_returns)
        target = velocity_target(rewards, discounts, next_value)
    else:
        next_z_1 = returns.bound(integrate(next_velocity), support, config.clip_returns)
        z_1 = rewards + discounts * next_z_1
        z_t = flow.interpolate(z_0, z_1, t)
        target = z_1 - z_0
        if config.lam > 0.0 or config.mean_share > 0.0:
            next_z_t = flow.interpolate(z_0, next_z_1, t)
            control = next_velocity(next_z_t, t)
            if config.clip_returns:  # at t = 0 the successor's mean return is z_0 + s_bar
                next_mean = returns.bound(z_0 + control, support, clips=True)
                control = jnp.where(at_start, next_mean - z_0, control)
            lam = jnp.where(at_start, 1.0, config.lam)
            target = coupled_target(rewards, discounts, z_0, next_z_1, control, lam)
    z_t, target = jax.lax.stop_gradient((z_t, target))
    value = flow.matching_loss(velocity(z_t, t), target, mask)
    return value, masked_moments(z_1, batch.td_mask)


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
        flow_steps: steps of `config.return_solver`. One Euler step gives
            z_0 + s(z_0, 0) = E[z_1 | z_0], whose average over the noise is the mean return.

    Returns:
        (..., num).
    """
    conditions = observations[..., None, :], actions[..., None, :]
    velocity = _velocity(net, params, *conditions)
    return flow.integrate(velocity, z_0[..., None], flow_steps, config.return_solver)[..., 0]


def distribution(
    net: Net,
    config: ConfigDict,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    noise: Noise,
    support: tuple[jax.Array, jax.Array],
    flow_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Samples of the learned distribution; see `ValueModel.distribution`."""
    del support
    z = sample_returns(net, config, params, observations, actions, noise.z_0, flow_steps)
    return z, jnp.broadcast_to(noise.weights, z.shape)
