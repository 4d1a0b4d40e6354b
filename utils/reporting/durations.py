"""What updates took, from train.csv: without start, evaluations and saving."""

import itertools
import statistics
from collections.abc import Callable, Iterable

from utils.csv_lines import Line, Source, read_lines
from utils.reporting.results import Run
from utils.reporting.tables import Cell

Measure = Callable[[list[Line]], float | None]

REMARK = (
    'Minutes are what updates took at the speed of each line of train.csv, without start and '
    "evaluation: the whole program's, with all seeds and tasks that were trained together."
)
CPU_REMARK = (
    'CPU minutes are what updates took of all processors in the training process, by train.csv, '
    'with all seeds and tasks that were trained together, and with evaluations that ran beside '
    'training, as on a GPU. Other programs lengthen minutes, not these.'
)
CPU = 'cpu_seconds_per_update'


def lines_of(run: Run) -> list[Line]:
    """Returns the lines of a run's first seed; those of the others say the same.

    Those of online learning, whose updates include a step of the environment, are left out.

    Raises:
        UserError: train.csv is damaged.
    """
    lines = read_lines(run.directory / 'train.csv', ('step', 'seed', 'updates_per_second'))
    return [
        line
        for line in lines
        if line.parse('seed', int) == run.seeds[0]
        and line.parse('step', int) <= run.last_offline_step
    ]


def reach(lines: list[Line], step: int) -> bool:
    """Returns whether lines go as far as a step."""
    return bool(lines) and lines[-1].parse('step', int) >= step


def minutes(lines: list[Line]) -> float:
    """Returns what the updates up to the last of one line or more took, in minutes."""
    return _minutes(lines, [1.0 / line.parse('updates_per_second') for line in lines])


def cpu_minutes(lines: list[Line]) -> float | None:
    """Returns what they took of all processors; None if an earlier version did not record it."""
    if not all(line.values.get(CPU) for line in lines):
        return None
    return _minutes(lines, [line.parse(CPU) for line in lines])


def median(runs: Iterable[Run], step: int, measure: Measure) -> Cell | None:
    """Returns the median over runs of what their updates up to a step took.

    Returns:
        None where a run has no line of that step, or where `measure` is None of one.
    """
    by_run = [[line for line in lines_of(run) if line.parse('step', int) <= step] for run in runs]
    if not all(reach(lines, step) for lines in by_run):
        return None
    measured = [measure(lines) for lines in by_run]
    if None in measured:
        return None
    sources = [Source(of[0].path, tuple(line.number for line in of)) for of in by_run]
    return Cell(f'{statistics.median(measured):.2f}', tuple(sources))


def _minutes(lines: list[Line], seconds_per_update: list[float]) -> float:
    steps = [0, *(line.parse('step', int) for line in lines)]
    taken = [new - old for old, new in itertools.pairwise(steps)]
    return sum(num * each for num, each in zip(taken, seconds_per_update, strict=True)) / 60.0
