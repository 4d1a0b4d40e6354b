import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils import extraction

EVEN = jnp.full((4,), 0.25)
RETURNS = jnp.array([[0.0, 1.0, 2.0, 5.0]])


def test_soft_value_by_hand():
    value = extraction.soft_value(jnp.array([0.0, jnp.log(3.0)]), jnp.array([0.5, 0.5]), 1.0)
    np.testing.assert_allclose(value, np.log(2.0), rtol=1e-6)  # ln((1 + 3) / 2)


def test_soft_value_weights_its_samples():
    value = extraction.soft_value(jnp.array([0.0, jnp.log(3.0)]), jnp.array([0.25, 0.75]), 1.0)
    np.testing.assert_allclose(value, np.log(2.5), rtol=1e-6)


@pytest.mark.parametrize(('temperature', 'expected'), [(0.0, 5.0), (jnp.inf, 2.0)])
def test_soft_value_limits_are_best_and_mean(temperature, expected):
    chex.assert_trees_all_close(
        extraction.soft_value(RETURNS, EVEN, temperature), jnp.array([expected])
    )


@pytest.mark.parametrize('temperature', [1e-6, 1e-2, 1.0, 1e3, 1e6, 1e9])
def test_soft_value_is_accurate_at_any_temperature(temperature):
    exact = np.float64(RETURNS[0])
    shifted = (exact - exact.max()) / temperature
    exact = exact.max() + temperature * np.log1p(np.mean(np.expm1(shifted)))
    value = extraction.soft_value(RETURNS, EVEN, temperature)[0]
    np.testing.assert_allclose(value, exact, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, 5, elements=st.floats(-50, 50, width=32)),
    st.floats(0.01, 100),
    st.floats(-50, 50, width=32),
)
def test_soft_value_lies_between_mean_and_best_and_shifts_with_returns(returns, temperature, shift):
    weights = jnp.full((5,), 0.2)
    value = extraction.soft_value(jnp.asarray(returns), weights, temperature)
    hotter = extraction.soft_value(jnp.asarray(returns), weights, 2 * temperature)
    moved = extraction.soft_value(jnp.asarray(returns) + shift, weights, temperature)
    assert returns.mean() - 1e-3 <= hotter <= value + 1e-3
    assert value <= returns.max() + 1e-3
    np.testing.assert_allclose(moved, value + shift, atol=2e-3)


def test_temperature_may_differ_by_observation():
    returns = jnp.broadcast_to(RETURNS, (3, 4))
    values = extraction.soft_value(returns, EVEN, jnp.array([0.0, 1.0, jnp.inf]))
    np.testing.assert_allclose(values[jnp.array([0, 2])], [5.0, 2.0])
    assert 2.0 < values[1] < 5.0


def test_quadrature_is_exact_for_polynomials(key):
    nodes, weights = extraction.return_noise(key, (), 5, 'quadrature')
    moments = [float(jnp.sum(weights * nodes**power)) for power in range(10)]
    np.testing.assert_allclose(moments, [1, 0, 1, 0, 3, 0, 15, 0, 105, 0], atol=1e-3)


def test_quadrature_knows_the_soft_value_of_a_gaussian(key):
    """tau ln E exp(z / tau) = mu + sigma^2 / (2 tau) for z ~ N(mu, sigma^2)."""
    nodes, weights = extraction.return_noise(key, (1,), 16, 'quadrature')
    value = extraction.soft_value(-3.0 + 0.5 * nodes, weights, 0.8)
    np.testing.assert_allclose(value, [-3.0 + 0.25 / 1.6], rtol=1e-5)


def test_one_quadrature_node_is_the_middle(key):
    nodes, weights = extraction.return_noise(key, (2,), 1, 'quadrature')
    chex.assert_trees_all_close((nodes, weights), (jnp.zeros((2, 1)), jnp.ones(1)))


def test_random_noise_is_standard_normal(key):
    noise, weights = extraction.return_noise(key, (1000,), 100, 'random')
    np.testing.assert_allclose([noise.mean(), noise.std(), weights.sum()], [0, 1, 1], atol=0.01)


def test_pick_follows_the_softmax(key):
    values = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.2, 0.7])), (20_000, 3))
    counts = np.bincount(extraction.pick(key, values, 1.0), minlength=3) / 20_000
    np.testing.assert_allclose(counts, [0.1, 0.2, 0.7], atol=0.01)


def test_pick_at_zero_temperature_takes_the_best(key):
    values = jax.random.normal(key, (50, 8))
    picked = extraction.pick(key, values, 0.0)
    chex.assert_trees_all_equal(picked, jnp.argmax(values, axis=-1).astype(picked.dtype))


def test_pick_at_infinite_temperature_is_uniform(key):
    values = jnp.broadcast_to(jnp.array([0.0, 100.0]), (20_000, 2))
    assert abs(float(extraction.pick(key, values, jnp.inf).mean()) - 0.5) < 0.02


def test_pick_breaks_ties_at_random(key):
    values = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0]), (20_000, 3))
    counts = np.bincount(extraction.pick(key, values, 0.0), minlength=3) / 20_000
    np.testing.assert_allclose(counts, [0.5, 0.5, 0.0], atol=0.02)
