"""Plays many episodes at once with one fused call per chunk of actions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from utils.envs import VectorEnv
from utils.statistics import success_interval

# More episodes than this are played in waves; each environment is a process.
MAX_ENVS = 100


class Episodes(NamedTuple):
    """Outcomes, one entry per episode, in the order of their numbers.

    Attributes:
        success: bool, whether the last step was a success.
        returns: float, undiscounted sum of rewards.
        lengths: int, steps.
    """

    success: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray


def evaluate(
    act: Callable[[np.ndarray, jax.Array], jax.Array],
    vector_env: VectorEnv,
    num_episodes: int,
    key: jax.Array,
) -> Episodes:
    """Plays episodes 0 to `num_episodes - 1`, as many at a time as there are environments.

    Args:
        act: (observations (n, observation_dim), key) -> action chunks (n, h, action_dim).
        vector_env: running environments.
        num_episodes: the start state of an episode is fixed by its number.
        key: the agent's randomness; a stream of its own, apart from training.
    """
    waves = []
    for wave, first in enumerate(range(0, num_episodes, vector_env.num_envs)):
        numbers = first + np.arange(vector_env.num_envs)
        numbers[numbers >= num_episodes] = -1  # idle
        waves.append(_play_wave(act, vector_env, numbers, jax.random.fold_in(key, wave)))
    fields = (np.concatenate(field)[:num_episodes] for field in zip(*waves, strict=True))
    return Episodes(*fields)


def _play_wave(act, vector_env: VectorEnv, numbers: np.ndarray, key: jax.Array) -> Episodes:
    observations = vector_env.reset(numbers)
    returns = np.zeros(len(numbers))
    lengths = np.zeros(len(numbers), np.int64)
    done, chunk = numbers < 0, 0
    while not done.all():
        actions = act(observations, jax.random.fold_in(key, chunk))
        observations, rewards, steps, done, success = vector_env.play(np.asarray(actions))
        returns += rewards
        lengths += steps
        chunk += 1
    return Episodes(success, returns, lengths)


def bind(act: Callable, state: Any, settings: Any) -> Callable[[np.ndarray, jax.Array], jax.Array]:
    """Returns an agent's compiled `act` with state and settings filled in, giving only actions."""
    return lambda observations, key: act(state, observations, key, settings).actions


def summary(episodes: Episodes) -> dict[str, float]:
    """Returns means over episodes, with the 95% Wilson interval of the success rate."""
    low, high = success_interval(episodes.success)
    return dict(
        success=float(episodes.success.mean()),
        success_low=low,
        success_high=high,
        episode_return=float(episodes.returns.mean()),
        episode_length=float(episodes.lengths.mean()),
        episodes=len(episodes.success),
    )


def rows(episodes: Episodes, tags: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns one table row per episode, each with `tags`."""
    return [
        tags
        | dict(
            episode=number,
            success=int(success),
            episode_return=float(episode_return),
            episode_length=int(length),
        )
        for number, (success, episode_return, length) in enumerate(zip(*episodes, strict=True))
    ]
