"""The return distribution by a net that maps a level to its quantile: IQN (arXiv 1806.06923).

The level enters by its cosines, beside state and action rather than multiplied into their features,
so that the net is the same MLP that the other models have.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import returns
from utils.models.extraction import Noise
from utils.models.losses import masked_mean, masked_moments
from utils.models.networks import MLP
from utils.models.settings import Declared, Setting, at_least
from utils.models.train_state import Params
from utils.models.value_models import quantile

NUM_COSINES = 16

SETTINGS: Declared = dict(
    num_levels=Setting(8, at_least(1), 'implicit_quantile: random levels of an update'),
    kappa=quantile.SETTINGS['kappa'],
)


class QuantileFunction(nn.Module):
    """The quantile at a level, given state and action."""

    hidden_dims: tuple[int, ...]
    layer_norm: bool
    precision: str
    kernel_init: str

    @nn.compact
    def __call__(self, levels: jax.Array, *conditions: jax.Array) -> jax.Array:
        """Maps levels (..., n) and conditions (..., d) to quantiles (..., n)."""
        frequencies = jnp.pi * jnp.arange(1.0, NUM_COSINES + 1.0)
        shape = (*levels.shape, NUM_COSINES)
        cosines = jnp.cos(levels[..., None] * jnp.broadcast_to(frequencies, shape))
        repeated = [
            jnp.broadcast_to(array[..., None, :], (*levels.shape, array.shape[-1]))
            for array in conditions
        ]
        inputs = jnp.concatenate([*repeated, cosines], axis=-1)
        return MLP(self.hidden_dims, 1, self.layer_norm, self.precision, self.kernel_init)(inputs)[
            ..., 0
        ]


def network(config: ConfigDict) -> QuantileFunction:
    """The quantile function of (x, a)."""
    return QuantileFunction(
        tuple(config.hidden_dims),
        config.value_layer_norm,
        config.matmul_precision,
        config.kernel_init,
    )


def init(net: QuantileFunction, key: jax.Array, observation_dim: int, chunk_dim: int) -> Params:
    """Returns untrained parameters."""
    conditions = jnp.zeros((1, observation_dim)), jnp.zeros((1, chunk_dim))
    return net.init(key, jnp.zeros((1, 1)), *conditions)


def loss(
    net: QuantileFunction,
    config: ConfigDict,
    params: Params,
    target_params: Params,
    batch: Batch,
    next_actions: jax.Array,
    support: tuple[jax.Array, jax.Array],
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Quantile Huber loss between quantiles at random levels; see `ValueModel.loss`."""
    shape = (batch.rewards.shape[0], config.num_levels)
    levels, next_levels = jax.random.uniform(key, (2, *shape))
    next_quantiles = net.apply(target_params, next_levels, batch.next_observations, next_actions)
    next_quantiles = returns.bound(next_quantiles, support, config.clip_returns)
    targets = batch.rewards[:, None] + batch.discounts[:, None] * next_quantiles
    targets = jax.lax.stop_gradient(targets)
    predictions = net.apply(params, levels, batch.observations, flatten(batch.actions))
    losses = quantile.quantile_huber_loss(predictions, levels, targets, config.kappa)
    return masked_mean(losses, batch.td_mask), masked_moments(targets, batch.td_mask)


def distribution(
    net: QuantileFunction,
    config: ConfigDict,
    params: Params,
    observations: jax.Array,
    actions: jax.Array,
    noise: Noise,
    support: tuple[jax.Array, jax.Array],
    flow_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Quantiles at the levels that the noise has under N(0, 1); see `ValueModel.distribution`."""
    del config, support, flow_steps
    levels = jax.scipy.stats.norm.cdf(noise.z_0)
    returns = net.apply(params, levels, observations, actions)
    return returns, jnp.broadcast_to(noise.weights, returns.shape)
