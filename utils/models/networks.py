"""Multi-layer perceptrons and the velocity fields built on them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

# How operands of matrix products are rounded: to how many bits of mantissa, and what to tell the
# device. None: they are not; "to all 23 bits" would copy every weight. Sums are always of float32.
# On a GPU, JAX's own default would be tensorfloat32.
PRECISIONS: dict[str, tuple[int | None, lax.PrecisionLike]] = {
    'float32': (None, lax.Precision.HIGHEST),
    'tensorfloat32': (10, lax.Precision.HIGH),
    'bfloat16': (7, lax.DotAlgorithmPreset.BF16_BF16_F32),
}


# How kernels begin. OGBench, FQL, QC and their kin draw uniformly with the variance 2 / (in + out);
# flax's own default, a normal of variance 1 / in, starts narrow inputs much wider.
KERNEL_INITS: dict[str, Callable[..., jax.Array]] = {
    'fan_average': nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
    'lecun': nn.initializers.lecun_normal(),
}


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, w: jax.Array, precision: str) -> jax.Array:
    """Returns x @ w for (..., m) and (m, n), with operands rounded to `precision`.

    So are those of the two products of its gradient. Rounding by hand makes the numbers the same on
    devices that have no such product, where it costs time and saves none; float32 is not rounded.
    The gradient of w is computed in the layout of w: JAX's own rule leaves its transpose, which the
    optimiser then reads across the rows.
    """
    return _matmul_forward(x, w, precision)[0]


def _rounded(x: jax.Array, precision: str) -> jax.Array:
    bits = PRECISIONS[precision][0]
    return x if bits is None else lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)


def _matmul_forward(x: jax.Array, w: jax.Array, precision: str):
    x, w = _rounded(x, precision), _rounded(w, precision)
    return jnp.matmul(x, w, precision=PRECISIONS[precision][1]), (x, w)


def _matmul_backward(precision: str, operands: tuple[jax.Array, jax.Array], grad: jax.Array):
    x, w = operands
    grad = _rounded(grad, precision)
    rows, row_grads = (of.reshape(-1, of.shape[-1]) for of in (x, grad))

    def contract(left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
        """Sums over an axis of both; transposing first would be done in memory."""
        numbers = ((axis,), (axis,)), ((), ())
        return lax.dot_general(left, right, numbers, precision=PRECISIONS[precision][1])

    return contract(row_grads, w, 1).reshape(x.shape), contract(rows, row_grads, 0)


matmul.defvjp(_matmul_forward, _matmul_backward)


def dense(
    width: int, precision: str, kernel_init: str, name: str | None = None, scale: float = 1.0
) -> nn.Dense:
    """A linear layer with products of `precision`; its kernel begins as `scale` times a draw."""

    def dot_general(x: jax.Array, w: jax.Array, *_: Any, **__: Any) -> jax.Array:
        return matmul(x, w, precision)

    def scaled_init(*arguments: Any) -> jax.Array:
        return scale * KERNEL_INITS[kernel_init](*arguments)

    return nn.Dense(width, dot_general=dot_general, kernel_init=scaled_init, name=name)


def _row(x: jax.Array, ndim: int) -> jax.Array:
    """Returns (n,) as (1, ..., n), since ranks are not promoted."""
    return x.reshape((1,) * (ndim - 1) + x.shape)


@jax.custom_vjp
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises (..., n) over the last axis, as flax's `LayerNorm` does, for scale and bias (n,).

    Its gradient is written out: four sums over what is at hand, where differentiating the variance
    needs more passes over memory.
    """
    return _layer_norm_forward(x, scale, bias)[0]


def _layer_norm_forward(x: jax.Array, scale: jax.Array, bias: jax.Array):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True) - jnp.square(mean)
    inverse_std = lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-6)
    y = (x - mean) * (inverse_std * _row(scale, x.ndim)) + _row(bias, x.ndim)
    return y, (x, mean, inverse_std, scale)


def _layer_norm_backward(saved: tuple[jax.Array, ...], grad: jax.Array):
    x, mean, inverse_std, scale = saved
    normal = (x - mean) * inverse_std
    product = grad * normal
    rows = tuple(range(x.ndim - 1))
    scale_grad, bias_grad = jnp.sum(product, axis=rows), jnp.sum(grad, axis=rows)
    scale = _row(scale, x.ndim)
    # What moves the mean or the deviation of a row is undone by the normalisation.
    along_mean = jnp.mean(scale * grad, axis=-1, keepdims=True)
    along_std = jnp.mean(scale * product, axis=-1, keepdims=True)
    return inverse_std * (scale * grad - along_mean - normal * along_std), scale_grad, bias_grad


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class LayerNorm(nn.Module):
    """Layer normalisation with a learned scale and bias, named as in flax's."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises (..., n) over the last axis."""
        scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
        bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
        return layer_norm(x, scale, bias)


