"""What an OGBench dataset holds, and whether a generated one holds what it should."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.data.datasets import Dataset

# Standard errors by which a share may miss the expected one before the data are called different:
# of thirty comparisons of equal processes, one in 500 sets of them would be.
TOLERANCE = 4.0


class Content(NamedTuple):
    """What is known of a dataset made by OGBench's own procedure.

    Attributes:
        episodes: how many it was measured on.
        shares: share of transitions at success, of tasks 1 to 5.
        rewards: least and greatest reward.
        plans: how many plans there were and how many of them reached their target, or None.
    """

    episodes: int
    shares: tuple[float, float, float, float, float]
    rewards: tuple[float, float]
    plans: tuple[int, int] | None = None


# Measured by OGBench's own generation scripts (ogbench 1.2.2, mujoco 4.0.0), unmodified.
KNOWN: dict[str, Content] = {
    'cube-single-play-v0': Content(
        200, (0.020, 0.018, 0.022, 0.023, 0.026), (-1.0, 0.0), (242, 241)
    ),
    'cube-double-play-v0': Content(
        565, (0.0010, 0.0010, 0.0013, 0.0011, 0.0015), (-2.0, 0.0), (242, 232)
    ),
    'pointmaze-medium-navigate-v0': Content(
        1000, (0.0044, 0.0059, 0.0087, 0.0077, 0.0103), (-1.0, 0.0)
    ),
    'scene-play-v0': Content(30, (0.0048, 0.0012, 0.0011, 0.0103, 0.0), (-5.0, 0.0)),
}


class Share(NamedTuple):
    """The share of transitions at success, with its standard error over episodes."""

    mean: float
    error: float
    episodes: int


def success_share(dataset: Dataset) -> Share:
    """Measures a task's share of transitions at success, where the mask is 0."""
    episodes = np.unique(dataset.ends[dataset.starts], return_inverse=True)[1]
    counts = np.bincount(episodes)
    shares = np.bincount(episodes, weights=dataset.masks[dataset.starts] == 0.0) / counts
    # Episodes are equally long but for a few of other people's data.
    mean = float(np.average(shares, weights=counts))
    num = len(counts)
    error = float(shares.std(ddof=1) / np.sqrt(num)) if num > 1 else float('inf')
    return Share(mean, error, num)


def deviations(shares: Sequence[Share], expected: Sequence[float], episodes: int) -> list[float]:
    """Returns by how many standard errors each task's share misses one that was measured elsewhere.

    Successes come in stays at the goal, few of them long, so that the spread of one task's episodes
    tells little of its error: a set without the long ones looks precise. If stays begin at random,
    the variance of a share is proportional to its mean. The factor is taken from all tasks
    together, and the mean is the greater of the found and the expected.

    Args:
        shares: of the tasks, of one dataset.
        expected: of the same tasks.
        episodes: that `expected` was measured on; its own error is that of so many.
    """
    total = sum(share.mean for share in shares)
    factor = sum(share.error**2 for share in shares) / total if total > 0.0 else 0.0
    return [
        _deviation(share.mean - other, factor * max(share.mean, other), share.episodes / episodes)
        for share, other in zip(shares, expected, strict=True)
    ]


def _deviation(difference: float, variance: float, ratio: float) -> float:
    if difference == 0.0:
        return 0.0
    if variance == 0.0:
        return math.copysign(math.inf, difference)
    return float(difference / np.sqrt(variance * (1.0 + ratio)))


def plan_deviation(plans: tuple[int, int], expected: tuple[int, int]) -> float:
    """Returns by how many standard errors two shares of successful plans differ.

    Args:
        plans, expected: how many there were, and how many of them reached their target.
    """
    (num, hits), (other_num, other_hits) = plans, expected
    pooled = (hits + other_hits + 1.0) / (num + other_num + 2.0)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / num + 1.0 / other_num))
    return float((hits / num - other_hits / other_num) / error)
