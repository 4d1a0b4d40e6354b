"""Multi-layer perceptrons and the velocity fields built on them."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """GELU layers, each optionally followed by layer normalisation, then a linear output.

    Attributes:
        hidden_dims: widths of the hidden layers.
        output_dim: width of the output.
        layer_norm: whether to normalise after each activation.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., input_dim) to (..., output_dim)."""
        for width in self.hidden_dims:
            x = nn.gelu(nn.Dense(width)(x))
            if self.layer_norm:
                x = nn.LayerNorm()(x)
        return nn.Dense(self.output_dim)(x)


class VelocityField(nn.Module):
    """The velocity v(x, t | conditions) of a flow.

    Attributes:
        hidden_dims, output_dim, layer_norm: as in `MLP`; `output_dim` is the dimension of x.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, *conditions: jax.Array) -> jax.Array:
        """Evaluates the field.

        Args:
            x: (..., output_dim), the moving point.
            t: (..., 1) or scalar, its time in [0, 1].
            *conditions: each (..., d), what the flow is conditioned on.

        Returns:
            (..., output_dim).
        """
        t = jnp.broadcast_to(t, (*x.shape[:-1], 1))
        inputs = jnp.concatenate([*conditions, x, t], axis=-1)
        return MLP(self.hidden_dims, self.output_dim, self.layer_norm)(inputs)
