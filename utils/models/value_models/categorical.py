"""The return distribution on fixed atoms: C51 (arXiv 1707.06887)."""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from utils.data.datasets import Batch, flatten
from utils.models import critics, networks
from utils.models.extraction import Noise
from utils.models.losses import masked_mean
from utils.models.networks import MLP
from utils.models.settings import Declared, Setting, at_least
from utils.models.train_state import Params

SETTINGS: Declared = dict(
    num_atoms=Setting(101, at_least(2), 'categorical: atoms over the bounds of the return'),
    atom_steps=Setting(
        0,
        at_least(0),
        'categorical: 0 spaces the atoms evenly in the return; N spaces them evenly in the time to '
        'success, up to N steps, with one atom for never',
    ),
)


def network(config: ConfigDict) -> MLP:
    """Logits of the atoms, from (x, a)."""
    return networks.critic(config, config.num_atoms)


init = critics.init_one


def atoms(config: ConfigDict, support: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns the returns that carry probability, ascending, (num_atoms,).

    Evenly spaced over the support, or, with `atom_steps`, where a reward of -1 until success puts
    successes that are evenly spaced in time: t steps cost (1 - discount ** t) / (1 - discount). A
    discount of .99 leaves 5 of 101 even atoms to all successes after 300 steps.
    """
    low, high = support
    if config.atom_steps == 0:
        return jnp.linspace(low, high, config.num_atoms)
    steps = jnp.linspace(config.atom_steps, 0.0, config.num_atoms - 1)
    share = -jnp.expm1(steps * math.log(config.discount))
    return jnp.concatenate([jnp.stack([low]), high - (high - low) * share])


def project(
    points: jax.Array, probabilities: jax.Array, atoms: jax.Array, even: bool = True
) -> jax.Array:
    """Projects return distributions on arbitrary points onto atoms: mass goes to both neighbours.

    Points beyond the atoms go to the first or the last. The mean is kept where none is beyond.

    Args:
        points: (batch, m) returns.
        probabilities: (batch, m), summing to 1.
        atoms: (num,) ascending.
        even: whether they are evenly spaced.

    Returns:
        (batch, num), summing to 1 (C51's projection, arXiv 1707.06887, equation 7).
    """
    num = len(atoms)
    if even:
        low, high = atoms[0], atoms[-1]
        position = (jnp.clip(points, low, high) - low) / (high - low) * (num - 1)
    else:
        position = jnp.interp(points, atoms, jnp.arange(num, dtype=atoms.dtype))
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
    places = atoms(config, support)
    next_logits = critics.read_one(net, target_params, batch.next_observations, next_actions)
    next_probabilities = jax.nn.softmax(next_logits, axis=-1)
    points = batch.rewards[:, None] + batch.discounts[:, None] * places[None]
    projected = project(points, next_probabilities, places, config.atom_steps == 0)
    target = jax.lax.stop_gradient(projected)
    logits = critics.read_one(net, params, batch.observations, flatten(batch.actions))
    means = jnp.sum(target * places[None], axis=-1)
    second = jnp.sum(target * jnp.square(places)[None], axis=-1)
    mean, square = (masked_mean(moment, batch.td_mask) for moment in (means, second))
    deviation = jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0.0))
    metrics = {'return_mean': mean, 'return_std': deviation}
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
    del noise, flow_steps
    probabilities = jax.nn.softmax(critics.read_one(net, params, observations, actions), axis=-1)
    return jnp.broadcast_to(atoms(config, support), probabilities.shape), probabilities
