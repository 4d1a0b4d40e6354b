"""Returns of runs on environments that are not OGBench's, whose success may not be defined."""

import numpy as np

from utils import statistics
from utils.csv_lines import Line, Source, read_lines
from utils.reporting.results import Run
from utils.reporting.scores import with_interval
from utils.reporting.tables import Cell, Table, missing
from utils.rollouts.outcomes import NORMALISED

COLUMNS = ('environment', 'config', 'seeds', 'updates', 'return', 'normalised return')
REMARKS = (
    'Of the last evaluation before online learning, undiscounted: mean over episodes and seeds '
    '[95% interval of a bootstrap over seeds].',
    'normalised: 0 and 100 are the reference returns that config.json tells.',
)


def returns_table(found: list[Run]) -> Table:
    """Returns a row for every run."""
    rows = tuple(_row(run) for run in found)
    return Table('returns', 'Returns of environments of your own', COLUMNS, rows, REMARKS)


def _row(run: Run) -> tuple[Cell, ...]:
    name = (Cell(run.environment), Cell(run.config_name))
    lines = read_lines(run.directory / 'eval.csv', ('step', 'seed', 'episode_return'))
    steps = {line.parse('step', int) for line in lines}
    last = max((step for step in steps if step <= run.last_offline_step), default=None)
    lines = [line for line in lines if line.parse('step', int) == last]
    if not lines:
        return *name, *(missing(f'{run.directory}: not evaluated'),) * 4
    sources = (Source(lines[0].path, tuple(line.number for line in lines)),)
    cells = (str(len(lines)), str(last), _mean(lines, 'episode_return'))
    if NORMALISED not in lines[0].values:
        note = f'{run.directory}: no --reference_returns'
        return *name, *(Cell(text, sources) for text in cells), missing(note)
    return *name, *(Cell(text, sources) for text in (*cells, _mean(lines, NORMALISED)))


def _mean(lines: list[Line], column: str) -> str:
    values = np.array([line.parse(column) for line in lines])
    return with_interval(statistics.mean, [values], scale=1)
