"""LeRobot's parquet files, layouts v2 and v3: a folder with meta/info.json and data/*/*.parquet.

A row is a frame; `next.reward`, `next.done` and `next.success` are of the step from it. What comes
after an episode's last frame is in no file. `next.done` is 1 at the last frame
whatever ended the episode, so it says nothing of ends by reward.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.importers import columns, libraries, table
from utils.data.importers.options import Options
from utils.data.importers.table import Imported, Table
from utils.errors import UserError

USES = {'observations', 'actions', 'rewards', 'ends_by_reward'}
INFO = 'meta/info.json'
DAMAGE = (OSError, ValueError, KeyError, TypeError, NotImplementedError)


def read(path: Path, options: Options) -> Imported:
    """Reads a folder.

    Args:
        path: of the folder.
        options: `observations` are else observation.state, `actions` action, `rewards` next.reward
            and `ends_by_reward` next.success; what of these is not there must be given.

    Raises:
        UserError: a file is missing, damaged or not of this format, or a flag is needed.
    """
    files, info = sorted(path.glob('data/*/*.parquet')), _info(path)
    if not files:
        raise UserError(f'{path}: has no data/chunk-*/*.parquet, which LeRobot writes; fetch them')
    names = _names(files[0])
    options = _complete(path, names, options)
    wanted = [*options.observations, options.actions, options.rewards, options.ends_by_reward]
    found = _columns(path, files, {*wanted, 'episode_index', 'frame_index'}.intersection(names))
    index = found.get('episode_index')
    if index is None:
        raise UserError(f"{path}: has no 'episode_index', which LeRobot's format needs")
    ends = columns.ends_of_index(path, 'episode_index', index)
    _check_frames(path, info, found, ends)
    every = Table(path, names, found.__getitem__, ends)
    return Imported(table.assemble(every, options), [path / INFO, *files])


def _info(path: Path) -> dict[str, Any]:
    with libraries.whole(path / INFO, 'JSON file', (OSError, ValueError, RecursionError)):
        info = json.loads((path / INFO).read_text())
    if not isinstance(info, dict):
        raise UserError(f'{path / INFO}: not a JSON object; fetch or make it again')
    return info


def _names(file: Path) -> list[str]:
    parquet = libraries.load('pyarrow.parquet')
    with libraries.whole(file, 'parquet file', DAMAGE):
        return list(parquet.read_schema(file).names)


def _complete(path: Path, names: list[str], options: Options) -> Options:
    """Returns options with LeRobot's own names where these are there; asks for the others."""
    rewards = options.rewards or ('next.reward' if 'next.reward' in names else '')
    ends = options.ends_by_reward or ('next.success' if 'next.success' in names else '')
    has = ', '.join(names)
    if not rewards:
        raise UserError(
            f"{path}: has no 'next.reward'; give --rewards=COLUMN, --rewards=last (1 at the end of "
            f'each episode, as of successful demonstrations) or --rewards=none; columns: {has}'
        )
    if not ends:
        raise UserError(
            f"{path}: has no 'next.success', so ends by reward cannot be told from those by time; "
            'give --ends_by_reward=COLUMN, --ends_by_reward=last (every episode ends by reward) or '
            f'--ends_by_reward=none; columns: {has}'
        )
    return options._replace(
        observations=options.observations or ('observation.state',),
        actions=options.actions or 'action',
        rewards=rewards,
        ends_by_reward=ends,
    )


def _columns(path: Path, files: list[Path], names: set[str]) -> dict[str, np.ndarray]:
    """Reads columns of all files, one after the other; images and videos stay where they are."""
    parquet, parts = libraries.load('pyarrow.parquet'), {name: [] for name in sorted(names)}
    for file in files:
        with libraries.whole(file, 'parquet file', DAMAGE):
            # Not read_table, which would take the folders' names for columns.
            rows = parquet.ParquetFile(file).read(columns=list(parts))
        for name, own in parts.items():
            if name not in rows.column_names:
                raise UserError(
                    f"{file}: has no '{name}', which {files[0].name} has; fetch it again"
                )
            own.append(_numbers(file, name, rows.column(name)))
    for name, own in parts.items():
        if len({part.shape[1:] for part in own}) > 1:
            raise UserError(f"{path}: '{name}' has several sizes; expected one in all files")
    return {name: np.concatenate(own) for name, own in parts.items()}


def _numbers(file: Path, name: str, column: Any) -> np.ndarray:
    """Returns (rows,) numbers, or (rows, size) of lists of one size."""
    types, compute = libraries.load('pyarrow').types, libraries.load('pyarrow.compute')
    if column.null_count:
        raise UserError(
            f"{file}: '{name}' lacks {column.null_count} values; drop or repair the rows"
        )
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if any(is_list(column.type) for is_list in lists):
        sizes = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(sizes) != 1:
            raise UserError(f"{file}: '{name}' has lists of {len(sizes)} sizes; expected one")
        flat = _numbers(file, name, compute.list_flatten(column))
        return flat.reshape(len(column), sizes[0])
    kinds = (types.is_integer, types.is_floating, types.is_boolean)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise UserError(f"{file}: '{name}' is of {column.type}; expected flat lists of numbers")
    return np.asarray(column.to_numpy())


def _check_frames(
    path: Path, info: dict[str, Any], found: dict[str, np.ndarray], ends: np.ndarray
) -> None:
    """Checks that no file is missing and that frames are in the order of time."""
    held = dict(total_frames=len(ends), total_episodes=int(ends.sum()))
    for name, number in held.items():
        if info.get(name, number) != number:
            raise UserError(
                f'{path}: {INFO} tells of {info[name]} {name}, data/ holds {number}; fetch what is '
                'missing'
            )
    if 'frame_index' in found:
        frames = columns.vector(path, 'frame_index', found['frame_index'])
        begins = np.concatenate([[True], ends[:-1]])
        if not np.where(begins, frames == 0, np.diff(frames, prepend=0) == 1).all():
            raise UserError(
                f"{path}: 'frame_index' does not count each episode's frames from 0; expected the "
                'rows in the order of time'
            )
