"""Walkers that follow a direction, which the mazes' behaviour policies are made of.

An expert is the mean of a SAC actor (scripts/train_expert.py), run by NumPy: the processes that
record datasets need no JAX. It sees an observation without position, then a unit direction.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

from utils import files
from utils.data import npz
from utils.environments.envs import seed_everything
from utils.errors import UserError

FOLDER = files.ROOT / 'results' / 'experts'
RESAMPLE_INTERVAL = 100  # steps for which a direction is kept, as OGBench has it
# Apart from the streams of training.
SPEED_STREAM = 1


class Expert(NamedTuple):
    """An MLP with GELU between its layers.

    Attributes:
        kernels: (inputs, outputs) float32 of each layer.
        biases: (outputs,) of each layer.
    """

    kernels: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]

    def action(self, observation: np.ndarray) -> np.ndarray:
        """Returns the likeliest action, (action_dim,), for (observation_dim,)."""
        x = np.asarray(observation, np.float32)
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            x = _gelu(x @ kernel + bias)
        mean, _ = np.split(x @ self.kernels[-1] + self.biases[-1], 2)
        return np.tanh(mean)


def _gelu(x: np.ndarray) -> np.ndarray:
    """The tanh form, flax's default."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def from_params(params: dict) -> Expert:
    """Returns the actor whose flax parameters these are."""
    layers = params['params']
    names = [f'Dense_{number}' for number in range(len(layers))]
    kernels, biases = ([np.asarray(layers[name][key]) for name in names] for key in _KEYS)
    return Expert(kernels, biases)


_KEYS = ('kernel', 'bias')


def save(expert: Expert, path: Path, provenance: dict) -> None:
    """Writes PATH.npz and, of what made it, PATH.json."""
    arrays = {}
    for number, layer in enumerate(zip(*expert, strict=True)):
        arrays |= {f'{key}_{number}': array for key, array in zip(_KEYS, layer, strict=True)}
    with files.writing(path.with_suffix('.npz')) as file:
        np.savez_compressed(file, **arrays)
    files.write_json(path.with_suffix('.json'), provenance)


def load(name: str, folder: Path = FOLDER) -> Expert:
    """Reads the expert called `name`.

    Raises:
        UserError: there is none, or its file is damaged.
    """
    path = folder / f'{name}.npz'
    headers = npz.headers(path)
    num = len(headers) // 2
    expected = {f'{key}_{number}' for key in _KEYS for number in range(num)}
    if not num or headers.keys() != expected:
        raise UserError(
            f'{path}: no expert (it holds {", ".join(headers)}); take it from the repository'
        )
    layers = [[npz.read(path, headers[f'{key}_{n}']) for n in range(num)] for key in _KEYS]
    return Expert(*layers)


def digest(name: str, folder: Path = FOLDER) -> str:
    """Returns the SHA-256 of the file of the expert called `name`, as hexadecimal digits.

    Raises:
        UserError: there is none.
    """
    path = folder / f'{name}.npz'
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f'{path}: no expert ({error}); take it from the repository') from error


def make_direction_env(env_id: str) -> gymnasium.Env:
    """Makes OGBench's environment of walking in directions that change every 100 steps.

    Its observations are what an expert sees; its rewards are metres walked in the direction.
    """
    import ogbench.online_locomotion  # noqa: F401  (registers the environments)
    from ogbench.online_locomotion.wrappers import GymXYWrapper

    return GymXYWrapper(gymnasium.make(env_id), resample_interval=RESAMPLE_INTERVAL)


def measure_speed(
    act: Callable[[np.ndarray], np.ndarray], env: gymnasium.Env, num_episodes: int, seed: int
) -> np.ndarray:
    """Returns metres per second in the wanted direction, of (num_episodes,) full episodes.

    An episode in which the walker falls counts as standing still from then on.

    Args:
        act: observation -> action.
        env: from `make_direction_env`.
        num_episodes: of 1000 steps each.
        seed: fixes start states and directions.
    """
    seconds = env.spec.max_episode_steps * env.unwrapped.dt
    return np.array(
        [
            _metres(act, env, np.random.SeedSequence((seed, SPEED_STREAM, episode))) / seconds
            for episode in range(num_episodes)
        ]
    )


def _metres(act: Callable, env: gymnasium.Env, seeds: np.random.SeedSequence) -> float:
    env_seed = seed_everything(seeds)
    observation, _ = env.reset(seed=env_seed)
    metres, done = 0.0, False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        metres, done = metres + reward, terminated or truncated
    return metres
