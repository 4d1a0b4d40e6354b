"""Statistics of scores: by hand, by their definitions, and beside rliable and SciPy."""

import csv
import itertools
import json
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from utils import statistics

FOLDER = Path(__file__).parent / 'data'
REFERENCE = json.loads((FOLDER / 'rliable_reference.json').read_text())
SETS = [name for name in REFERENCE if name in ('one_task', 'five_tasks')]

# Rates of 20 episodes: ties are common.
RATES = st.integers(0, 20).map(lambda wins: wins / 20)
TASKS = arrays.arrays(float, st.tuples(st.just(3), st.integers(1, 6)), elements=RATES).map(list)


def scores_of(name):
    """Real scores by config: per task (seeds,)."""
    with (FOLDER / 'seed_scores.csv').open(newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['set'] == name]
    found = {}
    for row in sorted(rows, key=lambda row: (row['env_name'], int(row['seed']))):
        tasks = found.setdefault(row['config'], {})
        tasks.setdefault(row['env_name'], []).append(float(row['score']))
    return {config: [np.array(t) for t in tasks.values()] for config, tasks in found.items()}


def test_a_score_is_the_mean_of_the_last_three_evaluations():
    assert statistics.score(np.array([0.0, 0.4, 0.5, 0.9])) == 0.6
    assert statistics.score(np.array([0.2, 0.4])) == 0.3
    assert statistics.score(np.array([0.2])) == 0.2


def test_scores_of_equally_many_successes_tie():
    one, other = (0.0, 0.0, 0.14), (0.0, 0.02, 0.12)
    assert np.mean(one) != np.mean(other)
    assert statistics.score(np.array(one)) == statistics.score(np.array(other))


def test_the_mean_weighs_tasks_the_interquartile_mean_seeds():
    scores = [np.array([1.0, 1.0, 1.0]), np.array([0.0])]
    assert statistics.mean(scores) == 0.5
    # One of four is cut at each end.
    assert statistics.interquartile_mean(scores) == 1.0
    assert statistics.interquartile_mean([np.array([0.0, 0.3]), np.array([0.5, 9.0])]) == 0.4


def test_the_interval_of_a_difference_is_welchs():
    one, other = np.array([0.7, 0.9, 0.5, 0.8]), np.array([0.2, 0.6])
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert statistics.difference_interval([one], [other]) == pytest.approx(tuple(expected))
    # Of two tasks that are alike the mean is surer: half the variance, twice the freedom.
    low, high = statistics.difference_interval([one, one], [other, other])
    freedom = 2 * stats.ttest_ind(one, other, equal_var=False).df
    shrunk = stats.t.ppf(0.975, freedom) / stats.t.ppf(0.975, freedom / 2) / 2**0.5
    assert high - low == pytest.approx((expected.high - expected.low) * shrunk)


def test_seeds_that_agree_or_stand_alone_have_no_interval_of_a_difference():
    spread = np.array([0.5, 0.7])
    assert statistics.difference_interval([spread], [np.array([0.5])]) is None
    assert statistics.difference_interval([np.ones(3)], [np.ones(2)]) is None


def test_the_probability_of_improvement_by_hand():
    one, other = [np.array([1.0, 2.0])], [np.array([1.0, 0.0, 3.0])]
    # 1: a tie, a win, a loss; 2: two wins, a loss.
    assert statistics.probability_of_improvement(one, other) == pytest.approx(3.5 / 6)
    both = [*one, np.array([5.0])], [*other, np.array([4.0, 3.0])]
    assert statistics.probability_of_improvement(*both) == pytest.approx((3.5 / 6 + 1.0) / 2)


@hypothesis.given(TASKS, TASKS)
def test_one_is_better_or_the_other(one, other):
    there = statistics.probability_of_improvement(one, other)
    back = statistics.probability_of_improvement(other, one)
    assert there + back == pytest.approx(1.0)
    assert statistics.probability_of_improvement(one, one) == pytest.approx(0.5)


