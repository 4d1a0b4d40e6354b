"""What the tasks of a family ask of a policy: to walk through a maze, or to lift cubes.

No value can bring a policy to a goal that is out of its reach. A measure is read off observations
alone, recorded or played, so that a policy stands beside the data that it imitates.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import gymnasium
import jax
import numpy as np

from utils.data.datasets import Dataset
from utils.environments import envs, sparse
from utils.environments.descriptions import Environment, name_of
from utils.generation import behaviours
from utils.rollouts import outcomes
from utils.rollouts.acting import IDLE, Act, Acts

WINDOW_SECONDS = 5.0  # of simulated time
LIFT_STEPS = 200  # the length of an episode of one cube
# Of a cube's centre, in metres. One on the table is at 0.02, on two others at 0.10, in the scene's
# drawer at 0.07; OGBench's plan oracles carry cubes 0.1 to 0.2 above where they pick and place.
LIFT_HEIGHT = 0.12
# OGBench's observations of a cube: position, in tenths of metres, quaternion, cosine and sine of
# the yaw. They follow what the arm feels (compute_observation in ogbench/manipspace/envs).
FIRST_CUBE, CUBE_NUMBERS, HEIGHT, TENTHS = 19, 9, 2, 10.0


class Amount(NamedTuple):
    """How much was done, in how much of what it is counted by; episodes add up."""

    done: float
    units: float


class Measure(NamedTuple):
    """What a family's tasks ask for.

    Attributes:
        name: of what is measured, with its unit.
        of: (observations (n, observation_dim), stride) -> Amount of an episode that was looked at
            every `stride` steps.
        needed: what the task cannot be solved without, in the same unit; None: not known.
    """

    name: str
    of: Callable[[np.ndarray, int], Amount]
    needed: float | None = None


def of(environment: Environment) -> Measure | None:
    """Returns what `make` does of an environment, which is made and closed for it."""
    if not sparse.is_singletask(name_of(environment)):
        return None
    env = envs.make_env(environment)
    envs.reset(env, 0)
    measure = make(name_of(environment), env)
    env.close()
    return measure


def make(env_name: str, env: gymnasium.Env) -> Measure | None:
    """Returns what the tasks of an environment ask for; None where it is neither walk nor lift.

    Where a maze teleports, that counts as walked, and what is needed is the way without.

    Args:
        env_name: of any environment; only OGBench's singletask ones have a measure.
        env: that environment, reset.
    """
    if not sparse.is_singletask(env_name):
        return None
    family = env_name.split('-')[0]
    if family.endswith('maze'):
        maze = env.unwrapped
        window = round(WINDOW_SECONDS / maze.dt)
        needed = shortest_way(maze) * window / env.spec.max_episode_steps
        return Measure(outcomes.WALKED, partial(_walk, window=window), needed)
    if family in ('cube', 'scene'):
        num_cubes = env.unwrapped._num_cubes
        return Measure(outcomes.LIFTED, partial(_lift, num_cubes=num_cubes))
    return None


def shortest_way(maze: gymnasium.Env) -> float:
    """Returns the way from a maze task's start to its goal in metres, from cell to cell."""
    task = maze.cur_task_info
    cells = behaviours.cell_distances(maze.maze_map, tuple(task['init_ij']))
    return float(cells[tuple(task['goal_ij'])] * maze._maze_unit)


def walked(positions: np.ndarray, stride: int, window: int) -> Amount:
    """Returns the straight distances between positions `window` steps apart, and how many.

    Straight, so that a walker that trembles on the spot does not walk. Where the stride does not
    divide the window, the nearest multiple is taken and its distances are scaled. An episode
    shorter than a window has no such distance.

    Args:
        positions: (n, 2) in metres.
        stride: steps between two of them.
        window: steps.
    """
    apart = max(1, round(window / stride))
    ways = np.linalg.norm(positions[apart:] - positions[:-apart], axis=1)
    return Amount(float(ways.sum()) * window / (apart * stride), len(ways))


def lifts(heights: np.ndarray) -> int:
    """Returns how often a cube came to be higher than `LIFT_HEIGHT`.

    Args:
        heights: (n, cubes) of the cubes' centres, in metres.
    """
    high = heights > LIFT_HEIGHT
    return int(np.sum(high[1:] & ~high[:-1]))


def cube_heights(observations: np.ndarray, num_cubes: int) -> np.ndarray:
    """Returns the heights of the cubes' centres in metres, (n, cubes).

    Args:
        observations: (n, observation_dim) of a cube or scene environment.
        num_cubes: of them.
    """
    columns = FIRST_CUBE + CUBE_NUMBERS * np.arange(num_cubes) + HEIGHT
    return observations[:, columns] / TENTHS


def _walk(observations: np.ndarray, stride: int, window: int) -> Amount:
    return walked(observations[:, :2], stride, window)


def _lift(observations: np.ndarray, stride: int, num_cubes: int) -> Amount:
    steps = len(observations) * stride
    return Amount(lifts(cube_heights(observations, num_cubes)), steps / LIFT_STEPS)


def rate(amounts: Sequence[Amount]) -> tuple[float, float]:
    """Returns what was done per unit in all episodes, and half its 95% interval over episodes.

    The interval is the ratio estimator's (Cochran 1977, Sampling Techniques, 6.4); not a number for
    one episode, nor is the rate where there are no units.
    """
    done, units = np.array(amounts, np.float64).reshape(-1, 2).T
    if not units.sum():
        return math.nan, math.nan
    mean = float(done.sum() / units.sum())
    if len(done) < 2:
        return mean, math.nan
    error = np.std(done - mean * units, ddof=1) / math.sqrt(len(done)) / units.mean()
    return mean, float(1.96 * error)


def recorded(dataset: Dataset, stride: int) -> list[np.ndarray]:
    """Returns every `stride`-th observation, (n, observation_dim), of each trajectory."""
    observations, ends = np.asarray(dataset.observations), np.unique(dataset.ends)
    return [part[::stride] for part in np.split(observations, ends[:-1] + 1)]


def watched(act: Act, episodes: dict[int, list[np.ndarray]]) -> Act:
    """Returns `act`, which then keeps what it sees: an observation for every chunk of an episode.

    Args:
        act: as `evaluation.evaluate` calls it.
        episodes: is filled: the observations, (observation_dim,) each, of every episode's number.
    """

    def watching(
        observations: np.ndarray, key: jax.Array, numbers: np.ndarray, chunks: np.ndarray
    ) -> Acts:
        for row in np.flatnonzero(numbers != IDLE):
            episodes.setdefault(int(numbers[row]), []).append(observations[row].copy())
        return act(observations, key, numbers, chunks)

    return watching


def columns(
    measure: Measure, played: Sequence[np.ndarray], data: Sequence[np.ndarray], stride: int
) -> dict[str, float]:
    """Returns a policy's rate beside that of the data, each with half its interval.

    Args:
        measure: of the environment.
        played, data: observations (n, observation_dim) of each episode, `stride` steps apart.
        stride: steps.
    """
    row = rates(measure, played, stride)
    row |= {
        name.replace(measure.name, f'{measure.name}_data'): value
        for name, value in rates(measure, data, stride).items()
    }
    if measure.needed is not None:
        row[f'{measure.name}_needed'] = measure.needed
    return row


def rates(measure: Measure, episodes: Sequence[np.ndarray], stride: int) -> dict[str, float]:
    """Returns how much was done, by the measure's name, and half its interval; see `columns`."""
    mean, half_width = rate([measure.of(episode, stride) for episode in episodes])
    return {measure.name: mean, f'{measure.name}{outcomes.HALF_WIDTH}': half_width}
