"""Learned distributions of the reward-to-go, and how well they agree with held-out returns."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy  # its stats are loaded where they are first used: half a second

from utils.data import datasets, recorded_returns
from utils.data.datasets import Dataset
from utils.errors import UserError
from utils.models import returns
from utils.models.extraction import Noise
from utils.models.returns import ReturnMap
from utils.models.value_models import ValueModel

NUM_POINTS = 64  # of a learned flow or implicit quantile distribution
READING_STEPS = 20  # steps of a learned flow
BATCH_ROWS = 256  # read at a time
CENTRAL = 0.8  # part of a distribution whose coverage is measured
PIT_BINS = 10


class HeldOut(NamedTuple):
    """Held-out states and actions with their returns, in units of reward.

    Attributes:
        observations: (rows, observation_dim).
        actions: (rows, h * action_dim), the chunks that the data took there.
        outcomes: (rows,) discounted returns.
        trajectories: (rows,) int, a number for each row's trajectory.
    """

    observations: np.ndarray
    actions: np.ndarray
    outcomes: np.ndarray
    trajectories: np.ndarray


def held_out(
    dataset: Dataset,
    chunk_length: int,
    discount: float,
    mean_return: float,
    rng: np.random.Generator,
    rows_each: int = 20,
) -> HeldOut:
    """Returns what was recorded at `held_out_rows`; `mean_return` stands for what a cut has hidden.

    Args:
        dataset, discount, rng, rows_each: as for `held_out_rows`.
        chunk_length: of the agent.
        mean_return: what a missing rest is taken to be.

    Raises:
        UserError: see `held_out_rows`.
    """
    rows = held_out_rows(dataset, discount, rng, rows_each)
    return held_out_at(dataset, rows, chunk_length, discount, mean_return)


def held_out_rows(
    dataset: Dataset, discount: float, rng: np.random.Generator, rows_each: int = 20
) -> np.ndarray:
    """Picks rows whose return is nearly complete, (n,).

    Trajectories are cut, so a return is taken far enough from the cut that what is missing weighs
    `recorded_returns.TAIL` at most.

    Args:
        dataset: in host memory.
        discount: of the agent.
        rng: picks the rows.
        rows_each: rows of each trajectory.

    Raises:
        UserError: no trajectory is long enough, or returns are not discounted.
    """
    if discount >= 1.0:
        raise UserError('without discount (agent.discount=1) no cut return is nearly complete')
    complete = recorded_returns.nearly_complete(dataset, discount)
    if not len(complete):
        raise UserError(
            'no held-out trajectory is so long that a return lacks at most '
            f'{recorded_returns.TAIL} of its weight (agent.discount={discount})'
        )
    ends = dataset.ends[complete]
    return np.concatenate(
        [
            rng.choice(complete[ends == end], min(rows_each, np.sum(ends == end)), replace=False)
            for end in np.unique(ends)
        ]
    )


def held_out_at(
    dataset: Dataset, rows: np.ndarray, chunk_length: int, discount: float, mean_return: float
) -> HeldOut:
    """Returns what was recorded at (n,) rows; `mean_return` stands for what a cut has hidden.

    Without discount the sums up to the cut are all there is.
    """
    outcomes = recorded_returns.rewards_to_go(dataset, discount)[rows]
    if discount < 1.0:
        outcomes += recorded_returns.missing_weights(dataset, discount)[rows] * mean_return
    actions = chunks_at(dataset, rows, chunk_length)
    return HeldOut(dataset.observations[rows], actions, outcomes, dataset.ends[rows])


def chunks_at(dataset: Dataset, rows: np.ndarray, chunk_length: int) -> np.ndarray:
    """Returns the flat chunks of actions that the data took, (rows, h * action_dim)."""
    gather = jax.jit(datasets.gather, static_argnums=(2, 3, 4, 5))
    batch = gather(jax.device_put(dataset), rows, chunk_length, 0, 1.0, False)
    return np.asarray(datasets.flatten(batch.actions))


def read_distributions(
    value_model: ValueModel,
    params: Any,
    return_map: ReturnMap,
    observations: np.ndarray,
    actions: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads learned distributions at states and actions.

    Args:
        value_model: whose distribution it is.
        params: of one member of the ensemble.
        return_map: from the net's units to those of reward.
        observations: (rows, observation_dim).
        actions: (rows, h * action_dim).

    Returns:
        Points in units of reward, ascending, and their probabilities, both (rows, num).
    """
    parts = -(-len(observations) // BATCH_ROWS)
    pairs = zip(np.array_split(observations, parts), np.array_split(actions, parts), strict=True)
    read = (_read(value_model, params, return_map, *pair) for pair in pairs)
    points, probabilities = (
        np.concatenate([np.float64(part) for part in kind]) for kind in zip(*read, strict=True)
    )
    order = np.argsort(points, axis=1)
    return tuple(np.take_along_axis(array, order, axis=1) for array in (points, probabilities))


@functools.partial(jax.jit, static_argnums=0)
def _read(
    value_model: ValueModel,
    params: Any,
    return_map: ReturnMap,
    observations: jax.Array,
    actions: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Compiled once for a value model, whichever its parameters are."""
    levels = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS
    z_0 = jnp.asarray(scipy.stats.norm.ppf(levels), jnp.float32)
    weights = jnp.full(NUM_POINTS, 1.0 / NUM_POINTS)
    noise = Noise(jnp.broadcast_to(z_0, (len(observations), NUM_POINTS)), weights)
    support = returns.support(return_map)
    z, probabilities = value_model.distribution(
        params, observations, actions, noise, support, READING_STEPS
    )
    return returns.to_reward_units(return_map, z), probabilities


def score(
    points: np.ndarray, weights: np.ndarray, data: HeldOut, width: float, seed: int
) -> tuple[dict[str, float], np.ndarray]:
    """Scores distributions against the returns that were recorded.

    Args:
        points, weights: (rows, num) of the distributions, as `read_distributions` returns them.
        data: what was recorded at these rows.
        width: resolution of the probability integral transform, in units of reward.
        seed: of its noise and of the resamples.

    Returns:
        `coverage` of the central 80% of the distributions, `crps` and `bias` (learned mean minus
        return), each also as NAME_low and NAME_high, a 95% interval over trajectories; and the
        probability integral transform, (rows,).
    """
    pit = jittered_pit(points, weights, data.outcomes, width, seed)
    measured = dict(
        coverage=np.float64(np.abs(pit - 0.5) <= CENTRAL / 2),
        crps=crps(points, weights, data.outcomes),
        bias=np.sum(points * weights, axis=1) - data.outcomes,
    )
    result = {}
    for name, values in measured.items():
        low, high = clustered_interval(values, data.trajectories, seed)
        result |= {name: float(np.mean(values)), f'{name}_low': low, f'{name}_high': high}
    return result, pit


def jittered_pit(
    points: np.ndarray, weights: np.ndarray, outcomes: np.ndarray, width: float, seed: int
) -> np.ndarray:
    """Probability integral transform of outcomes, at a resolution.

    Outcome and predicted distribution both get independent noise from Uniform[-width, width]. If
    the distribution is right the transform is uniform whatever its atoms; without the noise, an
    atom that is learned with a slight smear would count as wrong.

    Args:
        points, weights: (rows, num) points of the predicted distributions and their probabilities.
        outcomes: (rows,).
        width: in the units of the outcomes, above 0.
        seed: of the noise.

    Returns:
        (rows,) in [0, 1].
    """
    noise = np.random.default_rng(seed).uniform(-width, width, outcomes.shape)
    below = np.clip(((outcomes + noise)[:, None] - points + width) / (2.0 * width), 0.0, 1.0)
    return np.sum(weights * below, axis=1)


def crps(points: np.ndarray, weights: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score, E|Z - G| - E|Z - Z'| / 2, (rows,); less is better.

    Args:
        points, weights: (rows, num) points of the predicted distributions, ascending, and
            probabilities.
        outcomes: (rows,).
    """
    distance = np.sum(weights * np.abs(points - outcomes[:, None]), axis=1)
    # E|Z - Z'| is twice the integral of F (1 - F).
    levels = np.cumsum(weights, axis=1)[:, :-1]
    spread = np.sum(levels * (1.0 - levels) * np.diff(points, axis=1), axis=1)
    return distance - spread


def clustered_interval(
    values: np.ndarray, clusters: np.ndarray, seed: int, resamples: int = 2000
) -> tuple[float, float]:
    """95% bootstrap interval of the mean of values that come in clusters (trajectories)."""
    names, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, values)
    counts = np.bincount(index)
    draws = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
