"""The mean return alone, by ordinary temporal differences: a distribution with one point."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import critics, flow, networks, returns
from utils.models.extraction import Noise
from utils.models.losses import masked_moments
from utils.models.networks import MLP
from utils.models.settings import Declared
from utils.models.train_state import Params

SETTINGS: Declared = {}


def network(config: ConfigDict) -> MLP:
    """The value Q(x, a)."""
    return networks.critic(config)


init = critics.init_one


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
    """Squared temporal difference, (Q - (r + g Q_bar'))^2; see `ValueModel.loss`."""
    del key
    next_value = critics.read_one(net, target_params, batch.next_observations, next_actions)
    next_value = returns.bound(next_value, support, config.clip_returns)
    target = batch.rewards[:, None] + batch.discounts[:, None] * next_value
    value = critics.read_one(net, params, batch.observations, flatten(batch.actions))
    td_loss = flow.matching_loss(value, jax.lax.stop_gradient(target), batch.td_mask[:, None])
    return td_loss, masked_moments(target, batch.td_mask)


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
    """The mean with probability one; see `ValueModel.distribution`."""
    del config, noise, support, flow_steps
    value = critics.read_one(net, params, observations, actions)
    return value, jnp.ones_like(value)
