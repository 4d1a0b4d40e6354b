"""Data of other tools as an .npz of ours, with a record of where it came from.

The record lies beside it: its source and digest, format, options, versions, the map of actions and
how many trajectories ended by reward and by time.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils import action_maps, dataset_files, datasets, files
from utils.action_maps import ActionMap
from utils.errors import UserError
from utils.importers import formats, table
from utils.importers.table import Arrays, Imported, Options

DATA = 'data'  # of --action_range: what the data themselves span


class Counts(NamedTuple):
    """How much there is of what."""

    rows: int
    trajectories: int
    transitions: int
    ended_by_reward: int
    ended_by_time: int


def import_data(
    source: str, out: Path, name: str = '', options: Options = Options(), action_range: str = ''
) -> dict[str, Any]:
    """Reads, checks and writes data.

    Args:
        source: path, or id of a local Minari dataset.
        out: of the .npz; its record is beside it, as .json. Neither may exist.
        name: of the format; '': found by the content.
        options: what the file does not tell.
        action_range: see `choose_map`.

    Returns:
        The record, as written.

    Raises:
        UserError: something is missing, damaged, in the way, or needs a flag.
    """
    check_out(out)
    path = formats.locate(source, name)
    name = name or formats.detect(path)
    table.check_uses(options, formats.FORMATS[name].uses, name)
    imported = formats.FORMATS[name].read(path, options)
    action_map, told_by = choose_map(path, imported, action_range)
    arrays = imported.arrays | dict(
        actions=action_maps.normalise(imported.arrays['actions'], action_map)
    )
    counts = check(path, arrays)
    record = dict(
        format=name,
        source=dict(path=source) | digest(path, imported.files),
        options={key: value for key, value in options._asdict().items() if value},
        versions=_versions(formats.FORMATS[name].libraries),
        python=platform.python_version(),
        counts=counts._asdict(),
        observation_dim=arrays['observations'].shape[1],
        action_dim=arrays['actions'].shape[1],
        action_map=action_map._asdict() | dict(told_by=told_by),
    )
    return write(out, arrays, record)


def check_out(out: Path) -> None:
    """Checks that an .npz and its record can be written, and that neither is there.

    Raises:
        UserError: one is, or cannot be.
    """
    if out.suffix != '.npz' or out.stem.startswith('.'):
        raise UserError(f'--out: {out} must end in NAME.npz')
    for path in (out, out.with_suffix('.json')):
        if path.exists():
            raise UserError(f'--out: {path} is there already; choose another, or move it away')
    files.check_writable(out.parent, [], 'choose another --out')


def choose_map(path: Path, imported: Imported, given: str) -> tuple[ActionMap, str]:
    """Returns the map of actions to [-1, 1], and what told it.

    Args:
        path: named in errors.
        imported: actions, and the range that the file tells, if it does.
        given: 'LOW:HIGH', a number each or one for each number of an action, as -2,-1:2,1; DATA;
            the path of a record, whose map is taken, as held-out data needs; '': the file's range
            or, if it tells none, none, where all actions are in [-1, 1].

    Raises:
        UserError: actions lie outside, and nothing tells their range; or the range is none.
    """
    actions = imported.arrays['actions']
    size = actions.shape[1]
    if not np.isfinite(actions).all():
        return action_maps.identity(size), 'nothing'  # `check` names the row
    low, high = actions.min(axis=0, initial=0.0), actions.max(axis=0, initial=0.0)
    if given:
        chosen = _given_map(given, actions), f'--action_range={given}'
    elif imported.action_range is not None:
        chosen = action_maps.from_range(*imported.action_range), "the file's action space"
    else:
        chosen = action_maps.identity(size), 'actions in [-1, 1]'
    mapped = action_maps.normalise(actions, chosen[0])
    outside = np.abs(mapped).max(axis=0, initial=0.0) > 1.0 + dataset_files.ACTION_SLACK
    if outside.any():
        number = int(np.argmax(outside))
        raise UserError(
            f"{path}: number {number} of 'actions' goes from {low[number]:.6g} to "
            f'{high[number]:.6g}, beyond [-1, 1] ({chosen[1]}); give the range that they may have, '
            f'e.g. --action_range=-2:2, or --action_range={DATA} for what they span'
        )
    return chosen


def _given_map(given: str, actions: np.ndarray) -> ActionMap:
    size = actions.shape[1]
    if given == DATA:
        return action_maps.from_range(actions.min(axis=0), actions.max(axis=0))
    if given.endswith('.json'):
        return _map_of_record(Path(given).expanduser(), size)
    try:
        low, high = (
            np.broadcast_to([float(number) for number in part.split(',')], size)
            for part in given.split(':')
        )
    except ValueError as error:
        raise UserError(
            f'--action_range: {given} is no LOW:HIGH of one number or {size} numbers each; give '
            f'e.g. -2:2, {DATA}, or the .json of data imported before'
        ) from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(f'--action_range: {given} must be finite, with each LOW less than its HIGH')
    return action_maps.from_range(low, high)


def _map_of_record(path: Path, size: int) -> ActionMap:
    with table.whole(path, 'record of imported data', (OSError, ValueError, RecursionError)):
        record = json.loads(path.read_text())
    found = action_maps.recorded(record, path) if isinstance(record, dict) else None
    if found is None or len(found.offset) != size:
        raise UserError(f'--action_range: {path} has no map of {size} numbers; give another record')
    return found


def check(path: Path, arrays: Arrays) -> Counts:
    """Checks arrays as all data is checked when it is read, and counts.

    Raises:
        UserError: see `dataset_files.read`.
    """
    dataset = datasets.build(dataset_files.check(path, arrays))
    by_reward = int((arrays['masks'][arrays['terminals']] == 0).sum())
    trajectories = int(arrays['terminals'].sum())
    return Counts(
        rows=len(arrays['terminals']),
        trajectories=trajectories,
        transitions=len(dataset.starts),
        ended_by_reward=by_reward,
        ended_by_time=trajectories - by_reward,
    )


def digest(path: Path, read: Iterable[Path]) -> dict[str, Any]:
    """Returns size and SHA-256 of a file, or of the lines 'DIGEST  NAME' of a folder's, by name."""
    parts, size = [], 0
    for file in sorted(read):
        with file.open('rb') as opened:
            parts.append((hashlib.file_digest(opened, 'sha256').hexdigest(), file))
        size += file.stat().st_size
    if not path.is_dir():
        [(own, _)] = parts
        return dict(sha256=own, bytes=size)
    lines = ''.join(f'{own}  {file.relative_to(path).as_posix()}\n' for own, file in parts)
    return dict(sha256=hashlib.sha256(lines.encode()).hexdigest(), bytes=size, files=len(parts))


def write(out: Path, arrays: Arrays, record: dict[str, Any]) -> dict[str, Any]:
    """Writes an .npz, and a record that tells of it as well.

    Raises:
        UserError: somebody else has put a file there, or it cannot be written.
    """
    kept = {
        name: array.astype(np.float32) if name in dataset_files.KEPT_AS_FLOAT32 else array
        for name, array in arrays.items()
    }
    check_out(out)  # again: reading takes a while
    with files.writing(out) as file:
        np.savez_compressed(file, **kept)
    own = digest(out, [out]) | dict(rows=len(arrays['terminals']))
    record = record | dict(files={out.name: own})
    files.write_json(out.with_suffix('.json'), record)
    return record


def _versions(libraries: Iterable[str]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ('numpy', *libraries)}
