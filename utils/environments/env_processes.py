"""Environments played many at a time, a process each."""

import contextlib
import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import NamedTuple

import gymnasium
import numpy as np

from utils.environments import wrappers
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import Environment
from utils.environments.envs import make_env, reset
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.system import spawning, stopping


class Played(NamedTuple):
    """What environments report after a command, one entry per environment.

    Attributes:
        observations: (n, observation_dim) float32 after the chunk, or at a start or end.
        rewards: (n,) undiscounted reward sum of the steps taken.
        step_rewards: (n, most steps) reward of each step taken; 0 after an environment's last one.
        steps: (n,) int, number of steps taken; 0 after a start.
        done: (n,) bool, whether the episode has ended.
        success: (n,) bool, whether its last step was a success.
        cut: (n,) bool, whether a limit of time alone has ended the episode.
    """

    observations: np.ndarray
    rewards: np.ndarray
    step_rewards: np.ndarray
    steps: np.ndarray
    done: np.ndarray
    success: np.ndarray
    cut: np.ndarray


# Commands and reports are arrays sent as bytes: pickling one takes longer than sending it, and with
# chunks of one action there is a message for every step. A command's first byte tells what it is.
_START, _PLAY = b's', b'p'


def _serve(connection: Connection, env: gymnasium.Env) -> None:
    """Obeys commands until the parent closes its end, or is gone."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            command = connection.recv_bytes()
            kind, content = command[:1], command[1:]
            if kind == _START:
                report = start(env, int.from_bytes(content, 'little'))
            else:
                # Copied, since the buffer is read-only and an environment may clip in place.
                actions = np.frombuffer(content, np.float32).copy()
                report = play(env, actions.reshape(-1, *env.action_space.shape))
            connection.send_bytes(report.tobytes())


def start(env: gymnasium.Env, episode: int) -> np.ndarray:
    """Starts the episode with this number and returns a report."""
    return _report(reset(env, episode), [], False, False, False)


def play(env: gymnasium.Env, actions: np.ndarray) -> np.ndarray:
    """Plays (h, action_dim) actions, or as many as there are until the episode ends; reports."""
    rewards = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        done = terminated or truncated
        if done:
            break
    cut = truncated and not terminated
    return _report(observation, rewards, done, info['success'], cut)


def _report(
    observation: np.ndarray, rewards: list[float], done: bool, success: bool, cut: bool
) -> np.ndarray:
    """One float64 vector, which holds each of these exactly; `read` takes it apart."""
    numbers = [len(rewards), done, success, cut, *rewards, *observation.astype(np.float32)]
    return np.array(numbers, np.float64)


def read(reports: list[bytes]) -> Played:
    """Returns what reports say, an entry per report."""
    vectors = [np.frombuffer(report, np.float64) for report in reports]
    steps, *flags = np.stack([vector[:4] for vector in vectors]).T
    steps = steps.astype(np.int64)
    own = [vector[4 : 4 + num] for vector, num in zip(vectors, steps, strict=True)]
    step_rewards = np.zeros((len(own), steps.max()))
    for row, taken in zip(step_rewards, own, strict=True):
        row[: len(taken)] = taken
    rewards = np.zeros(len(own))
    for column in step_rewards.T:  # one after the other, as they were given
        rewards += column
    observations = [vector[4 + num :] for vector, num in zip(vectors, steps, strict=True)]
    return Played(
        np.stack(observations).astype(np.float32),
        rewards,
        step_rewards,
        steps,
        *(flag.astype(bool) for flag in flags),
    )


def _fork_servers(
    connections: list[Connection],
    environment: Environment,
    noise: Noise,
    action_map: ActionMap | None,
) -> None:
    """Builds the environment once and forks a server for each connection.

    A manipulation environment takes seconds and 170 MB to build, nearly all of it meshes that never
    change; forked servers share them and start at once. This process runs no threads, so forking is
    safe here; in the parent, which runs JAX, it is not.
    """
    # Everyone waits for the next actions, few for a step: who computes them is served first.
    os.nice(10)
    env = make_env(environment, noise, action_map=action_map)
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

    A command is sent to some environments without waiting for them; `collect` waits for what they
    report. So some can step while the actions of others are computed. An environment is given its
    next command after the report on the last one was collected. One message is exchanged per chunk
    of actions. The environments are built in the background: only the first `collect` waits.

    More processes than cores cost little: the system gives a free core to whichever has steps to
    take, so that no core waits for the slowest of a fixed share.

    Attributes:
        num_envs: environments are named by their number, 0 to `num_envs - 1`.
    """

    def __init__(
        self,
        environment: Environment,
        num_envs: int,
        noise: Noise = wrappers.NO_NOISE,
        action_map: ActionMap | None = None,
    ):
        self.num_envs = num_envs
        self._what = environment, noise, action_map
        self._connections: list[Connection] = []
        self._process = None

    def __enter__(self) -> 'VectorEnv':
        context = multiprocessing.get_context('spawn')
        pipes = [context.Pipe() for _ in range(self.num_envs)]
        self._connections = [ours for ours, _ in pipes]
        theirs = [theirs for _, theirs in pipes]
        self._process = context.Process(target=_fork_servers, args=(theirs, *self._what))
        single_threaded = _environment_variable('OPENBLAS_NUM_THREADS', '1')
        with single_threaded, stopping.deaf_children(), spawning.without_main():
            self._process.start()
        for connection in theirs:
            connection.close()
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()
        self._process.join()

    def start(self, environments: np.ndarray, episodes: np.ndarray) -> None:
        """Sends word to start the episodes with these numbers.

        Args:
            environments: (n,) int.
            episodes: (n,) int, one for each of them.

        Raises:
            UserError: a process died.
        """
        numbers = [int(episode).to_bytes(8, 'little') for episode in episodes]
        self._send(environments, [_START + number for number in numbers])

    def play(self, environments: np.ndarray, actions: np.ndarray) -> None:
        """Sends chunks of actions to environments in the middle of an episode.

        Args:
            environments: (n,) int.
            actions: (n, h, action_dim); those after the end of an episode are not played.

        Raises:
            UserError: a process died.
        """
        actions = np.asarray(actions, np.float32)
        self._send(environments, [_PLAY + chunk.tobytes() for chunk in actions])

    def collect(self, environments: np.ndarray) -> Played:
        """Waits for the reports on the last commands to (n,) environments, at least one.

        Raises:
            UserError: a process died.
        """
        with _death_as_user_error():
            return read([self._connections[number].recv_bytes() for number in environments])

    def _send(self, environments: np.ndarray, commands: list[bytes]) -> None:
        with _death_as_user_error():
            for number, command in zip(environments, commands, strict=True):
                self._connections[number].send_bytes(command)


@contextlib.contextmanager
def _death_as_user_error():
    try:
        yield
    except (EOFError, OSError) as error:
        raise UserError(
            'a process of an environment died; what it said is above. If memory ran out, let '
            'fewer play at a time: --eval_envs of main.py, --eval_episodes of a script, fewer '
            '--seeds online'
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
