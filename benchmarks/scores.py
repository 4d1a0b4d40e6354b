"""Scores of trained agents at their last evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.statistics import success_interval_over_seeds
from utils.storage.metrics import CsvTable


def success(folder: Path) -> dict[str, Any]:
    """Success of one config at its last evaluation: the mean over its seeds, with its interval.

    Args:
        folder: SAVE_DIR/ENV/CONFIG, with the evaluations of at least one seed.

    Returns:
        A row of `benchmarks.comparison`; success_low and success_high are as
        `utils.statistics.success_interval_over_seeds` has them.

    Raises:
        UserError: the last evaluations of the seeds are of different updates.
    """
    last: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob('seeds_*/eval.csv')):
        for row in CsvTable(path).read():
            if row['seed'] not in last or int(row['step']) > int(last[row['seed']]['step']):
                last[row['seed']] = row
    rows = [row for _, row in sorted(last.items())]
    steps = sorted({int(row['step']) for row in rows})
    if len(steps) > 1:
        raise UserError(
            f'{folder}: the last evaluations of its seeds are of {steps[0]} to {steps[-1]} '
            'updates; finish them, or move those that stopped early away'
        )
    rates = [float(row['success']) for row in rows]
    episodes = [int(row['episodes']) for row in rows]
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
