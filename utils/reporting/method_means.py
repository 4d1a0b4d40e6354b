"""Means of methods over five tasks, beside the highest published ones: the table to read first."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from utils import statistics
from utils.csv_lines import Source
from utils.reporting import evaluations, published, task_grids
from utils.reporting.evaluations import Evaluation
from utils.reporting.published import Published
from utils.reporting.results import Run
from utils.reporting.score_tables import FIVE_TASKS
from utils.reporting.tables import MISSING, Cell, Table
from utils.reporting.task_grids import Entry

REMARKS = (
    'In percent, after the updates in parentheses; of several rows of a config, the one with the '
    'most tasks, then the most updates. 95% Wilson intervals over the episodes of one seed: of '
    'these agents, not of training them again. A dash: not all five tasks were run.',
    'Highest published: of any method in results/published; a dash: it has none. Behind it: the '
    'first method.',
)


# Evaluations of the seeds of every task that a row of the grid has.
Row = dict[str, list[Evaluation]]
# The config of an environment and a method.
Own = Mapping[tuple[str, str], str]


class Mean(NamedTuple):
    """A method's mean over the five tasks of an environment.

    Attributes:
        rate: in [0, 1].
        low, high: its interval.
        step: updates that the agents have had.
        config: that was trained.
        filled: tasks that the row lacks and another one has, after as many updates.
        sources: lines that it was read from.
    """

    rate: float
    low: float
    high: float
    step: int
    config: str
    filled: tuple[str, ...]
    sources: tuple[Source, ...]


def means_table(
    runs: Iterable[Run],
    methods: Mapping[str, str],
    literature: Iterable[Published],
    together: Sequence[str],
    own: Own = MappingProxyType({}),
) -> Table:
    """Returns a table of environments by methods.

    Args:
        runs: of any configs and environments.
        methods: what each method is called, and its config; the first is compared.
        literature: what is published.
        together: environments that the last row is the mean of.
        own: of an environment and a method, the config in place of the method's; its cell says so.

    Raises:
        UserError: see `task_grids.by_agent`.
    """
    rows_of: dict[tuple[str, str], list[Row]] = {}
    for (environment, config, *_), entries in task_grids.by_agent(runs).items():
        rows_of.setdefault((environment, config.strip('`')), []).append(_row(entries))
    means = {place: _mean(place[1], of_config) for place, of_config in rows_of.items()}
    highest = _highest(literature)
    lines = []
    for environment in dict.fromkeys(environment for environment, _ in rows_of):
        found = [means.get(place) for place in _places([environment], methods, own)]
        compared = _compared(found[0], highest.get(environment))
        cells = map(_cell, found, methods.values())
        lines.append((Cell(environment), *cells, *compared))
    overall = (
        [means.get(place) for place in _places(together, {method: config}, own)]
        for method, config in methods.items()
    )
    lines.append((Cell('mean of five'), *map(_overall, overall), Cell(MISSING), Cell(MISSING)))
    header = ('environment', *methods, 'highest published', 'behind')
    remarks = (*REMARKS, _count(rows_of, _places(together, methods, own), together))
    return Table('method_means', 'Mean success over five tasks', header, tuple(lines), remarks)


def _places(
    environments: Iterable[str], methods: Mapping[str, str], own: Own
) -> list[tuple[str, str]]:
    """Returns the environment and the config of every cell."""
    return [
        (environment, own.get((environment, method), config))
        for environment, (method, config) in itertools.product(environments, methods.items())
    ]


def _highest(literature: Iterable[Published]) -> dict[str, Published]:
    """Returns the highest published mean of each environment."""
    highest: dict[str, Published] = {}
    for item in literature:
        known = highest.get(item.environment)
        if item.task == published.ALL_TASKS and (not known or float(known.mean) < float(item.mean)):
            highest[item.environment] = item
    return highest


def _count(
    rows_of: Mapping[tuple[str, str], list[Row]],
    places: Sequence[tuple[str, str]],
    together: Sequence[str],
) -> str:
    """Returns how many tasks of the environments that count together have a number."""
    number = sum(len({task for row in rows_of.get(place, []) for task in row}) for place in places)
    return (
        f'Mean of five: of {", ".join(together)}. {number} of the {len(places) * len(FIVE_TASKS)} '
        'cells of these environments, their tasks and the methods have a number.'
    )


def _row(entries: Iterable[Entry]) -> Row:
    """Returns the evaluations of the tasks that a row has."""
    of_tasks = zip(FIVE_TASKS, task_grids.of_tasks(entries), strict=True)
    return {task: seeds for task, seeds in of_tasks if seeds}


def _step(row: Row) -> int:
    return next(iter(row.values()))[0].step


def _mean(config: str, rows: list[Row]) -> Mean | None:
    """Returns the mean of a config's row with the most tasks, whose others fill what it lacks."""
    own, *others = sorted(rows, key=lambda row: (len(row), _step(row)), reverse=True)
    tasks = dict(own)
    for other in others:
        tasks = (other if _step(other) == _step(own) else {}) | tasks
    if len(tasks) < len(FIVE_TASKS):
        return None
    rates = [float(np.mean([one.success for one in seeds])) for seeds in tasks.values()]
    everything = [one for seeds in tasks.values() for one in seeds]
    bounds = statistics.mean_interval(rates, [one.episodes for one in everything])
    filled = tuple(sorted(tasks.keys() - own.keys()))
    sources = evaluations.sources_of(everything)
    return Mean(float(np.mean(rates)), *bounds, _step(own), config, filled, sources)


def _cell(mean: Mean | None, config: str) -> Cell:
    """Returns a mean; its note names the config where it is not the method's `config`."""
    if mean is None:
        return Cell(MISSING)
    rate, low, high = (100 * number for number in mean[:3])
    notes = [] if mean.config == config else [f'`{mean.config}`']
    if of := ', '.join(mean.filled):
        notes.append(f'task {of} is of another row: other nets, candidates, data or another device')
    shown = f'{rate:.1f} [{low:.0f}, {high:.0f}] ({mean.step:,})'
    return Cell(shown, mean.sources, '; '.join(notes))


def _compared(mean: Mean | None, cited: Published | None) -> tuple[Cell, Cell]:
    if cited is None:
        return Cell(MISSING), Cell(MISSING)
    shown = Cell(f'{cited.agent}: {cited.mean}', (cited.origin,))
    if mean is None:
        return shown, Cell(MISSING)
    behind = float(cited.mean) - 100 * mean.rate
    return shown, Cell(f'{behind:.1f}', (*mean.sources, cited.origin))


def _overall(means: list[Mean | None]) -> Cell:
    found = [mean for mean in means if mean is not None]
    if len(found) < len(means):
        return Cell(MISSING)
    sources = tuple(source for mean in found for source in mean.sources)
    return Cell(f'{100 * np.mean([mean.rate for mean in found]):.1f}', sources)
