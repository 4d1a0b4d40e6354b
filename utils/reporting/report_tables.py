"""Tables of a report beside those of scores: missing runs, versions, settings, episodes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.csv_lines import Source, read_lines
from utils.reporting.all_tables import Found
from utils.reporting.results import Result, Run
from utils.reporting.scores import Scores
from utils.reporting.tables import Cell, Table, missing
from utils.storage import runs


def missing_table(scores: Scores) -> Table:
    """Every seed of every config on every task that has no score, and why."""
    rows = []
    for environment, task in scores.tasks():
        expected = {
            result.seed
            for config in scores.configs
            for result in scores.results.get((environment, task, config), [])
        }
        for config in scores.configs:
            place = environment, task, config
            rows += _missing(place, scores.results.get(place, []), expected)
    remarks = (
        'Expected are all seeds that some config shown here has on a task, of all configs. A run '
        'that has stopped goes on when its command is repeated.',
    )
    columns = ('environment', 'task', 'config', 'seed', 'updates', 'why')
    return Table('missing', 'Missing and unfinished', columns, tuple(rows), remarks)


def _missing(
    place: tuple[str, str, str], found: list[Result], expected: set[int]
) -> Iterable[tuple[Cell, ...]]:
    by_seed = {result.seed: result for result in found}
    for seed in sorted(expected):
        result = by_seed.get(seed)
        if result is not None and result.score is not None:
            continue
        names = *map(Cell, place), Cell(str(seed))
        if result is None:
            yield *names, missing('no run'), Cell('no run')
            continue
        status = runs.read_status(result.run.directory) or {}
        told = f'; {status["state"]}: {status["reason"]}' if status.get('reason') else ''
        reached = Cell(str(result.step), _reached(result)) if result.step else missing('no rows')
        yield *names, reached, Cell(f'{result.missing}{told}')


def _reached(result: Result) -> tuple[Source, ...]:
    """The last line of the file that a run came furthest in."""
    for name in ('eval.csv', 'train.csv'):
        path = result.run.directory / name
        lines = [
            line.number
            for line in read_lines(path, ('step',))
            if line.parse('step', int) == result.step
        ]
        if lines:
            return (Source(path, (lines[-1],)),)
    return ()


def runs_table(found: Iterable[Run]) -> Table:
    """Every run directory and how it is doing."""
    rows = []
    for run in found:
        status = runs.read_status(run.directory)
        record, told = ((Source(run.directory / name),) for name in (runs.RECORD, runs.STATUS))
        data = run.record.get('dataset', {})
        state = missing('no status.json')
        if status is not None:
            state = Cell(f'{status.get("state")} at {status.get("step")}', told)
        rows.append(
            (
                Cell(str(run.directory)),
                state,
                Cell(str(run.offline_steps), record),
                Cell(', '.join(map(str, run.seeds)), record),
                Cell(str(data.get('file', 'unknown')), record),
                Cell(str(data.get('transitions', '')), record),
                Cell(runs.hardware(run.record), record),
            )
        )
    columns = ('run', 'state', 'updates asked for', 'seeds', 'dataset', 'transitions', 'device')
    return Table('runs', 'Runs', columns, tuple(rows))


def versions_table(found: Iterable[Run]) -> Table:
    """Versions that runs were made with: a column for each set of them."""
    sets: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in found:
        versions = dict(python=run.record.get('python', 'unknown'))
        versions |= run.record.get('versions', {})
        sets.setdefault(tuple(versions.items()), []).append(run)
    names = dict.fromkeys(name for versions in sets for name, _ in versions)
    rows = []
    for name in names:
        row = [Cell(name)]
        for versions, of_set in sets.items():
            sources = tuple(Source(run.directory / runs.RECORD) for run in of_set)
            value = dict(versions).get(name)
            row.append(missing('not recorded') if value is None else Cell(str(value), sources))
        rows.append(tuple(row))
    columns = tuple(f'{len(of_set)} run{"s" * (len(of_set) > 1)}' for of_set in sets.values())
    return Table('versions', 'Versions', ('package', *columns), tuple(rows))


def settings_table(run: Run, number: int) -> Table:
    """Everything in a run's config.json, but its versions."""
    source = (Source(run.directory / runs.RECORD),)
    rows = [
        (Cell(name), Cell(str(value), source))
        for name, value in _flat(run.record)
        if not name.startswith('versions.')
    ]
    return Table(f'run-{number}', 'config.json', ('setting', 'value'), tuple(rows))


def _flat(record: dict[str, Any], prefix: str = '') -> Iterable[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def episodes_table(videos: Path, found: Found) -> Table:
    """What happens in the episodes of videos.csv, beside what evaluations say of them."""
    by_directory = {str(run.directory): run for run in found.runs}
    rows = []
    for line in read_lines(videos, ('directory', 'step', 'seed', 'episode', 'success')):
        run = by_directory[line.values['directory']]
        source = (Source(videos, (line.number,)),)
        names = run.environment, run.task, run.config_name
        shown = ('seed', 'step', 'episode', 'success', 'episode_length', 'steps_per_frame')
        cells = (Cell(line.values[name], source) for name in shown)
        rows.append((*map(Cell, names), *cells, *_evaluated(run, line.values)))
    columns = ('environment', 'task', 'config', 'seed', 'updates', 'episode', 'success', 'steps')
    columns += ('steps per frame', 'success, evaluated', 'steps, evaluated')
    remarks = (
        'evaluated: the same episode in the evaluation of the run. It begins alike and draws the '
        'same random numbers, but products of batches of another size are rounded otherwise, and '
        'another version may draw otherwise.',
    )
    return Table('episodes_shown', 'Episodes shown', columns, tuple(rows), remarks)


def _evaluated(run: Run, played: dict[str, str]) -> tuple[Cell, Cell]:
    wanted = [int(played[name]) for name in ('step', 'seed', 'episode')]
    path = run.directory / 'episodes.csv'
    for line in read_lines(path, ('step', 'seed', 'episode', 'success', 'episode_length')):
        if [line.parse(name, int) for name in ('step', 'seed', 'episode')] == wanted:
            source = (Source(path, (line.number,)),)
            success, steps = (line.values[name] for name in ('success', 'episode_length'))
            return Cell(success, source), Cell(steps, source)
    return (missing('episodes.csv has no such episode'),) * 2
