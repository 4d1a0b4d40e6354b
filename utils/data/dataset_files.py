"""Dataset files: found, fetched or refused, read and checked before any compute is spent."""

import contextlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from utils import files
from utils.data import array_checks, layouts, mapped, npz, shards
from utils.data.npz import Header
from utils.environments import sparse, wrappers
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.system import locks, memory

DATASET_DIR = '~/.ogbench/data'
DATASET_URL = 'https://rail.eecs.berkeley.edu/datasets/ogbench'
FETCH_TIMEOUT = 30.0  # seconds without a byte
Arrays = dict[str, np.ndarray]


def locate(
    name: str, dataset_dir: Path, url: str, noise: Noise = wrappers.NO_NOISE
) -> tuple[Path, Path]:
    """Returns the paths of a dataset's training and validation file, fetching what is missing.

    Where only the second is missing and cannot be had, a warning says so: training needs the first
    alone.

    Of several processes that miss the same file one fetches and the others wait. A file appears
    under its name only when it is whole. Data of a noisy environment is looked for in a folder of
    its own, as scripts/generate_data.py makes it, and is not to be had elsewhere.

    Args:
        name: e.g. 'cube-single-play-v0'.
        dataset_dir: folder to look in and to fetch to.
        url: where NAME.npz is fetched from.
        noise: of the environment.

    Raises:
        UserError: a file is missing and cannot be fetched, arrives damaged, or cannot be written.
    """
    folder = dataset_dir / noise.label
    paths = folder / f'{name}.npz', folder / f'{name}-val.npz'
    # Not Path.exists, which raises where a folder above may not be looked into.
    has_training, has_held_out = map(os.path.exists, paths)
    if has_training and has_held_out:
        return paths
    try:
        _complete(name, paths, dataset_dir, url, noise)
    except UserError as error:
        if not has_training:
            raise
        print(f'warning: there are no held-out data: {error}', file=sys.stderr)
    return paths


def _complete(
    name: str, paths: tuple[Path, Path], dataset_dir: Path, url: str, noise: Noise
) -> None:
    if any(noise):
        settings = ' '.join(f'--{name}={value:g}' for name, value in noise._asdict().items())
        raise UserError(
            f'dataset {name}: not in {paths[0].parent}; make it: python scripts/generate_data.py '
            f'--dataset={name} --dataset_dir={dataset_dir} {settings}; or give another with '
            '--dataset_path'
        )
    with lock(name, dataset_dir):
        for path in paths:
            if not path.exists():
                _fetch(name, f'{url.rstrip("/")}/{path.name}', path)


