"""Small Gymnasium environments: one that is fit for training, and some that are not."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from utils.data import importing
from utils.data.importers.options import Options

FLAT, PUSH = Box(-10.0, 10.0, (2,), np.float32), Box(-2.0, 2.0, (1,), np.float32)


class Point(gymnasium.Env):
    """A point on a line that is pushed; it is to be brought to 0.

    `fall` is how far from 0 an episode ends by reward. A picture is as bright as it is far.
    """

    metadata: ClassVar = dict(render_modes=['rgb_array'])

    def __init__(self, fall=np.inf, observation_space=FLAT, action_space=PUSH, render_mode=None):
        self.observation_space, self.action_space = observation_space, action_space
        self.render_mode = render_mode
        self._fall, self._state = fall, np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = np.array([self.np_random.uniform(-1.0, 1.0), 0.0])
        return np.float32(self._state), {}

    def step(self, action):
        assert np.all(np.abs(action) <= self.action_space.high), action
        self._state[1] = 0.9 * self._state[1] + 0.1 * float(action[0])
        self._state[0] += 0.1 * self._state[1]
        reward = -abs(self._state[0])
        info = dict(is_success=abs(self._state[0]) < 0.5, pushed=float(action[0]))
        fell = bool(abs(self._state[0]) > self._fall)
        return np.float32(self._state), reward, fell, False, info

    def render(self):
        return np.full((16, 16, 3), min(255, int(99 * abs(self._state[0]))), np.uint8)


SPACES = dict(
    Dictionary=dict(observation_space=Dict(position=FLAT)),
    Discrete=dict(action_space=Discrete(3)),
    Pixels=dict(observation_space=Box(0, 255, (8, 8, 3), np.uint8)),
)
gymnasium.register('Point-v0', Point, max_episode_steps=20)
gymnasium.register('Endless-v0', Point)
for _name, _spaces in SPACES.items():
    gymnasium.register(f'{_name}-v0', Point, max_episode_steps=20, kwargs=_spaces)


def write(path, env_id='Point-v0', episodes=12, seed=0):
    """Plays a random policy; an .npz under names of somebody's own, as recorded."""
    env, rows = gymnasium.make(env_id), []
    env.action_space.seed(seed)
    for number in range(episodes):
        observation, _ = env.reset(seed=seed + number)
        done = False
        while not done:
            action = env.action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            rows.append((observation, action, reward, terminated, following, number))
            observation, done = following, terminated or truncated
    names = 'state', 'ctrl', 'gain', 'fell', 'following', 'run'
    arrays = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
    np.savez(path, **{name: np.float32(a) for name, a in arrays.items()} | dict(run=arrays['run']))
    return path


# What scripts/import_data.py must be told of them.
OPTIONS = Options(
    observations=('state',),
    actions='ctrl',
    rewards='gain',
    ends_by_reward='fell',
    next_observations=('following',),
    episode_index='run',
)


def write_imported(path, action_range='-2:2', **settings):
    """The same, imported: an .npz of ours, and its record beside it."""
    raw = write(path.with_name(f'{path.stem}_raw.npz'), **settings)
    importing.import_data(str(raw), path, options=OPTIONS, action_range=action_range)
    return path
