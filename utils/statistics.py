"""Intervals for reported scores."""

import numpy as np
from scipy import stats


def success_interval(success: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a success rate over episodes, (low, high)."""
    result = stats.binomtest(int(np.sum(success)), len(success))
    interval = result.proportion_ci(confidence, method='wilson')
    return float(interval.low), float(interval.high)
