"""Scores of agents and how sure they are: means, intervals, comparisons; distances of samples.

The scores of an agent are a list with one array per task, (seeds,). Tasks may have different
numbers of seeds. Statistics of scores also take arrays that are led by resamples, (..., seeds), and
return (...). They are those of Agarwal et al. 2021 (arXiv 2108.13264) and of its package rliable,
which the tests compare them with.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy  # its stats are loaded where they are first used: half a second

Scores = Sequence[np.ndarray]

# A score of OGBench, FQL and their kin is the mean over the last evaluations: 800k, 900k and 1M.
SCORE_EVALUATIONS = 3
NUM_RESAMPLES = 10_000
# Of the resamples, so that a table made twice is the same table.
RESAMPLE_SEED = 0
# What `success_interval_over_seeds` is over, for captions.
OVER_SEEDS = (
    "Success is the mean over seeds with a 95% t interval over the seeds' rates, at least as wide "
    'as the Wilson interval over all their episodes: of training again. Where there is 1 seed, it '
    'is a 95% Wilson interval over its episodes: of this agent, not of training it again.'
)


def score(success: np.ndarray) -> float:
    """Returns the mean success of a seed's last three evaluations, or of all if there are fewer.

    Args:
        success: (evaluations,) rates in the order of training, at least one.
    """
    # Rounded, so that scores of equally many successes tie, in whichever evaluation these were.
    return round(float(np.mean(success[-SCORE_EVALUATIONS:])), 12)


def mean(scores: Scores) -> np.ndarray:
    """Mean over tasks of the mean over seeds: every task counts the same."""
    return np.mean([task.mean(axis=-1) for task in scores], axis=0)


def interquartile_mean(scores: Scores) -> np.ndarray:
    """Mean of the middle half of all seeds of all tasks: every seed counts the same."""
    return scipy.stats.trim_mean(np.concatenate(scores, axis=-1), 0.25, axis=-1)


def probability_of_improvement(one: Scores, other: Scores) -> np.ndarray:
    """Probability that a seed of `one` beats a seed of `other` on the same task.

    A tie counts half. It is the Mann-Whitney statistic over the number of pairs, averaged over
    tasks.

    Args:
        one, other: scores on the same tasks, in the same order; seeds are not paired.
    """
    by_task = []
    for mine, theirs in zip(one, other, strict=True):
        difference = mine[..., :, None] - theirs[..., None, :]
        by_task.append(np.mean((np.sign(difference) + 1.0) / 2.0, axis=(-2, -1)))
    return np.mean(by_task, axis=0)


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Share of all seeds of all tasks above each threshold, (..., thresholds)."""
    scores = np.concatenate(scores, axis=-1)
    return np.stack([np.mean(scores > threshold, axis=-1) for threshold in thresholds], axis=-1)


def differences_by_start(one: Scores, other: Scores) -> list[np.ndarray]:
    """Differences of success on shared start states, one array (episodes,) per task.

    Episodes of the same number start in the same state, for every agent and seed. What is paired is
    the start state: each side is averaged over its seeds first. Resampling the result as if start
    states were seeds gives an interval that is clustered by start state, where all seeds of both
    agents stay together. It is an interval for the agents that were trained, and does not say what
    training them again would do: for that there are intervals over seeds.

    Args:
        one, other: per task (seeds, episodes) outcomes of the same episodes in the same order.
    """
    return [
        mine.mean(axis=0) - theirs.mean(axis=0) for mine, theirs in zip(one, other, strict=True)
    ]


