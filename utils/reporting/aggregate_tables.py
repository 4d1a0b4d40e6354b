"""Tables over all seeds and tasks: means, comparisons with the first config, profiles."""

import numpy as np

from utils import statistics
from utils.csv_lines import Source
from utils.reporting import evaluations
from utils.reporting.results import Result
from utils.reporting.scores import (
    Scores,
    protocols,
    score_lines,
    seed_counts,
    seed_scores,
    task_names,
    with_interval,
)
from utils.reporting.tables import Cell, Table, missing

THRESHOLDS = np.arange(0, 100, 10)


def aggregates_table(scores: Scores) -> Table:
    """Means, interquartile means and comparisons with the first config."""
    first = scores.configs[0]
    header = ('config', 'tasks', 'seeds', 'mean', 'interquartile mean')
    header += (f'better than {first}', f'difference from {first}')
    header += (f'difference from {first}, over seeds',)
    rows = [_aggregate_row(scores, config) for config in scores.configs]
    remarks = (
        'Mean and interquartile mean: success in percent over all seeds of all tasks [95% interval '
        'of a stratified bootstrap over seeds]. Rows over different tasks cannot be compared.',
        f'better than {first}: probability that a seed beats one of {first} on the same task, ties '
        'counted half [the same bootstrap, of both agents].',
        f'difference from {first}: points of success on the same start states [95% interval of a '
        'bootstrap over start states: of these agents, not of training them again]; over seeds: '
        "[95% interval of Welch's t over seeds: of training both again, of the values alone where "
        'seeds share a frozen base policy; none where a task has one seed, or no seed differs].',
    )
    title = 'Over all seeds and tasks'
    return Table('aggregates', title, header, tuple(rows), (*remarks, *protocols(scores)))


def profiles_table(scores: Scores) -> Table:
    """Performance profiles: how many runs are better than what."""
    profiles = []
    for config in scores.configs:
        by_task = scores.of_config(config)
        seeds = [seed_scores(task) for task in by_task.values()]
        shares = statistics.performance_profile(seeds, THRESHOLDS / 100) if seeds else None
        profiles.append((config, by_task, shares))
    rows = tuple(
        (
            Cell(f'above {threshold}%'),
            *(
                missing(f'no finished run of {config}')
                if shares is None
                else Cell(f'{shares[index]:.2f}', score_lines(by_task.values()))
                for config, by_task, shares in profiles
            ),
        )
        for index, threshold in enumerate(THRESHOLDS)
    )
    title = 'Performance profiles: share of the seeds of all tasks with more success'
    return Table('profiles', title, ('success', *scores.configs), rows, protocols(scores))


def _aggregate_row(scores: Scores, config: str) -> tuple[Cell, ...]:
    by_task = scores.of_config(config)
    if not by_task:
        reason = missing(f'no finished run of {config}')
        return Cell(config), *[reason] * 7
    seeds = [seed_scores(task) for task in by_task.values()]
    sources = score_lines(by_task.values())
    return (
        Cell(config),
        Cell(task_names(by_task), sources),
        Cell(seed_counts(by_task.values()), sources),
        Cell(with_interval(statistics.mean, seeds), sources),
        Cell(with_interval(statistics.interquartile_mean, seeds), sources),
        *_compared(scores, by_task, config),
    )


def _compared(scores: Scores, by_task: dict, config: str) -> tuple[Cell, Cell, Cell]:
    """Probability of improvement over the first config; difference on shared starts, over seeds."""
    first = scores.configs[0]
    if config == first:
        return Cell(''), Cell(''), Cell('')
    theirs = scores.of_config(first)
    shared = [task for task in by_task if task in theirs]
    if not shared:
        reason = missing(f'{config} and {first} have no finished task in common')
        return reason, reason, reason
    mine, theirs = [by_task[task] for task in shared], [theirs[task] for task in shared]
    note = '' if len(shared) == len(by_task) else f'on {task_names(shared)}'
    values = [[seed_scores(seeds) for seeds in agent] for agent in (mine, theirs)]
    better = with_interval(statistics.probability_of_improvement, *values, scale=1, digits=2)
    differences, sources = _differences(mine, theirs)
    difference = with_interval(statistics.mean, differences)
    used = score_lines([*mine, *theirs])
    return (
        Cell(better, used, note),
        Cell(difference, sources, note),
        Cell(_over_seeds(*values), used, note),
    )


def _over_seeds(one: statistics.Scores, other: statistics.Scores) -> str:
    """The difference of means in percent, with its interval over seeds if there is one."""
    point = f'{100 * float(statistics.mean(one) - statistics.mean(other)):.1f}'
    interval = statistics.difference_interval(one, other)
    if interval is None:
        return point
    low, high = (f'{100 * bound:.1f}' for bound in interval)
    return f'{point} [{low}, {high}]'


def _differences(
    mine: list[list[Result]], theirs: list[list[Result]]
) -> tuple[list[np.ndarray], tuple[Source, ...]]:
    """Differences on the start states that all seeds of both agents played, per task."""
    one, other, sources = [], [], []
    for task in zip(mine, theirs, strict=True):
        read = [
            [evaluations.outcomes_by_start(result.evaluations) for result in seeds]
            for seeds in task
        ]
        starts = set.intersection(*(set(played) for seeds in read for played, _ in seeds))
        for tables, seeds in zip((one, other), read, strict=True):
            rows = [[played[start] for start in sorted(starts)] for played, _ in seeds]
            tables.append(np.array(rows))
        sources += [source for seeds in read for _, used in seeds for source in used]
    return statistics.differences_by_start(one, other), tuple(sources)
