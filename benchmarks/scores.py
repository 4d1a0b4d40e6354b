"""Scores of trained agents at their last evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.reporting import results
from utils.reporting.evaluations import Evaluation
from utils.statistics import success_interval_over_seeds


def success(folder: Path) -> dict[str, Any]:
    """Success of one config at its last offline evaluation: the mean over its seeds.

    Args:
        folder: SAVE_DIR/ENV/CONFIG, with the evaluations of at least one seed.

    Returns:
        A row of `benchmarks.comparison`; success_low and success_high are as
        `utils.statistics.success_interval_over_seeds` has them.

    Raises:
        UserError: a file is damaged, no seed was evaluated, a seed is there twice, runs differ in
            settings, data or noise, or seeds in the updates of their last evaluation.
    """
    last = _last_evaluations(folder)
    steps = sorted({one.step for one in last})
    if len(steps) > 1:
        raise UserError(
            f'{folder}: the last evaluations of its seeds are of {steps[0]} to {steps[-1]} '
            'updates; finish them, or move those that stopped early away'
        )
    rates, episodes = [one.success for one in last], [one.episodes for one in last]
    low, high = success_interval_over_seeds(rates, episodes)
    return dict(
        config=folder.name,
        updates=steps[0],
        # Rounded, so that equally many successes tie, whichever seeds they were.
        success=round(float(np.mean(rates)), 12),
        success_low=low,
        success_high=high,
        seeds=' '.join(f'{rate:.2f}' for rate in rates),
        episodes=sum(episodes),
    )


def _last_evaluations(folder: Path) -> list[Evaluation]:
    """Of each seed, in their order."""
    runs, last = results.find_runs([folder]), {}
    results.check_alike(((), run, results.settings(run) | results.noise(run)) for run in runs)
    for run in runs:
        for seed, of_seed in results.evaluations_by_seed(run).items():
            if seed in last and of_seed:
                raise UserError(f'{folder}: seed {seed} is there twice; move one of its runs away')
            last |= {seed: of_seed[-1]} if of_seed else {}
    if not last:
        raise UserError(f'{folder}: no seed was evaluated at a step where all of its run were')
    return [last[seed] for seed in sorted(last)]
