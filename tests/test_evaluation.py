import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from utils import envs, evaluation
from utils.errors import UserError

ENV = 'pointmaze-medium-navigate-singletask-task1-v0'


def controller(observations, key):
    """Chunks of two noisy steps; depends on everything that it may depend on."""
    noise = jax.random.uniform(key, (len(observations), 2, 2), minval=-1.0)
    return np.clip(np.asarray(noise) + 0.5, -1, 1)


@pytest.fixture(scope='module')
def vector_env():
    with envs.VectorEnv(ENV, 3) as running:
        yield running


def test_many_at_once_equals_one_by_one(vector_env):
    """The same start states and actions, played in a plain loop."""
    observations = vector_env.reset(np.arange(3))
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2, 2))
    played = [vector_env.play(chunk) for chunk in actions]
    env = envs.make_env(ENV)
    for episode in range(3):
        observation = envs.reset(env, episode)
        np.testing.assert_array_equal(observations[episode], np.float32(observation))
        for chunk, result in zip(actions, played, strict=True):
            total = 0.0
            for action in chunk[episode]:
                observation, reward, *_ = env.step(action)
                total += reward
            np.testing.assert_array_equal(result.observations[episode], np.float32(observation))
            assert (result.rewards[episode], result.steps[episode]) == (total, 2)


def test_waves_do_not_change_start_states(vector_env):
    first = vector_env.reset(np.array([0, 1, 2]))
    second = vector_env.reset(np.array([2, -1, 0]))
    np.testing.assert_array_equal(second[[0, 2]], first[[2, 0]])


def test_evaluation_repeats_to_the_bit(vector_env):
    results = [evaluation.evaluate(controller, vector_env, 4, jax.random.key(1)) for _ in range(2)]
    assert len(results[0].success) == 4  # two waves, the second partly idle
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_episode_ends_with_its_success(vector_env):
    """A walker that knows the way reaches the goal, and stands still from then on."""
    env = envs.make_env(ENV)
    envs.reset(env, 0)
    goal = np.array(env.unwrapped.cur_goal_xy)

    def walk(observations, key):
        subgoals = [env.unwrapped.get_oracle_subgoal(xy, goal)[0] for xy in observations]
        steps = np.array(subgoals) - observations
        return (steps / (np.linalg.norm(steps, axis=1, keepdims=True) + 1e-6))[:, None]

    episodes = evaluation.evaluate(walk, vector_env, 3, jax.random.key(0))
    assert episodes.success.all()
    # Reward -1 per step until the goal is reached; the success is noticed one step later.
    np.testing.assert_array_equal(episodes.returns, -(episodes.lengths - 1))
    assert episodes.lengths.max() < 1000


def test_a_dead_process_is_a_user_error():
    with envs.VectorEnv(ENV, 2) as running:
        running.reset(np.arange(2))
        pid = running._process.pid
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        with pytest.raises(UserError, match='evaluation process died'):
            running.play(np.zeros((2, 1, 2)))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('cube-single-play-v0', 'not an OGBench singletask environment'),
        ('cube-singel-play-singletask-task1-v0', "Did you mean 'cube-single-singletask-task1-v0'"),
        ('visual-cube-single-play-singletask-task1-v0', 'no state-based environment'),
        ('singletask', 'no state-based environment'),
    ],
)
def test_unknown_environments_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        envs.make_env(name)


@pytest.mark.parametrize(
    'name', [ENV, 'cube-single-play-singletask-v0', 'scene-play-singletask-v0']
)
def test_resets_repeat_to_the_bit(name):
    env = envs.make_env(name)
    rollouts = []
    for episode in (5, 6, 5):
        rows = [envs.reset(env, episode)]
        rows += [env.step(np.full(env.action_space.shape, 0.3))[0] for _ in range(20)]
        rollouts.append(np.stack(rows))
    np.testing.assert_array_equal(rollouts[0], rollouts[2])
    assert not np.array_equal(rollouts[0], rollouts[1])


def test_summary_has_a_wilson_interval():
    episodes = evaluation.Episodes(np.array([1] * 8 + [0] * 2), np.zeros(10), np.ones(10))
    summary = evaluation.summary(episodes)
    # Wilson's formula by hand for 8 of 10 and z = 1.96.
    assert summary['success'] == 0.8
    np.testing.assert_allclose(
        [summary['success_low'], summary['success_high']], [0.490, 0.943], atol=5e-4
    )
