"""Plays many episodes at once: some environments step while the others' next actions are computed.

The outcome of an episode is its own: it depends on its number and the evaluation's key, not on how
many environments there are or on what else is played, but for the rounding of batched products.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from utils.envs import Played, VectorEnv
from utils.statistics import success_interval
from utils.stopping import StoppedError

# Further episodes start as earlier ones end; each environment is a process.
MAX_ENVS = 100
# Number of an episode where there is none.
IDLE = -1

# (observations (n, observation_dim), key, episodes (n,), chunks (n,)) -> actions
# (n, h, action_dim); see `bind`.
Act = Callable[[np.ndarray, jax.Array, np.ndarray, np.ndarray], jax.Array]


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


class _Group(NamedTuple):
    """Environments that are given actions together, as rows of batches of one fixed size.

    Attributes:
        environments: (k,) their numbers, k <= size; the rows after them pad the batch.
        episodes: (size,) what each row plays, or IDLE.
        chunks: (size,) how many chunks of its episode each row was given.
    """

    environments: np.ndarray
    episodes: np.ndarray
    chunks: np.ndarray


def evaluate(
    act: Act,
    vector_env: VectorEnv,
    num_episodes: int,
    key: jax.Array,
    num_groups: int = 2,
    should_stop: Callable[[], bool] = lambda: False,
) -> Episodes:
    """Plays episodes 0 to `num_episodes - 1`, as many at a time as there are environments.

    The environments are split into groups, which take turns: while the actions of one are computed,
    the processes of the others step. Where an episode ends, the next one starts at once. Which row
    of which batch plays an episode never hangs on timing, so that an evaluation repeats to the bit.

    Args:
        act: called once per chunk of a group, always with the same n; see `bind`. Rows without an
            episode have the number IDLE, and their actions are ignored.
        vector_env: running environments, none of them given a command that was not collected.
        num_episodes: the start state of an episode is fixed by its number.
        key: the agent's randomness; a stream of its own, apart from training.
        num_groups: at most as many as there are environments are made; with 1, nothing steps while
            actions are computed.
        should_stop: asked between commands.

    Raises:
        StoppedError: `should_stop` said so.
        UserError: a process died.
    """
    outcomes = Episodes(
        np.zeros(num_episodes, bool), np.zeros(num_episodes), np.zeros(num_episodes, np.int64)
    )
    waiting = iter(range(num_episodes))
    groups = _split(vector_env.num_envs, num_episodes, num_groups)
    for group in groups:
        _start_next(vector_env, group, np.arange(len(group.environments)), waiting)
    while busy := [group for group in groups if (group.episodes != IDLE).any()]:
        for group in busy:
            if should_stop():
                raise StoppedError
            _take_turn(act, vector_env, group, waiting, outcomes, key)
    return outcomes


def _split(num_envs: int, num_episodes: int, num_groups: int) -> list[_Group]:
    """Deals the environments that are needed to groups of one batch size, fixed by `num_envs`."""
    num_groups = min(num_groups, num_envs)
    size = -(-num_envs // num_groups)
    needed = np.arange(min(num_envs, num_episodes))
    return [
        _Group(needed[first::num_groups], np.full(size, IDLE), np.zeros(size, np.int64))
        for first in range(num_groups)
    ]


def _start_next(
    vector_env: VectorEnv, group: _Group, rows: np.ndarray, waiting: Iterator[int]
) -> None:
    """Starts the next waiting episodes in these rows; leaves them idle when there are no more."""
    group.episodes[rows] = [next(waiting, IDLE) for _ in rows]
    group.chunks[rows] = 0
    started = rows[group.episodes[rows] != IDLE]
    vector_env.start(group.environments[started], group.episodes[started])


def _take_turn(
    act: Act,
    vector_env: VectorEnv,
    group: _Group,
    waiting: Iterator[int],
    outcomes: Episodes,
    key: jax.Array,
) -> None:
    """Collects what a group played and sends it on, without waiting for it."""
    rows = np.flatnonzero(group.episodes != IDLE)
    played = vector_env.collect(group.environments[rows])
    _add(outcomes, group.episodes[rows], played)
    # A start is sent before actions are computed, so that it takes place meanwhile.
    _start_next(vector_env, group, rows[played.done], waiting)
    rows, observations = rows[~played.done], played.observations[~played.done]
    if not len(rows):
        return
    batch = np.zeros((len(group.episodes), observations.shape[1]), np.float32)
    batch[rows] = observations
    actions = np.asarray(act(batch, key, group.episodes, group.chunks))
    vector_env.play(group.environments[rows], actions[rows])
    group.chunks[rows] += 1


def _add(outcomes: Episodes, numbers: np.ndarray, played: Played) -> None:
    outcomes.success[numbers] = played.success
    outcomes.returns[numbers] += played.rewards
    outcomes.lengths[numbers] += played.steps


def bind(act: Callable, state: Any, settings: Any) -> Act:
    """Returns an agent's `act` as `evaluate` calls it: compiled, with state and settings filled in.

    Chunk `c` of episode `e` is drawn with the key `fold_in(fold_in(key, e), c)`.

    Args:
        act: an agent's, (state, observations, key, settings) -> Decision. It is compiled once for
            each static part of the settings, however often it is bound.
        state: of the agent.
        settings: of inference, the same for all episodes: arrays in it are scalar.
    """
    return lambda observations, key, episodes, chunks: _act_for_each(
        act, state, observations, key, episodes, chunks, settings
    )


@partial(jax.jit, static_argnums=0)
def _act_for_each(act, state, observations, key, episodes, chunks, settings) -> jax.Array:
    """Acts on each observation as if it were alone, with a key of its own; one call for all."""

    def act_alone(observation: jax.Array, episode: jax.Array, chunk: jax.Array) -> jax.Array:
        own_key = jax.random.fold_in(jax.random.fold_in(key, episode), chunk)
        return act(state, observation[None], own_key, settings).actions[0]

    return jax.vmap(act_alone)(observations, episodes, chunks)


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
