"""Stochastic variants of an environment: noise between the action that is chosen and the one done.

OGBench's environments are deterministic but for their resets. With noise, one action has many
outcomes, which is where a distribution of returns can say more than its mean.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from utils.environments import action_maps
from utils.environments.action_maps import ActionMap
from utils.errors import UserError

# Noise is drawn from this stream and the seed of the reset, apart from the environment's own.
NOISE_STREAM = 20251010


class Noise(NamedTuple):
    """How far an environment does something else than it is told; zeros: not at all.

    Attributes:
        action_noise: deviation of the Gaussian noise on each number of an action, in units of
            actions, which go from -1 to 1.
        sticky_prob: probability in [0, 1) that a step repeats the action of the step before
            (Machado et al. 2018, arXiv 1709.06009).
    """

    action_noise: float = 0.0
    sticky_prob: float = 0.0

    @property
    def label(self) -> str:
        """A name for folders, such as 'action_noise_0.2'; '' without noise."""
        return '_'.join(f'{name}_{value:g}' for name, value in self._asdict().items() if value)

    def of(self, name: str) -> str:
        """Returns an environment's name with the noise behind it, if there is any."""
        return f'{name}, {self.label}' if self.label else name


NO_NOISE = Noise()


def make_noise(action_noise: float, sticky_prob: float) -> Noise:
    """Returns the noise that flags of these names ask for.

    Raises:
        UserError: out of range.
    """
    if not (_is_number(action_noise) and 0.0 <= action_noise < math.inf):
        raise UserError(f'--action_noise: must be at least 0 and finite, not {action_noise}')
    if not (_is_number(sticky_prob) and 0.0 <= sticky_prob < 1.0):
        raise UserError(f'--sticky_prob: must be at least 0 and less than 1, not {sticky_prob}')
    return Noise(float(action_noise), float(sticky_prob))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def given_noise(flags: Mapping[str, str]) -> Noise:
    """Returns the noise that flags, as they were written, ask for; none where they are absent.

    Raises:
        UserError: no number, or out of range.
    """
    given = {name: flags.get(name, '0') for name in Noise._fields}
    try:
        return make_noise(**{name: float(text) for name, text in given.items()})
    except ValueError as error:
        raise UserError(f'--action_noise, --sticky_prob: expected numbers ({error})') from error


def recorded_noise(record: Mapping[str, Any]) -> Noise:
    """Returns the noise that a run's record tells of; runs older than noise had none.

    Raises:
        UserError: out of range.
    """
    return make_noise(**{name: record.get(name, 0.0) for name in Noise._fields})


class NoisyActions(gymnasium.Wrapper):
    """Holds on to the previous action now and then, and adds Gaussian noise to what it holds.

    The noise comes last and is never held on to; the sum is clipped to the action space. Every step
    draws the same numbers whatever is chosen and however much noise there is, so the noise of a
    step is a function of the reset's seed and the number of the step alone: agents, settings and
    levels of noise are compared on common random numbers.
    """

    def __init__(self, env: gymnasium.Env, noise: Noise):
        super().__init__(env)
        self._noise = noise
        self._rng = np.random.default_rng()
        self._held = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Starts an episode; its noise is fixed by `seed`, without which the stream goes on."""
        if seed is not None:
            self._rng = np.random.default_rng((NOISE_STREAM, seed))
        self._held = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple:
        """Takes a step with what becomes of (action_dim,) `action`; the first is never held."""
        action = np.asarray(action)
        repeats = self._rng.random() < self._noise.sticky_prob
        noise = self._noise.action_noise * self._rng.standard_normal(action.shape)
        if self._held is None or not repeats:
            self._held = action.copy()
        space = self.action_space
        executed = np.clip(self._held + noise, space.low, space.high)
        # Environments round differently in other types.
        return self.env.step(executed.astype(action.dtype))


class MappedActions(gymnasium.ActionWrapper):
    """Takes an agent's actions, in [-1, 1], and does what they stood for in its data."""

    def __init__(self, env: gymnasium.Env, action_map: ActionMap):
        super().__init__(env)
        self._action_map = action_map
        size = len(action_map.offset)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Returns (action_dim,) in the units of the data."""
        return action_maps.denormalise(action, self._action_map)


def wrap(env: gymnasium.Env, noise: Noise, action_map: ActionMap | None = None) -> gymnasium.Env:
    """Returns the environment with noise and a map of actions; itself where there is neither.

    Noise is in units of the agent's actions, so it is added before they are mapped.
    """
    mapped = MappedActions(env, action_map) if action_map else env
    return NoisyActions(mapped, noise) if any(noise) else mapped
