"""Tables of what was set and what it costs: hyperparameters, and an update's price."""

import statistics as stdlib_statistics
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

import configs
from utils import files
from utils.csv_lines import Source
from utils.errors import UserError
from utils.jobs import workload
from utils.reporting import durations
from utils.reporting.results import Run
from utils.reporting.tables import Cell, Table, missing
from utils.storage import runs

OLDER = 'a setting that runs of this config are too old to record'
NO_MEMORY = 'runs do not record memory; benchmarks.throughput measures it'


def hyperparameters_table(names: Sequence[str], found: Iterable[Run]) -> Table:
    """Every setting of configs.py in a row; bold where it differs from the first config's."""
    found = list(found)
    chosen = {name: configs.get_config(name).to_dict() for name in names if name in configs.CONFIGS}
    settings = dict.fromkeys(key for config in chosen.values() for key in config)
    first = chosen.get(names[0], {})
    rows = []
    for setting in (key for key in settings if key != 'config_name'):
        row = [Cell(setting)]
        for name in names:
            own = [run for run in found if run.config_name == name]
            row.append(_setting_cell(name, setting, chosen.get(name), own, first))
        rows.append(tuple(row))
    remarks = (
        f'From configs.py; bold: not as in {names[0]}, which has the setting too; blank: no such '
        'setting.',
    )
    return Table('hyperparameters', 'Hyperparameters', ('setting', *names), tuple(rows), remarks)


def _setting_cell(
    name: str, setting: str, config: dict | None, own: list[Run], first: dict[str, Any]
) -> Cell:
    if config is None:
        return missing(f'configs.py has no {name}')
    if setting not in config:
        return Cell('')
    value, differs = config[setting], setting in first and config[setting] != first[setting]
    recorded = [runs.agent_config(run.record).get(setting) for run in own]
    others = [
        f'{_show(other)} in {recorded.count(other)} of {len(own)} runs, such as '
        f'{own[recorded.index(other)].directory}'
        for other in recorded
        if other not in (None, value)
    ]
    others += [OLDER] if None in recorded else []
    source = Source(files.ROOT / 'configs.py')
    return Cell(_show(value), (source,), '; '.join(dict.fromkeys(others)), bold=differs)


def _show(value: Any) -> str:
    return ' x '.join(map(str, value)) if isinstance(value, tuple) else str(value)


def cost_table(found: Iterable[Run]) -> Table:
    """Sizes, operations, speed and time; a row for each config, population and device."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in found:
        key = run.environment, run.config_name, str(len(run.seeds)), runs.hardware(run.record)
        groups.setdefault(key, []).append(run)
    rows = [
        (*map(Cell, key), *_sizes(group), *_speed(group), missing(NO_MEMORY))
        for key, group in groups.items()
    ]
    header = ('environment', 'config', 'seeds', 'device', 'parameters', 'GFLOP per update')
    header += ('updates/s', 'training, min', 'memory')
    remarks = (
        'parameters (without targets) and GFLOP (of matrix products, counted in the jaxpr) are of '
        'one seed and task.',
        'updates/s is the median over the lines of train.csv, minutes that over runs.',
        durations.REMARK,
    )
    return Table('cost', 'Cost of training', header, tuple(rows), remarks)


def _sizes(group: list[Run]) -> tuple[Cell, Cell]:
    """Parameters and operations of one member."""
    run = group[0]
    config = runs.agent_config(run.record).to_dict()
    if run.config_name not in configs.CONFIGS:
        reason = missing(f'configs.py has no {run.config_name}')
        return reason, reason
    current = configs.get_config(run.config_name)
    newer = sorted(current.keys() - config.keys())
    recorded = {key: value for key, value in config.items() if key in current}
    note = f'counted with the {", ".join(newer)} of configs.py, which the runs do not record'
    sizes = run.record['observation_dim'], run.record['action_dim']
    try:
        complete = ConfigDict(current.to_dict() | recorded)
        gflop, parameters = workload.count(complete, sizes)
    except UserError as error:
        reason = missing(f'{run.directory}: {error}')
        return reason, reason
    sources, note = (Source(run.directory / 'config.json'),), note if newer else ''
    return (
        Cell(f'{parameters:,}', sources, note),
        Cell(f'{gflop:.3g}', sources, note),
    )


def _speed(group: list[Run]) -> tuple[Cell, Cell]:
    """Updates per second and minutes of training."""
    by_run = [durations.lines_of(run) for run in group]
    lines = [line for of_run in by_run for line in of_run]
    if not lines:
        reason = missing('train.csv has no lines (--log_interval=0?)')
        return reason, reason
    sources = tuple(
        Source(of_run[0].path, tuple(line.number for line in of_run)) for of_run in by_run if of_run
    )
    rate = stdlib_statistics.median(line.parse('updates_per_second') for line in lines)
    short = [
        run
        for run, of_run in zip(group, by_run, strict=True)
        if not durations.reach(of_run, run.offline_steps)
    ]
    if short:
        minutes = missing(f'{short[0].directory}: train.csv ends before the last step')
    else:
        minutes = Cell(f'{stdlib_statistics.median(map(durations.minutes, by_run)):.1f}', sources)
    return Cell(f'{rate:.1f}', sources), minutes
