"""Dataset files: found, fetched or refused, read and checked before any compute is spent."""

import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import filelock
import numpy as np

from utils.errors import UserError

DATASET_DIR = '~/.ogbench/data'
DATASET_URL = 'https://rail.eecs.berkeley.edu/datasets/ogbench'
FETCH_TIMEOUT = 30.0  # seconds without a byte
# Official actions are clipped to [-1, 1]; float32 rounding may leave them a hair outside.
ACTION_SLACK = 1e-5

Arrays = dict[str, np.ndarray]


def locate(name: str, dataset_dir: Path, url: str) -> tuple[Path, Path]:
    """Returns the paths of a dataset's training and validation file, fetching what is missing.

    Of several processes that miss the same file one fetches and the others wait. A file appears
    under its name only when it is whole.

    Args:
        name: e.g. 'cube-single-play-v0'.
        dataset_dir: folder to look in and to fetch to.
        url: where NAME.npz is fetched from.

    Raises:
        UserError: a file is missing and cannot be fetched.
    """
    paths = dataset_dir / f'{name}.npz', dataset_dir / f'{name}-val.npz'
    if not all(path.exists() for path in paths):
        try:
            dataset_dir.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(dataset_dir / f'.{name}.lock'):
                for path in paths:
                    if not path.exists():
                        _fetch(f'{url.rstrip("/")}/{path.name}', path)
        except (OSError, ValueError) as error:
            raise UserError(
                f'dataset {name}: not in {dataset_dir} and not fetched from {url} ({error}); '
                f'copy the files there, or make them: python scripts/generate_data.py '
                f'--dataset={name} --dataset_dir={dataset_dir}'
            ) from error
    return paths


def _fetch(url: str, path: Path) -> None:
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with (
            os.fdopen(handle, 'wb') as file,
            urllib.request.urlopen(url, timeout=FETCH_TIMEOUT) as response,
        ):
            shutil.copyfileobj(response, file)
            expected = response.headers.get('Content-Length')
            if expected is not None and file.tell() != int(expected):
                raise OSError(f'{path.name} broke off after {file.tell()} of {expected} bytes')
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def read(path: Path) -> Arrays:
    """Reads and checks a file in OGBench's format.

    Args:
        path: an .npz with `observations` and `actions` (float), `terminals` (true at the last row
            of each trajectory), and either `rewards` and `masks` or what OGBench derives them from
            (`qpos`, for some environments `button_states`). One row per step.

    Returns:
        The arrays, `observations`, `actions`, `rewards`, `masks` as float32, `terminals` as bool.

    Raises:
        UserError: the file is missing, damaged, or not in the format.
    """
    if not path.is_file():
        raise UserError(f'{path}: no such dataset file; check --dataset_path or --dataset_dir')
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = ('observations', 'actions', 'terminals', 'rewards', 'masks')
            wanted += ('qpos', 'button_states')
            arrays = {name: file[name] for name in wanted if name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, AttributeError) as error:
        raise UserError(
            f'{path}: not a whole .npz file of plain arrays ({error}); fetch or make it again'
        ) from error
    _check(path, arrays)
    for name in ('observations', 'actions', 'rewards', 'masks'):
        if name in arrays:
            arrays[name] = arrays[name].astype(np.float32, copy=False)
    arrays['terminals'] = arrays['terminals'].astype(bool)
    return arrays


def _check(path: Path, arrays: Arrays) -> None:
    for name in ('observations', 'actions', 'terminals'):
        if name not in arrays:
            raise UserError(f"{path}: key '{name}' is missing; OGBench's format needs it")
    if ('rewards' in arrays) != ('masks' in arrays):
        raise UserError(f"{path}: 'rewards' and 'masks' come together; one is missing")
    rows = len(arrays['observations']) if arrays['observations'].ndim else 0
    for name, array in arrays.items():
        dims = 2 if name in ('observations', 'actions', 'qpos', 'button_states') else 1
        if array.ndim != dims or len(array) != rows or rows == 0:
            raise UserError(
                f"{path}: '{name}' has shape {array.shape}; expected {dims} axes and as many rows "
                f"as 'observations' ({rows}, at least 1)"
            )
        kinds = 'f' if dims == 2 and name != 'button_states' else 'fbiu'
        if array.dtype.kind not in kinds:
            raise UserError(f"{path}: '{name}' has dtype {array.dtype}; expected floating point")
        if array.dtype.kind == 'f' and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise UserError(f"{path}: '{name}' is not finite in row {row}; repair or drop it")
    largest = float(np.abs(arrays['actions']).max(initial=0.0))
    if largest > 1.0 + ACTION_SLACK:
        raise UserError(
            f"{path}: 'actions' reach {largest:.4g}; expected [-1, 1]: rescale them to the "
            "environment's normalised range"
        )
    for name in ('terminals', 'masks'):
        if name in arrays and not np.isin(arrays[name], (0, 1)).all():
            raise UserError(f"{path}: '{name}' holds values other than 0 and 1")
    if not arrays['terminals'][-1]:
        raise UserError(f"{path}: the last row of 'terminals' must be 1, the end of a trajectory")


def load(path: Path, tasks: dict[str, object]) -> list[Arrays]:
    """Reads, checks and relabels a file for tasks of an environment; see the functions below.

    Args:
        path: of the file.
        tasks: environments by their names.

    Returns:
        Arrays of every task, which share all but their rewards and masks.

    Raises:
        UserError: the file is missing, damaged, not of this environment, or of one task alone.
    """
    arrays = read(path)
    if 'rewards' in arrays and len(tasks) > 1:
        raise UserError(
            f"{path}: has 'rewards' of its own, which are those of one task; leave out --tasks"
        )
    for env_name, env in tasks.items():
        check_spaces(arrays, path, env_name, env)
    return [relabel(arrays, path, env_name, env) for env_name, env in tasks.items()]


def check_spaces(arrays: Arrays, path: Path, env_name: str, env: object) -> None:
    """Checks that observations and actions are those of an environment.

    Raises:
        UserError: their sizes differ.
    """
    spaces = dict(observations=env.observation_space, actions=env.action_space)
    for name, space in spaces.items():
        if arrays[name].shape[1:] != space.shape:
            raise UserError(
                f"{path}: '{name}' have size {arrays[name].shape[1]}, {env_name} expects "
                f'{space.shape[0]}; check --env_name and the dataset'
            )


def relabel(arrays: Arrays, path: Path, env_name: str, env: object) -> Arrays:
    """Adds `rewards` and `masks` of the environment's task, unless the file has its own.

    As in OGBench's loader, the last row of a relabelled trajectory is no transition.

    Args:
        arrays: from `read`.
        path: named in errors.
        env_name: of the singletask environment.
        env: that environment.

    Raises:
        UserError: the file lacks what the rewards are derived from.
    """
    from ogbench.relabel_utils import relabel_dataset

    if 'rewards' in arrays:
        return arrays
    needs_buttons = 'scene' in env_name or 'puzzle' in env_name
    for name in ('qpos', 'button_states') if needs_buttons else ('qpos',):
        if name not in arrays:
            raise UserError(
                f"{path}: key '{name}' is missing; without 'rewards' and 'masks' of its own the "
                f'file needs it to derive the rewards of {env_name}'
            )
    labelled = dict(arrays)
    try:
        relabel_dataset(env_name, env, labelled)
    except (ValueError, IndexError) as error:
        raise UserError(f'{path}: its states are not those of {env_name} ({error})') from error
    labelled['masks'] = np.where(arrays['terminals'], np.float32(1.0), labelled['masks'])
    return labelled
