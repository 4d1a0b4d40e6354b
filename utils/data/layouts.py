"""Files of other tools, brought to OGBench's layout: where trajectories end is never guessed.

In OGBench's files the last row of a trajectory is the state where the recording was cut, and
`terminals` is 1 there alone. Others say it otherwise, and read as if they did not, they lose
transitions or gain some that lead from one trajectory into the next.
"""

from pathlib import Path

import numpy as np

from utils.errors import UserError

# Beside `terminals`, these too are 1 at last rows: of D4RL, Gymnasium and Minari.
CUTS = ('timeouts', 'truncations', 'truncateds', 'dones')

Arrays = dict[str, np.ndarray]


def to_ogbench(path: Path, arrays: Arrays) -> Arrays:
    """Returns arrays in OGBench's layout, without the keys that said it otherwise.

    Args:
        path: named in errors.
        arrays: of a file, (rows, ...) each, of finite numbers; `terminals`, `valids` and `CUTS`
            are 0 or 1.

    Returns:
        `terminals` as bool, true at the last row of each trajectory alone. Where the file's last
        rows are transitions whose successors are in `next_observations`, each trajectory has one
        row more, and `acted` (rows,) bool says which rows have an action.

    Raises:
        UserError: keys contradict each other, or the file does not end with a trajectory.
    """
    arrays = dict(arrays)
    ends = arrays['terminals'].astype(bool)
    for name in CUTS:
        if name in arrays:
            ends = ends | arrays.pop(name).astype(bool)
    arrays['terminals'] = ends
    if not ends[-1]:
        raise UserError(
            f"{path}: the last row of 'terminals' must be 1, the end of a trajectory (a key of "
            f'{", ".join(CUTS)} may say so too)'
        )
    if 'valids' in arrays:
        arrays = _from_compact(path, arrays)
    return _with_final_states(path, arrays) if 'next_observations' in arrays else arrays


def _from_compact(path: Path, arrays: Arrays) -> Arrays:
    """Undoes OGBench's compact loader, which ends a trajectory at its last two rows."""
    last = arrays.pop('valids') == 0
    if not last[-1] or not np.array_equal(arrays['terminals'], last | np.append(last[1:], True)):
        raise UserError(
            f"{path}: 'valids' and 'terminals' are not as OGBench's compact loader leaves them; "
            "leave 'valids' out, and let 'terminals' be 1 at the last row of each trajectory alone"
        )
    arrays['terminals'] = last
    if 'masks' in arrays:  # what is no transition ends no episode
        arrays['masks'] = np.where(last, np.float32(1.0), arrays['masks'])
    return arrays


def _with_final_states(path: Path, arrays: Arrays) -> Arrays:
    """Appends to each trajectory the state that its last row leads to."""
    following = arrays.pop('next_observations')
    ends = np.flatnonzero(arrays['terminals'])
    _check_successors(path, arrays, following, ends)
    longer = {
        name: np.insert(array, ends + 1, array[ends], axis=0) for name, array in arrays.items()
    }
    added = ends + 1 + np.arange(len(ends))
    longer['observations'][added] = following[ends]
    longer['actions'][added] = 0.0
    longer['terminals'][added - 1] = False
    if 'masks' in longer:
        longer['masks'][added] = 1.0
    acted = np.ones(len(longer['actions']), bool)
    acted[added] = False
    return longer | dict(acted=acted)


def _check_successors(path: Path, arrays: Arrays, following: np.ndarray, ends: np.ndarray) -> None:
    """Checks that rows are in the order of time, and that last rows lead to states of their own."""
    observations = arrays['observations']
    agrees = (following[:-1] == observations[1:]).all(axis=1) | arrays['terminals'][:-1]
    if not agrees.all():
        raise UserError(
            f"{path}: 'next_observations' of row {int(np.argmin(agrees))} are not the "
            "'observations' of the row after it; expected rows in the order of time, and "
            "'terminals' (or 'timeouts') 1 at the last one of each trajectory"
        )
    goes_on = ends[arrays['masks'][ends] != 0] if 'masks' in arrays else ends
    first_of_next = observations[(goes_on + 1) % len(observations)]
    nowhere = (following[goes_on] == first_of_next).all(axis=1)
    nowhere |= (following[goes_on] == observations[goes_on]).all(axis=1)
    if len(goes_on) and nowhere.all():
        raise UserError(
            f"{path}: 'next_observations' of last rows are the next trajectory's first states, or "
            "the rows' own; leave 'next_observations' out: last rows are then final states"
        )
