"""The affine map between actions as they were recorded and the [-1, 1] that agents act in.

It is chosen when data is imported, stands in the record beside the data, and is undone where an
agent acts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.errors import UserError

# Under this key records of data and of runs tell of it.
KEY = 'action_map'


class ActionMap(NamedTuple):
    """recorded = offset + scale * normalised, for each number of an action.

    Attributes:
        offset, scale: (action_dim,) finite floats; no scale is 0.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether recorded actions are the normalised ones."""
        return not any(self.offset) and all(scale == 1.0 for scale in self.scale)


def identity(action_dim: int) -> ActionMap:
    """Returns the map that changes nothing."""
    return ActionMap((0.0,) * action_dim, (1.0,) * action_dim)


def from_range(low: np.ndarray, high: np.ndarray) -> ActionMap:
    """Returns the map that takes [low, high] to [-1, 1].

    A number that never changes, low == high, becomes 0 and keeps its unit.

    Args:
        low, high: (action_dim,) finite, low <= high.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    half = (high - low) / 2
    scale = np.where(half == 0.0, 1.0, half)
    return ActionMap(tuple((low + half).tolist()), tuple(scale.tolist()))


def normalise(actions: np.ndarray, action_map: ActionMap) -> np.ndarray:
    """Returns recorded (..., action_dim) actions in units of the agents, as float32.

    Rounding leaves none of those at the ends of the range outside [-1, 1].
    """
    offset, scale = map(np.asarray, action_map)
    normalised = ((np.asarray(actions, np.float64) - offset) / scale).astype(np.float32)
    rounded = np.clip(normalised, -1.0, 1.0)
    return np.where(np.abs(normalised - rounded) < 1e-6, rounded, normalised)


def denormalise(actions: np.ndarray, action_map: ActionMap) -> np.ndarray:
    """Returns (..., action_dim) actions of an agent in the units that were recorded, as float32."""
    offset, scale = map(np.asarray, action_map)
    return (offset + scale * np.asarray(actions, np.float64)).astype(np.float32)


def recorded(record: Mapping[str, Any], path: Path) -> ActionMap | None:
    """Returns the map that a record of data or of a run tells of; None: of none.

    Args:
        record: parsed JSON.
        path: of the record, named in errors.

    Raises:
        UserError: the record is damaged.
    """
    if KEY not in record:
        return None
    told = record[KEY]
    try:
        offset, scale = (tuple(map(float, told[name])) for name in ActionMap._fields)
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: '{KEY}' is damaged; restore the record from a copy") from error
    if len(offset) != len(scale) or not np.isfinite([*offset, *scale]).all() or 0.0 in scale:
        raise UserError(f"{path}: '{KEY}' is damaged; restore the record from a copy")
    return ActionMap(offset, scale)


def of_files(paths: Sequence[Path]) -> ActionMap | None:
    """Returns the map of imported files that are one dataset, by the records beside them.

    Raises:
        UserError: see `beside`, or they were given different ones.
    """
    first, *others = paths
    found = beside(first)
    for path in others:
        if beside(path) != found:
            raise UserError(
                f'{path}: its actions were not mapped as those of {first.name}; import it with '
                f'--action_range={first.with_suffix(".json")}'
            )
    return found


def beside(data: Path) -> ActionMap | None:
    """Returns the map of an imported file, by the record beside it.

    None: its actions are as they were recorded, or no record tells otherwise.

    Args:
        data: of the .npz.

    Raises:
        UserError: the record is damaged, or of another file.
    """
    record = _record_beside(data)
    if record is None:
        return None
    path = data.with_suffix('.json')
    action_map = recorded(record, path)
    _check_size(record, path, data)
    return None if action_map.is_identity else action_map


def is_told(data: Path) -> bool:
    """Returns whether a record beside a file tells what its actions stand for.

    Raises:
        UserError: the record is damaged.
    """
    return _record_beside(data) is not None


def _record_beside(data: Path) -> dict[str, Any] | None:
    """Returns the record of an import; None where there is none, or a .json of something else."""
    path = data.with_suffix('.json')
    if not path.is_file() or not data.is_file():
        return None
    try:
        record = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: damaged ({error}); restore it from a copy') from error
    return record if isinstance(record, dict) and KEY in record else None


def _check_size(record: Mapping[str, Any], path: Path, data: Path) -> None:
    """Checks that a record is of the file beside it; of its size alone, since digests take long."""
    try:
        told = record['files'][data.name]['bytes']
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f'{path}: tells nothing of {data.name}; restore it from a copy') from error
    if told != data.stat().st_size:
        raise UserError(
            f'{path}: is the record of a file {data.name} of {told} bytes, not of the one beside '
            'it; restore both from a copy, or import the data again'
        )
