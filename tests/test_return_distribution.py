"""The learned reward-to-go against distributions that are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from agents import evor
from agents.settings import inference
from benchmarks import processes, value_training
from benchmarks.value_training import LEVELS

pytestmark = pytest.mark.usefixtures('optimised')

STEPS, STEPS_OF_A_MEAN = 5000, 1500
SHALLOW = dict(
    hidden_dims=(64, 64), value_layer_norm=False, lr=1e-3
)  # enough for smooth distributions
READING_STEPS = 50  # Euler steps that serve the distribution best; the mean is read in one

FLOWS = {
    'velocity': dict(td_target='velocity'),
    'successor': dict(td_target='velocity_successor'),
    'lam 0': dict(td_target='coupled', lam=0.0),
    'lam 0.5': dict(td_target='coupled', lam=0.5),
}
OTHERS = {
    'scalar': dict(value_model='scalar'),
    'C51': dict(value_model='categorical'),
    'QR-DQN': dict(value_model='quantile'),
    'IQN': dict(value_model='implicit_quantile'),
}


def group(name):
    """Tests of one process share trained models, so one worker runs them all."""
    return pytest.mark.xdist_group(name)


PROCESSES = [
    pytest.param(name, marks=group(name)) for name in ('uniform', 'exponential', 'tied_actions')
]

# The exponential return has no bounds, which atoms need.
BOUNDED = [PROCESSES[0], PROCESSES[2]]


@functools.cache
def trained(name, model):
    settings = (FLOWS | OTHERS)[model]
    steps = STEPS_OF_A_MEAN if model == 'scalar' else STEPS
    return value_training.train(
        processes.ALL[name](), steps, backup_flow_steps=20, **SHALLOW | settings
    )


def measured(name, model):
    fitted = trained(name, model)
    return [value_training.measure(fitted, query) for query in fitted.process.queries]


@pytest.mark.long
def test_a_process_takes_the_steps_of_the_setting():
    process, taken = processes.uniform(), []

    def step(*arguments):
        taken.append(arguments)
        return process.step(*arguments)

    def steps_of(n_step):
        taken.clear()
        watched = process._replace(step=step)
        value_training.train(watched, 1, n_step=n_step, value_model='scalar', hidden_dims=(8,))
        return len(taken)

    assert steps_of(3) == 3 * steps_of(0) > 0


@pytest.mark.long
@pytest.mark.parametrize('model', ['lam 0', 'lam 0.5'])
@pytest.mark.parametrize('name', PROCESSES)
def test_coupled_target_learns_the_distribution(name, model):
    for errors in measured(name, model):
        assert errors['wasserstein'] <= 0.03


@pytest.mark.long
@pytest.mark.parametrize('model', FLOWS)
@pytest.mark.parametrize('name', PROCESSES)
def test_every_target_knows_the_mean(name, model):
    """Read in one step, z_0 + s(z_0, 0), whose average is the mean return."""
    for errors in measured(name, model):
        assert abs(errors['mean_error']) <= 0.03


@pytest.mark.long
@pytest.mark.parametrize('model', OTHERS)
@pytest.mark.parametrize('name', BOUNDED)
def test_every_other_model_knows_the_mean(name, model):
    for errors in measured(name, model):
        assert abs(errors['mean_error']) <= 0.03


@pytest.mark.long
@group('uniform')
@pytest.mark.parametrize('model', ['C51', 'QR-DQN', 'IQN'])
def test_every_distributional_model_learns_a_density(model):
    """Of the same return at every state and action, by the bootstrap alone."""
    for errors in measured('uniform', model):
        assert errors['wasserstein'] <= 0.03


@pytest.mark.long
@group('tied_actions')
@pytest.mark.parametrize('model', ['C51', 'QR-DQN', 'IQN'])
def test_every_distributional_model_learns_the_distribution(model):
    """Two distributions of one mean, told apart; a scalar is as far from them as their spread."""
    safe, risky = measured('tied_actions', model)
    assert max(safe['wasserstein'], risky['wasserstein']) <= 0.03
    assert abs(risky['soft_error_1']) <= 0.03
    scalar = measured('tied_actions', 'scalar')
    assert scalar[1]['wasserstein'] == pytest.approx(0.25, abs=0.02)  # E|G - 1/2|


@pytest.mark.long
def test_velocity_target_learns_the_base_noise_around_the_mean():
    """Nothing is random, the return is 2: what is learned is N(2, sigma^2), in net units."""
    fitted = trained('constant', 'velocity')
    unit = float(fitted.population.returns.std[0])
    expected = 2.0 + unit * stats.norm.ppf(LEVELS)
    learned, _ = value_training.learned_distribution(
        fitted, fitted.process.queries[0], READING_STEPS
    )
    np.testing.assert_allclose(learned, expected, atol=0.02)


@pytest.mark.long
@pytest.mark.parametrize('name', PROCESSES)
def test_velocity_target_learns_the_base_noise_around_the_mean_whatever_is_random(name):
    """N(Q, 1) in net units, its mean right however many steps it is read in."""
    fitted = trained(name, 'velocity')
    unit = float(fitted.population.returns.std[0])
    for query in fitted.process.queries:
        learned, _ = value_training.learned_distribution(fitted, query, 20)
        assert learned.mean() == pytest.approx(query.distribution.mean, abs=0.03)
        np.testing.assert_allclose(
            np.quantile(learned, [0.1, 0.5, 0.9]),
            query.distribution.mean + unit * stats.norm.ppf([0.1, 0.5, 0.9]),
            atol=0.08,
        )


@pytest.mark.long
@group('exponential')
def test_velocity_target_from_the_successor_is_biased_where_ends_are_random():
    """Read in many steps; in one, its mean is right."""
    fitted = trained('exponential', 'successor')
    [query] = fitted.process.queries
    learned, _ = value_training.learned_distribution(fitted, query, 20)
    assert learned.mean() - query.distribution.mean > 0.3


@pytest.mark.long
@group('uniform')
def test_velocity_target_from_the_successor_learns_its_self_consistent_distribution():
    """Where z_t is drawn from the sampled successor, it tells of random rewards.

    The fixed point is then s(z, t) = E[r + g s(z, t) | z_t = z], which is no distribution of
    returns. It is found here without a net, by particles and averages over bins of z.
    """
    fitted = trained('uniform', 'successor')
    return_map = fitted.population.returns
    mean, unit = float(return_map.mean[0]), float(return_map.std[0])
    expected = mean + unit * np.sort(_velocity_fixed_point(mean, unit))
    learned, _ = value_training.learned_distribution(fitted, fitted.process.queries[0], 20)
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


RARE = dict(td_target='coupled', backup_solver='euler', backup_flow_steps=4)


@pytest.mark.long
@group('rare_success')
@pytest.mark.parametrize(('mean_share', 'low', 'high'), [(0.0, 0.3, 2.0), (0.25, 0.0, 0.25)])
def test_a_share_at_time_zero_keeps_the_mean_of_rare_success(mean_share, low, high):
    """Four Euler steps in the backup, twenty backups in a row: mean error relative to the truth."""
    fitted = value_training.train(processes.rare_success(), 6000, mean_share=mean_share, **RARE)
    errors = [
        value_training.measure(fitted, query)['mean_error'] / query.distribution.mean
        for query in fitted.process.queries
    ]
    assert low <= np.abs(errors).mean() <= high


def _values(name, model, tau_r):
    """Values of the process's two actions at its first state, in units of reward."""
    fitted = trained(name, model)
    state = jax.tree.map(lambda leaf: leaf[0], fitted.population)
    actions = jnp.asarray([[query.action for query in fitted.process.queries]])
    settings = inference(
        evor.SETTINGS,
        fitted.model.config,
        num_return_samples=32,
        return_noise='quadrature',
        return_flow_steps=READING_STEPS,
        tau_r=tau_r / float(state.returns.std),
    )
    z = evor.value_candidates(
        fitted.model,
        state.value.params,
        state.returns,
        jnp.zeros((1, 1)),
        actions,
        jax.random.key(0),
        settings,
    )
    return np.asarray(state.returns.mean + state.returns.std * z)[0]


