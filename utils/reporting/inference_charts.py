"""Success against one setting of inference, from the inference.csv of runs."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from utils import statistics
from utils.reporting import charts, evaluations
from utils.reporting.all_tables import Found
from utils.reporting.evaluations import Evaluation, sources_of
from utils.reporting.results import Result
from utils.reporting.score_charts import Chart
from utils.reporting.tables import Cell, Table

TITLES = {
    'n_pi': ('inference_scaling', 'Success in percent against the number of candidates N_pi'),
    'tau_q': ('tau_q', 'Success in percent against the softmax temperature tau_Q over candidates'),
    'tau_r': ('tau_r', 'Success in percent against the log-sum-exp temperature tau_R over returns'),
}


class _Sweep(NamedTuple):
    """Evaluations that differ in one setting and the seed alone.

    Attributes:
        step: of the checkpoint.
        fixed: the other conditions, name and value.
        differing: how many of these are not as in the run.
        evaluations: by value of the setting and by seed.
    """

    step: int
    fixed: tuple[tuple[str, str], ...]
    differing: int
    evaluations: dict[str, dict[int, Evaluation]]

    def others(self) -> str:
        """Returns the other settings in words."""
        return ', '.join(f'{name} {value}' for name, value in self.fixed)

    def size(self) -> int:
        """Returns how many evaluations it has."""
        return sum(map(len, self.evaluations.values()))


def sweep(found: Found, setting: str) -> Chart:
    """A task a panel, an agent a line, with everything but the setting fixed."""
    name, title = TITLES[setting]
    rows: list[tuple[Cell, ...]] = []
    fixed: dict[str, list[str]] = {}
    for (environment, task, config), seeds in sorted(found.scores.results.items()):
        chosen = _longest(seeds, setting)
        if chosen is not None:
            rows += _rows((environment, task, config), chosen)
            fixed.setdefault(chosen.others(), []).append(f'{config} on {environment} {task}')
    remarks = (
        *(f'{", ".join(names)}: {others}.' for others, names in fixed.items()),
        f'{statistics.OVER_SEEDS} A hollow point lacks some of the seeds.',
        'Where runs were swept under several other settings, the sweep of most evaluations is '
        'shown, of these the latest checkpoint, then the nearest to the settings of the run.',
    )
    columns = ('environment', 'task', 'config', 'updates', 'other settings', setting)
    columns += ('seeds', 'episodes', 'success', 'low', 'high')
    absent = (
        f'no run was evaluated at several {setting} (scripts/evaluate.py --{setting}=... does it)'
    )
    table = Table(name, title, columns, tuple(rows), remarks)
    return Chart(table, partial(charts.sweep, setting=setting), '' if rows else absent)


def _longest(seeds: list[Result], setting: str) -> _Sweep | None:
    """The sweep of most evaluations with at least two values, or None."""
    found: dict[tuple, _Sweep] = {}
    for result in seeds:
        record = result.run.record
        for one in evaluations.read(result.run.directory, evaluations.AFTERWARDS):
            elsewhere = one.conditions['env_name'] != record['env_name']
            if setting not in one.conditions or elsewhere or one.seed != result.seed:
                continue
            others = [name for name in one.conditions if name not in ('env_name', setting)]
            fixed = tuple((name, one.conditions[name]) for name in others)
            differing = sorted({*one.differing(record)} - {setting})
            new = _Sweep(one.step, fixed, len(differing), {})
            # Not by all settings: rows of an earlier version lack the later ones.
            how = tuple((name, one.conditions[name]) for name in differing)
            sweep = found.setdefault((one.step, how), new)
            by_seed = sweep.evaluations.setdefault(f'{one.line.parse(setting):g}', {})
            # Of the same evaluation, played twice, the one of more episodes, then the last.
            former = by_seed.get(result.seed)
            if former is None or one.episodes >= former.episodes:
                by_seed[result.seed] = one

    def rank(one: _Sweep) -> tuple[int, int, int]:
        return one.size(), one.step, -one.differing

    return max((one for one in found.values() if len(one.evaluations) > 1), key=rank, default=None)


def _rows(names: tuple[str, ...], chosen: _Sweep) -> Iterable[tuple[Cell, ...]]:
    for value, by_seed in sorted(chosen.evaluations.items(), key=lambda item: float(item[0])):
        of_seeds = list(by_seed.values())
        sources = sources_of(of_seeds)
        rates = [one.success for one in of_seeds]
        episodes = [one.episodes for one in of_seeds]
        bounds = statistics.success_interval_over_seeds(rates, episodes)
        numbers = [value, str(len(of_seeds)), str(sum(episodes))]
        numbers += [f'{100 * share:.2f}' for share in (np.mean(rates), *bounds)]
        cells = (Cell(text, sources) for text in numbers)
        yield (
            *map(Cell, names),
            Cell(str(chosen.step), sources),
            Cell(chosen.others(), sources),
            *cells,
        )
