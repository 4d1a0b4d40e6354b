"""Intervals for reported scores, and distances between samples."""

import numpy as np
from scipy import stats


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