def lock(name: str, dataset_dir: Path) -> contextlib.AbstractContextManager:
    """Makes the folder, waits for whoever is at work on a dataset in it, and keeps others out.

    Returns:
        A context manager that lets others in when it ends, or when the process dies.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    try:
        dataset_dir.mkdir(parents=True, exist_ok=True)
        taken = locks.take(dataset_dir / f'.{name}.lock')
    except OSError as error:
        raise UserError(
            f'{dataset_dir}: {name} is not there and cannot be put there ({error}); choose '
            'another --dataset_dir'
        ) from error
    stack = contextlib.ExitStack()
    stack.callback(taken.release)
    return stack


def _fetch(name: str, url: str, path: Path) -> None:
    with files.writing(path) as file:
        for piece in _download(name, url, path.parent):
            file.write(piece)
        file.flush()
        npz.verify(Path(file.name), array_checks.AXES, f'{path.name}, as {url} sent it')


def _download(name: str, url: str, dataset_dir: Path) -> Iterator[bytes]:
    """Yields what is at a URL; its errors are those of the network, not those of writing."""
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT) as response:
            expected, got = response.headers.get('Content-Length'), 0
            while piece := response.read(npz.PIECE):
                got += len(piece)
                yield piece
            if expected is not None and got != int(expected):
                raise OSError(f'broke off after {got} of {expected} bytes')
    # What is no HTTP at all is no OSError.
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(
            f'dataset {name}: not in {dataset_dir} and not fetched from {url} '
            f'({error or type(error).__name__}); copy the files there, or make them: python '
            f'scripts/generate_data.py --dataset={name} --dataset_dir={dataset_dir}'
        ) from error


def read(path: Path) -> Arrays:
    """Reads and checks a file in OGBench's format.

    Args:
        path: an .npz with `observations` and `actions` (float), `terminals` (true at the last row
            of each trajectory), and either `rewards` and `masks` or what OGBench derives them from
            (`qpos`, for some environments `button_states`). One row per step. Layouts of other
            tools are understood (`layouts`).

    Returns:
        The arrays, `observations`, `actions`, `rewards`, `masks` as float32, `terminals` as bool,
        in OGBench's layout.

    Raises:
        UserError: the file is missing, damaged, not in the format, or too large for the memory.
    """
    return read_parts([path], path)


def read_parts(parts: Sequence[Path], path: Path) -> Arrays:
    """Reads files as one set; their size is told before.

    Where many exceed the memory together, their arrays are memory maps (`mapped`).

    Args:
        parts: one file or more; see `read`.
        path: of that file, or of the folder of all.

    Raises:
        UserError: see `read` and `shards.join`.
    """
    headers = [_headers(part) for part in parts]
    # Besides the arrays, the largest may be there twice, while it is converted or joined.
    sizes = [sum(header.nbytes for header in own.values()) for own in headers]
    largest = [max(header.nbytes for header in own.values()) for own in headers]
    needed = sum(sizes) + sum(largest)
    if len(parts) > 1:
        print(f'{path}: {len(parts)} files, {sum(sizes) / memory.GIB:.2f} GiB', flush=True)
        if needed > memory.available():
            npz.check_memory(path, max(sizes) + max(largest))
            own = dict(zip(parts, headers, strict=True))
            return mapped.ensure(parts, sum(sizes), lambda part: _read(part, own[part]))
    npz.check_memory(path, needed)
    arrays = [_read(part, own) for part, own in zip(parts, headers, strict=True)]
    return arrays[0] if len(arrays) == 1 else shards.join(parts, arrays)


def _headers(path: Path) -> dict[str, Header]:
    headers = npz.headers(path, array_checks.OWN_AXES)
    if 'rewards' not in headers:
        headers |= npz.headers(path, array_checks.STATE_AXES)
    array_checks.check_headers(path, headers)
    return headers


def _read(path: Path, headers: dict[str, Header]) -> Arrays:
    return _checked(path, {name: npz.read(path, header) for name, header in headers.items()})


def check(path: Path, arrays: Arrays) -> Arrays:
    """Checks arrays in memory as `read` checks those of a file.

    Args:
        path: where they came from, named in errors.
        arrays: as `read` takes them.

    Returns:
        What `read` would return.

    Raises:
        UserError: see `read`.
    """
    headers = {
        name: Header(name, array.shape, array.dtype, False, 0) for name, array in arrays.items()
    }
    array_checks.check_headers(path, headers)
    return _checked(path, dict(arrays))


def _checked(path: Path, arrays: Arrays) -> Arrays:
    """Converts and checks what the arrays hold; takes `arrays` over."""
    for name in set(array_checks.KEPT_AS_FLOAT32).intersection(arrays):
        with np.errstate(over='ignore'):  # what overflows is no longer finite, and is told
            arrays[name] = arrays[name].astype(np.float32, copy=False)
    array_checks.check_values(path, arrays)
    return layouts.to_ogbench(path, arrays)


def load(path: Path, tasks: dict[str, object], parts: Sequence[Path] | None = None) -> list[Arrays]:
    """Reads, checks and relabels a file for tasks of an environment; see the functions below.

    Args:
        path: of the file, or of the folder of its parts.
        tasks: environments by their names.
        parts: files that together are the set; None: the one file.

    Returns:
        Arrays of every task, which share all but their rewards and masks.

    Raises:
        UserError: the file is missing, damaged, not of this environment, or of one task alone.
    """
    arrays = read_parts(parts or [path], path)
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
        env_name: of the singletask environment; it says whether rewards are sparse.
        env: that environment.

    Raises:
        UserError: the file lacks what the rewards are derived from, or its own are not as the name
            says.
    """
    from ogbench.relabel_utils import relabel_dataset

    base, is_sparse = sparse.parse(env_name)
    if 'rewards' in arrays:
        if is_sparse and not np.isin(arrays['rewards'], (-1, 0)).all():
            raise UserError(
                f"{path}: has 'rewards' of its own other than -1 and 0, which are those of "
                f'{env_name}; use a name that is not sparse'
            )
        return arrays
    needs_buttons = 'scene' in env_name or 'puzzle' in env_name
    for name in ('qpos', 'button_states') if needs_buttons else ('qpos',):
        if name not in arrays:
            raise UserError(
                f"{path}: key '{name}' is missing; without 'rewards' and 'masks' of its own the "
                f'file needs it to derive the rewards of {env_name}'
            )
    # OGBench compares by broadcasting: of other sizes some would pass, with wrong rewards.
    sizes = dict(qpos=env.unwrapped.model.nq)
    if needs_buttons:
        sizes['button_states'] = env.unwrapped._num_buttons
    for name, size in sizes.items():
        if arrays[name].shape[1] != size:
            raise UserError(
                f"{path}: '{name}' has {arrays[name].shape[1]} columns, the states of {env_name} "
                f'have {size}; check --env_name and the dataset'
            )
    labelled = dict(arrays)
    with np.errstate(over='ignore'):  # of distances; what is that far away is no success
        relabel_dataset(base, env, labelled)
    if is_sparse:
        labelled['rewards'] = sparse.rewards(labelled['rewards'])
    labelled['masks'] = np.where(arrays['terminals'], np.float32(1.0), labelled['masks'])
    return labelled
