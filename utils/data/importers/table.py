"""What the formats have in common: named columns of rows, of which some are asked for by flags.

Where a trajectory ends and whether it ended by reward is told by the file or by a flag. Where
neither tells, it is asked for: a guess would make wrong values without a word.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.data.importers import columns
from utils.data.importers.options import LAST, NONE, Options
from utils.errors import UserError, did_you_mean

Arrays = dict[str, np.ndarray]


class Table(NamedTuple):
    """Rows of all trajectories of a file, one after the other.

    Attributes:
        path: named in errors.
        names: of the columns.
        read: returns a column, (rows, ...) numbers, by its name.
        terminals: (rows,) bool, true at the last row of each trajectory.
    """

    path: Path
    names: Sequence[str]
    read: Callable[[str], np.ndarray]
    terminals: np.ndarray


class Imported(NamedTuple):
    """What a reader makes of a file.

    Attributes:
        arrays: `observations`, `actions`, `rewards`, `masks`, `terminals` as `dataset_files.read`
            describes them, `next_observations` where last rows are transitions as well; actions are
            as they were recorded.
        files: that were read.
        action_range: (low, high) of each number of an action, where the file tells it.
    """

    arrays: Arrays
    files: list[Path]
    action_range: tuple[np.ndarray, np.ndarray] | None = None


def assemble(table: Table, options: Options) -> Arrays:
    """Returns the columns that were asked for as the arrays of a dataset.

    Args:
        table: of the file.
        options: complete but for `next_observations`.

    Raises:
        UserError: a column is missing, has another number of rows or holds what it may not.
    """
    arrays = dict(
        observations=_side_by_side(table, 'observations', options.observations),
        actions=_side_by_side(table, 'actions', (options.actions,)),
        rewards=_signal(table, 'rewards', options.rewards),
        masks=1.0 - _truths(table, 'ends_by_reward', options.ends_by_reward),
        terminals=table.terminals,
    )
    if options.next_observations:
        names = options.next_observations
        arrays['next_observations'] = _side_by_side(table, 'next_observations', names)
    return arrays


def column(table: Table, flag: str, name: str) -> np.ndarray:
    """Returns a column that a flag names.

    Raises:
        UserError: there is none, it holds no numbers, or it has another number of rows.
    """
    if name not in table.names:
        known = ', '.join(table.names)
        raise UserError(
            f"{table.path}: has no '{name}', which --{flag} should name;"
            f'{did_you_mean(name, table.names)} there are: {known}'
        )
    values = table.read(name)
    if values.dtype.kind not in 'biuf':
        raise UserError(f"{table.path}: '{name}' holds no plain numbers; name another by --{flag}")
    rows = len(table.terminals)
    if values.ndim == 0 or len(values) != rows:
        raise UserError(
            f"{table.path}: '{name}' has shape {values.shape}; expected {rows} rows, one per step"
        )
    return values


def _side_by_side(table: Table, flag: str, names: Sequence[str]) -> np.ndarray:
    parts = []
    for name in names:
        values = column(table, flag, name)
        if values.ndim > 2:
            raise UserError(
                f"{table.path}: '{name}' has shape {values.shape}; expected numbers in a row, "
                f'not images; leave it out of --{flag}'
            )
        # Whole numbers are numbers, too.
        values = values if values.dtype.kind == 'f' else values.astype(np.float32)
        parts.append(values.reshape(len(values), -1))
    return np.concatenate(parts, axis=1)


def _signal(table: Table, flag: str, name: str) -> np.ndarray:
    if name == NONE:
        return np.zeros(len(table.terminals), np.float32)
    if name == LAST:
        return table.terminals.astype(np.float32)
    return columns.vector(table.path, name, column(table, flag, name)).astype(np.float32)


def _truths(table: Table, flag: str, name: str) -> np.ndarray:
    return columns.truths(table.path, name, _signal(table, flag, name)).astype(np.float32)
