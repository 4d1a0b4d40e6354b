"""OGBench singletask environments: made, seeded, and played many at a time."""

import contextlib
import multiprocessing
import os
import re
import warnings
from multiprocessing.connection import Connection
from typing import NamedTuple

import gymnasium
import numpy as np

from utils.errors import UserError, did_you_mean

# Start states are drawn from this stream, whatever the agent and its seed.
EPISODE_STREAM = 20251009


def make_env(env_name: str) -> gymnasium.Env:
    """Makes a state-based OGBench singletask environment.

    Args:
        env_name: e.g. 'cube-single-play-singletask-task1-v0'.

    Raises:
        UserError: no such environment.
    """
    # Nothing here draws pictures; without this, MuJoCo looks for a display.
    os.environ.setdefault('MUJOCO_GL', 'disable')
    warnings.filterwarnings('ignore', message='.*precision lowered by casting.*')
    import ogbench

    parts = env_name.split('-')
    if 'singletask' not in parts:
        raise UserError(
            f"--env_name: '{env_name}' is not an OGBench singletask environment, such as "
            'cube-single-play-singletask-task1-v0'
        )
    position = parts.index('singletask')
    env_id = '-'.join(parts[: position - 1] + parts[position:])
    known = [name for name in gymnasium.registry if 'singletask' in name]
    if position < 2 or env_id not in known or 'visual' in parts:
        typed = '-'.join(parts[: position - 1] + parts[position:])
        hint = did_you_mean(typed, [name for name in known if 'visual' not in name])
        raise UserError(
            f"--env_name: OGBench has no state-based environment '{env_name}' "
            f"(its id without the dataset's type is '{typed}').{hint}"
        )
    return ogbench.make_env_and_datasets(env_name, env_only=True)


def task_names(env_name: str, tasks: list[int]) -> list[str]:
    """Returns the environments of tasks: 'cube-single-play-singletask-task2-v0' for task 2."""
    pattern = r'-singletask(-task\d+)?-'
    return [re.sub(pattern, f'-singletask-task{task}-', env_name) for task in tasks]


def dataset_name(env_name: str) -> str:
    """Returns the dataset shared by the tasks of an environment: 'cube-single-play-v0'."""
    parts = env_name.split('-')
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
    """Starts episode number `episode`, the same one on every call; returns its observation."""
    env_seed = seed_everything(np.random.SeedSequence((EPISODE_STREAM, episode)))
    env.action_space.seed(env_seed)
    observation, _ = env.reset(seed=env_seed)
    return observation


class Played(NamedTuple):
    """What a vector of environments did with one chunk of actions each.

    Attributes:
        observations: (n, observation_dim) float32 after the chunk, or at the episode's end.
        rewards: (n,) undiscounted reward sum of the steps taken.
        steps: (n,) number of steps taken; 0 for an episode that had ended before.
        done: (n,) whether the episode has ended.
        success: (n,) whether its last step was a success.
    """

    observations: np.ndarray
    rewards: np.ndarray
    steps: np.ndarray
    done: np.ndarray
    success: np.ndarray


class _Player:
    """One environment in the middle of an episode."""

    def __init__(self, env: gymnasium.Env):
        self._env = env
        self._observation = None
        self._done = self._success = False

    def reset(self, episode: int) -> np.ndarray:
        """Starts an episode; a negative number leaves the environment idle."""
        self._observation = reset(self._env, max(episode, 0)).astype(np.float32)
        self._done, self._success = episode < 0, False
        return self._observation

    def play(self, actions: np.ndarray) -> tuple:
        """Plays up to (h, action_dim) actions; returns the fields of `Played`."""
        rewards, steps = 0.0, 0
        for action in actions:
            if self._done:
                break
            observation, reward, terminated, truncated, info = self._env.step(action)
            rewards += reward
            steps += 1
            self._observation = observation.astype(np.float32)
            self._done = bool(terminated or truncated)
            self._success = bool(info['success'])
        return self._observation, rewards, steps, self._done, self._success


def _serve(connection: Connection, env: gymnasium.Env) -> None:
    player = _Player(env)
    while True:
        try:
            command, argument = connection.recv()
        except EOFError:
            return  # the parent closed its end, or is gone
        connection.send(player.reset(argument) if command == 'reset' else player.play(argument))


def _fork_servers(connections: list[Connection], env_name: str) -> None:
    """Builds the environment once and forks a server for each connection.

    A manipulation environment takes seconds and 170 MB to build, nearly all of it meshes that never
    change; forked servers share them and start at once. This process runs no threads, so forking is
    safe here; in the parent, which runs JAX, it is not.
    """
    env = make_env(env_name)
    reset(env, 0)
    context = multiprocessing.get_context('fork')
    servers = []
    for connection in connections:
        process = context.Process(target=_serve_one, args=(connections, connection, env))
        process.start()
        servers.append(process)
    # Only the servers hold their ends now, so that the death of one is noticed.
    for connection in connections:
        connection.close()
    for process in servers:
        process.join()


def _serve_one(connections: list[Connection], mine: Connection, env: gymnasium.Env) -> None:
    for connection in connections:
        if connection is not mine:
            connection.close()
    _serve(mine, env)


class VectorEnv:
    """`num_envs` environments, a process each; use as a context manager.

    Messages are exchanged once per chunk of actions. The environments are built in the background:
    only the first `reset` waits for them.
    """

    def __init__(self, env_name: str, num_envs: int):
        self.num_envs = num_envs
        self._env_name = env_name
        self._connections: list[Connection] = []
        self._process = None

    def __enter__(self) -> 'VectorEnv':
        context = multiprocessing.get_context('spawn')
        pipes = [context.Pipe() for _ in range(self.num_envs)]
        self._connections = [ours for ours, _ in pipes]
        theirs = [theirs for _, theirs in pipes]
        self._process = context.Process(target=_fork_servers, args=(theirs, self._env_name))
        with _environment_variable('OPENBLAS_NUM_THREADS', '1'):
            self._process.start()
        for connection in theirs:
            connection.close()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()
        self._process.join()

    def reset(self, episodes: np.ndarray) -> np.ndarray:
        """Starts the episodes with these numbers, (num_envs,) int; returns their observations."""
        return np.stack(self._exchange('reset', [int(episode) for episode in episodes]))

    def play(self, actions: np.ndarray) -> Played:
        """Plays (num_envs, h, action_dim) chunks; an environment that is done stands still."""
        parts = self._exchange('play', list(actions))
        return Played(*(np.stack(fields) for fields in zip(*parts, strict=True)))

    def _exchange(self, command: str, arguments: list) -> list:
        try:
            for connection, argument in zip(self._connections, arguments, strict=True):
                connection.send((command, argument))
            return [connection.recv() for connection in self._connections]
        except (EOFError, OSError) as error:
            raise UserError(
                'an evaluation process died; what it said is above. If memory ran out, lower '
                '--eval_episodes'
            ) from error


@contextlib.contextmanager
def _environment_variable(name: str, value: str):
    """Sets a variable for processes started within, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
