"""Values that promise: what agents promised in start states, and what they then got."""

from collections.abc import Callable

import numpy as np

from utils import statistics
from utils.csv_lines import Line, Source
from utils.reporting.scores import Scores, protocols, with_interval
from utils.reporting.tables import Cell, Table, missing

DIFFERENCE = 'promised - obtained'
COLUMNS = ('environment', 'task', 'config', 'seeds', 'promised', 'obtained', DIFFERENCE)
REMARKS = (
    'Of the last evaluation of each seed, in units of reward, means over episodes and seeds. '
    'promised: the value of what the agent chose in the start state. obtained: the return of the '
    'episode, discounted as the values are; without success, the last reward is taken to come for '
    'ever after the time limit.',
    f'{DIFFERENCE}: above 0, values promise too much [95% interval of a bootstrap over seeds; '
    'where there is 1 seed, over the episodes of its evaluation: of this agent, not of training it '
    'again]. A value of the policy in the data may well promise less than an agent gets that '
    'improves on it.',
)


def start_values_table(scores: Scores) -> Table:
    """The value of start states beside the return, for every config on every task it was run on."""
    rows = [
        (*map(Cell, (*place, config)), *_cells(scores, *place, config))
        for place in scores.tasks()
        for config in scores.configs
        if (*place, config) in scores.results
    ]
    title = 'What start states were promised and what they got'
    return Table('start_values', title, COLUMNS, tuple(rows), (*REMARKS, *protocols(scores)))


def _cells(
    scores: Scores, environment: str, task: str, config: str
) -> tuple[Cell, Cell, Cell, Cell]:
    """Seeds, promised, obtained and their difference."""
    finished = scores.finished(environment, task, config)
    note = scores.why_missing(environment, (task,), config)
    if not finished:
        return (missing(note),) * 4
    evaluated = [result.evaluations[-1].line for result in finished]
    # Blank in rows from before an older table was continued.
    lines = [line for line in evaluated if line.values.get('start_return')]
    older = [line for line in evaluated if line not in lines]
    if older:
        told = f'{older[0].path}: evaluated by a version that did not record start values'
        note = '; '.join(text for text in (note, told) if text)
    if not lines:
        return (missing(note),) * 4
    sources = tuple(Source(line.path, (line.number,)) for line in lines)

    def cell(show: Callable, *columns: str) -> Cell:
        numbers = [_numbers(lines, column) for column in columns]
        if np.isnan(numbers[0]).any():
            return missing(f'{config} weighs nothing when it acts, and so promises nothing')
        return Cell(show(*numbers), sources, note)

    return (
        Cell(str(len(lines)), sources, note),
        cell(_mean, 'start_value'),
        cell(_mean, 'start_return'),
        cell(_difference, *(f'start_value_error{bound}' for bound in ('', '_low', '_high'))),
    )


def _numbers(lines: list[Line], column: str) -> np.ndarray:
    return np.array([line.parse(column) for line in lines])


def _mean(values: np.ndarray) -> str:
    return f'{values.mean():.1f}'


def _difference(errors: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> str:
    """Over seeds, or over the episodes of a single one; a single episode has no interval."""
    if len(errors) > 1 or np.isnan(lows[0]):
        return with_interval(statistics.mean, [errors], scale=1)
    return f'{errors[0]:.1f} [{lows[0]:.1f}, {highs[0]:.1f}]'
