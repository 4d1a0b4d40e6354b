import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import logsumexp

from utils.errors import UserError
from utils.models import extraction

# As it is used: within a compiled program.
soft_value = jax.jit(extraction.soft_value)

EVEN = jnp.full((4,), 0.25)
RETURNS = jnp.array([[0.0, 1.0, 2.0, 5.0]])


def test_soft_value_by_hand():
    value = soft_value(jnp.array([0.0, jnp.log(3.0)]), jnp.array([0.5, 0.5]), 1.0)
    np.testing.assert_allclose(value, np.log(2.0), rtol=1e-6)  # ln((1 + 3) / 2)


def test_soft_value_weights_its_samples():
    value = soft_value(jnp.array([0.0, jnp.log(3.0)]), jnp.array([0.25, 0.75]), 1.0)
    np.testing.assert_allclose(value, np.log(2.5), rtol=1e-6)


def test_each_distribution_may_have_weights_of_its_own():
    returns = jnp.broadcast_to(jnp.array([0.0, jnp.log(3.0)]), (2, 2))
    weights = jnp.array([[0.5, 0.5], [0.25, 0.75]])
    values = soft_value(returns, weights, 1.0)
    np.testing.assert_allclose(values, [np.log(2.0), np.log(2.5)], rtol=1e-6)
    means = soft_value(returns, weights, jnp.inf)
    np.testing.assert_allclose(means, [np.log(3.0) / 2, np.log(3.0) * 3 / 4], rtol=1e-6)


@pytest.mark.parametrize(('temperature', 'expected'), [(0.0, 5.0), (jnp.inf, 2.0)])
def test_soft_value_limits_are_best_and_mean(temperature, expected):
    chex.assert_trees_all_close(soft_value(RETURNS, EVEN, temperature), jnp.array([expected]))


@pytest.mark.parametrize('temperature', [1e-6, 1e-2, 1.0, 1e3, 1e6, 1e9])
def test_soft_value_is_accurate_at_any_temperature(temperature):
    exact = np.float64(RETURNS[0])
    shifted = (exact - exact.max()) / temperature
    exact = exact.max() + temperature * np.log1p(np.mean(np.expm1(shifted)))
    value = soft_value(RETURNS, EVEN, temperature)[0]
    np.testing.assert_allclose(value, exact, rtol=1e-5)


def soft_value_in_float64(returns, weights, temperature):
    returns, weights = np.float64(returns), np.float64(weights)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return temperature * logsumexp(returns / temperature, b=weights, axis=-1)


@pytest.mark.parametrize('temperature', 10.0 ** np.arange(-2, 7))
def test_soft_value_of_a_weighted_distribution_agrees_with_float64(temperature):
    """Nine points whose probabilities differ by orders of magnitude, at any scale."""
    rng = np.random.default_rng(0)
    weights = np.float32(rng.dirichlet(np.full(9, 0.1), 300))
    returns = np.float32(rng.normal(size=(300, 9)) * 10.0 ** rng.uniform(-2, 2, (300, 1)))
    values = soft_value(jnp.asarray(returns), jnp.asarray(weights), temperature)
    errors = values - soft_value_in_float64(returns, weights, temperature)
    assert np.max(np.abs(errors) / np.max(np.abs(returns), axis=1)) < 1e-6


ATOMS = jnp.linspace(-3.0, 3.0, 101)


def nearly_all_at_the_bottom(top):
    """A distribution on `ATOMS` that leaves the best atom the probability `top`."""
    return jnp.zeros(101).at[0].set(1.0).at[-1].set(top)


@pytest.mark.parametrize('temperature', [0.01, 0.05, 0.08, 0.1, 1.0, 1e6])
@pytest.mark.parametrize('top', [1e-30, 1e-6, 0.0])
def test_an_unlikely_best_atom_counts_by_its_probability(top, temperature):
    """At 1e-30 it is worth the worst atom where 6 / tau = 69, not more and not minus infinity."""
    weights = nearly_all_at_the_bottom(top)
    value = soft_value(ATOMS, weights, temperature)
    np.testing.assert_allclose(value, soft_value_in_float64(ATOMS, weights, temperature), rtol=1e-5)


def test_an_unlikely_best_atom_does_not_dominate_before_its_time():
    values = [soft_value(ATOMS, nearly_all_at_the_bottom(1e-30), tau) for tau in (0.1, 0.01)]
    np.testing.assert_allclose(values, [-3.0, 3.0 + 0.01 * np.log(1e-30)], rtol=1e-5)


@pytest.mark.parametrize(('top', 'best'), [(1e-30, 3.0), (0.0, -3.0)])
def test_zero_temperature_takes_the_best_that_is_possible(top, best):
    assert soft_value(ATOMS, nearly_all_at_the_bottom(top), 0.0) == best


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, 5, elements=st.floats(-50, 50, width=32)),
    st.floats(0.01, 100),
    st.floats(-50, 50, width=32),
)
def test_soft_value_lies_between_mean_and_best_and_shifts_with_returns(returns, temperature, shift):
    weights = jnp.full((5,), 0.2)
    value = soft_value(jnp.asarray(returns), weights, temperature)
    hotter = soft_value(jnp.asarray(returns), weights, 2 * temperature)
    moved = soft_value(jnp.asarray(returns) + shift, weights, temperature)
    assert returns.mean() - 1e-3 <= hotter <= value + 1e-3
    assert value <= returns.max() + 1e-3
    np.testing.assert_allclose(moved, value + shift, atol=2e-3)