@hypothesis.given(TASKS)
def test_a_profile_falls_from_all_to_none_with_the_mean_as_its_area(scores):
    thresholds = np.arange(-1, 21) / 20
    profile = statistics.performance_profile(scores, thresholds)
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 0).all()
    # Rates are multiples of the thresholds' distance.
    assert profile[1:].mean() * 21 / 20 == pytest.approx(statistics.mean(scores))


@pytest.mark.parametrize(
    'statistic',
    [
        statistics.mean,
        statistics.interquartile_mean,
        lambda scores: statistics.performance_profile(scores, np.array([0.2, 0.5])),
        lambda scores: statistics.probability_of_improvement(scores, scores[::-1]),
    ],
)
def test_resamples_are_led_by_an_axis_of_their_own(statistic):
    rng = np.random.default_rng(0)
    resamples = [rng.uniform(size=(4, seeds)) for seeds in (3, 5, 2)]
    each = [statistic([task[index] for task in resamples]) for index in range(4)]
    np.testing.assert_allclose(statistic(resamples), each)


def test_seeds_are_drawn_within_their_tasks():
    """Tasks that differ, with seeds that do not: nothing is left to chance."""
    scores = [np.full(3, 0.1), np.full(4, 0.9)]
    low, high = statistics.stratified_interval(statistics.mean, scores)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.5)
    drawn = statistics.draw_indices(scores, 50, np.random.default_rng(0))
    assert [index.shape for index in drawn] == [(50, 3), (50, 4)]
    assert [set(index.ravel()) for index in drawn] == [{0, 1, 2}, {0, 1, 2, 3}]


def test_an_interval_repeats_and_hangs_on_its_seed():
    scores = [np.random.default_rng(0).uniform(size=5)]
    first = statistics.stratified_interval(statistics.mean, scores, num_resamples=200)
    again = statistics.stratified_interval(statistics.mean, scores, num_resamples=200)
    other = statistics.stratified_interval(statistics.mean, scores, num_resamples=200, seed=1)
    assert first == again
    assert first != other


def test_a_single_seed_has_no_interval():
    scores = [np.array([0.1, 0.2]), np.array([0.3])]
    assert statistics.stratified_interval(statistics.mean, scores) is None


@hypothesis.given(arrays.arrays(float, 3, elements=RATES))
def test_the_interval_of_three_seeds_is_from_the_least_to_the_greatest(scores):
    interval = statistics.stratified_interval(statistics.mean, [scores], num_resamples=4000)
    np.testing.assert_allclose(interval, (scores.min(), scores.max()))


def test_intervals_cover():
    """Of the mean of three tasks with twenty seeds each, about 95 times in 100."""
    rng, centres, covered = np.random.default_rng(0), (0.2, 0.5, 0.8), 0
    for seed in range(300):
        scores = [rng.normal(centre, 0.1, 20) for centre in centres]
        low, high = statistics.stratified_interval(
            statistics.mean, scores, num_resamples=400, seed=seed
        )
        covered += low <= 0.5 <= high
    assert 0.9 <= covered / 300 <= 0.98


def test_intervals_agree_with_scipy():
    """SciPy's bootstrap of several samples is stratified too, with draws of its own."""
    rng = np.random.default_rng(0)
    scores = [rng.uniform(size=seeds) for seeds in (5, 8, 6)]

    def statistic(*samples, axis):
        return statistics.interquartile_mean([np.moveaxis(s, axis, -1) for s in samples])

    expected = stats.bootstrap(
        scores, statistic, method='percentile', vectorized=True, n_resamples=10_000, rng=rng
    )
    interval = statistics.stratified_interval(statistics.interquartile_mean, scores)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    np.testing.assert_allclose(interval, expected.confidence_interval, atol=0.05 * width)


def test_the_interval_of_a_mean_over_tasks_is_that_of_all_their_episodes():
    found = statistics.mean_interval([1.0, 0.5, 0.0], [20, 40, 20])
    wins = np.repeat([1.0, 0.0], 30)  # as if each task had 20
    assert found == statistics.success_interval(wins)


