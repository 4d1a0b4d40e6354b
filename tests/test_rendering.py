"""Episodes are drawn as evaluations play them; where nothing draws, the reasons are told."""

import subprocess
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from utils.environments import env_processes, envs
from utils.rollouts import acting, evaluation, rendering

ENV = 'pointmaze-medium-navigate-singletask-task1-v0'


class Chosen(NamedTuple):
    """As much of a `Decision` as playing asks for."""

    actions: jax.Array
    promised: jax.Array


def noisy(state, observations, key, settings):
    """An agent with chunks of seven noisy steps, which do not divide an episode."""
    noise = jax.random.uniform(key, (len(observations), 7, 2), minval=-1.0)
    actions = jnp.clip(noise + state - 0.01 * observations[:, None], -1, 1)
    return Chosen(actions, jnp.full(len(observations), jnp.nan))


class Counting(gymnasium.Wrapper):
    """Draws the number of steps that it has made."""

    def reset(self, **settings):
        self.steps = 0
        return self.env.reset(**settings)

    def step(self, action):
        self.steps += 1
        return self.env.step(action)

    def render(self):
        return self.steps


def test_an_episode_is_drawn_as_an_evaluation_plays_it():
    act, key = acting.bind(noisy, 0.3, None), jax.random.key(1)
    with env_processes.VectorEnv(ENV, 2) as vector_env:
        played = evaluation.evaluate(act, vector_env, 2, key)
    env = Counting(envs.make_env(ENV))
    for episode in range(2):
        recording = rendering.record(env, act, key, episode, every=300)
        assert recording.steps == played.lengths[episode]
        assert recording.success == played.success[episode]
        steps = recording.steps
        assert recording.frames == [*range(0, steps, 300), steps]
        last = env.unwrapped.get_xy()
        rendering.record(env, act, jax.random.key(2), episode, every=300)
        assert (env.unwrapped.get_xy() != last).any()


def test_pictures_are_written_as_an_animation_and_a_strip(tmp_path):
    frames = [np.full((20, 30, 3), 10 * number, np.uint8) for number in range(11)]
    rendering.write_animation(frames, tmp_path / 'a.webp', 20.0)
    with Image.open(tmp_path / 'a.webp') as animation:
        assert (animation.n_frames, animation.size) == (11, (30, 20))
        animation.seek(10)
        assert abs(np.asarray(animation).mean() - 100) < 5
        assert animation.info['loop'] == 0
    rendering.write_strip(frames, tmp_path / 'a.png')
    with Image.open(tmp_path / 'a.png') as strip:
        columns = np.asarray(strip)[0, ::30, 0]
    assert columns.tolist() == [0, 20, 40, 60, 80, 100]


@pytest.mark.parametrize(
    ('works', 'chosen', 'expected'),
    [
        ({'egl'}, 'disable', ('egl', '')),
        ({'osmesa'}, 'disable', ('osmesa', 'MUJOCO_GL=egl: no library')),
        (set(), 'disable', (None, 'MUJOCO_GL=egl: no library; MUJOCO_GL=osmesa: no library')),
        ({'egl'}, 'glfw', (None, 'MUJOCO_GL=glfw: no library')),
    ],
)
def test_what_draws_is_found_by_trying(monkeypatch, works, chosen, expected):
    def run(command, env, **_):
        works_here = env['MUJOCO_GL'] in works
        said = '' if works_here else 'Traceback\nno library\n'
        return subprocess.CompletedProcess(command, int(not works_here), '', said)

    monkeypatch.setenv('MUJOCO_GL', chosen)
    monkeypatch.setattr(subprocess, 'run', run)
    assert rendering.find_backend() == expected


def test_a_driver_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(rendering, 'PROBE_TIMEOUT', 0.01)
    monkeypatch.setenv('MUJOCO_GL', 'egl')
    assert rendering.find_backend() == (None, 'MUJOCO_GL=egl: no picture within 0.01 s')
