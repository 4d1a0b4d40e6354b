"""What an environment is called and how one that is not OGBench's is described.

A description is what the command line says; the record of a run keeps it under `KEY`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.environments import sparse
from utils.errors import UserError

# Under this key the record of a run describes its environment, if that is not OGBench's.
KEY = 'environment'
# Instead of the name of an environment: there is none. As a rule of success: there is none.
NONE = 'none'
RETURN_RULE = 'return:'


class GymEnv(NamedTuple):
    """A registered environment, and how its episodes are judged.

    Attributes:
        env_id: as `gymnasium.make` takes it: 'Pendulum-v1', or 'module:Reach-v0'.
        kwargs: that it is made with.
        success: a key of the last step's `info`; 'return:X', a return of at least X; or NONE.
        reference_returns: undiscounted returns that are 0 and 100 on the normalised scale.
    """

    env_id: str
    kwargs: dict[str, Any]
    success: str = NONE
    reference_returns: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The id, fit for a folder's name."""
        return re.sub(r'[^A-Za-z0-9_.-]', '_', self.env_id)

    @property
    def least_return(self) -> float | None:
        """The return of a success; None where success is not told by it."""
        told = self.success.startswith(RETURN_RULE)
        return float(self.success.removeprefix(RETURN_RULE)) if told else None


# What is played: an environment of OGBench by its name, or any of Gymnasium; or NONE.
Environment = str | GymEnv


def name_of(environment: Environment) -> str:
    """Returns the name under which runs on an environment are kept."""
    return environment if isinstance(environment, str) else environment.name


def describe_env(
    env_id: str, kwargs: str = '', success: str = '', reference_returns: list[str] | None = None
) -> GymEnv:
    """Returns the environment that flags of these names describe.

    Args:
        env_id: see `GymEnv`.
        kwargs: a JSON object, or ''.
        success: see `GymEnv`; '': NONE.
        reference_returns: two numbers, or None.

    Raises:
        UserError: one cannot be read.
    """
    environment = GymEnv(
        env_id, _kwargs(kwargs), success or NONE, _reference_returns(reference_returns)
    )
    if sparse.is_singletask(environment.name):
        raise UserError(f"--env_id: '{env_id}' is OGBench's; name it by --env_name")
    try:
        least = environment.least_return
    except ValueError as error:
        raise UserError(
            f"--success: '{success}': expected return:NUMBER, as return:-200"
        ) from error
    if least is not None and not np.isfinite(least):
        raise UserError(f"--success: '{success}': expected a finite number")
    return environment


def _kwargs(text: str) -> dict[str, Any]:
    try:
        kwargs = json.loads(text or '{}')
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"--env_kwargs: '{text}' is not JSON ({error}); expected an object, as "
            '\'{"max_episode_steps": 200}\''
        ) from error
    if not isinstance(kwargs, dict):
        raise UserError(
            f"--env_kwargs: '{text}' is no JSON object; expected names and values, as "
            '\'{"max_episode_steps": 200}\''
        )
    return kwargs


def _reference_returns(texts: list[str] | None) -> tuple[float, float] | None:
    if texts is None:
        return None
    try:
        low, high = map(float, texts)
    except ValueError as error:
        raise UserError(
            f'--reference_returns: expected LOW,HIGH, two numbers, not {",".join(texts)}'
        ) from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise UserError(f'--reference_returns: expected finite LOW < HIGH, not {",".join(texts)}')
    return low, high


def describe(environment: Environment) -> dict[str, Any]:
    """Returns what a record says of an environment; nothing of those that a name tells."""
    return {} if isinstance(environment, str) else {KEY: environment._asdict()}


def recorded(record: Mapping[str, Any], path: Path) -> Environment:
    """Returns the environment that a run's record tells of; by its name alone, if nothing else is.

    Args:
        record: parsed JSON.
        path: of the record, named in errors.

    Raises:
        UserError: the record is damaged.
    """
    if KEY not in record:
        return record['env_name']
    told = record[KEY]
    try:
        low_high = told['reference_returns']
        texts = None if low_high is None else [str(number) for number in low_high]
        kwargs = json.dumps(told['kwargs'])
        return describe_env(told['env_id'], kwargs, told['success'], texts)
    except (TypeError, KeyError, AttributeError, UserError) as error:
        raise UserError(f"{path}: '{KEY}' is damaged; restore the record from a copy") from error
