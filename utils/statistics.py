"""Scores of agents and how sure they are: means, intervals, comparisons; distances of samples.

The scores of an agent are a list with one array per task, (seeds,). Tasks may have different
numbers of seeds. Statistics of scores also take arrays that are led by resamples, (..., seeds), and
return (...). They are those of Agarwal et al. 2021 (arXiv 2108.13264) and of its package rliable,
which the tests compare them with.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

Scores = Sequence[np.ndarray]

# A score of OGBench, FQL and their kin is the mean over the last evaluations: 800k, 900k and 1M.
SCORE_EVALUATIONS = 3
NUM_RESAMPLES = 10_000
# Of the resamples, so that a table made twice is the same table.
RESAMPLE_SEED = 0


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
    return stats.trim_mean(np.concatenate(scores, axis=-1), 0.25, axis=-1)


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
    greatest, which a symmetric law's mean is within only 3 times in 4. `scipy.stats.bootstrap` with
    a sample per task draws the same way; drawn here, the indices can be handed to rliable as well,
    and the two be compared to the last digit.

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
    """Wilson interval of a success rate over episodes, (low, high)."""
    result = stats.binomtest(int(np.sum(success)), len(success))
    interval = result.proportion_ci(confidence, method='wilson')
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
    return float(np.mean([stats.wasserstein_distance(*pair) for pair in pairs]))
