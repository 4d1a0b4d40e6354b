"""Gymnasium environments that are not OGBench's: made, judged, and checked against their data."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from utils.environments import action_maps
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import NONE, GymEnv
from utils.errors import UserError

# Steps of an episode of random actions in which a key of success must have been seen.
PROBE_STEPS = 10_000
BOUND_SLACK = 1e-5


def make(environment: GymEnv, draws: bool = False) -> gymnasium.Env:
    """Makes an environment that judges its episodes; see `Judged`.

    Args:
        environment: its description.
        draws: whether it is to draw pictures.

    Raises:
        UserError: there is no such environment, it does not start, its observations or actions are
            not flat vectors of floats, or its episodes may never end.
    """
    name, kwargs = environment.env_id, dict(environment.kwargs)
    if draws:
        kwargs['render_mode'] = 'rgb_array'
    try:
        with warnings.catch_warnings(action='ignore'):  # of older versions, of which we tell
            env = gymnasium.make(name, disable_env_checker=True, **kwargs)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--env_id: '{name}': {error}; put the folder of the module into PYTHONPATH, or "
            'install it'
        ) from error
    except Exception as error:  # whatever somebody's constructor raises
        said = ' '.join(f'{error}'.split()) or type(error).__name__
        raise UserError(
            f"--env_id: '{name}' cannot be made ({said}); expected a registered environment, as "
            'Pendulum-v1 or MODULE:NAME-v0, and its --env_kwargs'
        ) from error
    if env.spec is not None and env.spec.id != name.rpartition(':')[2]:
        raise UserError(f"--env_id: '{name}' names no version; here it is {env.spec.id}")
    _check_spaces(name, env)
    if env.spec is None or env.spec.max_episode_steps is None:
        raise UserError(
            f"--env_id: '{name}' has no limit of steps, so an evaluation may never end; give one, "
            'as --env_kwargs=\'{"max_episode_steps": 1000}\''
        )
    return Judged(env, environment)


def _check_spaces(name: str, env: gymnasium.Env) -> None:
    for what in ('observation', 'action'):
        space = getattr(env, f'{what}_space')
        flat = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
        if not flat or space.dtype.kind != 'f':
            raise UserError(
                f"--env_id: '{name}': its {what}s are {space}; expected a Box of one axis of "
                f'floats; register it with a wrapper that makes them so{_wrapper_for(space)}'
            )


def _wrapper_for(space: gymnasium.Space) -> str:
    if isinstance(space, (gymnasium.spaces.Dict, gymnasium.spaces.Tuple)):
        return ', such as gymnasium.wrappers.FlattenObservation'
    return ''


class Judged(gymnasium.Wrapper):
    """Tells after every step, as `info['success']`, whether an episode that ends now succeeds."""

    def __init__(self, env: gymnasium.Env, environment: GymEnv):
        super().__init__(env)
        self._rule, self._least = environment.success, environment.least_return
        self._return = 0.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Starts an episode."""
        self._return = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple:
        """Takes a step with (action_dim,) `action`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward)
        self._return += reward
        if self._least is not None:
            success = self._return >= self._least
        else:
            success = self._rule != NONE and bool(info.get(self._rule, False))
        return observation, reward, terminated, truncated, dict(info, success=success)


def check_success(env: Judged, environment: GymEnv) -> None:
    """Checks that an environment ever tells what success is judged by.

    An episode of random actions is played for it.

    Raises:
        UserError: the key of success was in no step's `info`.
    """
    if environment.success == NONE or environment.least_return is not None:
        return
    plain, keys = env.env, set()
    plain.action_space.seed(0)
    plain.reset(seed=0)
    for _ in range(PROBE_STEPS):
        _, _, terminated, truncated, info = plain.step(plain.action_space.sample())
        keys |= info.keys()
        if environment.success in keys:
            return
        if terminated or truncated:
            break
    raise UserError(
        f"--success: '{environment.success}' was in no info of an episode of "
        f'{environment.env_id} (there were: {", ".join(sorted(map(str, keys))) or "none"}); name '
        'one of these, or give --success=return:X or --success=none'
    )


def check_bounds(
    env: gymnasium.Env,
    environment: GymEnv,
    action_map: ActionMap | None,
    data: Path,
    told: bool,
) -> None:
    """Checks that the actions that [-1, 1] stands for in the data are those of the environment.

    Args:
        env: whose actions are not mapped.
        environment: its description.
        action_map: of the data; None: their actions are in [-1, 1] as they were recorded.
        data: where they are.
        told: whether somebody has told that they are, as a record beside the data does.

    Raises:
        UserError: they reach beyond the bounds; or nobody has told what they stand for where the
            bounds are not [-1, 1].
    """
    low, high = np.float64(env.action_space.low), np.float64(env.action_space.high)
    bounds = f'{_shown(low)}:{_shown(high)}'
    if action_map is None and not told and not ((low == -1) & (high == 1)).all():
        raise UserError(
            f'{data}: actions of {environment.env_id} are in {bounds}, and no record of the file '
            'tells what its [-1, 1] stands for; bring in the recorded actions by '
            f'scripts/import_data.py --action_range={_range(low, high, bounds)}'
        )
    offset, scale = map(np.asarray, action_map or action_maps.identity(len(low)))
    reach = np.abs(scale)
    slack = BOUND_SLACK * np.maximum(1.0, reach)
    if (offset - reach < low - slack).any() or (offset + reach > high + slack).any():
        spans = f'{_shown(offset - reach)}:{_shown(offset + reach)}'
        raise UserError(
            f'{data}: its actions are in {spans}, those of {environment.env_id} in {bounds}; '
            f'import it with --action_range={_range(low, high, bounds)}, or check --env_id'
        )


def _shown(numbers: np.ndarray) -> str:
    """Returns numbers as --action_range takes them: one if they are all equal."""
    texts = [f'{number:g}' for number in numbers]
    return texts[0] if len(set(texts)) == 1 else ','.join(texts)


def _range(low: np.ndarray, high: np.ndarray, bounds: str) -> str:
    return bounds if np.isfinite([low, high]).all() else 'data'
