"""The return distribution on fixed atoms: C51 (arXiv 1707.06887)."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import networks
from utils.models.extraction import Noise
from utils.models.losses import masked_mean
from utils.models.networks import MLP
from utils.models.settings import Declared, Setting, at_least
from utils.models.train_state import Params

SETTINGS: Declared = dict(
    num_atoms=Setting(101, at_least(2), 'categorical: atoms over the bounds of the return'),
)


def network(config: ConfigDict) -> MLP:
    """Logits of the atoms, from (x, a)."""
    return networks.critic(config, config.num_atoms)


def init(net: MLP, key: jax.Array, observation_dim: int, chunk_dim: int) -> Params:
    """Returns untrained parameters."""
    return net.init(key, jnp.zeros((1, observation_dim + chunk_dim)))


def atoms(support: tuple[jax.Array, jax.Array], num: int) -> jax.Array:
    """Returns `num` evenly spaced returns over the support, (num,)."""
    return jnp.linspace(*support, num)


def project(
    points: jax.Array, probabilities: jax.Array, support: tuple[jax.Array, jax.Array], num: int
) -> jax.Array:
    """Projects distributions on arbitrary points onto the atoms, splitting mass between neighbours.

    Points beyond the support go to its ends. The mean is kept where no point is beyond.

    Args:
        points: (batch, m) returns.
        probabilities: (batch, m), summing to 1.
        support: bounds of the atoms.
        num: number of atoms.

    Returns:
        (batch, num), summing to 1 (C51's projection, arXiv 1707.06887, equation 7).
    """
    low, high = support
    position = (jnp.clip(points, low, high) - low) / (high - low) * (num - 1)
    # The share of a point that an atom gets falls linearly to 0 over one spacing.
    shares = jnp.clip(1.0 - jnp.abs(position[..., None] - jnp.arange(num)[None, None]), 0.0, 1.0)
    return jnp.einsum('bm,bmn->bn', probabilities, shares)


def cross_entropy(logits: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of -sum target log softmax(logits) over the rows where mask is 1.

    Args:
        logits, target: (batch, num).
        mask: (batch,).
    """
    losses = -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    return masked_mean(losses, mask)


def _logits(net: MLP, params: Params, observations: jax.Array, actions: jax.Array) -> jax.Array:
    return net.apply(params, jnp.concatenate([observations, actions], axis=-1))


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
    """Cross-entropy to the projected distribution of r + g Z_bar'; see `ValueModel.loss`."""
    del key
    num = config.num_atoms
    next_logits = _logits(net, target_params, batch.next_observations, next_actions)
    next_probabilities = jax.nn.softmax(next_logits, axis=-1)
    points = batch.rewards[:, None] + batch.discounts[:, None] * atoms(support, num)[None]
    target = jax.lax.stop_gradient(project(points, next_probabilities, support, num))
    logits = _logits(net, params, batch.observations, flatten(batch.actions))
    means = jnp.sum(target * atoms(support, num)[None], axis=-1)
    second = jnp.sum(target * jnp.square(atoms(support, num))[None], axis=-1)
    deviation = jnp.sqrt(jnp.maximum(jnp.mean(second) - jnp.square(jnp.mean(means)), 0.0))
    metrics = {'return_mean': jnp.mean(means), 'return_std': deviation}
    return cross_entropy(logits, target, batch.td_mask), metrics


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
    """All atoms with their probabilities; see `ValueModel.distribution`."""
    del config, noise, flow_steps
    probabilities = jax.nn.softmax(_logits(net, params, observations, actions), axis=-1)
    return jnp.broadcast_to(atoms(support, net.output_dim), probabilities.shape), probabilities
