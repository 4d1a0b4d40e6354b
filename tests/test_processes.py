"""The ground truth of the benches, itself checked: closed forms against simulation."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from benchmarks import distributions, processes

LEVELS = (np.arange(2000) + 0.5) / 2000
DISTRIBUTIONS = {
    'uniform': distributions.uniform(-1.0, 2.0),
    'discrete': distributions.discrete([-1.0, 0.5, 2.0], [0.2, 0.5, 0.3]),
    'gaussian': distributions.gaussian(0.3, 0.7),
    'exponential': distributions.exponential(0.5),
}


@pytest.mark.parametrize('name', DISTRIBUTIONS)
def test_moments_and_soft_values_are_those_of_the_quantiles(name):
    distribution = DISTRIBUTIONS[name]
    levels = (np.arange(200_000) + 0.5) / 200_000
    returns = distribution.quantile(levels)
    assert np.mean(returns) == pytest.approx(distribution.mean, abs=1e-3)
    assert np.std(returns) == pytest.approx(distribution.std, abs=2e-3)
    for tau in (2.0, 5.0):
        soft = tau * np.log(np.mean(np.exp(returns / tau)))
        assert distribution.soft_value(tau) == pytest.approx(soft, abs=2e-3)


def test_the_exponential_distribution_has_no_soft_value_below_its_mean():
    distribution = distributions.exponential(0.5)
    assert distribution.soft_value(0.5) == np.inf
    tau = 0.8
    moment, _ = integrate.quad(lambda g: 2.0 * np.exp(g / tau - 2.0 * g), 0.0, np.inf)
    assert distribution.soft_value(tau) == pytest.approx(tau * np.log(moment), rel=1e-6)


def simulate(process, n_step=1, size=100_000, sweeps=40):
    """Returns by following sampled transitions, each to a random one of the successor's."""
    batch = jax.tree.map(np.asarray, process.sample(jax.random.key(0), size, n_step))
    here = np.concatenate([batch.observations, batch.actions[:, 0]], axis=1)
    there = np.concatenate([batch.next_observations, batch.next_actions[:, 0]], axis=1)
    names, index = np.unique(here, axis=0, return_inverse=True)
    order = np.argsort(index.ravel(), kind='stable')
    counts = np.bincount(index.ravel())
    firsts = np.cumsum(counts) - counts
    lookup = {tuple(name): number for number, name in enumerate(names)}
    # Where the process ends the successor is never looked at, and may not occur.
    ends = batch.discounts == 0
    rows = zip(there, ends, strict=True)
    successor = np.array([0 if end else lookup[tuple(row)] for row, end in rows])
    rng, values = np.random.default_rng(0), np.zeros(size)
    for _ in range(sweeps):
        follower = order[firsts[successor] + rng.integers(0, counts[successor])]
        values = batch.rewards + batch.discounts * values[follower]
    return lambda query: values[index.ravel() == lookup[(*query.observation, *query.action)]]


def test_the_chance_of_a_rare_success_is_that_of_its_transitions():
    """By dynamic programming over empirical transitions: resampled returns would coalesce."""
    process = processes.rare_success()
    batch = jax.tree.map(np.asarray, process.sample(jax.random.key(0), 400_000))
    here, there = (
        np.round(10 * (observations + 1)).astype(int)
        for observations in (batch.observations, batch.next_observations)
    )
    values = np.zeros((21, 22))
    for thrown in range(19, -1, -1):
        at = here[:, 0] == thrown
        assert (there[at, 0] == thrown + 1).all()
        going_on = batch.discounts[at] * values[there[at, 0], there[at, 1]]
        returns, heads = batch.rewards[at] + going_on, here[at, 1]
        sums, counts = (np.bincount(heads, weights, 22) for weights in (returns, None))
        values[thrown] = sums / np.maximum(counts, 1)
    for query in process.queries:
        thrown, heads = np.round(10 * (np.array(query.observation) + 1)).astype(int)
        assert query.distribution.mean == pytest.approx(values[thrown, heads], rel=0.1)
        assert 0.01 < query.distribution.mean < 0.06


SHORT = ('uniform', 'noisy_walk', 'steered_walk', 'tied_actions')
SIMULATED = [
    pytest.param(name, marks=[pytest.mark.long] * (name not in SHORT))
    for name in processes.ALL
    if name != 'rare_success'
]


@pytest.mark.parametrize('n_step', [1, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize('name', SIMULATED)
def test_the_distribution_of_a_process_is_that_of_its_simulated_returns(name, n_step):
    """However many steps lie before the bootstrap: the policy goes on, so it stays."""
    process = processes.ALL[name]()
    simulated = simulate(process, n_step)
    for query in process.queries:
        returns = simulated(query)
        distance = np.abs(np.quantile(returns, LEVELS) - query.distribution.quantile(LEVELS)).mean()
        assert distance <= 0.02
        assert returns.min() >= process.bounds[0] - 0.6
        # At most the 1 in 10,000 that bounds of unbounded ones leave out, and its sampling error.
        outside = (returns < process.bounds[0] - 1e-6) | (returns > process.bounds[1] + 1e-6)
        assert outside.mean() <= 5e-4


@pytest.mark.parametrize('n_step', [1, 4])
def test_rare_success_bootstraps_from_the_true_chance_to_the_true_chance(n_step):
    batch = processes.rare_success().sample(jax.random.key(1), 200_000, n_step)
    batch = jax.tree.map(np.asarray, batch)

    def coins(observations):
        return np.round(10 * (np.asarray(observations) + 1)).T

    def chance(observations):
        thrown, heads = coins(observations)
        left = np.maximum(processes.STEPS - thrown, 0)
        return stats.binom.sf(processes.NEEDED - heads - 1, left, 0.5)

    errors = batch.rewards + batch.discounts * chance(batch.next_observations)
    errors -= chance(batch.observations)
    thrown = coins(batch.observations)[0]
    assert np.array_equal(batch.discounts, thrown + n_step < processes.STEPS)
    for number in range(processes.STEPS):
        here = errors[thrown == number]
        assert abs(here.mean()) <= 4.0 * here.std() / np.sqrt(len(here))


def test_a_sum_of_rewards_stops_where_the_process_ends():
    """Reward 1 a step, gamma 1/2, an end with chance 1/2 each: 1, 1.5 or 1.75 in three steps."""
    batch = processes.geometric().sample(jax.random.key(0), 100_000, 3)
    goes_on = np.asarray(batch.discounts) > 0
    assert set(np.asarray(batch.discounts)[goes_on].tolist()) == {0.125}
    assert (np.asarray(batch.rewards)[goes_on] == 1.75).all()
    sums, counts = np.unique(np.asarray(batch.rewards), return_counts=True)
    assert sums.tolist() == [1.0, 1.5, 1.75]
    np.testing.assert_allclose(counts / 100_000, [0.5, 0.25, 0.25], atol=0.01)
    assert np.mean(goes_on) == pytest.approx(0.125, abs=0.01)


def test_the_twins_share_the_distribution_of_their_start():
    """Stochastic transitions, or deterministic ones under a coin of a policy: the same returns."""
    noisy, steered = processes.noisy_walk(), processes.steered_walk()
    mixture = np.concatenate([query.distribution.quantile(LEVELS) for query in steered.queries])
    truth = noisy.queries[0].distribution.quantile((np.arange(4000) + 0.5) / 4000)
    np.testing.assert_allclose(np.sort(mixture), truth, atol=1e-9)
    # But only in the deterministic one does an action reach more than the mean of the start.
    assert steered.queries[1].distribution.mean > noisy.queries[1].distribution.mean
