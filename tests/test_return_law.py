"""The learned reward-to-go against laws that are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from agents import evor
from benchmarks import processes, return_law

STEPS = 5000
READING_STEPS = 50  # Euler steps that serve the law best; the mean is read in one


def group(name):
    """Tests of one process share trained models, so one worker runs them all."""
    return pytest.mark.xdist_group(name)


PROCESSES = [
    pytest.param(name, marks=group(name)) for name in ('uniform', 'exponential', 'tied_actions')
]


@functools.cache
def trained(name, td_target, lam=0.0):
    return return_law.train(
        processes.ALL[name](), STEPS, td_target=td_target, lam=lam, flow_steps=20
    )


@pytest.mark.parametrize('lam', [0.0, 0.5])
@pytest.mark.parametrize('name', PROCESSES)
def test_coupled_target_learns_the_law(name, lam):
    model = trained(name, 'coupled', lam)
    for query in range(len(model.process.queries)):
        assert return_law.wasserstein(model, query, READING_STEPS) <= 0.03


@pytest.mark.parametrize(
    ('td_target', 'lam'), [('velocity', 0.0), ('coupled', 0.0), ('coupled', 0.5)]
)
@pytest.mark.parametrize('name', PROCESSES)
def test_every_target_knows_the_mean(name, td_target, lam):
    """Read in one step, z_0 + s(z_0, 0), whose average is the mean return."""
    model = trained(name, td_target, lam)
    for query, quantile in enumerate(model.process.quantiles):
        mean = return_law.learned_quantiles(model, query, 1).mean()
        assert abs(mean - quantile(return_law.LEVELS).mean()) <= 0.03


def test_velocity_target_learns_the_base_noise_around_the_mean():
    """With nothing random the return is 2; the learned law is N(2, sigma^2), in net units."""
    model = trained('constant', 'velocity')
    unit = float(model.state.return_std)
    expected = 2.0 + unit * stats.norm.ppf(return_law.LEVELS)
    learned = return_law.learned_quantiles(model, 0, READING_STEPS)
    np.testing.assert_allclose(learned, expected, atol=0.02)


@group('uniform')
def test_velocity_target_learns_its_self_consistent_law():
    """With random rewards the fixed point is s(z, t) = E[r + g s(z, t) | z_t = z], which is no law.

    It is found here without a net, by particles and averages over bins of z, and compared.
    """
    model = trained('uniform', 'velocity')
    mean, unit = float(model.state.return_mean), float(model.state.return_std)
    expected = mean + unit * np.sort(_velocity_fixed_point(mean, unit))
    learned = return_law.learned_quantiles(model, 0, 20)
    levels = np.linspace(0.02, 0.98, 50)
    gap = np.abs(np.quantile(learned, levels) - np.quantile(expected, levels))
    assert gap.mean() <= 0.06
    assert np.std(learned) > 1.5 * np.sqrt(1 / 3)  # the truth's deviation is sqrt(1 / 3)


def _velocity_fixed_point(mean, unit, steps=20, particles=100_000, bins=200):
    """Particles carried by the fixed point of the velocity target on the uniform process."""
    rng = np.random.default_rng(0)
    z_0 = rng.normal(size=particles)
    rewards = (rng.integers(0, 2, particles) + (0.5 - 1.0) * mean) / unit
    edges = np.linspace(-8, 8, bins + 1)
    field = np.zeros((steps, bins))

    def at(k, z):
        return field[k][np.clip(np.digitize(z, edges) - 1, 0, bins - 1)]

    for _ in range(25):
        next_z = z_0.copy()
        for k in range(steps):
            next_z = next_z + at(k, next_z) / steps
        z_1 = rewards + 0.5 * next_z
        for k in range(steps):
            z_t = (1 - k / steps) * z_0 + k / steps * z_1
            index = np.clip(np.digitize(z_t, edges) - 1, 0, bins - 1)
            counts = np.bincount(index, minlength=bins)
            sums = np.bincount(index, rewards + 0.5 * at(k, z_t), minlength=bins)
            filled = np.flatnonzero(counts > 20)
            # Beyond the particles the field is continued by its outermost value.
            field[k] = np.interp(np.arange(bins), filled, sums[filled] / counts[filled])
    return next_z


def _values(name, lam, tau_r):
    """Values of the process's two actions at its first state, in units of reward."""
    model, state, process = trained(name, 'coupled', lam)
    actions = jnp.asarray([[action for _, action in process.queries]])
    settings = evor.settings_from(
        model.config,
        num_return_samples=32,
        return_noise='quadrature',
        return_flow_steps=READING_STEPS,
        tau_r=tau_r / float(state.return_std),
    )
    z = evor.value_candidates(model, state, jnp.zeros((1, 1)), actions, jax.random.key(0), settings)
    return np.asarray(state.return_mean + state.return_std * z)[0]


def _soft_value_of_uniform(low, high, tau):
    return tau * np.log(tau / (high - low) * (np.exp(high / tau) - np.exp(low / tau)))


@group('tied_actions')
def test_extraction_prefers_the_wider_law_where_means_tie():
    """At temperature 0.2 the gamble is worth more, by as much as the closed form says."""
    safe, risky = _values('tied_actions', 0.0, 0.2)
    truth = [_soft_value_of_uniform(0.4, 0.6, 0.2), _soft_value_of_uniform(0.0, 1.0, 0.2)]
    np.testing.assert_allclose([safe, risky], truth, atol=0.05)
    assert risky - safe > 0.5 * (truth[1] - truth[0])
    np.testing.assert_allclose(*_values('tied_actions', 0.0, np.inf), atol=0.03)


def test_extraction_prefers_the_better_mean_where_it_is_asked_for_the_mean():
    """The safe action has the better mean, 0.6 to 0.5; a low temperature still likes the gamble."""
    safe, risky = _values('better_action', 0.0, np.inf)
    assert safe - risky == pytest.approx(0.1, abs=0.03)
    safe, risky = _values('better_action', 0.0, 0.1)
    assert risky > safe
