"""One environment in this process, in the place of `env_processes.VectorEnv`."""

import numpy as np

from utils.environments import env_processes, wrappers
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import Environment
from utils.environments.env_processes import Played
from utils.environments.envs import make_env
from utils.environments.wrappers import Noise


class LocalEnv:
    """Obeys the commands of a `VectorEnv` of one environment, at once; use as a context manager.

    Environments draw from NumPy's global generator, which is left as it was found.

    Attributes:
        num_envs: 1.
    """

    num_envs = 1

    def __init__(
        self,
        environment: Environment,
        noise: Noise = wrappers.NO_NOISE,
        action_map: ActionMap | None = None,
    ):
        self._env = make_env(environment, noise, action_map=action_map)
        self._report = b''

    def __enter__(self) -> 'LocalEnv':
        self._global_generator = np.random.get_state()
        return self

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self._global_generator)
        self._env.close()

    def start(self, environments: np.ndarray, episodes: np.ndarray) -> None:
        """Starts the last of these episodes, if there is any."""
        for episode in episodes:
            self._report = env_processes.start(self._env, int(episode)).tobytes()

    def play(self, environments: np.ndarray, actions: np.ndarray) -> None:
        """Plays a chunk of actions, (1, h, action_dim); those after an episode's end are not."""
        [chunk] = np.array(actions, np.float32)
        self._report = env_processes.play(self._env, chunk).tobytes()

    def collect(self, environments: np.ndarray) -> Played:
        """Returns what came of the last command."""
        return env_processes.read([self._report])
