"""robomimic's HDF5 files: data/demo_0, data/demo_1 and so on, a group per trajectory.

Its `dones` are 1 at a success, at the end of each demonstration or at both, by `--done_mode` of
robomimic's dataset_states_to_obs.py, of which the file says nothing.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.importers import hdf5, table
from utils.data.importers.options import Options, takes_successors
from utils.data.importers.table import Imported, Table
from utils.errors import UserError

USES = {'observations', 'actions', 'rewards', 'ends_by_reward', 'next_observations', 'filter'}


def read(path: Path, options: Options) -> Imported:
    """Reads a file.

    Args:
        path: of the .hdf5.
        options: `observations` and `ends_by_reward` are needed; `actions` and `rewards` are else
            those of the same name, `next_observations` those of `next_obs` if there are any;
            `filter` names a list of `mask`, such as train or valid.

    Raises:
        UserError: the file is damaged or not of this format, or a flag is needed.
    """
    with hdf5.opened(path) as file:
        demos = _demos(path, file, options.filter)
        lengths = [_length(path, demo) for demo in demos]
        held = [{*hdf5.columns(demo)} for demo in demos]
        keys = {name.removeprefix('obs/'): name for name in sorted(set.intersection(*held))}
        _check_told(path, keys, options)
        terminals = np.zeros(sum(lengths), bool)
        terminals[np.cumsum(lengths) - 1] = True
        every = Table(
            path, tuple(keys), lambda name: _read(path, demos, lengths, keys[name]), terminals
        )
        complete = options._replace(
            actions=options.actions or 'actions',
            rewards=options.rewards or 'rewards',
            next_observations=_following(path, held, options),
        )
        return Imported(table.assemble(every, complete), [path])


def _read(path: Path, demos: list[Any], lengths: list[int], key: str) -> np.ndarray:
    """Returns an array of all trajectories, one after the other."""
    parts = [hdf5.read(path, demo, key) for demo in demos]
    for demo, part, length in zip(demos, parts, lengths, strict=True):
        if part.shape != (length, *parts[0].shape[1:]):
            raise UserError(
                f"{path}: '{key}' of {demo.name} has shape {part.shape}; expected {length} rows of "
                f'{list(parts[0].shape[1:])}, as its actions and the others have'
            )
    return np.concatenate(parts)


def _following(path: Path, held: list[set[str]], options: Options) -> tuple[str, ...]:
    """Returns the keys of successors; none where no trajectory has any, or they are left out."""
    names = tuple(f'next_obs/{name}' for name in options.observations)
    has = [own.issuperset(names) for own in held]
    if not takes_successors(path, options) or not any(has):
        return ()
    if not all(has):
        raise UserError(
            f"{path}: {has.count(False)} of {len(has)} demonstrations have no 'next_obs'; leave "
            'those of the others out by --next_observations=none'
        )
    return names


def _demos(path: Path, file: Any, chosen: str) -> list[Any]:
    """Returns the groups of trajectories by their numbers, those of a list if one is named."""
    data = file.get('data')
    found = (
        {name for name in data if re.fullmatch(r'demo_\d+', name)} if data is not None else set()
    )
    if not found:
        raise UserError(f"{path}: has no groups data/demo_0, ..., which robomimic's format needs")
    if chosen:
        mask = file.get('mask')
        lists = list(mask) if mask is not None else []
        if chosen not in lists:
            raise UserError(
                f"--filter: {path} has no 'mask/{chosen}'; there are: {', '.join(lists) or '-'}"
            )
        listed = {_text(name) for name in mask[chosen][()]}
        if not listed:
            raise UserError(f"--filter: 'mask/{chosen}' of {path} is empty; name another")
        if lacking := sorted(listed - found):
            raise UserError(f"{path}: 'mask/{chosen}' names {lacking[0]}, which is not in 'data'")
        found = listed
    return [data[name] for name in sorted(found, key=lambda name: int(name.removeprefix('demo_')))]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _length(path: Path, demo: Any) -> int:
    """Returns the number of a trajectory's steps."""
    if 'actions' not in demo:
        raise UserError(f"{path}: {demo.name} has no 'actions'")
    rows = len(demo['actions'])
    told = int(demo.attrs.get('num_samples', rows))
    if told != rows or not rows:
        raise UserError(
            f"{path}: {demo.name} has {rows} actions, its 'num_samples' say {told}; expected as "
            'many, at least 1; make the file again'
        )
    return rows


def _check_told(path: Path, keys: dict[str, str], options: Options) -> None:
    if not options.observations:
        own = [name for name, key in keys.items() if key.startswith('obs/')]
        raise UserError(
            f'{path}: which observations, and in which order, cannot be told; give --observations='
            f'KEY,KEY, out of {", ".join(own)}'
        )
    if not options.ends_by_reward:
        raise UserError(
            f"{path}: 'dones' may be successes, ends of demonstrations or both (robomimic's "
            '--done_mode); give --ends_by_reward=dones if they are successes, --ends_by_reward='
            'rewards if a reward of 1 is one, or --ends_by_reward=none'
        )
    if not options.rewards and 'rewards' not in keys:
        raise UserError(
            f"{path}: has no 'rewards'; give --rewards=last (1 at the end of each "
            'demonstration) or --rewards=none'
        )
