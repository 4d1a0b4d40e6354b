"""Which format a file or folder is of, by what is in it."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from utils.data.importers import arrays, d4rl, hdf5, lerobot, minari, robomimic
from utils.data.importers.options import Options
from utils.data.importers.table import Imported
from utils.errors import UserError

HDF5, ZIP, NPY, PARQUET = b'\x89HDF', b'PK', b'\x93NUMPY', b'PAR1'
SHOWN = dict(
    arrays='a folder of .npy files',
    hdf5="HDF5, as D4RL's and robomimic's",
    lerobot='a LeRobot dataset',
    minari='a Minari dataset',
)


class Format(NamedTuple):
    """A format that can be read.

    Attributes:
        read: from a path and options to arrays.
        uses: names of the options that it reads.
        libraries: packages that read it.
    """

    read: Callable[[Path, Options], Imported]
    uses: set[str]
    libraries: tuple[str, ...] = ()


FORMATS = dict(
    arrays=Format(arrays.read, arrays.USES),
    d4rl=Format(d4rl.read, d4rl.USES, ('h5py',)),
    lerobot=Format(lerobot.read, lerobot.USES, ('pyarrow',)),
    minari=Format(minari.read, minari.USES, ('minari',)),
    robomimic=Format(robomimic.read, robomimic.USES, ('h5py',)),
)


def detect(path: Path) -> str:
    """Returns the name of a format.

    Raises:
        UserError: it is none that can be read, or cannot be told.
    """
    if path.is_dir():
        return _of_folder(path)
    beginning = _beginning(path)
    if beginning.startswith(HDF5):
        return _of_hdf5(path)
    if beginning.startswith(ZIP):
        return 'arrays'
    if beginning.startswith(NPY):
        raise UserError(f'{path}: is one array; put all .npy files into a folder and give that')
    if beginning.startswith(PARQUET):
        raise UserError(f"{path}: is a part; give LeRobot's folder, with meta/info.json")
    raise UserError(
        f'{path}: neither HDF5 nor .npz, nor a folder of Minari, LeRobot or .npy files; if it is '
        f'one that is damaged, fetch it again; else say --format={"|".join(FORMATS)}'
    )


def folder_format(path: Path) -> str:
    """Returns the name of a folder's format; '' if it is none."""
    if (path / lerobot.INFO).is_file():
        return 'lerobot'
    if any((path / part / minari.METADATA).is_file() for part in ('data', '')):
        return 'minari'
    # Shards of ours may have pools beside them, which are .npy.
    return 'arrays' if any(path.glob('*.npy')) and not any(path.glob('*.npz')) else ''


def check_ours(path: Path) -> None:
    """Checks that data to train on are not another tool's.

    Raises:
        UserError: they are.
    """
    found = folder_format(path) if path.is_dir() else ''
    if path.is_file() and _beginning(path).startswith(HDF5):
        found = 'hdf5'
    if found:
        out = path.with_name(f'{path.stem}.npz')
        source, target = (shlex.quote(str(name)) for name in (path, out))
        raise UserError(
            f'--dataset_path: {path} is {SHOWN[found]}; turn it into an .npz: python '
            f'scripts/import_data.py --in={source} --out={target}, which asks for what it needs'
        )


def _beginning(path: Path) -> bytes:
    try:
        with path.open('rb') as file:
            return file.read(16)
    except OSError as error:
        raise UserError(
            f'{path}: cannot be read ({error.strerror}); check its permissions'
        ) from error


def _of_folder(path: Path) -> str:
    if name := folder_format(path):
        return name
    raise UserError(
        f'{path}: a folder without meta/info.json (LeRobot), data/metadata.json (Minari) or .npy '
        'files; give the one that has them'
    )


def _of_hdf5(path: Path) -> str:
    with hdf5.opened(path) as file:
        names = set(file)
        groups = {name for name in names if hdf5.is_group(file[name])}
        if 'data' in groups and any(name.startswith('demo_') for name in file['data']):
            return 'robomimic'
    if {'observations', 'actions'} <= names:
        return 'd4rl'
    if any(name.startswith('episode_') for name in names):
        raise UserError(f"{path}: is a part; give Minari's folder, with data/metadata.json")
    raise UserError(
        f"{path}: HDF5 with {', '.join(sorted(names)) or 'nothing'}; expected D4RL's "
        "'observations' and 'actions', or robomimic's 'data/demo_0'; rename them, or "
        'save the arrays as .npz'
    )
