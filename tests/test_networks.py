"""Networks: shapes, what a trunk computes once, and products of rounded operands."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import small_config
from utils.models import networks
from utils.models.networks import MLP, TrunkVelocityField, VelocityField

FIELDS = {
    'mlp': VelocityField((8, 8), 2, True, 'float32'),
    'trunk': TrunkVelocityField((8, 8), 2, True, 'float32', 'fan_average', (5, 6)),
}


@pytest.mark.parametrize('field', FIELDS.values(), ids=FIELDS.keys())
def test_fields_have_the_stated_shapes(key, field):
    x, t, condition = jnp.ones((4, 5, 2)), jnp.float32(0.5), jnp.ones((4, 5, 3))
    params, apply = jax.jit(field.init)(key, x, t, condition), jax.jit(field.apply)
    chex.assert_shape(apply(params, x, t, condition), (4, 5, 2))
    spread = jnp.full((4, 5, 1), 0.5)
    chex.assert_trees_all_equal(apply(params, x, t, condition), apply(params, x, spread, condition))


@pytest.mark.parametrize('field', FIELDS.values(), ids=FIELDS.keys())
def test_features_serve_many_points(key, field):
    """One pass over the conditions, as many points as one likes."""
    x_key, condition_key, key = jax.random.split(key, 3)
    x, condition = jax.random.normal(x_key, (4, 7, 2)), jax.random.normal(condition_key, (4, 1, 3))
    params = jax.jit(field.init)(key, x[:, :1], jnp.float32(0.0), condition)
    apply = jax.jit(field.apply, static_argnames='method')
    features = apply(params, condition, method='features')
    many = apply(params, x, jnp.float32(0.3), features, method='velocity')
    one_by_one = [apply(params, x[:, i], jnp.float32(0.3), condition[:, 0]) for i in range(7)]
    np.testing.assert_allclose(many, np.stack(one_by_one, axis=1), rtol=1e-5, atol=1e-6)


def test_splitting_the_first_layer_leaves_the_function(key):
    """The field is the MLP of everything, with the parameters that the MLP would have."""
    field, mlp = FIELDS['mlp'], MLP((8, 8), 2, True)
    x, t, condition = jax.random.normal(key, (4, 2)), jnp.full((4, 1), 0.3), jnp.ones((4, 3))
    params = jax.jit(field.init)(key, x, t, condition)
    everything = jnp.concatenate([condition, x, t], axis=-1)
    own = {'params': params['params']['MLP_0']}
    chex.assert_trees_all_equal_shapes(own, jax.eval_shape(mlp.init, key, everything))
    np.testing.assert_allclose(
        jax.jit(field.apply)(params, x, t, condition),
        jax.jit(mlp.apply)(own, everything),
        rtol=1e-5,
        atol=1e-6,
    )


def test_layer_normalisation_is_optional(key):
    plain, normalised = (
        jax.eval_shape(MLP((8,), 1, *layer_norm).init, key, jnp.ones((1, 3)))['params']
        for layer_norm in ((), (True,))
    )
    assert plain.keys() == {'Dense_0', 'Dense_1'}
    assert 'LayerNorm_0' in normalised


def test_critics_are_normalised_as_their_own_setting_says(key):
    """That of the policy is another."""
    for normalises in (False, True):
        config = small_config(value_layer_norm=normalises, policy_layer_norm=not normalises)
        params = jax.eval_shape(networks.critic(config).init, key, jnp.ones((1, 3)))['params']
        assert ('LayerNorm_0' in params) == normalises


@pytest.mark.parametrize('shape', [(7, 16), (2, 3, 5, 16)])
def test_layer_normalisation_and_its_gradient_are_flax_s(key, shape):
    keys = jax.random.split(key, 4)
    x = 3.0 + 2.0 * jax.random.normal(keys[0], shape)
    params = {
        name: jax.random.normal(k, (16,))
        for name, k in zip(('scale', 'bias'), keys[1:3], strict=True)
    }
    weights = jax.random.normal(keys[3], shape)

    def value_and_grads(module):
        def objective(params, x):
            y = module.apply({'params': params}, x)
            return jnp.sum(weights * y), y

        return jax.jit(jax.grad(objective, (0, 1), has_aux=True))(params, x)

    ours, expected = value_and_grads(networks.LayerNorm()), value_and_grads(nn.LayerNorm())
    chex.assert_trees_all_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_float32_is_not_rounded(key):
    """A rounding to all its bits would still copy every weight of a net."""
    x, params = jnp.ones((2, 3)), jax.jit(MLP((8,), 1).init)(key, jnp.ones((1, 3)))
    program = str(jax.make_jaxpr(jax.grad(lambda p: MLP((8,), 1).apply(p, x).sum()))(params))
    assert 'dot_general' in program
    assert 'reduce_precision' not in program


def rounded(array, precision):
    """By NumPy: bfloat16 is a dtype, tensorfloat32 is float32 without 13 bits, to the nearest."""
    array = np.asarray(array, np.float32)
    if precision == 'bfloat16':
        return np.float64(array.astype(jnp.bfloat16))
    bits = array.view(np.uint32)
    bits = bits + 0xFFF + ((bits >> 13) & 1)
    return np.float64((bits & np.uint32(0xFFFFE000)).view(np.float32))


@pytest.mark.parametrize('precision', ['bfloat16', 'tensorfloat32'])
def test_products_and_their_gradients_take_rounded_operands(key, precision):
    x, w, grad = (jax.random.normal(k, (6, 6)) for k in jax.random.split(key, 3))
    product, pull = jax.vjp(lambda x, w: networks.matmul(x, w, precision), x, w)
    grads = pull(grad)
    a, b, c = (rounded(array, precision) for array in (x, w, grad))
    for got, expected in zip((product, *grads), (a @ b, c @ b.T, a.T @ c), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(product - np.float64(x) @ np.float64(w)).max() > 1e-4


def test_nets_of_lower_precision_have_the_same_parameters(key):
    """So that a checkpoint serves both."""
    x = jax.random.normal(key, (3, 4, 5))
    exact, coarse = MLP((8,), 2, True), MLP((8,), 2, True, 'bfloat16')
    params = jax.jit(exact.init)(key, x)
    chex.assert_trees_all_equal(params, jax.jit(coarse.init)(key, x))
    outputs = (jax.jit(net.apply)(params, x) for net in (exact, coarse))
    difference = np.abs(np.subtract(*outputs)).max()
    assert 1e-5 < difference < 0.1


@pytest.mark.parametrize(('kind', 'deviation'), [('fan_average', 0.2), ('lecun', 0.5)])
def test_a_kernel_begins_with_the_variance_of_its_initialiser(kind, deviation):
    """4 inputs, 46 outputs: 2 / (4 + 46) = 0.2^2, and 1 / 4 = 0.5^2 (which flax truncates)."""
    init = jax.jit(MLP((46,), 1, kernel_init=kind).init)
    kernels = [init(jax.random.key(seed), jnp.ones((1, 4))) for seed in range(50)]
    first = np.stack([params['params']['Dense_0']['kernel'] for params in kernels])
    assert first.std() == pytest.approx(deviation, rel=0.03)
    if kind == 'fan_average':
        assert np.abs(first).max() <= np.sqrt(3) * deviation


def test_a_small_output_scale_starts_outputs_near_zero():
    x = jax.random.normal(jax.random.key(0), (16, 4))
    plain, small = (MLP((8,), 2, output_scale=scale) for scale in (1.0, 0.01))
    params = jax.jit(plain.init)(jax.random.key(1), x)
    own = jax.jit(small.init)(jax.random.key(1), x)
    chex.assert_trees_all_close(
        jax.jit(small.apply)(own, x), 0.01 * jax.jit(plain.apply)(params, x), rtol=1e-5
    )
