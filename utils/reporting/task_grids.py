"""Success of each task with an agent in a row, whatever was run so far: the table of many tasks.

Tables of `score_tables` compare finished runs that differ in their config alone. Here a row is an
agent as it was trained and as it acts, so that what another device trained, or what stopped
earlier, has a row of its own.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from utils.errors import UserError
from utils.reporting import durations, evaluations, online_gains, results
from utils.reporting.evaluations import Evaluation
from utils.reporting.results import Run
from utils.reporting.score_tables import FIVE_TASKS
from utils.reporting.tables import MISSING, Cell, Table

AGENT = ('environment', 'agent', 'value nets', 'candidates', 'transitions', 'device', 'updates')
REMARKS = (
    'The last evaluation of each run, in percent. One seed has the 95% Wilson interval over its '
    'episodes: of this agent, not of training it again. More seeds have the t interval over seeds, '
    "at least as wide as Wilson's over all episodes. A dash: no evaluation here.",
    'Candidates: how many of the base policy are weighed at each decision, by how many Euler steps '
    'each is drawn. Transitions: of the data.',
    f'CPU min: median over runs; a dash where it was not recorded. {durations.CPU_REMARK}',
)


class Entry(NamedTuple):
    """The last evaluation of a seed, and the run that it is a member of."""

    run: Run
    evaluation: Evaluation


def task_grid(runs: Iterable[Run]) -> Table:
    """Returns the table of runs on tasks 1 to 5 whose success is defined, in their order.

    Raises:
        UserError: see `by_agent`.
    """
    agents = by_agent(runs)
    environments = list(dict.fromkeys(name[0] for name in agents))
    names = sorted(agents, key=lambda name: environments.index(name[0]))
    rows = tuple((*map(Cell, name), *_numbers(agents[name])) for name in names)
    header = (*AGENT, 'seeds', *(f'task {task}' for task in FIVE_TASKS), 'mean', 'CPU min')
    return Table('task_grid', 'Success per task', header, rows, REMARKS)


def by_agent(runs: Iterable[Run]) -> dict[tuple[str, ...], list[Entry]]:
    """Returns the last evaluations on tasks 1 to 5 by what an agent is called: the columns AGENT.

    Raises:
        UserError: a file is damaged, there are two runs of one agent, task and seed, or runs of one
            agent differ in other settings or data.
    """
    agents: dict[tuple[str, ...], list[Entry]] = {}
    for run in runs:
        if run.task in FIVE_TASKS and results.defines_success(run):
            for rows in results.evaluations_by_seed(run).values():
                for last in rows[-1:]:
                    agents.setdefault(_agent(run, last.step), []).append(Entry(run, last))
    results.check_alike(
        (name, entry.run, results.settings(entry.run))
        for name, entries in agents.items()
        for entry in entries
    )
    for entries in agents.values():
        _check_once(entries)
    return agents


def of_tasks(entries: Iterable[Entry]) -> list[list[Evaluation]]:
    """Returns the evaluations of an agent's seeds on each of the five tasks; [] where none is."""
    found: dict[str, list[Evaluation]] = {task: [] for task in FIVE_TASKS}
    for entry in entries:
        found[entry.run.task].append(entry.evaluation)
    return list(found.values())


def _check_once(entries: list[Entry]) -> None:
    seen: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        other = seen.setdefault((entry.run.task, entry.evaluation.seed), entry)
        if other is not entry:
            raise UserError(
                f'{other.run.directory} and {entry.run.directory} are runs of one agent, task and '
                'seed; leave one out of --runs'
            )


def _agent(run: Run, step: int) -> tuple[str, ...]:
    """Returns what a row is called: the columns AGENT."""
    config, widths = run.record['agent'], run.record['agent']['hidden_dims']
    same = len(set(widths)) == 1
    nets = f'{len(widths)} x {widths[0]}' if same else ', '.join(map(str, widths))
    weighed = f'{config["n_pi"]} x {config["flow_steps"]}' if 'n_pi' in config else ''
    data = run.record.get('dataset', {}).get('transitions')
    return (
        run.environment,
        f'`{run.config_name}`',
        nets,
        weighed,
        'unknown' if data is None else f'{data:,}',
        ', '.join(dict.fromkeys(run.record.get('devices', ['unknown']))),
        f'{step:,}',
    )


def _numbers(entries: list[Entry]) -> list[Cell]:
    """Returns the seeds of a row, its tasks, their mean, and what a run took."""
    found = of_tasks(entries)
    counts = sorted({len(seeds) for seeds in found if seeds})
    shown = '-'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return [Cell(shown), *map(_success, found), _mean(found), _cpu_minutes(entries)]


def _mean(found: list[list[Evaluation]]) -> Cell:
    if not all(found):
        return Cell(MISSING)
    means = [np.mean([one.success for one in seeds]) for seeds in found]
    everything = [one for seeds in found for one in seeds]
    return Cell(f'{100 * np.mean(means):.1f}', evaluations.sources_of(everything))


def _cpu_minutes(entries: list[Entry]) -> Cell:
    runs = {entry.run.directory: entry.run for entry in entries}
    step = entries[0].evaluation.step
    taken = durations.median(runs.values(), step, durations.cpu_minutes)
    return Cell(MISSING) if taken is None else taken


def _success(seeds: list[Evaluation]) -> Cell:
    if not seeds:
        return Cell(MISSING)
    return Cell(online_gains.mean(seeds), evaluations.sources_of(seeds))