def test_the_interval_over_seeds_by_hand():
    """Three rates of mean 0.5 and deviation 0.1, and Student's 97.5% point for two, 4.303."""
    low, high = statistics.success_interval_over_seeds([0.4, 0.5, 0.6], [50] * 3)
    assert (low, high) == pytest.approx(
        (0.5 - 4.303 * 0.1 / 3**0.5, 0.5 + 4.303 * 0.1 / 3**0.5), abs=1e-4
    )
    # Bounds beyond what a rate can be are cut: -0.07 here.
    low, high = statistics.success_interval_over_seeds([0.62, 0.44, 0.22], [50] * 3)
    assert low == 0.0
    assert high == pytest.approx(0.924, abs=5e-4)


@pytest.mark.parametrize('rate', [0.0, 0.5, 1.0])
def test_seeds_that_agree_are_no_surer_than_their_episodes(rate):
    """Three equal rates have no spread; the Wilson interval of 150 episodes is left."""
    expected = statistics.success_interval(np.arange(150) < 150 * rate)
    interval = statistics.success_interval_over_seeds([rate] * 3, [50] * 3)
    assert interval == pytest.approx(expected)


def test_the_interval_of_one_seed_is_of_this_agent():
    expected = statistics.success_interval(np.arange(50) < 45)
    assert statistics.success_interval_over_seeds([0.9], [50]) == expected


@hypothesis.given(st.lists(st.tuples(RATES, st.sampled_from([20, 40])), min_size=1, max_size=6))
def test_the_interval_over_seeds_has_the_mean_and_the_pools_interval_within(seeds):
    rates, episodes = zip(*seeds, strict=True)
    low, high = statistics.success_interval_over_seeds(rates, episodes)
    wins = round(sum(rate * num for rate, num in seeds))
    inner = statistics.success_interval(np.arange(sum(episodes)) < wins)
    assert 0.0 <= low <= inner[0] <= inner[1] <= high <= 1.0
    if len(seeds) > 1:
        assert low - 1e-12 <= np.mean(rates) <= high + 1e-12


def test_an_interval_over_seeds_needs_seeds_and_their_episodes():
    with pytest.raises(ValueError, match='must be'):
        statistics.success_interval_over_seeds([], [])
    with pytest.raises(ValueError, match='zip'):
        statistics.success_interval_over_seeds([0.5, 0.5], [50])


def coverage(mean, deviation, seeds, num=400):
    """How often the pool's Wilson interval and that over seeds cover the mean of training again.

    A seed's own rate has this mean and deviation (Beta), and is seen through 50 episodes.
    """
    rng = np.random.default_rng(0)
    size = mean * (1 - mean) / deviation**2 - 1
    own = rng.beta(mean * size, (1 - mean) * size, (num, seeds))
    wins = rng.binomial(50, own)
    pools = [statistics.success_interval(np.arange(50 * seeds) < one.sum()) for one in wins]
    over = [statistics.success_interval_over_seeds(one / 50, [50] * seeds) for one in wins]
    return [np.mean([low <= mean <= high for low, high in each]) for each in (pools, over)]


@pytest.mark.parametrize(
    ('mean', 'deviation', 'seeds'),
    [
        pytest.param(mean, deviation, seeds, marks=[pytest.mark.long] * (seeds != usual))
        for mean, deviation, usual in ((0.5, 0.15, 2), (0.3, 0.1, 3), (0.8, 0.1, 5))
        for seeds in (2, 3, 5)
    ],
)
def test_the_interval_over_seeds_covers_training_again_and_the_pools_does_not(
    mean, deviation, seeds
):
    pooled, over_seeds = coverage(mean, deviation, seeds)
    assert pooled < 0.8
    assert over_seeds >= 0.93


def test_seeds_of_which_few_learn_are_too_few_for_the_interval():
    """Its documented limit: most seeds have no success, few have much."""
    pooled, over_seeds = coverage(0.06, 0.15, 3)
    assert pooled < over_seeds < 0.8


def test_differences_are_taken_on_the_same_start_states():
    one = [np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 1.0, 0.0]])]
    other = [np.array([[0.0, 0.0]]), np.array([[0.0, 1.0, 1.0]])]
    first, second = statistics.differences_by_start(one, other)
    np.testing.assert_array_equal(first, [1.0, 0.5])
    np.testing.assert_array_equal(second, [1.0, 0.0, -1.0])


