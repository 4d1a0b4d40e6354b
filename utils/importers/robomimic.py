"""robomimic's HDF5 files: data/demo_0, data/demo_1 and so on, a group per trajectory.

Its `dones` are 1 at a success, at the end of each demonstration or at both, by `--done_mode` of
robomimic's dataset_states_to_obs.py, of which the file says nothing.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.importers import hdf5, table
from utils.importers.options import NONE, Options
from utils.importers.table import Imported, Table

USES = {'observations', 'actions', 'rewards', 'ends_by_reward', 'next_observations', 'filter'}


def read(path: Path, options: Options) -> Imported:
    """Reads a file.

    Args:
        path: of the .hdf5.
        options: `observations` and `ends_by_reward` are needed; `actions` and `rewards` are else
            those of the same name, `next_observations` those of `next_obs` where every trajectory
            has them; `filter` names a list of `mask`, such as train or valid.

    Raises:
        UserError: the file is damaged or not of this format, or a flag is needed.
    """
    with hdf5.opened(path) as file:
        demos = _demos(path, file, options.filter)
        lengths = [_length(path, demo) for demo in demos]
        shared = set.intersection(*({*hdf5.columns(demo)} for demo in demos))
        names = sorted(name.removeprefix('obs/') for name in shared)
        _check_told(path, names, shared, options)

        def read_all(name: str) -> np.ndarray:
            key = f'obs/{name}' if f'obs/{name}' in shared else name
            parts = [hdf5.read(path, demo, key) for demo in demos]
            for demo, part, length in zip(demos, parts, lengths, strict=True):
                if part.shape != (length, *parts[0].shape[1:]):
                    raise UserError(
                        f"{path}: '{key}' of {demo.name} has shape {part.shape}; expected {length} "
                        f'rows of {list(parts[0].shape[1:])}, as its actions and the others have'
                    )
            return np.concatenate(parts)

        terminals = np.zeros(sum(lengths), bool)
        terminals[np.cumsum(lengths) - 1] = True
        following = tuple(f'next_obs/{name}' for name in options.observations)
        left_out = options.next_observations == (NONE,) or not shared.issuperset(following)
        complete = options._replace(
            actions=options.actions or 'actions',
            rewards=options.rewards or 'rewards',
            next_observations=() if left_out else following,
        )
        return Imported(table.assemble(Table(path, names, read_all, terminals), complete), [path])


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


def _check_told(path: Path, names: list[str], shared: set[str], options: Options) -> None:
    if not options.observations:
        own = sorted(name.removeprefix('obs/') for name in shared if name.startswith('obs/'))
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
    if not options.rewards and 'rewards' not in names:
        raise UserError(
            f"{path}: has no 'rewards'; give --rewards=last (1 at the end of each "
            'demonstration) or --rewards=none'
        )
