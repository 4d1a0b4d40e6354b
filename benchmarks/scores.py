"""Scores: of predicted laws against outcomes, and of trained agents at their last evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.metrics import CsvTable
from utils.statistics import success_interval


def jittered_pit(
    points: np.ndarray, weights: np.ndarray, outcomes: np.ndarray, width: float, seed: int
) -> np.ndarray:
    """Probability integral transform of outcomes, at a resolution.

    Outcome and predicted law both get independent noise from Uniform[-width, width]. If the law is
    right the transform is uniform whatever its atoms; without the noise, an atom that is learned
    with a slight smear would count as wrong.

    Args:
        points, weights: (rows, num) points of the predicted laws and their probabilities.
        outcomes: (rows,).
        width: in the units of the outcomes, above 0.
        seed: of the noise.

    Returns:
        (rows,) in [0, 1].
    """
    noise = np.random.default_rng(seed).uniform(-width, width, outcomes.shape)
    below = np.clip(((outcomes + noise)[:, None] - points + width) / (2.0 * width), 0.0, 1.0)
    return np.sum(weights * below, axis=1)


def crps(points: np.ndarray, weights: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, E|Z - G| - E|Z - Z'| / 2, (rows,); less is better.

    Args:
        points, weights: (rows, num) points of the predicted laws, ascending, and probabilities.
        outcomes: (rows,).
    """
    distance = np.sum(weights * np.abs(points - outcomes[:, None]), axis=1)
    # E|Z - Z'| is twice the integral of F (1 - F).
    levels = np.cumsum(weights, axis=1)[:, :-1]
    spread = np.sum(levels * (1.0 - levels) * np.diff(points, axis=1), axis=1)
    return distance - spread


def clustered_interval(
    values: np.ndarray, clusters: np.ndarray, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% bootstrap interval of the mean of values that come in clusters (trajectories)."""
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, values)
    counts = np.bincount(index)
    draws = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def success(folder: Path) -> dict[str, Any]:
    """Success of one config at its last evaluation, over all its seeds."""
    last: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob('seeds_*/eval.csv')):
        for row in CsvTable(path).read():
            if row['seed'] not in last or int(row['step']) > int(last[row['seed']]['step']):
                last[row['seed']] = row
    rates = {seed: float(row['success']) for seed, row in sorted(last.items())}
    episodes = [int(row['episodes']) for row in last.values()]
    wins = sum(round(rates[seed] * int(row['episodes'])) for seed, row in last.items())
    outcomes = np.arange(sum(episodes)) < wins
    low, high = success_interval(outcomes)
    return dict(
        config=folder.name,
        updates=max(int(row['step']) for row in last.values()),
        success=wins / sum(episodes),
        success_low=low,
        success_high=high,
        seeds=' '.join(f'{rate:.2f}' for rate in rates.values()),
        episodes=sum(episodes),
    )
