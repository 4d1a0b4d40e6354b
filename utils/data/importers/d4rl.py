"""D4RL's HDF5 files: one array per key, trajectories end to end.

`terminals` are ends by reward, `timeouts` ends by time (d4rl.qlearning_dataset).
"""

from pathlib import Path
from typing import Any

import numpy as np

from utils.data.importers import columns, hdf5, table
from utils.data.importers.options import NONE, Options
from utils.data.importers.table import Imported, Table
from utils.errors import UserError

USES = {'rewards', 'ends_by_reward', 'next_observations', 'episode_steps'}
NEEDED = ('observations', 'actions', 'terminals')


def read(path: Path, options: Options) -> Imported:
    """Reads a file; its last row ends a trajectory, by time if the file says nothing of it.

    Args:
        path: of the .hdf5.
        options: may name other `rewards`, `ends_by_reward` and `next_observations`, and leave the
            last out; `episode_steps` is needed where the file has no `timeouts`.

    Raises:
        UserError: the file is damaged or not of this format, or a flag is needed.
    """
    with hdf5.opened(path) as file:
        names = hdf5.columns(file)
        for name in NEEDED:
            if name not in names:
                raise UserError(f"{path}: has no '{name}', which D4RL's format needs")
        every = Table(
            path,
            names,
            lambda name: hdf5.read(path, file, name),
            _ends(path, file, 'timeouts' in names, options),
        )
        own = ('next_observations',) if 'next_observations' in names else ()
        following = options.next_observations or own
        complete = options._replace(
            observations=('observations',),
            actions='actions',
            rewards=options.rewards or 'rewards',
            ends_by_reward=options.ends_by_reward or 'terminals',
            next_observations=() if following == (NONE,) else following,
        )
        return Imported(table.assemble(every, complete), [path])


def _ends(path: Path, file: Any, has_timeouts: bool, options: Options) -> np.ndarray:
    """Returns (rows,) bool, true at the last row of each trajectory."""
    terminals = columns.truths(path, 'terminals', hdf5.read(path, file, 'terminals'))
    if not len(terminals):
        raise UserError(f"{path}: 'terminals' is empty; expected a row per step")
    if has_timeouts:
        if options.episode_steps is not None:
            raise UserError(f"--episode_steps: {path} has 'timeouts', which tell it; leave it out")
        timeouts = columns.truths(path, 'timeouts', hdf5.read(path, file, 'timeouts'))
        if len(timeouts) != len(terminals):
            raise UserError(
                f"{path}: 'timeouts' has {len(timeouts)} rows, 'terminals' {len(terminals)}; "
                'expected as many'
            )
        ends = terminals | timeouts
    elif options.episode_steps is None:
        raise UserError(
            f"{path}: has no 'timeouts', so ends by time cannot be told; give the environment's "
            'limit, e.g. --episode_steps=1000, or --episode_steps=0 if it has none'
        )
    else:
        ends = terminals | _ends_by_time(terminals, options.episode_steps)
    ends[-1] = True
    return ends


def _ends_by_time(terminals: np.ndarray, steps: int) -> np.ndarray:
    """Returns where an episode has had so many steps since it began, or since its last cut."""
    rows = np.arange(len(terminals))
    begins = np.concatenate([[True], terminals[:-1]])
    age = rows - np.maximum.accumulate(np.where(begins, rows, 0))
    return (age + 1) % steps == 0 if steps else np.zeros(len(terminals), bool)