def test_pairing_takes_out_how_hard_a_start_state_is():
    """Starts are easy or hard for both; one agent solves a few more, which noise would hide."""
    rng = np.random.default_rng(0)
    easy = (rng.uniform(size=200) < 0.5).astype(float)
    other = [np.stack([easy] * 3)]
    one = [np.maximum(other[0], np.arange(200) < 20)]
    paired = statistics.stratified_interval(
        statistics.mean, statistics.differences_by_start(one, other)
    )
    assert 0.0 < paired[0] < paired[1]
    alone = statistics.stratified_interval(
        lambda x, y: statistics.mean(x) - statistics.mean(y), [one[0][0]], [other[0][0]]
    )
    assert alone[0] < 0.0


def test_start_states_stay_whole_however_many_seeds_play_them():
    """Seeds that all do the same are no further evidence."""
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 2, (1, 50)).astype(float) for _ in range(2))
    few = statistics.differences_by_start([one], [other])
    many = statistics.differences_by_start([np.repeat(one, 8, 0)], [np.repeat(other, 8, 0)])
    intervals = [statistics.stratified_interval(statistics.mean, d) for d in (few, many)]
    np.testing.assert_allclose(*intervals)


def test_an_optimality_gap_of_success_rates_is_what_the_mean_lacks():
    """Which is why there is no function for it."""
    for name in SETS:
        for config, scores in scores_of(name).items():
            gap = REFERENCE[name]['optimality_gap'][config]
            assert 1.0 - statistics.mean(scores) == pytest.approx(gap, abs=1e-6)


def rliables_indices(*agents):
    """The seeds that rliable drew, by the stream of NumPy's seeded global generator."""
    stream = np.random.RandomState(REFERENCE['seed'])
    shapes = [(len(scores[0]), len(scores)) for scores in agents]
    drawn = [
        [stream.randint(0, shape[0], shape) for shape in shapes] for _ in range(REFERENCE['reps'])
    ]
    return [np.stack(each).transpose(2, 0, 1) for each in zip(*drawn, strict=True)]


def check_against_rliable(expected, statistic, *agents):
    np.testing.assert_allclose(
        np.atleast_1d(statistic(*agents)), expected['point'], atol=1e-6, rtol=0
    )
    drawn = [
        statistics.resample(scores, indices)
        for scores, indices in zip(agents, rliables_indices(*agents), strict=True)
    ]
    low, high = statistics.percentile_interval(statistic(*drawn))
    interval = np.stack([np.atleast_1d(low), np.atleast_1d(high)])
    np.testing.assert_allclose(interval, expected['interval'], atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', SETS)
@pytest.mark.parametrize('statistic', ['mean', 'interquartile_mean', 'performance_profile'])
def test_points_and_intervals_are_rliables(name, statistic):
    function, thresholds = getattr(statistics, statistic), np.array(REFERENCE['thresholds'])
    if statistic == 'performance_profile':
        function = lambda scores: statistics.performance_profile(scores, thresholds)  # noqa: E731
    for config, scores in scores_of(name).items():
        check_against_rliable(REFERENCE[name][statistic][config], function, scores)


@pytest.mark.long
@pytest.mark.parametrize('name', SETS)
def test_probabilities_of_improvement_are_rliables(name):
    scores, expected = scores_of(name), REFERENCE[name]['probability_of_improvement']
    for one, other in itertools.permutations(scores, 2):
        check_against_rliable(
            expected[one][other],
            statistics.probability_of_improvement,
            scores[one],
            scores[other],
        )


def test_the_reference_has_ties_and_differences():
    """Else the comparison with rliable would show little."""
    scores = list(scores_of('one_task').values())
    pairs = itertools.combinations(scores, 2)
    ties = sum(np.sum(one[0][:, None] == other[0][None]) for one, other in pairs)
    assert ties > 10
    assert len({len(tasks) for name in SETS for tasks in scores_of(name).values()}) == 2
    assert {len(task) for name in SETS for t in scores_of(name).values() for task in t} == {3}