def stratified_interval(
    statistic: Callable[..., np.ndarray],
    *agents: Scores,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = RESAMPLE_SEED,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Percentile interval of a statistic by a stratified bootstrap over seeds.

    Seeds are drawn with replacement within each task, for each agent by itself; tasks are fixed.
    Few seeds make it too narrow: the interval of three seeds of one task is from the least to the
    greatest, which a symmetric distribution's mean is within only 3 times in 4.
    `scipy.stats.bootstrap` with a sample per task draws the same way; drawn here, the indices can
    be handed to rliable as well, and the two be compared to the last digit.

    Args:
        statistic: of as many scores as there are agents.
        *agents: their scores, one-dimensional per task.
        confidence: of the interval, in the middle.
        num_resamples: that the percentiles are of.
        seed: of the draws.

    Returns:
        Lower and upper bound; None if a task has a single seed, which says nothing of others.
    """
    if min(len(task) for scores in agents for task in scores) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = [resample(scores, draw_indices(scores, num_resamples, rng)) for scores in agents]
    return percentile_interval(statistic(*drawn), confidence)


def difference_interval(
    one: Scores, other: Scores, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the difference of means that training both agents again has, over seeds.

    Welch's (1947), with the degrees of freedom of Satterthwaite: seeds are not paired, and tasks
    and agents may spread differently. Rates that agree by chance make it too short.

    Args:
        one, other: scores on the same tasks, in the same order.
        confidence: of the interval.

    Returns:
        Lower and upper bound of mean(one) - mean(other); None if a task has a single seed, or if no
        seed differs from the others.
    """
    samples = [*one, *other]
    if min(map(len, samples)) < 2:
        return None
    variances = np.array([task.var(ddof=1) / len(task) for task in samples]) / len(one) ** 2
    total = variances.sum()
    if total == 0.0:
        return None
    freedom = total**2 / sum(
        variance**2 / (len(task) - 1) for variance, task in zip(variances, samples, strict=True)
    )
    half = float(scipy.stats.t.ppf((1.0 + confidence) / 2.0, freedom) * np.sqrt(total))
    middle = float(mean(one) - mean(other))
    return middle - half, middle + half


def draw_indices(scores: Scores, num_resamples: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draws seeds with replacement, per task (num_resamples, seeds)."""
    return [rng.integers(0, len(task), (num_resamples, len(task))) for task in scores]


def resample(scores: Scores, indices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Takes seeds by their indices, one array of indices per task."""
    return [task[index] for task, index in zip(scores, indices, strict=True)]


def percentile_interval(
    values: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile of resampled statistics (num_resamples, ...)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail], axis=0)
    return low, high


def success_interval(success: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of one agent's success rate: of this agent, not of training again.

    Args:
        success: (episodes,) outcomes of this agent alone, at least one. Those of several seeds have
            `success_interval_over_seeds`: pooled, they hide how much seeds differ.
        confidence: of the interval.

    Returns:
        Lower and upper bound.
    """
    return _wilson(int(np.sum(success)), len(success), confidence)


def success_interval_over_seeds(
    rates: Sequence[float], episodes: Sequence[int], confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the success rate that training again has on average: over seeds and episodes.

    With two seeds or more it is the t interval (Student 1908) of the mean of their rates, where
    every seed counts the same: rates vary by the training and by the episodes, and so their spread
    has both. A bootstrap of seeds, then of episodes within them, does not know that a spread of few
    seeds is itself unsure: with three its bounds lie within the least and the greatest rate, give
    or take episodes.

    Rates may agree by chance (1.0, 1.0, 1.0 has no spread), which makes t intervals too short. So
    bounds are those further out, of the t interval and of the Wilson interval over all episodes,
    which is what is left if seeds do not differ: no spread of seeds makes a rate surer than that.

    It takes seeds for a sample of a distribution that is roughly normal. Where few seeds learn at
    all and most rates are 0, as where few fail, it is too short.

    Args:
        rates: (seeds,) success of each seed, in [0, 1]; at least one.
        episodes: (seeds,) that each rate is the mean of.
        confidence: of the interval.

    Returns:
        Lower and upper bound in [0, 1]. Of a single seed they are those of `success_interval`: of
        this agent, not of training it again.

    Raises:
        ValueError: there is no seed, or there are not as many rates as numbers of episodes.
    """
    wins = sum(round(rate * num) for rate, num in zip(rates, episodes, strict=True))
    low, high = _wilson(wins, int(np.sum(episodes)), confidence)
    if len(rates) == 1:
        return low, high
    middle = float(np.mean(rates))
    half = float(
        scipy.stats.t.ppf((1.0 + confidence) / 2.0, len(rates) - 1) * scipy.stats.sem(rates)
    )
    return max(0.0, min(low, middle - half)), min(1.0, max(high, middle + half))


def mean_interval(rates: Sequence[float], episodes: Sequence[int]) -> tuple[float, float]:
    """95% interval of a mean over tasks: of the agents that played, not of training them again.

    Wilson's of the mean rate, over as many episodes as if every task had the fewest. It supposes
    one rate for all tasks; tasks that differ leave less to chance, and it is too wide for them.

    Args:
        rates: (tasks,) success of each task, in [0, 1].
        episodes: that each rate is the mean of.
    """
    num = len(rates) * min(episodes)
    return _wilson(round(float(np.mean(rates)) * num), num, 0.95)


def _wilson(wins: int, episodes: int, confidence: float) -> tuple[float, float]:
    interval = scipy.stats.binomtest(wins, episodes).proportion_ci(confidence, method='wilson')
    return float(interval.low), float(interval.high)


def sliced_wasserstein(
    one: np.ndarray, other: np.ndarray, rng: np.random.Generator, num_directions: int = 100
) -> float:
    """Mean Wasserstein-1 distance of two samples along random directions.

    Args:
        one, other: (n, d) and (m, d) points.
        rng: draws the directions.
        num_directions: unit vectors, uniform on the sphere.
    """
    directions = rng.normal(size=(num_directions, one.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    pairs = zip(directions @ one.T, directions @ other.T, strict=True)
    return float(np.mean([scipy.stats.wasserstein_distance(*pair) for pair in pairs]))
