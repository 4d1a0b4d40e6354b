"""Online training: one update for every step of an environment."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from utils.environments.envs import seed_everything
from utils.errors import UserError
from utils.generation import replay as replays
from utils.generation.replay import Transitions
from utils.storage.checkpoints import Checkpoints, DamagedError

# Apart from what else is drawn with the seed.
EPISODE_STREAM, LEARN_STREAM = 2, 3


class Learning(NamedTuple):
    """How far training has come; saved and restored as a whole between two episodes.

    Attributes:
        state: of the learner.
        replay: every transition so far.
        step: how many these are.
        episode: number of the next episode.
    """

    state: Any
    replay: Transitions
    step: int
    episode: int


def start(init: Callable, env: gymnasium.Env, capacity: int, seed: int) -> Learning:
    """Returns what training begins with."""
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    state = jax.jit(init)(jax.random.key(seed))
    return Learning(state, replays.create(capacity, *sizes), 0, 0)


def make_play_episode(learner: Any, config: ConfigDict, env: gymnasium.Env, seed: int) -> Callable:
    """Returns the function that plays an episode and learns from each of its steps.

    An episode draws all its randomness from the seed and its number: where a run was interrupted
    between episodes has no influence on the result.

    Args:
        learner: with `update` and `act`, as of utils/generation/sac.py.
        config: with `random_steps`, in which nothing is learned, and `batch_size`.
        env: continuous actions in [-1, 1].
        seed: fixes everything.

    Returns:
        (learning) -> (learning, metrics). The learning that is given is used up: its buffers are
        donated and its replay is written to. The episode ends early where the replay is full.
    """
    update, act = jax.jit(learner.update, donate_argnums=0), jax.jit(learner.act)
    learn_key = jax.random.fold_in(jax.random.key(seed), LEARN_STREAM)
    action_dim = env.action_space.shape[0]

    def play_episode(learning: Learning) -> tuple[Learning, dict[str, float]]:
        state, replay, step, episode = learning
        sequence = np.random.SeedSequence((seed, EPISODE_STREAM, episode))
        own, rest = sequence.spawn(2)
        rng = np.random.default_rng(own)
        observation, _ = env.reset(seed=seed_everything(rest))
        metrics, first, total, done = {}, step, 0.0, False
        while not done and step < len(replay.rewards):
            update_key, act_key = jax.random.split(jax.random.fold_in(learn_key, step))
            if step < config.random_steps:
                action = rng.uniform(-1.0, 1.0, action_dim)
            else:
                batch = replays.sample(replay, step, config.batch_size, rng)
                state, metrics = update(state, batch, update_key)
                observations = jnp.asarray(observation, jnp.float32)[None]
                action = np.asarray(act(state, observations, act_key))[0]
            next_observation, reward, terminated, truncated, _ = env.step(action)
            replays.write(
                replay, step, observation, action, reward, not terminated, next_observation
            )
            observation, done = next_observation, terminated or truncated
            step, total = step + 1, total + reward
        metrics = {name: float(value) for name, value in metrics.items()}
        metrics |= dict(episode_return=float(total), episode_length=step - first)
        return Learning(state, replay, step, episode + 1), metrics

    return play_episode


def save(learning: Learning, checkpoints: Checkpoints) -> None:
    """Writes how far training has come.

    Raises:
        UserError: it cannot be written.
    """
    checkpoints.save(learning.step, _arrays(learning), dict(episode=learning.episode))


def restore(fresh: Learning, checkpoints: Checkpoints) -> Learning:
    """Returns what the newest whole checkpoint holds, or `fresh` where there is none.

    Damaged ones are told and set aside.

    Args:
        fresh: from `start`; says what is expected.
        checkpoints: to be read and written to.

    Raises:
        UserError: all checkpoints are damaged, or one is of another run.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), _arrays(fresh))
    for step in sorted(checkpoints.steps(), reverse=True):
        try:
            arrays, progress = checkpoints.restore(step, shapes)
        except DamagedError as error:
            print(f'warning: {error}', file=sys.stderr)
            continue
        checkpoints.forget_after(step)
        columns = {name: np.array(column) for name, column in arrays['replay'].items()}
        return Learning(arrays['state'], Transitions(**columns), step, progress['episode'])
    if checkpoints.steps():
        raise UserError(
            f'{checkpoints.directory}: no checkpoint is whole; to begin anew, move it away'
        )
    return fresh


def _arrays(learning: Learning) -> dict[str, Any]:
    return dict(state=learning.state, replay=learning.replay._asdict())
