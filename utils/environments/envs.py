"""Environments made and seeded; OGBench's singletask environments by their names."""

import os
import re
import warnings
from collections.abc import Iterable

import gymnasium
import numpy as np

from utils.environments import gym_envs, sparse, wrappers
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import NONE, Environment
from utils.environments.wrappers import Noise
from utils.errors import UserError, did_you_mean
from utils.system import stopping

# Start states are drawn from this stream, whatever the agent and its seed.
EPISODE_STREAM = 20251009
# Of datasets, by their family; the others were recorded in 'play' and 'noisy'.
DATASET_TYPES = dict.fromkeys(
    ('pointmaze', 'antmaze', 'humanoidmaze', 'antsoccer'), ('navigate', 'stitch')
)
DATASET_TYPES['antmaze'] += ('explore',)
UNUSABLE = {
    'humanoidmaze-teleport': "OGBench's model of it lacks the material of its teleporters",
    'powderworld': 'its observations are pictures and its actions are discrete',
    'visual': 'its observations are pictures',
}


def make_env(
    environment: Environment,
    noise: Noise = wrappers.NO_NOISE,
    draws: bool = False,
    action_map: ActionMap | None = None,
) -> gymnasium.Env:
    """Makes a state-based OGBench singletask environment, or any other that is described.

    Args:
        environment: e.g. 'cube-single-play-singletask-task1-v0'; for sparse rewards see `sparse`,
            for others than OGBench's `gym_envs`.
        noise: makes a stochastic variant of it.
        draws: whether it is to draw pictures, by the OpenGL that MUJOCO_GL names.
        action_map: from actions of the agent to its own; None: they are the same.

    Raises:
        UserError: no such environment.
    """
    if not draws:  # else MuJoCo looks for a display, or for an OpenGL that is not there
        os.environ['MUJOCO_GL'] = 'disable'
    warnings.filterwarnings('ignore', message='.*precision lowered by casting.*')
    own = isinstance(environment, str)
    env = _make_ogbench(environment) if own else gym_envs.make(environment, draws)
    return wrappers.wrap(env, noise, action_map)


def _make_ogbench(env_name: str) -> gymnasium.Env:
    if env_name == NONE:
        raise UserError('--env_name: none is no environment to play in; name one')
    with stopping.deaf_children():  # it asks a process of its own for a window library
        import ogbench

    base = sparse.parse(env_name).base
    reason, pictures = why_unusable(base), base.startswith('visual')
    if reason and not pictures:  # of those with pictures there is one without
        raise UserError(
            f"--env_name: '{env_name}' is not supported: {reason}; choose another environment"
        )
    parts = base.split('-')
    if not sparse.is_singletask(base):
        raise UserError(
            f"--env_name: '{env_name}' is not an OGBench singletask environment, such as "
            'cube-single-play-singletask-task1-v0; name one of Gymnasium by --env_id'
        )
    position = parts.index('singletask')
    env_id = '-'.join(parts[: position - 1] + parts[position:])
    known = singletask_ids()
    if position < 2 or env_id not in known or pictures:
        why = reason or f"its id without the dataset's type is '{env_id}'"
        hint = did_you_mean(base.removeprefix('visual-'), _full_names(known))
        raise UserError(
            f"--env_name: OGBench has no state-based environment '{env_name}' ({why}).{hint}"
        )
    sparse.check_name(env_name)
    return sparse.wrap(ogbench.make_env_and_datasets(base, env_only=True), env_name)


def singletask_ids() -> list[str]:
    """Returns Gymnasium's ids of all singletask environments, after OGBench was imported."""
    return [name for name in gymnasium.registry if sparse.is_singletask(name)]


def why_unusable(env_id: str) -> str:
    """Returns why an environment of OGBench is not supported, or ''."""
    return next((why for name, why in UNUSABLE.items() if env_id.startswith(name)), '')


def dataset_types(env_id: str) -> tuple[str, ...]:
    """Returns how the datasets of an environment of OGBench were recorded."""
    return DATASET_TYPES.get(env_id.split('-')[0], ('play', 'noisy'))


def _full_names(env_ids: Iterable[str]) -> list[str]:
    """Returns names that `make_env` takes, from ids of singletask environments in Gymnasium."""
    return [
        env_id.replace('-singletask', f'-{kind}-singletask')
        for env_id in env_ids
        if not why_unusable(env_id)
        for kind in dataset_types(env_id)
    ]


def task_names(env_name: str, tasks: list[int]) -> list[str]:
    """Returns the environments of tasks: 'cube-single-play-singletask-task2-v0' for task 2."""
    pattern = r'-singletask(-task\d+)?-'
    return [re.sub(pattern, f'-singletask-task{task}-', env_name) for task in tasks]


def dataset_name(env_name: str) -> str:
    """Returns the dataset shared by the tasks of an environment: 'cube-single-play-v0'.

    Sparse rewards are computed from the same file. '' for others than OGBench's, which have none.
    """
    if not sparse.is_singletask(env_name):
        return ''
    parts = sparse.parse(env_name).base.split('-')
    return '-'.join([*parts[: parts.index('singletask')], parts[-1]])


def seed_everything(seeds: np.random.SeedSequence) -> int:
    """Seeds the global NumPy generator and returns a seed for the environment's own.

    OGBench's plan oracles and mazes draw from the global generator, its manipulation environments
    from their own; an episode is repeatable only when both are set.
    """
    global_seed, env_seed = (int(word) for word in seeds.generate_state(2))
    np.random.seed(global_seed)
    return env_seed


def reset(env: gymnasium.Env, episode: int) -> np.ndarray:
    """Starts episode number `episode`, noise included, the same one on every call.

    Returns:
        Its first observation.
    """
    env_seed = seed_everything(np.random.SeedSequence((EPISODE_STREAM, episode)))
    env.action_space.seed(env_seed)
    observation, _ = env.reset(seed=env_seed)
    return observation
