"""Plain arrays under any names: an .npz file, or a folder of .npy files. Flags say what is what."""

from pathlib import Path

import numpy as np

from utils.data import npz
from utils.data.importers import columns, libraries, table
from utils.data.importers.options import NONE, Options
from utils.data.importers.table import Imported, Table
from utils.errors import UserError

USES = {'observations', 'actions', 'rewards', 'ends_by_reward', 'next_observations'}
USES |= {'ends', 'episode_index'}
NEEDED = ('observations', 'actions', 'rewards', 'ends_by_reward')


def read(path: Path, options: Options) -> Imported:
    """Reads arrays with a row per step; the last row ends a trajectory, by time if nothing says so.

    Args:
        path: of the .npz, or of a folder, in which NAME.npy is the array NAME.
        options: `observations`, `actions`, `rewards`, `ends_by_reward` and one of `ends` and
            `episode_index` are needed.

    Raises:
        UserError: a file is damaged, a flag is needed, or does not name an array.
    """
    names = _names(path)
    _check_told(path, names, options)
    ends = np.zeros(len(_read(path, names, options.actions)), bool)
    every = Table(path, names, lambda name: _read(path, names, name), ends)
    if options.episode_index:
        index = table.column(every, 'episode_index', options.episode_index)
        ends = columns.ends_of_index(path, options.episode_index, index)
    else:
        for name in () if options.ends == (NONE,) else options.ends:
            ends |= columns.truths(path, name, table.column(every, 'ends', name))
        ends[-1:] = True
    given = options.next_observations
    complete = options._replace(next_observations=() if given == (NONE,) else given)
    arrays = table.assemble(every._replace(terminals=ends), complete)
    return Imported(arrays, sorted(path.glob('*.npy')) if path.is_dir() else [path])


def _names(path: Path) -> tuple[str, ...]:
    """Returns the names of all arrays; what nobody asks for may hold anything."""
    if path.is_dir():
        return tuple(sorted(file.stem for file in path.glob('*.npy')))
    return tuple(npz.keys(path))


def _read(path: Path, names: tuple[str, ...], name: str) -> np.ndarray:
    if name not in names:
        raise UserError(f"{path}: has no '{name}', which a flag names; there are: {_shown(names)}")
    if path.is_dir():
        return _read_npy(path / f'{name}.npy')
    header = npz.headers(path, [name])[name]
    npz.check_memory(path, 2 * header.nbytes)  # once more while it is converted
    return npz.read(path, header)


def _shown(names: tuple[str, ...]) -> str:
    return ', '.join(names) or 'none'


def _mapped(file: Path) -> np.ndarray:
    with libraries.whole(file, '.npy file of plain numbers', (OSError, EOFError, *npz.UNPARSABLE)):
        array = np.lib.format.open_memmap(file, mode='r')
    if array.dtype.kind not in 'biuf' or array.ndim == 0:
        raise UserError(f'{file}: has dtype {array.dtype} and shape {array.shape}; expected rows')
    return array


def _read_npy(file: Path) -> np.ndarray:
    array = _mapped(file)
    npz.check_memory(file, 2 * array.nbytes)  # once more while it is converted
    return np.array(array, array.dtype.newbyteorder('='))


def _check_told(path: Path, names: tuple[str, ...], options: Options) -> None:
    lacking = [name for name in NEEDED if not getattr(options, name)]
    if lacking:
        flags = ' '.join(f'--{name}=NAME' for name in lacking)
        raise UserError(
            f'{path}: what is what cannot be told; give {flags}; there are: {_shown(names)}'
        )
    if bool(options.ends) == bool(options.episode_index):
        raise UserError(
            f'{path}: where trajectories end cannot be told; give one of --ends=NAME (1 at their '
            'last rows), --ends=none (one trajectory), --episode_index=NAME; there are: '
            f'{_shown(names)}'
        )
