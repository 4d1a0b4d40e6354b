"""Data of other tools as an .npz of ours, with a record of where it came from.

The record lies beside it: its source and digest, format, options, versions, the map of actions and
how many trajectories ended by reward and by time.
"""

import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils import files
from utils.data import array_checks, dataset_files, datasets
from utils.data.importers import action_ranges, formats, locating
from utils.data.importers.options import Options, check_uses
from utils.data.importers.table import Arrays
from utils.environments import action_maps
from utils.errors import UserError
from utils.system import locks
from utils.system.stopping import StopRequest

NO_OPTIONS = Options()


class Counts(NamedTuple):
    """How much there is of what."""

    rows: int
    trajectories: int
    transitions: int
    ended_by_reward: int
    ended_by_time: int


def import_data(
    source: str, out: Path, name: str = '', options: Options = NO_OPTIONS, action_range: str = ''
) -> dict[str, Any]:
    """Reads, checks and writes data.

    Args:
        source: path, or id of a local Minari dataset.
        out: of the .npz; its record is beside it, as .json. Neither may exist.
        name: of the format; '': found by the content.
        options: what the file does not tell.
        action_range: see `action_ranges.choose`.

    Returns:
        The record, as written.

    Raises:
        UserError: something is missing, damaged, in the way, or needs a flag.
    """
    check_out(out)
    path = locating.locate(source, name)
    name = name or formats.detect(path)
    check_uses(options, formats.FORMATS[name].uses, name)
    imported = formats.FORMATS[name].read(path, options)
    action_map, told_by = action_ranges.choose(path, imported, action_range)
    arrays = imported.arrays | dict(
        actions=action_maps.normalise(imported.arrays['actions'], action_map)
    )
    counts = check(path, arrays)
    record = dict(
        format=name,
        source=dict(path=source) | digest(path, imported.files),
        options=_given(options),
        versions=_versions(formats.FORMATS[name].libraries),
        python=platform.python_version(),
        counts=counts._asdict(),
        arrays=sorted(arrays),
        observation_dim=arrays['observations'].shape[1],
        action_dim=arrays['actions'].shape[1],
        action_map=dict(zip(action_map._fields, map(list, action_map), strict=True))
        | dict(told_by=told_by),
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
    with locks.hold_in_turn(out.with_name(f'.{out.name}.lock'), StopRequest()):
        return _write(out, arrays, record)


def _write(out: Path, arrays: Arrays, record: dict[str, Any]) -> dict[str, Any]:
    kept = {
        name: array.astype(np.float32) if name in array_checks.KEPT_AS_FLOAT32 else array
        for name, array in arrays.items()
    }
    check_out(out)  # again: reading takes a while
    with files.writing(out) as file:
        np.savez_compressed(file, **kept)
        file.flush()
        partial = Path(file.name)
        own = digest(partial, [partial]) | dict(rows=len(arrays['terminals']))
        record = record | dict(files={out.name: own})
        # First the record: without one, the actions of the file would count as never mapped.
        files.write_json(out.with_suffix('.json'), record)
    return record


def _given(options: Options) -> dict[str, Any]:
    defaults = Options._field_defaults
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options._asdict().items()
        if value != defaults[name]
    }


def _versions(names: Iterable[str]) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ('numpy', *names)}
