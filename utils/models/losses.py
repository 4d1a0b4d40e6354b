"""Small losses that several models share."""

import jax
import jax.numpy as jnp


def masked_mean(losses: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of losses where `mask`, of the same shape, is 1; 0 where nothing counts."""
    return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1.0)


def masked_moments(values: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """Mean and deviation of the values of rows where `mask` is 1, as metrics of returns.

    Args:
        values: (batch, num).
        mask: (batch,).
    """
    mask = jnp.broadcast_to(mask[:, None], values.shape)
    mean = masked_mean(values, mask)
    variance = masked_mean(jnp.square(values - mean), mask)
    return {'return_mean': mean, 'return_std': jnp.sqrt(variance)}


def expectile_loss(errors: jax.Array, expectile: float) -> jax.Array:
    """|expectile - 1{error < 0}| error^2, elementwise (IQL, arXiv 2110.06169, equation 1)."""
    return jnp.abs(expectile - (errors < 0)) * jnp.square(errors)