@pytest.mark.long
@group('tied_actions')
@pytest.mark.parametrize('model', ['lam 0', 'C51', 'QR-DQN', 'IQN'])
def test_extraction_prefers_the_wider_distribution_where_means_tie(model):
    """At temperature 0.2 the gamble is worth more, by as much as the closed form says."""
    safe, risky = _values('tied_actions', model, 0.2)
    queries = processes.tied_actions().queries
    truth = [query.distribution.soft_value(0.2) for query in queries]
    np.testing.assert_allclose([safe, risky], truth, atol=0.05)
    assert risky - safe > 0.5 * (truth[1] - truth[0])
    np.testing.assert_allclose(*_values('tied_actions', model, np.inf), atol=0.03)


@pytest.mark.long
@group('tied_actions')
def test_a_scalar_model_cannot_tell_tied_actions_apart():
    np.testing.assert_allclose(*_values('tied_actions', 'scalar', 0.2), atol=0.03)


@pytest.mark.long
def test_extraction_prefers_the_better_mean_where_it_is_asked_for_the_mean():
    """The safe action has the better mean, 0.6 to 0.5; a low temperature still likes the gamble."""
    safe, risky = _values('better_action', 'lam 0', np.inf)
    assert safe - risky == pytest.approx(0.1, abs=0.03)
    safe, risky = _values('better_action', 'lam 0', 0.1)
    assert risky > safe
