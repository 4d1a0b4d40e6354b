"""How long updates took, from train.csv: without start, evaluations and saving."""

import itertools

from utils.csv_lines import Line, read_lines
from utils.reporting.results import Run

REMARK = (
    'Minutes are what updates took at the speed of each line of train.csv, without start and '
    "evaluation: the whole program's, with all seeds and tasks that were trained together."
)


def lines_of(run: Run) -> list[Line]:
    """Returns the lines of a run's first seed; those of the others say the same.

    Raises:
        UserError: train.csv is damaged.
    """
    lines = read_lines(run.directory / 'train.csv', ('step', 'seed', 'updates_per_second'))
    return [line for line in lines if line.parse('seed', int) == run.seeds[0]]


def reach(lines: list[Line], step: int) -> bool:
    """Returns whether lines go as far as a step."""
    return bool(lines) and lines[-1].parse('step', int) >= step


def minutes(lines: list[Line]) -> float:
    """Returns what the updates up to the last of one line or more took, in minutes."""
    steps = [0, *(line.parse('step', int) for line in lines)]
    rates = [line.parse('updates_per_second') for line in lines]
    taken = [new - old for old, new in itertools.pairwise(steps)]
    return sum(num / rate for num, rate in zip(taken, rates, strict=True)) / 60.0
