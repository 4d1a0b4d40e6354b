"""Return distributions in closed form: quantiles, and soft values at any temperature."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special, stats


class Distribution(NamedTuple):
    """The distribution of a return.

    Attributes:
        mean, std: in units of reward.
        quantile: levels in (0, 1) -> returns, elementwise.
        soft_value: tau > 0 -> tau ln E[exp(G / tau)], infinite where that diverges.
    """

    mean: float
    std: float
    quantile: Callable[[np.ndarray], np.ndarray]
    soft_value: Callable[[float], float]


def uniform(low: float, high: float) -> Distribution:
    """Uniform on [low, high]."""
    width = high - low

    def soft_value(tau: float) -> float:
        # E[exp(G / tau)] = tau / width (exp(high / tau) - exp(low / tau)).
        return float(high + tau * np.log(tau / width * -np.expm1(-width / tau)))

    return Distribution(
        (low + high) / 2, width / np.sqrt(12), lambda u: low + width * u, soft_value
    )


def discrete(points: np.ndarray, probabilities: np.ndarray) -> Distribution:
    """Finitely many returns, in ascending order."""
    points, probabilities = np.asarray(points, float), np.asarray(probabilities, float)
    mean = float(points @ probabilities)
    std = float(np.sqrt(np.square(points - mean) @ probabilities))
    levels = np.cumsum(probabilities)
    last = len(points) - 1

    def quantile(u: np.ndarray) -> np.ndarray:
        return points[np.minimum(np.searchsorted(levels, u), last)]

    def soft_value(tau: float) -> float:
        return float(tau * special.logsumexp(points / tau, b=probabilities))

    return Distribution(mean, std, quantile, soft_value)


def gaussian(mean: float, std: float) -> Distribution:
    """Normal; its cumulants beyond the second vanish."""
    return Distribution(
        mean,
        std,
        lambda u: mean + std * stats.norm.ppf(u),
        lambda tau: mean + std**2 / (2.0 * tau),
    )


def exponential(mean: float) -> Distribution:
    """Exponential: E[exp(G / tau)] = 1 / (1 - mean / tau), finite for tau above the mean only."""

    def soft_value(tau: float) -> float:
        return -tau * np.log1p(-mean / tau) if tau > mean else np.inf

    return Distribution(mean, mean, lambda u: -mean * np.log1p(-u), soft_value)
