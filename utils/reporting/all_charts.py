"""All figures of some runs, written from their numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.reporting import figures, tables
from utils.reporting.all_tables import Found
from utils.reporting.inference_charts import sweep
from utils.reporting.return_distributions import distribution_charts
from utils.reporting.score_charts import (
    Chart,
    curves_over_cpu_time,
    curves_over_time,
    learning_curves,
    profiles,
)
from utils.reporting.tables import Table
from utils.storage.metrics import CsvTable

NAMES = ('learning_curves', 'learning_curves_over_time', 'learning_curves_over_cpu_time')
NAMES += ('inference_scaling', 'tau_q', 'tau_r')
NAMES += ('performance_profiles', 'return_distributions', 'calibration', 'calibration_scores')
SUFFIXES = (*figures.SUFFIXES, '.csv', '_sources.csv')


class Charts(NamedTuple):
    """All figures, and a table of numbers that belongs to the last one."""

    charts: list[Chart]
    calibration_scores: Table


def make(found: Found, dataset_dir: Path) -> Charts:
    """Computes the numbers of all figures.

    Args:
        found: what there is.
        dataset_dir: folder of the held-out files, NAME-val.npz.
    """
    of_csv = [
        learning_curves(found),
        curves_over_time(found),
        curves_over_cpu_time(found),
        *(sweep(found, setting) for setting in ('n_pi', 'tau_q', 'tau_r')),
        profiles(found.scores),
    ]
    distributions = distribution_charts(found, dataset_dir)
    return Charts(
        [*of_csv, distributions.distributions, distributions.calibration], distributions.scores
    )


def write(made: Charts, configs: Sequence[str], folder: Path) -> None:
    """Writes FIGURE.csv, FIGURE_sources.csv, FIGURE.png and FIGURE.pdf, and nothing without rows.

    Args:
        made: of `make`.
        configs: all that are shown.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for chart in made.charts:
        if chart.absent:
            continue
        name = chart.table.name
        tables.write_numbers(chart.table, folder)
        with figures.styled():
            figure = chart.draw(CsvTable(folder / f'{name}.csv').read(), configs)
            figures.write(figure, [folder / f'{name}{suffix}' for suffix in figures.SUFFIXES])
    if made.calibration_scores.rows:
        tables.write_numbers(made.calibration_scores, folder)