def test_temperature_may_differ_by_observation():
    returns = jnp.broadcast_to(RETURNS, (3, 4))
    values = soft_value(returns, EVEN, jnp.array([0.0, 1.0, jnp.inf]))
    np.testing.assert_allclose(values[jnp.array([0, 2])], [5.0, 2.0])
    assert 2.0 < values[1] < 5.0


@pytest.mark.parametrize('kind', ['random', 'quadrature'])
def test_noise_is_points_and_their_common_weights(key, kind):
    noise = extraction.return_noise(key, (2, 3), 5, kind)
    chex.assert_shape(noise.z_0, (2, 3, 5))
    chex.assert_shape(noise.weights, (5,))
    np.testing.assert_allclose(noise.weights.sum(), 1.0, rtol=1e-6)


def test_the_first_of_many_samples_are_those_of_few(key):
    few, many = (extraction.return_noise(key, (2, 3), num, 'random') for num in (4, 32))
    np.testing.assert_array_equal(many.z_0[..., :4], few.z_0)


def test_quadrature_is_exact_for_polynomials(key):
    nodes, weights = extraction.return_noise(key, (), 5, 'quadrature')
    moments = [float(jnp.sum(weights * nodes**power)) for power in range(10)]
    np.testing.assert_allclose(moments, [1, 0, 1, 0, 3, 0, 15, 0, 105, 0], atol=1e-3)


def test_quadrature_knows_the_soft_value_of_a_gaussian(key):
    """tau ln E exp(z / tau) = mu + sigma^2 / (2 tau) for z ~ N(mu, sigma^2)."""
    nodes, weights = extraction.return_noise(key, (1,), 16, 'quadrature')
    value = soft_value(-3.0 + 0.5 * nodes, weights, 0.8)
    np.testing.assert_allclose(value, [-3.0 + 0.25 / 1.6], rtol=1e-5)


def test_more_nodes_than_there_are_weights_for_are_refused(key):
    _, weights = extraction.return_noise(key, (), extraction.MAX_NODES, 'quadrature')
    assert (weights >= np.finfo(np.float32).tiny).all()
    with pytest.raises(UserError, match='quadrature; at most 50'):
        extraction.return_noise(key, (), extraction.MAX_NODES + 1, 'quadrature')


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


def test_on_the_log_scale_odds_are_ratios_of_what_is_above_the_least_return(key):
    """At tau = 1 the odds themselves, at 0.5 their square; near the goal and far away alike."""
    for tau, odds in ((1.0, 2.0), (0.5, 4.0)):
        for above in (jnp.array([20.0, 40.0]), jnp.array([0.02, 0.04])):
            logs = extraction.log_above_least(above - 100.0, jnp.array(-100.0), jnp.array(0.0))
            logits = extraction.pick_logits(logs[None], tau)[0]
            assert float(jnp.exp(logits[1] - logits[0])) == pytest.approx(odds, rel=1e-2)


def test_on_the_log_scale_values_below_the_least_return_are_equal():
    """A scalar value may be below what any return can be."""
    values = jnp.array([-100.0, -104.0, -99.0])
    logs = extraction.log_above_least(values, jnp.array(-100.0), jnp.array(0.0))
    chex.assert_tree_all_finite(logs)
    assert logs[0] == logs[1] < logs[2]


def test_on_the_log_scale_values_without_an_interval_are_equal():
    """Where all rewards are 0, so is every return."""
    logs = extraction.log_above_least(jnp.array([-1.0, 0.0, -3.0]), jnp.zeros(()), jnp.zeros(()))
    chex.assert_tree_all_finite(logs)
    assert logs[0] == logs[1] == logs[2]


def test_picks_at_all_temperatures_and_numbers_meet_the_same_noise(key):
    """The Gumbel-max trick: the best of values / tau + noise, the noise each candidate's own."""
    values = jax.random.normal(key, (200, 8))
    noise = [jax.random.gumbel(jax.random.fold_in(key, i), (200,)) for i in range(8)]
    noise = np.stack(noise, axis=1)
    for num in (3, 8):
        for tau in (0.2, 1.0, np.inf):
            expected = np.argmax(np.asarray(values)[:, :num] / tau + noise[:, :num], axis=1)
            picked = extraction.pick(key, values[:, :num], tau)
            np.testing.assert_array_equal(picked, expected)


def test_take_by_hand():
    candidates = jnp.arange(12.0).reshape(2, 3, 2)
    taken = extraction.take(candidates, jnp.array([2, 0]))
    np.testing.assert_array_equal(taken, [[4.0, 5.0], [6.0, 7.0]])
    chunks = extraction.take(candidates[..., None], jnp.array([2, 0]))
    np.testing.assert_array_equal(chunks, taken[..., None])
