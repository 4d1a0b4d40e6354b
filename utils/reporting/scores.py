"""Scores of all runs by where they belong, and how they are put into words."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from utils import statistics
from utils.csv_lines import Source, spans
from utils.reporting import evaluations
from utils.reporting.results import Result


class Scores(NamedTuple):
    """All results, by where they belong.

    Attributes:
        results: of one experiment and all its seeds, by (environment, task, config).
        configs: those that are shown, in this order; the first is what others are compared with.
    """

    results: dict[tuple[str, str, str], list[Result]]
    configs: tuple[str, ...]

    def tasks(self) -> list[tuple[str, str]]:
        """Returns all (environment, task) that some config was run on."""
        return sorted({key[:2] for key in self.results})

    def environments(self) -> list[str]:
        """Returns all environments that some config was run on."""
        return list(dict.fromkeys(environment for environment, _ in self.tasks()))

    def finished(self, environment: str, task: str, config: str) -> list[Result]:
        """Returns the seeds that have a score."""
        seeds = self.results.get((environment, task, config), [])
        return [result for result in seeds if result.score is not None]

    def why_missing(self, environment: str, tasks: Sequence[str], config: str) -> str:
        """Returns which tasks were not run and which runs are not finished, or ''."""
        found = {task: self.results.get((environment, task, config), []) for task in tasks}
        unfinished = [result.missing for seeds in found.values() for result in seeds]
        reasons = list(dict.fromkeys(text for text in unfinished if text))
        if absent := [(environment, task) for task, seeds in found.items() if not seeds]:
            reasons.insert(0, f'no run on {task_names(absent)}')
        return '; '.join(reasons)

    def of_config(self, config: str) -> dict[tuple[str, str], list[Result]]:
        """Returns the finished seeds of every task that has any."""
        found = {task: self.finished(*task, config) for task in self.tasks()}
        return {task: seeds for task, seeds in found.items() if seeds}


def gather(found: Iterable[Result], configs: Sequence[str]) -> Scores:
    """Sorts results; `configs` are those that are shown, all if there are none."""
    grouped: dict[tuple[str, str, str], list[Result]] = {}
    for result in found:
        grouped.setdefault(result.experiment[:3], []).append(result)
    shown = tuple(configs) or tuple(sorted({config for _, _, config in grouped}))
    return Scores({key: seeds for key, seeds in grouped.items() if key[2] in shown}, shown)


def with_interval(
    statistic: Callable, *agents: statistics.Scores, scale: float = 100.0, digits: int = 1
) -> str:
    """Returns a statistic of agents' scores as '91.3 [86.0, 96.0]', without bounds for one seed."""
    point = f'{scale * float(statistic(*agents)):.{digits}f}'
    interval = statistics.stratified_interval(statistic, *agents)
    if interval is None:
        return point
    low, high = (f'{scale * float(bound):.{digits}f}' for bound in interval)
    return f'{point} [{low}, {high}]'


def seed_scores(seeds: list[Result]) -> np.ndarray:
    """Returns the scores of one task, (seeds,)."""
    return np.array([result.score for result in seeds])


def score_lines(by_task: Iterable[list[Result]]) -> tuple[Source, ...]:
    """Returns the lines that the scores of some tasks are computed from."""
    return tuple(source for seeds in by_task for result in seeds for source in result.sources)


def seed_counts(by_task: Iterable[list[Result]]) -> str:
    """Returns how many seeds each task has: '3', or '1 to 3'."""
    counts = sorted({len(seeds) for seeds in by_task})
    return str(counts[0]) if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'


def task_names(tasks: Iterable[tuple[str, str]]) -> str:
    """Returns tasks as 'cube-single-play 1-5, scene-play 2'."""
    by_environment: dict[str, list[str]] = {}
    for environment, task in tasks:
        by_environment.setdefault(environment, []).append(task)
    names = []
    for name, own in by_environment.items():
        numbers = spans(int(task) for task in own if task.isdigit())
        words = [task for task in own if not task.isdigit()]
        names.append(' '.join([name, *numbers.split(), *words]))
    return ', '.join(names)


def protocols(scores: Scores) -> tuple[str, ...]:
    """How the scores were taken, one sentence for all configs that share it."""
    found: dict[str, list[str]] = {}
    for config in scores.configs:
        for (environment, _), seeds in scores.of_config(config).items():
            for result in seeds:
                names = found.setdefault(_protocol(environment, result), [])
                names += [config] if config not in names else []
    everyone = list(scores.configs)
    return tuple(
        f'{"All" if names == everyone else ", ".join(names)} on {text}'
        for text, names in found.items()
    )


def _protocol(environment: str, result: Result) -> str:
    data = result.run.record.get('dataset', {})
    number, rule = len(result.evaluations), statistics.SCORE_EVALUATIONS
    taken = f'mean of the last {number} evaluations'
    if number < rule:
        taken = f'only {number} of the {rule} evaluations that a score is the mean of'
    if result.evaluations[0].line.path.name == evaluations.AFTERWARDS:
        taken = 'final evaluation'
    trained = (
        f'{result.step:,} updates on {data.get("file", "unknown data")}, '
        f'{data.get("transitions", 0):,} transitions'
    )
    return f'{environment}: {taken}; {result.episodes} episodes each, after {trained}.'
