"""The numbers of every figure that CSV files are enough for, as tables that cite their lines."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from utils import statistics
from utils.csv_lines import Source
from utils.reporting import charts, durations, results
from utils.reporting.all_tables import Found
from utils.reporting.evaluations import Evaluation, sources_of
from utils.reporting.results import Result, Run
from utils.reporting.scores import Scores, protocols, score_lines, seed_scores
from utils.reporting.tables import Cell, Table

ONE_SEED = 'one seed has no interval over seeds'
BOOTSTRAP = '95% interval of a stratified bootstrap over seeds'
BANDS = (
    f'Mean over seeds; band: {BOOTSTRAP}; a single seed has none. A hollow point lacks some of the '
    'seeds, whose runs are not as far.'
)
OVER_TIME = (
    'They are of the device of each run; where runs differ, their median. Evaluations of all runs '
    'are shown at whose step train.csv has a line.'
)
CURVE = ('environment', 'task', 'config')
SUCCESS = ('seeds', 'success', 'low', 'high')


class Chart(NamedTuple):
    """A figure: its numbers, and how they are drawn.

    Attributes:
        table: name of its files, title, numbers and remarks; no rows where nothing can be drawn.
        draw: of the rows of the table's CSV file and all configs that are shown.
        absent: why there are no rows, or ''.
    """

    table: Table
    draw: Callable[[list[dict[str, str]], Sequence[str]], Figure]
    absent: str = ''


def learning_curves(found: Found) -> Chart:
    """Success against updates, an agent a line, a task a panel."""
    rows = [
        (*map(Cell, names), Cell(str(step), sources_of(of_seeds)), *_success(of_seeds))
        for names, step, of_seeds, _ in _evaluated(found)
    ]
    title = 'Success in percent during training'
    table = Table('learning_curves', title, (*CURVE, 'updates', *SUCCESS), tuple(rows), (BANDS,))
    return Chart(table, charts.learning_curves, '' if rows else 'no run was evaluated')


def curves_over_time(found: Found) -> Chart:
    """Success against the minutes that updates took, an agent a line, a task a panel."""
    return _curves_over(found, 'minutes', 'time', durations.minutes, durations.REMARK)


def curves_over_cpu_time(found: Found) -> Chart:
    """Success against what updates took of all processors, an agent a line, a task a panel."""
    return _curves_over(
        found, 'CPU minutes', 'cpu_time', durations.cpu_minutes, durations.CPU_REMARK
    )


def _curves_over(
    found: Found, unit: str, name: str, measure: durations.Measure, remark: str
) -> Chart:
    evaluated, most, rows = list(_evaluated(found)), {}, []
    for names, _, _, runs in evaluated:
        most[names] = max(len(runs), most.get(names, 0))
    for names, step, of_seeds, runs in evaluated:
        # The median over fewer runs may be an earlier minute.
        complete = len(runs) == most[names]
        if complete and (taken := durations.median(runs, step, measure)) is not None:
            rows.append((*map(Cell, names), taken, *_success(of_seeds)))
    title = f'Success in percent against {unit} of training'
    remarks = BANDS, f'{remark} {OVER_TIME}'
    table = Table(
        f'learning_curves_over_{name}', title, (*CURVE, unit, *SUCCESS), tuple(rows), remarks
    )
    absent = f'no line of train.csv is at the step of an evaluation and tells {unit}'
    return Chart(table, partial(charts.learning_curves, over=unit), '' if rows else absent)


def _evaluated(
    found: Found,
) -> Iterable[tuple[tuple[str, ...], int, list[Evaluation], list[Run]]]:
    """Environment, task and config; updates; evaluations after them; the runs that they are of.

    As in the tables, those of online learning are left out.
    """
    for place in found.scores.tasks():
        for config in found.scores.configs:
            by_step: dict[int, list[tuple[Evaluation, Run]]] = {}
            for result in found.scores.results.get((*place, config), []):
                for one in results.evaluations_by_seed(result.run)[result.seed]:
                    by_step.setdefault(one.step, []).append((one, result.run))
            for step, pairs in sorted(by_step.items()):
                runs = {run.directory: run for _, run in pairs}
                yield (*place, config), step, [one for one, _ in pairs], list(runs.values())


def _success(of_seeds: list[Evaluation]) -> tuple[Cell, ...]:
    rates, sources = np.array([one.success for one in of_seeds]), sources_of(of_seeds)
    interval = _with_interval(statistics.mean, [rates], sources, scale=100.0)
    return Cell(str(len(of_seeds)), sources), *interval


def _with_interval(
    statistic: Callable, scores: list[np.ndarray], sources: tuple[Source, ...], scale: float
) -> tuple[Cell, Cell, Cell]:
    """A statistic and its bounds, which are blank for one seed."""
    point = Cell(f'{scale * float(statistic(scores)):.2f}', sources)
    interval = statistics.stratified_interval(statistic, scores)
    if interval is None:
        return point, Cell('', note=ONE_SEED), Cell('', note=ONE_SEED)
    low, high = (Cell(f'{scale * float(bound):.2f}', sources) for bound in interval)
    return point, low, high


def profiles(scores: Scores) -> Chart:
    """Performance profiles with pointwise bands."""
    rows = []
    for config in scores.configs:
        by_task = list(scores.of_config(config).values())
        if by_task:
            rows += _profile(config, [seed_scores(seeds) for seeds in by_task], by_task)
    remarks = (
        'Share of the seeds of all tasks whose success is greater than the threshold (arXiv '
        f'2108.13264, without normalisation); band: {BOOTSTRAP}, at each threshold by itself. The '
        'share keeps its value up to the next threshold.',
        *protocols(scores),
    )
    columns = ('config', 'threshold', 'share', 'low', 'high')
    table = Table('performance_profiles', 'Performance profiles', columns, tuple(rows), remarks)
    return Chart(table, charts.profiles, '' if rows else 'no run is finished')


def _profile(
    config: str, scores: list[np.ndarray], by_task: list[list[Result]]
) -> Iterable[tuple[Cell, ...]]:
    sources = score_lines(by_task)
    # Where the share changes, and the ends: nothing lies between.
    thresholds = np.unique([0.0, *np.concatenate(scores), 1.0])

    def profile(scores: statistics.Scores) -> np.ndarray:
        return statistics.performance_profile(scores, thresholds)

    interval = statistics.stratified_interval(profile, scores)
    for index, (threshold, share) in enumerate(zip(thresholds, profile(scores), strict=True)):
        bounds = [Cell('', note=ONE_SEED)] * 2
        if interval is not None:
            bounds = [Cell(f'{bound[index]:.4f}', sources) for bound in interval]
        numbers = f'{100 * threshold:.2f}', f'{share:.4f}'
        yield Cell(config), *(Cell(text, sources) for text in numbers), *bounds
