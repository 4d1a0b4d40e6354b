"""Sparse rewards: -1 until a task is solved, then 0. An environment's name says if it has them.

OGBench rewards scenes, puzzles and several cubes by minus the number of unsolved sub-goals. The
released code of Q-chunking (arXiv 2507.07969) makes -1 of every such reward but 0 (its flag
--sparse). That is another problem, whose scores stand beside no others, so it has another name:
'scene-play-sparse-singletask-task1-v0' is 'scene-play-singletask-task1-v0' with sparse rewards, in
its data and when it is played. What ends an episode and what is a success stay OGBench's.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from utils.errors import UserError

MARK = 'sparse'
TASK_MARK = 'singletask'


class Name(NamedTuple):
    """What an environment's name says.

    Attributes:
        base: OGBench's own name of it.
        sparse: whether its rewards are sparse.
    """

    base: str
    sparse: bool


def is_singletask(env_name: str) -> bool:
    """Whether a name is that of a singletask environment of OGBench."""
    return TASK_MARK in env_name.split('-')


def parse(env_name: str) -> Name:
    """Takes a name apart; one that is no singletask environment's is its own base."""
    parts = env_name.split('-')
    place = parts.index(TASK_MARK) - 1 if is_singletask(env_name) else -1
    if place < 0 or parts[place] != MARK:
        return Name(env_name, False)
    return Name('-'.join(parts[:place] + parts[place + 1 :]), True)


def sparse_name(env_name: str) -> str:
    """Returns the name of an environment with sparse rewards; itself if it has them already."""
    if parse(env_name).sparse:
        return env_name
    return env_name.replace(f'-{TASK_MARK}', f'-{MARK}-{TASK_MARK}', 1)


def check_name(env_name: str) -> None:
    """Checks that sparse rewards are not asked for where the rewards are -1 and 0 anyway.

    Raises:
        UserError: they are: the name would be a second one of the same thing.
    """
    base, is_sparse = parse(env_name)
    if is_sparse and not _counts_subgoals(base):
        raise UserError(
            f"--env_name: '{env_name}': the rewards of {base} are -1 and 0 anyway; use that name, "
            'without --sparse'
        )


def _counts_subgoals(base: str) -> bool:
    """Whether rewards count sub-goals, which are buttons, the cubes, a drawer and a window."""
    family, kind = base.split('-')[:2]
    return family in ('scene', 'puzzle') or (family == 'cube' and kind != 'single')


def rewards(standard: np.ndarray) -> np.ndarray:
    """Returns the sparse rewards in place of OGBench's, of the same shape and type."""
    standard = np.asarray(standard)
    return np.where(standard == 0, 0, -1).astype(standard.dtype)


class SparseRewards(gymnasium.RewardWrapper):
    """Gives sparse rewards in place of OGBench's."""

    def reward(self, reward: Any) -> float:
        """Returns what the step is worth."""
        return float(rewards(reward))


def wrap(env: gymnasium.Env, env_name: str) -> gymnasium.Env:
    """Returns an environment with the rewards that its name says."""
    return SparseRewards(env) if parse(env_name).sparse else env
