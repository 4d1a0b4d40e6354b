"""Success of each task with an agent in a row, whatever was run so far: the table of many tasks.

Tables of `score_tables` compare finished runs that differ in their config alone. Here a row is an
agent as it was trained and as it acts, so that what another device trained, or what stopped
earlier, has a row of its own.
"""

from collections.abc import Iterable

import numpy as np

from utils import statistics
from utils.errors import UserError
from utils.reporting import evaluations, results
from utils.reporting.evaluations import Evaluation
from utils.reporting.results import Run
from utils.reporting.score_tables import FIVE_TASKS
from utils.reporting.tables import MISSING, Cell, Table

AGENT = ('environment', 'agent', 'nets', 'candidates', 'transitions', 'device', 'updates', 'seeds')
REMARKS = (
    'The last evaluation of each run, in percent. One seed has the 95% Wilson interval over its '
    'episodes: of this agent, not of training it again. More seeds have the t interval over seeds, '
    "at least as wide as Wilson's over all episodes. A dash: not run.",
    'Candidates: how many of the base policy are weighed at each decision, by how many Euler steps '
    'each is drawn.',
)
Grid = dict[tuple[str, ...], dict[str, list[Evaluation]]]


def task_grid(runs: Iterable[Run]) -> Table:
    """Returns the table; environments and agents are in the order of the runs.

    Raises:
        UserError: a file is damaged, or there are two runs of one agent, task and seed.
    """
    grid: Grid = {}
    for run in runs:
        _add(run, grid)
    environments = list(dict.fromkeys(name[0] for name in grid))
    names = sorted(grid, key=lambda name: environments.index(name[0]))
    rows = [(*map(Cell, name), _seeds(grid[name]), *_successes(grid[name])) for name in names]
    header = (*AGENT, *(f'task {task}' for task in FIVE_TASKS), 'mean')
    return Table('task_grid', 'Success per task', header, tuple(rows), REMARKS)


def _add(run: Run, grid: Grid) -> None:
    last = [rows[-1] for rows in results.evaluations_by_seed(run).values() if rows]
    for one in last:
        of_task = grid.setdefault(_agent(run, one.step), {}).setdefault(run.task, [])
        for other in of_task:
            if other.seed == one.seed:
                raise UserError(
                    f'{other.line.path.parent} and {run.directory} are runs of one agent, task and '
                    'seed; leave one out of --runs'
                )
        of_task.append(one)


def _agent(run: Run, step: int) -> tuple[str, ...]:
    """Returns what a row is called: the columns AGENT but the seeds."""
    config, sizes = run.record['agent'], run.record['agent']['hidden_dims']
    weighed = f'{config["n_pi"]} x {config["flow_steps"]}' if 'n_pi' in config else ''
    device = 'CPU' if run.record['devices'] == ['cpu'] else 'GPU'
    data = f'{run.record["dataset"]["transitions"]:,}'
    name = run.environment, f'`{run.config_name}`', f'{len(sizes)} x {sizes[0]}', weighed
    return *name, data, device, f'{step:,}'


def _seeds(of_tasks: dict[str, list[Evaluation]]) -> Cell:
    numbers = sorted({len(found) for found in of_tasks.values()})
    return Cell('-'.join(map(str, dict.fromkeys((numbers[0], numbers[-1])))))


def _successes(of_tasks: dict[str, list[Evaluation]]) -> list[Cell]:
    cells = [_cell(of_tasks.get(task, [])) for task in FIVE_TASKS]
    if any(task not in of_tasks for task in FIVE_TASKS):
        return [*cells, Cell(MISSING)]
    everything = [one for task in FIVE_TASKS for one in of_tasks[task]]
    means = [np.mean([one.success for one in of_tasks[task]]) for task in FIVE_TASKS]
    return [*cells, Cell(f'{100 * np.mean(means):.1f}', evaluations.sources_of(everything))]


def _cell(found: list[Evaluation]) -> Cell:
    if not found:
        return Cell(MISSING)
    rates = [one.success for one in found]
    interval = statistics.success_interval_over_seeds(rates, [one.episodes for one in found])
    low, high = (f'{100 * bound:.0f}' for bound in interval)
    sources = evaluations.sources_of(found)
    return Cell(f'{100 * np.mean(rates):.0f} [{low}, {high}]', sources)
