"""Scores of trained agents at their last evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from utils.metrics import CsvTable
from utils.statistics import success_interval


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
