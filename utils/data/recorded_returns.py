"""Returns that a dataset's trajectories had, on the host: their scale, and what their cuts hide."""

import numpy as np

from utils.data.datasets import Dataset

# Weight that may lie beyond a recording's cut where a return counts as nearly complete.
TAIL = 0.01


def rewards_to_go(dataset: Dataset, discount: float) -> np.ndarray:
    """Monte-Carlo reward-to-go of every row, (rows,) float64, summed up to the trajectory's cut."""
    rewards, masks = np.float64(dataset.rewards), np.float64(dataset.masks)
    ends = np.unique(dataset.ends)
    first = np.concatenate([[0], ends[:-1] + 1])
    exists = np.zeros(len(rewards))
    exists[dataset.starts] = 1.0
    result = np.zeros(len(rewards))
    # All trajectories at once, from their last rows backwards, the longest first: those that are
    # done with are always the last ones, and cost nothing more.
    order = np.argsort(first - ends, kind='stable')
    ends, lengths = ends[order], (ends - first + 1)[order]
    going_on = np.searchsorted(-lengths, -np.arange(lengths[0]))
    following = np.zeros(len(ends))
    for back, num in enumerate(going_on):
        rows = ends[:num] - back
        following[:num] = exists[rows] * (rewards[rows] + discount * masks[rows] * following[:num])
        result[rows] = following[:num]
    return result


def alive_to_the_cut(dataset: Dataset) -> np.ndarray:
    """Whether no mask of 0 lies between a row and its trajectory's cut, (rows,) bool."""
    deaths = np.cumsum(dataset.masks == 0)
    before = deaths - (dataset.masks == 0)
    return deaths[dataset.ends] == before


def missing_weights(dataset: Dataset, discount: float) -> np.ndarray:
    """Weight in each row's return of what the recording's cut left out, (rows,) in [0, 1].

    It is 0 where the episode ended by reward: then nothing is missing.
    """
    remaining = dataset.ends - np.arange(len(dataset.ends))
    return alive_to_the_cut(dataset) * np.float64(discount) ** remaining


def nearly_complete(dataset: Dataset, discount: float) -> np.ndarray:
    """Transitions whose return could lack a weight of at most `TAIL`, (n,) rows, ascending.

    Whether an episode ended by reward has no influence: else rows close to a cut would be there
    only where they were successful.
    """
    remaining = dataset.ends - np.arange(len(dataset.ends))
    return dataset.starts[(np.float64(discount) ** remaining <= TAIL)[dataset.starts]]


def completed_returns(dataset: Dataset, discount: float) -> np.ndarray:
    """Whole discounted returns of transitions, (n,) float64.

    Rewards summed up to a recording's cut would measure the cut: the last 1 / (1 - discount) rows
    of a trajectory have few rewards to sum. So only transitions whose return is nearly complete
    count, or all where every trajectory is too short for that, and what is missing is filled in by
    the mean return m itself: m = mean(rewards to the cut) + mean(missing weight) m.

    Without discount the sums up to the cut are all there is.
    """
    rows = nearly_complete(dataset, discount)
    rows = rows if len(rows) else dataset.starts
    returns = rewards_to_go(dataset, discount)[rows]
    if discount < 1.0:
        missing = missing_weights(dataset, discount)[rows]
        returns = returns + missing * returns.mean() / (1.0 - missing.mean())
    return returns


def return_scale(dataset: Dataset, discount: float) -> tuple[float, float]:
    """Mean and deviation of `completed_returns` (1 where they do not vary), in units of reward."""
    returns = completed_returns(dataset, discount)
    deviation = float(returns.std())
    return float(returns.mean()), deviation if deviation > 1e-6 else 1.0


def return_bounds(dataset: Dataset, discount: float) -> tuple[float, float]:
    """Bounds of every return: of the extreme reward for ever, or of an end at once (0)."""
    if discount >= 1.0:
        return -np.inf, np.inf
    low, high = np.min(dataset.rewards), np.max(dataset.rewards)
    return float(min(low, 0.0) / (1.0 - discount)), float(max(high, 0.0) / (1.0 - discount))
