"""Dataset files: found, fetched or refused, read and checked before any compute is spent."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.data import array_checks, layouts, mapped, npz, shards
from utils.data.npz import Header
from utils.environments import sparse
from utils.errors import UserError
from utils.system import memory
from utils.system.stopping import StopRequest

Arrays = dict[str, np.ndarray]


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


def read_parts(parts: Sequence[Path], path: Path, stop: StopRequest | None = None) -> Arrays:
    """Reads files as one set; their size is told before.

    Where many exceed the memory together, their arrays are memory maps (`mapped`).

    Args:
        parts: one file or more; see `read`.
        path: of that file, or of the folder of all.
        stop: asked while copies are made; None: nobody.

    Raises:
        StoppedError: `stop` said so.
        UserError: see `read` and `shards.join`.
    """
    headers = [_headers(part) for part in parts]
    sizes, besides = zip(*map(_num_bytes, headers), strict=True)
    needed = sum(sizes) + sum(besides)
    if len(parts) > 1:
        print(f'{path}: {len(parts)} files, {sum(sizes) / memory.GIB:.2f} GiB', flush=True)
        if needed > memory.available():
            npz.check_memory(path, max(sizes) + max(besides))
            own = dict(zip(parts, headers, strict=True))
            return mapped.ensure(parts, sum(sizes), lambda part: _read(part, own[part]), stop)
    npz.check_memory(path, needed)
    arrays = [_read(part, own) for part, own in zip(parts, headers, strict=True)]
    return arrays[0] if len(arrays) == 1 else shards.join(parts, arrays)


def _num_bytes(headers: dict[str, Header]) -> tuple[int, int]:
    """Returns the bytes that a file's arrays take, and what is needed besides to read them."""
    kept = {
        name: max(header.nbytes, 4 * math.prod(header.shape))
        if name in array_checks.KEPT_AS_FLOAT32
        else header.nbytes
        for name, header in headers.items()
    }
    following = kept.pop('next_observations', 0)
    size = sum(kept.values())
    # The largest may be there twice, while it is converted or joined; all are while final states
    # are put between their rows.
    return size, following + size if following else max(kept.values())


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


def load(
    path: Path,
    tasks: dict[str, object],
    parts: Sequence[Path] | None = None,
    stop: StopRequest | None = None,
) -> list[Arrays]:
    """Reads, checks and relabels a file for tasks of an environment; see the functions below.

    Args:
        path: of the file, or of the folder of its parts.
        tasks: environments by their names; None where there is none.
        parts: files that together are the set; None: the one file.
        stop: see `read_parts`.

    Returns:
        Arrays of every task, which share all but their rewards and masks.

    Raises:
        UserError: the file is missing, damaged, not of this environment, or of one task alone.
    """
    arrays = read_parts(parts or [path], path, stop)
    if 'rewards' in arrays and len(tasks) > 1:
        raise UserError(
            f"{path}: has 'rewards' of its own, which are those of one task; leave out --tasks"
        )
    for env_name, env in tasks.items():
        if env is not None:
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
                f'{space.shape[0]}; check the environment and the dataset'
            )


def relabel(arrays: Arrays, path: Path, env_name: str, env: object) -> Arrays:
    """Adds `rewards` and `masks` of the environment's task, unless the file has its own.

    As in OGBench's loader, the last row of a relabelled trajectory is no transition.

    Args:
        arrays: from `read`.
        path: named in errors.
        env_name: of the environment; it says whether rewards are sparse.
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
    if not sparse.is_singletask(env_name):
        raise UserError(
            f"{path}: keys 'rewards' and 'masks' are missing; they are derived for OGBench's "
            'environments alone; put them into the file'
        )
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
