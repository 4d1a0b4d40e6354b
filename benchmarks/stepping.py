"""How fast environments step: alone, which is the ceiling of an evaluation, and in an evaluation.

Both are rates of the same processes, in steps of single environments per second.
"""

import time

import jax
import numpy as np

from utils.environments import envs
from utils.environments.env_processes import VectorEnv
from utils.rollouts import acting, evaluation


def steps_per_second(env_name: str, num_envs: int, num_steps: int = 200) -> float:
    """Measures what all cores reach stepping environments alone.

    Every environment is given all its random actions at once, so that no core waits for a message.

    Args:
        env_name: as in `envs.make_env`.
        num_envs: processes; several times as many as there are cores, or some cores are idle while
            the last environments finish.
        num_steps: by each environment; those after the end of its episode are not taken and do not
            count.

    Raises:
        UserError: no such environment, or a process died.
    """
    space = envs.make_env(env_name).action_space
    shape = (num_envs, num_steps, *space.shape)
    actions = np.random.default_rng(0).uniform(space.low, space.high, shape)
    with VectorEnv(env_name, num_envs) as vector_env:
        environments = _wake(vector_env)
        started = time.perf_counter()
        vector_env.play(environments, actions)
        played = vector_env.collect(environments)
        return float(played.steps.sum() / (time.perf_counter() - started))


def evaluation_rate(
    act: acting.Act, vector_env: VectorEnv, num_episodes: int, key: jax.Array
) -> float:
    """Measures an evaluation from its first start to its last step, resets included.

    One episode is played beforehand, so that `act` is compiled.

    Args:
        act: as `acting.bind` returns it.
        vector_env: running environments.
        num_episodes: several times `vector_env.num_envs`, or the end, when few environments are
            still busy, weighs heavily.
        key: the agent's randomness.

    Raises:
        UserError: a process died.
    """
    _wake(vector_env)
    evaluation.evaluate(act, vector_env, 1, key)
    started = time.perf_counter()
    episodes = evaluation.evaluate(act, vector_env, num_episodes, key)
    return float(episodes.lengths.sum() / (time.perf_counter() - started))


def _wake(vector_env: VectorEnv) -> np.ndarray:
    """Waits until all processes have started an episode; returns the numbers of environments."""
    environments = np.arange(vector_env.num_envs)
    vector_env.start(environments, environments)
    vector_env.collect(environments)
    return environments