class MLP(nn.Module):
    """GELU layers, each optionally followed by layer normalisation, then a linear output.

    Attributes:
        hidden_dims: widths of the hidden layers.
        output_dim: width of the output.
        layer_norm: whether to normalise after each activation.
        precision: of the matrix products, a key of `PRECISIONS`.
        kernel_init: a key of `KERNEL_INITS`.
        output_scale: multiplies the first kernel of the output; small, all outputs start near 0.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    layer_norm: bool = False
    precision: str = 'float32'
    kernel_init: str = 'fan_average'
    output_scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, starts_after_first: bool = False) -> jax.Array:
        """Maps (..., input_dim), or what its first linear layer makes of it, to (..., output_dim).

        Args:
            x: the input.
            starts_after_first: whether `x` is the output of the first linear layer.
        """
        for i, width in enumerate(self.hidden_dims):
            if i > 0 or not starts_after_first:
                x = dense(width, self.precision, self.kernel_init, f'Dense_{i}')(x)
            x = nn.gelu(x)
            if self.layer_norm:
                x = LayerNorm()(x)
        name = f'Dense_{len(self.hidden_dims)}'
        sizes = self.output_dim, self.precision, self.kernel_init
        return dense(*sizes, name, self.output_scale)(x)


class VelocityField(nn.Module):
    """The velocity v(x, t | conditions) of a flow, by one MLP of everything.

    Its first layer is linear in the conditions: their part of it is computed once for any number
    of points and steps.

    Attributes:
        hidden_dims, output_dim, layer_norm, precision, kernel_init: as in `MLP`; `output_dim` is
            the dimension of x.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    layer_norm: bool = False
    precision: str = 'float32'
    kernel_init: str = 'fan_average'

    def features(self, *conditions: jax.Array) -> jax.Array:
        """The part of the first layer that conditions, (..., d) each, have in it."""
        conditions = jnp.concatenate(conditions, axis=-1)
        if self.is_initializing():
            return conditions  # there is no layer yet
        layer = self._first_layer()
        kernel = layer['kernel'][: conditions.shape[-1]]
        product = matmul(conditions, kernel, self.precision)
        return product + _row(layer['bias'], conditions.ndim)

    def _first_layer(self) -> dict[str, jax.Array]:
        return self.variables['params']['MLP_0']['Dense_0']

    @nn.compact
    def velocity(self, x: jax.Array, t: jax.Array, features: jax.Array) -> jax.Array:
        """Evaluates the field.

        Args:
            x: (..., output_dim), the moving point.
            t: (..., 1) or scalar, its time in [0, 1].
            features: from `features`, with axes of 1 where they serve many points.

        Returns:
            (..., output_dim).
        """
        t = jnp.broadcast_to(t, (*x.shape[:-1], 1))
        moving = jnp.concatenate([x, t], axis=-1)
        sizes = self.hidden_dims, self.output_dim, self.layer_norm, self.precision
        mlp = MLP(*sizes, self.kernel_init, name='MLP_0')
        if self.is_initializing():
            features = jnp.broadcast_to(features, (*x.shape[:-1], features.shape[-1]))
            return mlp(jnp.concatenate([features, moving], axis=-1))
        kernel = self._first_layer()['kernel'][-moving.shape[-1] :]
        first = features + matmul(moving, kernel, self.precision)
        return mlp(first, starts_after_first=True)

    def __call__(self, x: jax.Array, t: jax.Array, *conditions: jax.Array) -> jax.Array:
        """Evaluates the field at `x` and `t` under conditions (..., d) each."""
        return self.velocity(x, t, self.features(*conditions))


class TrunkVelocityField(nn.Module):
    """A velocity that is cheap to evaluate often: one large trunk, a small head for every (x, t).

    The trunk reads the conditions once; the head is an MLP of x and t whose layers the trunk scales
    and shifts, so that many samples and many steps cost little more than one.

    Attributes:
        hidden_dims, output_dim, layer_norm, precision, kernel_init: of the trunk, as in `MLP`.
        head_dims: widths of the head's hidden layers, which are not normalised.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    layer_norm: bool
    precision: str
    kernel_init: str
    head_dims: Sequence[int]

    def setup(self) -> None:
        """Makes the nets."""
        size = 2 * sum(self.head_dims)
        kind = self.precision, self.kernel_init
        self.trunk = MLP(self.hidden_dims, size, self.layer_norm, *kind)
        self.layers = [dense(width, *kind) for width in self.head_dims]
        self.last = dense(self.output_dim, *kind)

    def features(self, *conditions: jax.Array) -> jax.Array:
        """Runs the trunk on conditions (..., d) each."""
        return self.trunk(jnp.concatenate(conditions, axis=-1))

    def velocity(self, x: jax.Array, t: jax.Array, features: jax.Array) -> jax.Array:
        """Runs the head; see `VelocityField.velocity`."""
        t = jnp.broadcast_to(t, (*x.shape[:-1], 1))
        hidden = jnp.concatenate([x, t], axis=-1)
        ends = np.cumsum(np.repeat(self.head_dims, 2))[:-1]
        scales_and_shifts = jnp.split(features, ends, axis=-1)
        pairs = zip(scales_and_shifts[::2], scales_and_shifts[1::2], strict=True)
        for layer, (scale, shift) in zip(self.layers, pairs, strict=True):
            hidden = nn.gelu((1.0 + scale) * layer(hidden) + shift)
        return self.last(hidden)

    def __call__(self, x: jax.Array, t: jax.Array, *conditions: jax.Array) -> jax.Array:
        """Evaluates the field at `x` and `t` under conditions (..., d) each."""
        return self.velocity(x, t, self.features(*conditions))


def mlp(config: ConfigDict, output_dim: int, layer_norm: bool) -> MLP:
    """Returns the net of a config's `hidden_dims`, `matmul_precision` and `kernel_init`."""
    kind = config.matmul_precision, config.kernel_init
    return MLP(tuple(config.hidden_dims), output_dim, layer_norm, *kind)


def critic(config: ConfigDict, output_dim: int = 1) -> MLP:
    """Returns the net of values of a config."""
    return mlp(config, output_dim, config.value_layer_norm)


def policy_field(config: ConfigDict, action_dim: int) -> VelocityField:
    """Returns the base policy's velocity of flat chunks of a config."""
    kind = config.policy_layer_norm, config.matmul_precision, config.kernel_init
    chunk_dim = config.chunk_length * action_dim
    hidden_dims = config.get('policy_hidden_dims') or config.hidden_dims
    return VelocityField(tuple(hidden_dims), chunk_dim, *kind)
