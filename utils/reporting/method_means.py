"""Means of methods over five tasks, beside the highest published ones: the table to read first."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
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

REMARKS = (
    'In percent, after the updates in parentheses; of several rows of a config, the one with all '
    'five tasks and the most updates. 95% Wilson intervals over the episodes of one seed: of these '
    'agents, not of training them again. A dash: not all five tasks were run.',
    'Highest published: of any method in results/published; a dash: it has none. Behind it: the '
    'first method.',
)


class Mean(NamedTuple):
    """A method's mean over the five tasks of an environment.

    Attributes:
        rate: in [0, 1].
        low, high: its interval.
        step: updates that the agents have had.
        sources: lines that it was read from.
    """

    rate: float
    low: float
    high: float
    step: int
    sources: tuple[Source, ...]


def means_table(
    runs: Iterable[Run],
    methods: Mapping[str, str],
    literature: Iterable[Published],
    together: Sequence[str],
) -> Table:
    """Returns a table of environments by methods.

    Args:
        runs: of any configs and environments.
        methods: what each method is called, and its config; the first is compared.
        literature: what is published.
        together: environments that the last row is the mean of.

    Raises:
        UserError: see `task_grids.by_agent`.
    """
    agents = task_grids.by_agent(runs)
    means: dict[tuple[str, str], Mean] = {}
    for (environment, config, *_), entries in agents.items():
        place, mean = (environment, config.strip('`')), _mean(task_grids.of_tasks(entries))
        if mean and (place not in means or means[place].step < mean.step):
            means[place] = mean
    highest: dict[str, Published] = {}
    for item in literature:
        known = highest.get(item.environment)
        if item.task == published.ALL_TASKS and (not known or float(known.mean) < float(item.mean)):
            highest[item.environment] = item
    rows = []
    for environment in dict.fromkeys(name[0] for name in agents):
        found = [means.get((environment, config)) for config in methods.values()]
        cited = highest.get(environment)
        rows.append((Cell(environment), *map(_cell, found), *_compared(found[0], cited)))
    overall = (
        [means.get((environment, config)) for environment in together]
        for config in methods.values()
    )
    rows.append((Cell('mean of five'), *map(_overall, overall), Cell(MISSING), Cell(MISSING)))
    header = ('environment', *methods, 'highest published', 'behind')
    played = {
        (environment, config.strip('`'), entry.run.task)
        for (environment, config, *_), entries in agents.items()
        for entry in entries
    }
    cells = list(itertools.product(together, methods.values(), FIVE_TASKS))
    remarks = (
        *REMARKS,
        f'Mean of five: of {", ".join(together)}. {sum(cell in played for cell in cells)} of the '
        f'{len(cells)} cells of these environments, their tasks and the methods have a number.',
    )
    return Table('method_means', 'Mean success over five tasks', header, tuple(rows), remarks)


def _mean(tasks: list[list[Evaluation]]) -> Mean | None:
    if not all(tasks):
        return None
    rates = [float(np.mean([one.success for one in seeds])) for seeds in tasks]
    everything = [one for seeds in tasks for one in seeds]
    bounds = statistics.mean_interval(rates, [one.episodes for one in everything])
    step = everything[0].step
    return Mean(float(np.mean(rates)), *bounds, step, evaluations.sources_of(everything))


def _cell(mean: Mean | None) -> Cell:
    if mean is None:
        return Cell(MISSING)
    rate, low, high = (100 * number for number in mean[:3])
    return Cell(f'{rate:.1f} [{low:.0f}, {high:.0f}] ({mean.step:,})', mean.sources)


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
