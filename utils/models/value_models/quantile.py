"""The return distribution by its quantiles at fixed levels: QR-DQN (arXiv 1710.10044)."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import critics, networks, returns
from utils.models.extraction import Noise
from utils.models.losses import masked_mean, masked_moments
from utils.models.networks import MLP
from utils.models.settings import Declared, Setting, at_least, positive
from utils.models.train_state import Params

SETTINGS: Declared = dict(
    num_quantiles=Setting(32, at_least(1), 'quantile: levels'),
    kappa=Setting(0.05, positive, "quantile models: width of the Huber loss, in the net's units"),
)


def network(config: ConfigDict) -> MLP:
    """Quantiles at the midpoints of `num_quantiles` equal steps of probability, from (x, a)."""
    return networks.critic(config, config.num_quantiles)


init = critics.init_one


def midpoints(num: int) -> jax.Array:
    """Returns the levels (2 i + 1) / (2 num), (num,)."""
    return (jnp.arange(num) + 0.5) / num


def quantile_huber_loss(
    predictions: jax.Array, levels: jax.Array, targets: jax.Array, kappa: float
) -> jax.Array:
    """The quantile Huber loss of QR-DQN (arXiv 1710.10044, equation 10), for each row.

    |level - 1{u < 0}| L_kappa(u) / kappa with u = target - prediction, summed over the predictions
    and averaged over the targets. L_kappa is quadratic up to kappa and linear beyond, so that only
    spreads well above kappa are told apart as quantiles; those below are treated as expectiles.

    Args:
        predictions: (batch, n) quantiles.
        levels: (batch, n) or (1, n) their levels in (0, 1).
        targets: (batch, m) samples.
        kappa: above 0, in the units of the targets.

    Returns:
        (batch,).
    """
    errors = targets[:, None, :] - predictions[:, :, None]
    size = jnp.abs(errors)
    huber = jnp.where(size <= kappa, 0.5 * jnp.square(errors) / kappa, size - 0.5 * kappa)
    weights = jnp.abs(levels[:, :, None] - (errors < 0))
    return jnp.sum(jnp.mean(weights * huber, axis=2), axis=1)


def loss(
    net: MLP,
    config: ConfigDict,
    params: Params,
    target_params: Params,
    batch: Batch,
    next_actions: jax.Array,
    support: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Quantile Huber loss to r + g (the successor's quantiles); see `ValueModel.loss`."""
    del key
    next_quantiles = critics.read_one(net, target_params, batch.next_observations, next_actions)
    next_quantiles = returns.bound(next_quantiles, support, config.clip_returns)
    targets = batch.rewards[:, None] + batch.discounts[:, None] * next_quantiles
    targets = jax.lax.stop_gradient(targets)
    predictions = critics.read_one(net, params, batch.observations, flatten(batch.actions))
    levels = midpoints(config.num_quantiles)[None]
    losses = quantile_huber_loss(predictions, levels, targets, config.kappa)
    return masked_mean(losses, batch.td_mask), masked_moments(targets, batch.td_mask)


def distribution(
    net: MLP,
    config: ConfigDict,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    noise: Noise,
    support: tuple[jax.Array, jax.Array],
    flow_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """All quantiles, equally likely; see `ValueModel.distribution`."""
    del config, noise, support, flow_steps
    returns = critics.read_one(net, params, observations, actions)
    return returns, jnp.full_like(returns, 1.0 / returns.shape[-1])
