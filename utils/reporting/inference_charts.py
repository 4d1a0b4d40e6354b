"""Success against one setting of inference, from the inference.csv of runs."""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from utils import statistics
from utils.csv_lines import Line, read_lines
from utils.reporting import charts
from utils.reporting.all_tables import Found
from utils.reporting.results import ALWAYS, OUTCOMES, Result
from utils.reporting.score_charts import Chart, sources_of
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
        fixed: the other settings, name and value.
        lines: of inference.csv, by value of the setting and by seed.
    """

    step: int
    fixed: tuple[tuple[str, str], ...]
    lines: dict[str, dict[int, Line]]

    def others(self) -> str:
        """Returns the other settings in words."""
        return ', '.join(f'{name} {value}' for name, value in self.fixed)

    def size(self) -> int:
        """Returns how many evaluations it has."""
        return sum(map(len, self.lines.values()))


def sweep(found: Found, setting: str) -> Chart:
    """A task a panel, an agent a line, with everything but the setting fixed."""
    name, title = TITLES[setting]
    rows: list[tuple[Cell, ...]] = []
    fixed: dict[str, list[str]] = {}
    for (environment, task, config), seeds in sorted(found.scores.results.items()):
        chosen = _longest(seeds, setting)
        if chosen is not None:
            rows += _rows((environment, task, config), setting, chosen)
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
        for line in read_lines(result.run.directory / 'inference.csv', ALWAYS):
            if setting not in line.values or not _belongs(line, result):
                continue
            step = line.parse('step', int)
            names = [name for name in line.values if name not in (*OUTCOMES, setting)]
            fixed = tuple((name, line.values[name]) for name in names)
            one = found.setdefault((step, fixed), _Sweep(step, fixed, {}))
            by_seed = one.lines.setdefault(f'{line.parse(setting):g}', {})
            # Of the same evaluation, played twice, the one of more episodes, then the last.
            former = by_seed.get(result.seed)
            if former is None or _episodes(line) >= _episodes(former):
                by_seed[result.seed] = line
    record = seeds[0].run.record | seeds[0].run.record['agent']

    def rank(one: _Sweep) -> tuple[int, int, int]:
        differing = sum(_differs(value, record.get(name)) for name, value in one.fixed)
        return one.size(), one.step, -differing

    return max((one for one in found.values() if len(one.lines) > 1), key=rank, default=None)


def _belongs(line: Line, result: Result) -> bool:
    same_env = line.values['env_name'] == result.run.record['env_name']
    return same_env and line.parse('seed', int) == result.seed


def _episodes(line: Line) -> int:
    return line.parse('episodes', int)


def _differs(text: str, value: Any) -> bool:
    try:
        return float(text) != float(value)
    except (TypeError, ValueError):
        return text != str(value)


def _rows(names: tuple[str, ...], setting: str, chosen: _Sweep) -> Iterable[tuple[Cell, ...]]:
    for value, by_seed in sorted(chosen.lines.items(), key=lambda item: float(item[0])):
        lines = list(by_seed.values())
        sources = sources_of(lines)
        rates = [line.parse('success') for line in lines]
        episodes = [_episodes(line) for line in lines]
        bounds = statistics.success_interval_over_seeds(rates, episodes)
        numbers = [value, str(len(lines)), str(sum(episodes))]
        numbers += [f'{100 * share:.2f}' for share in (np.mean(rates), *bounds)]
        cells = (Cell(text, sources) for text in numbers)
        yield (
            *map(Cell, names),
            Cell(str(chosen.step), sources),
            Cell(chosen.others(), sources),
            *cells,
        )
