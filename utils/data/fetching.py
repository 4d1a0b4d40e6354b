"""Where OGBench's datasets are: in a folder, or fetched into it, whole or not at all."""

import contextlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from utils import files
from utils.data import array_checks, npz
from utils.environments import wrappers
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.system import locks
from utils.system.stopping import StoppedError, StopRequest

DATASET_DIR = '~/.ogbench/data'
DATASET_URL = 'https://rail.eecs.berkeley.edu/datasets/ogbench'
FETCH_TIMEOUT = 30.0  # seconds without a byte
# In .NAME.shards of a generated set: from its merge on, until both of its files are there.
MERGING = 'merging'


def locate(
    name: str,
    dataset_dir: Path,
    url: str,
    noise: Noise = wrappers.NO_NOISE,
    stop: StopRequest | None = None,
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
        stop: asked while another process is waited for, and while data arrive; None: nobody.

    Raises:
        StoppedError: `stop` said so.
        UserError: a file is missing and cannot be fetched, arrives damaged, or cannot be written.
    """
    folder = dataset_dir / noise.label
    paths = folder / f'{name}.npz', folder / f'{name}-val.npz'
    # Not Path.exists, which raises where a folder above may not be looked into.
    has_training, has_held_out = map(os.path.exists, paths)
    if has_training and has_held_out:
        return paths
    try:
        _complete(name, paths, dataset_dir, url, noise, stop or StopRequest())
    except UserError as error:
        if not has_training:
            raise
        print(f'warning: there are no held-out data: {error}', file=sys.stderr)
    return paths


def _complete(
    name: str,
    paths: tuple[Path, Path],
    dataset_dir: Path,
    url: str,
    noise: Noise,
    stop: StopRequest,
) -> None:
    if any(noise):
        settings = ' '.join(f'--{name}={value:g}' for name, value in noise._asdict().items())
        raise UserError(
            f'dataset {name}: not in {paths[0].parent}; give it with --dataset_path, or, if '
            f'scripts/generate_data.py knows it, make it: {_generator(name, dataset_dir)} '
            f'{settings}'
        )
    with lock(name, dataset_dir, stop):
        if (dataset_dir / f'.{name}.shards' / MERGING).exists():
            raise UserError(
                f'{dataset_dir}: {name} is being made and has one file of two; go on: '
                f'{_generator(name, dataset_dir)}'
            )
        for path in paths:
            if not path.exists():
                _fetch(name, f'{url.rstrip("/")}/{path.name}', path, stop)


def _generator(name: str, dataset_dir: Path) -> str:
    return f'python scripts/generate_data.py --dataset={name} --dataset_dir={dataset_dir}'


def lock(name: str, dataset_dir: Path, stop: StopRequest) -> contextlib.AbstractContextManager:
    """Makes the folder, waits for whoever is at work on a dataset in it, and keeps others out.

    Returns:
        A context manager that lets others in when it ends, or when the process dies.

    Raises:
        StoppedError: `stop` said so meanwhile.
        UserError: the folder cannot be made or written to.
    """
    stack = contextlib.ExitStack()
    try:
        dataset_dir.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locks.hold_in_turn(dataset_dir / f'.{name}.lock', stop))
    except (OSError, UserError) as error:
        raise UserError(
            f'{dataset_dir}: {name} is not there and cannot be put there '
            f'({error.__cause__ or error}); choose another --dataset_dir'
        ) from error
    return stack


def _fetch(name: str, url: str, path: Path, stop: StopRequest) -> None:
    with files.writing(path) as file:
        for piece in _download(name, url, path.parent):
            if stop():
                raise StoppedError
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
            f'({error or type(error).__name__}); copy the files there, or, if '
            f'scripts/generate_data.py knows them, make them: {_generator(name, dataset_dir)}'
        ) from error
