"""Plain arrays under any names: an .npz file, or a folder of .npy files. Flags say what is what."""

from pathlib import Path

import numpy as np

from utils import npz
from utils.errors import UserError
from utils.importers import libraries, table
from utils.importers.options import NONE, Options
from utils.importers.table import Imported, Table

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
    files, shapes = _shapes(path)
    _check_told(path, shapes, options)

    def read_one(name: str) -> np.ndarray:
        if path.is_dir():
            return _read_npy(path / f'{name}.npy')
        return npz.read(path, npz.headers(path, [name])[name])

    rows = shapes.get(options.actions, (0,))[0]
    every = Table(path, tuple(shapes), read_one, np.zeros(rows, bool))
    if options.episode_index:
        index = table.column(every, 'episode_index', options.episode_index)
        ends = table.ends_of_index(path, options.episode_index, index)
    else:
        ends = np.zeros(rows, bool)
        for name in () if options.ends == (NONE,) else options.ends:
            ends |= table.truths(path, name, table.column(every, 'ends', name))
        ends[-1:] = True
    given = options.next_observations
    complete = options._replace(next_observations=() if given == (NONE,) else given)
    return Imported(table.assemble(every._replace(terminals=ends), complete), files)


def _shapes(path: Path) -> tuple[list[Path], dict[str, tuple[int, ...]]]:
    """Returns the files and the shapes of the arrays that they hold."""
    if not path.is_dir():
        return [path], {name: header.shape for name, header in npz.headers(path).items()}
    files = sorted(path.glob('*.npy'))
    return files, {file.stem: _mapped(file).shape for file in files}


def _mapped(file: Path) -> np.ndarray:
    with libraries.whole(file, '.npy file of plain numbers', (OSError, ValueError, EOFError)):
        array = np.lib.format.open_memmap(file, mode='r')
    if array.dtype.kind not in 'biuf' or array.ndim == 0:
        raise UserError(f'{file}: has dtype {array.dtype} and shape {array.shape}; expected rows')
    return array


def _read_npy(file: Path) -> np.ndarray:
    array = _mapped(file)
    npz.check_memory(file, 2 * array.nbytes)  # once more while it is converted
    return np.array(array, array.dtype.newbyteorder('='))


def _check_told(path: Path, shapes: dict[str, tuple[int, ...]], options: Options) -> None:
    has = ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items()) or 'nothing'
    lacking = [name for name in NEEDED if not getattr(options, name)]
    if lacking:
        flags = ' '.join(f'--{name}=NAME' for name in lacking)
        raise UserError(f'{path}: what is what cannot be told; give {flags}; there are: {has}')
    if bool(options.ends) == bool(options.episode_index):
        raise UserError(
            f'{path}: where trajectories end cannot be told; give one of --ends=NAME (1 at their '
            f'last rows), --ends=none (one trajectory), --episode_index=NAME; there are: {has}'
        )
    if not shapes.get(options.actions):
        raise UserError(f"{path}: has no '{options.actions}' of rows, which --actions names; {has}")
