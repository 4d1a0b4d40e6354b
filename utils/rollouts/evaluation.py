"""Plays many episodes at once: some environments step while the others' next actions are computed.

The outcome of an episode is its own: it depends on its number and the evaluation's key, not on how
many environments there are or on what else is played, but for the rounding of batched products.

Where several settings are compared, every episode is played with each of them. Such a rollout has a
number too, `setting * num_episodes + episode`; with one setting, that is the episode's.

Values that promise: beside what came of an episode stands the value that the agent gave, in the
start state, to what it then did. Values are of the discounted return without a time limit, so what
they are compared with is that: rewards are discounted step by step, and an episode that the time
limit cuts goes on with its last reward for ever. For rewards of OGBench's singletask environments
that is what it is worth if all stays as it is.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from utils import statistics
from utils.environments.env_processes import Played, VectorEnv
from utils.rollouts.acting import IDLE, Act
from utils.system.stopping import StoppedError

# Further episodes start as earlier ones end; each environment is a process.
MAX_ENVS = 100


class Episodes(NamedTuple):
    """Outcomes, one entry per episode, in the order of their numbers.

    Attributes:
        success: bool, whether the last step was a success.
        returns: float, undiscounted sum of rewards.
        lengths: int, steps.
        start_values: float, what the agent's first decision promised: the value, in units of
            reward, of what it chose in the start state; nan for an agent that weighs nothing.
        discounted_returns: float, sum of discount ** t times the reward of step t = 0, 1, ...
            Where a limit of time alone ended the episode, after step T - 1, the last reward r is
            taken to come for ever: discount ** T * r / (1 - discount) is added, unless discount
            is 1.
    """

    success: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    start_values: np.ndarray
    discounted_returns: np.ndarray


class _Group(NamedTuple):
    """Environments that are given actions together, as rows of batches of one fixed size.

    Attributes:
        environments: (k,) their numbers, k <= size; the rows after them pad the batch.
        rollouts: (size,) what each row plays, or IDLE.
        chunks: (size,) how many chunks of its rollout each row was given.
    """

    environments: np.ndarray
    rollouts: np.ndarray
    chunks: np.ndarray


class _Progress(NamedTuple):
    """The environments, what they have yet to play, and what came of it.

    Attributes:
        vector_env: the environments.
        num_episodes: of each setting.
        waiting: numbers of the rollouts that have not begun.
        outcomes: of all rollouts, one entry each.
        left: (num_settings,) how many rollouts of each setting have not ended.
        discount: of `Episodes.discounted_returns`.
    """

    vector_env: VectorEnv
    num_episodes: int
    waiting: Iterator[int]
    outcomes: Episodes
    left: np.ndarray
    discount: float


def evaluate(
    act: Act,
    vector_env: VectorEnv,
    num_episodes: int,
    key: jax.Array,
    num_groups: int = 2,
    should_stop: Callable[[], bool] = lambda: False,
    discount: float = 1.0,
) -> Episodes:
    """Plays episodes 0 to `num_episodes - 1`, as many at a time as there are environments.

    The environments are split into groups, which take turns: while the actions of one are computed,
    the processes of the others step. Where an episode ends, the next one starts at once. Which row
    of which batch plays an episode never hangs on timing, so that an evaluation repeats to the bit.

    Args:
        act: called once per chunk of a group, always with the same n; see `bind`. Rows that need
            no actions have the number IDLE.
        vector_env: running environments, none of them given a command that was not collected.
        num_episodes: the start state of an episode is fixed by its number.
        key: the agent's randomness; a stream of its own, apart from training.
        num_groups: at most as many as there are environments are made; with 1, nothing steps while
            actions are computed.
        should_stop: asked between commands.
        discount: of `Episodes.discounted_returns`, in (0, 1]; what the agent promises compares with
            these only if it is the agent's own. Nothing else depends on it.

    Raises:
        StoppedError: `should_stop` said so.
        UserError: a process died.
    """
    [episodes] = sweep(act, vector_env, 1, num_episodes, key, num_groups, should_stop, discount)
    return episodes


def sweep(
    act: Act,
    vector_env: VectorEnv,
    num_settings: int,
    num_episodes: int,
    key: jax.Array,
    num_groups: int = 2,
    should_stop: Callable[[], bool] = lambda: False,
    discount: float = 1.0,
) -> Iterator[Episodes]:
    """Plays `evaluate`'s episodes with each of several settings, all in one set of environments.

    Args:
        act: as `bind_each` returns it.
        vector_env, num_episodes, key, num_groups, should_stop, discount: as for `evaluate`.
        num_settings: that `act` tells apart.

    Yields:
        What came of each setting, in their order, as soon as it is there.

    Raises:
        StoppedError: `should_stop` said so.
        UserError: a process died.
    """
    num = num_settings * num_episodes
    counts, promised = np.zeros(num, np.int64), np.full(num, np.nan)
    outcomes = Episodes(np.zeros(num, bool), np.zeros(num), counts, promised, np.zeros(num))
    left = np.full(num_settings, num_episodes)
    progress = _Progress(vector_env, num_episodes, iter(range(num)), outcomes, left, discount)
    groups = _split(vector_env.num_envs, num, num_groups)
    for group in groups:
        _start_next(progress, group, np.arange(len(group.environments)))
    for setting in range(num_settings):
        while left[setting]:
            for group in groups:
                if should_stop():
                    raise StoppedError
                _take_turn(act, progress, group, key)
        own = slice(setting * num_episodes, (setting + 1) * num_episodes)
        yield Episodes(*(field[own] for field in outcomes))


def _split(num_envs: int, num_rollouts: int, num_groups: int) -> list[_Group]:
    """Deals the environments that are needed to groups of one batch size, fixed by `num_envs`."""
    num_groups = min(num_groups, num_envs)
    size = -(-num_envs // num_groups)
    needed = np.arange(min(num_envs, num_rollouts))
    return [
        _Group(needed[first::num_groups], np.full(size, IDLE), np.zeros(size, np.int64))
        for first in range(num_groups)
    ]


def _start_next(progress: _Progress, group: _Group, rows: np.ndarray) -> None:
    """Starts the next waiting rollouts in these rows; leaves them idle when there are no more."""
    group.rollouts[rows] = [next(progress.waiting, IDLE) for _ in rows]
    group.chunks[rows] = 0
    started = rows[group.rollouts[rows] != IDLE]
    episodes = group.rollouts[started] % progress.num_episodes
    progress.vector_env.start(group.environments[started], episodes)


def _take_turn(act: Act, progress: _Progress, group: _Group, key: jax.Array) -> None:
    """Collects what a group played, if anything, and sends it on, without waiting for it."""
    rows = np.flatnonzero(group.rollouts != IDLE)
    if not len(rows):
        return
    played = progress.vector_env.collect(group.environments[rows])
    _add(progress, group.rollouts[rows], played)
    # A start is sent before actions are computed, so that it takes place meanwhile.
    _start_next(progress, group, rows[played.done])
    rows, observations = rows[~played.done], played.observations[~played.done]
    if not len(rows):
        return
    batch = np.zeros((len(group.rollouts), observations.shape[1]), np.float32)
    batch[rows] = observations
    asking = np.full(len(group.rollouts), IDLE)
    asking[rows] = group.rollouts[rows]
    acts = act(batch, key, asking, group.chunks)
    actions = np.asarray(acts.actions)
    progress.vector_env.play(group.environments[rows], actions[rows])
    begun = rows[group.chunks[rows] == 0]
    if len(begun):
        progress.outcomes.start_values[group.rollouts[begun]] = np.asarray(acts.promised)[begun]
    group.chunks[rows] += 1


def _add(progress: _Progress, rollouts: np.ndarray, played: Played) -> None:
    outcomes, discount = progress.outcomes, progress.discount
    outcomes.success[rollouts] = played.success
    outcomes.returns[rollouts] += played.rewards
    before = outcomes.lengths[rollouts]
    outcomes.lengths[rollouts] += played.steps
    times = before[:, None] + np.arange(played.step_rewards.shape[1])
    outcomes.discounted_returns[rollouts] += np.sum(discount**times * played.step_rewards, axis=1)
    cut = played.cut
    if discount < 1.0 and cut.any():
        last = played.step_rewards[cut, played.steps[cut] - 1]
        weights = discount ** outcomes.lengths[rollouts[cut]] / (1.0 - discount)
        outcomes.discounted_returns[rollouts[cut]] += weights * last
    np.subtract.at(progress.left, rollouts[played.done] // progress.num_episodes, 1)


def summary(episodes: Episodes) -> dict[str, float]:
    """Returns means over one agent's episodes, with 95% intervals over these.

    That of the success rate is Wilson's; that of `start_value_error`, the mean of start value minus
    discounted return, is of percentiles of a bootstrap, nan for a single episode. What an agent did
    not promise is nan.
    """
    low, high = statistics.success_interval(episodes.success)
    errors = episodes.start_values - episodes.discounted_returns
    interval = None
    if np.isfinite(errors).all():
        interval = statistics.stratified_interval(statistics.mean, [errors])
    error_low, error_high = (math.nan, math.nan) if interval is None else map(float, interval)
    return dict(
        success=float(episodes.success.mean()),
        success_low=low,
        success_high=high,
        episode_return=float(episodes.returns.mean()),
        episode_length=float(episodes.lengths.mean()),
        episodes=len(episodes.success),
        start_value=float(episodes.start_values.mean()),
        start_return=float(episodes.discounted_returns.mean()),
        start_value_error=float(errors.mean()),
        start_value_error_low=error_low,
        start_value_error_high=error_high,
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
            start_value=float(start_value),
            discounted_return=float(discounted_return),
        )
        for number, (success, episode_return, length, start_value, discounted_return) in enumerate(
            zip(*episodes, strict=True)
        )
    ]
