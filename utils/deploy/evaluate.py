"""Evaluation as a call, from a script or a notebook."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from utils import statistics
from utils.deploy.policy import Policy
from utils.environments import action_maps, descriptions, wrappers
from utils.environments.descriptions import Environment
from utils.environments.env_processes import VectorEnv
from utils.environments.local_env import LocalEnv
from utils.environments.wrappers import Noise
from utils.rollouts import acting, evaluation, outcomes


class Evaluation(NamedTuple):
    """What came of the episodes, one entry each where there are several.

    Attributes:
        success_rate: share of episodes that ended with a success; nan where the environment does
            not define it (`describe_env`), as its bounds are.
        success_low, success_high: its 95% Wilson interval: of this agent, not of training it again.
        success: (episodes,) bool.
        returns: (episodes,) undiscounted sums of rewards.
        lengths: (episodes,) int, steps.
    """

    success_rate: float
    success_low: float
    success_high: float
    success: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray


def evaluate(
    policy: Policy,
    environment: Environment | None = None,
    episodes: int = 50,
    num_processes: int = 0,
    noise: Noise | None = None,
) -> Evaluation:
    """Plays episodes 0 to `episodes - 1` from the start states of scripts/evaluate.py.

    An episode has the outcome that it has there, to the bit, under the same JAX on the same kind of
    device, however many processes there are: decisions are computed in batches of one size. The
    episode that the policy is in, and NumPy's global generator, stay as they are.

    Args:
        policy: of a run (`members.of_run`) or exported (`Policy.load`).
        environment: its name, or what `describe_env` returns; None: the one it was trained for.
        episodes: at least one.
        num_processes: environments, a process each; 0: one environment in this process.
        noise: None: as in training.

    Raises:
        UserError: no such environment, or a process died.
        ValueError: the environment's observations are not of the policy's size, or there is nothing
            to play.
    """
    if episodes < 1 or num_processes < 0:
        raise ValueError(
            f'episodes must be at least 1 and num_processes at least 0, not {episodes} and '
            f'{num_processes}'
        )
    record = policy.record
    noise = wrappers.recorded_noise(record) if noise is None else noise
    told = Path('the record of the policy')
    action_map = action_maps.recorded(record, told)
    if environment is None:
        environment = descriptions.recorded(record, told)
    environments = (
        VectorEnv(environment, min(num_processes, episodes), noise, action_map)
        if num_processes
        else LocalEnv(environment, noise, action_map)
    )
    with environments:
        played = evaluation.evaluate(act_of(policy), environments, episodes, key=None)
    rate, low, high = np.nan, np.nan, np.nan
    if outcomes.defines_success(environment):
        rate = float(played.success.mean())
        low, high = statistics.success_interval(played.success)
    return Evaluation(rate, low, high, *played[:3])


def act_of(policy: Policy) -> acting.Act:
    """Returns a policy as evaluations ask it; its key is its own."""

    def act_on(
        observations: np.ndarray, _: jax.Array | None, episodes: np.ndarray, chunks: np.ndarray
    ) -> acting.Acts:
        playing = np.flatnonzero(episodes != acting.IDLE)
        decided = [
            policy.decide(observations[padded], episodes[padded], chunks[padded])[: len(batch)]
            for batch, padded in acting.in_batches(playing)
        ]
        actions = np.zeros((len(episodes), *decided[0].shape[1:]), np.float32)
        actions[playing] = np.concatenate(decided)
        return acting.Acts(actions, np.full(len(episodes), np.nan, np.float32))

    return act_on
