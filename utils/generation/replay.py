"""The steps that an online agent has seen, in host memory."""

from typing import NamedTuple

import numpy as np


class Transitions(NamedTuple):
    """Steps of an environment, one row each.

    Attributes:
        observations, next_observations: (n, observation_dim).
        actions: (n, action_dim), in [-1, 1].
        rewards: (n,).
        masks: (n,), 0 where the episode ended by itself.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    masks: np.ndarray
    next_observations: np.ndarray


def create(capacity: int, observation_dim: int, action_dim: int) -> Transitions:
    """Returns room for `capacity` transitions: rows of zeros, to be filled from the front."""
    shapes = (observation_dim,), (action_dim,), (), (), (observation_dim,)
    return Transitions(*(np.zeros((capacity, *shape), np.float32) for shape in shapes))


def write(replay: Transitions, row: int, *transition: object) -> None:
    """Writes one transition, in the order of the fields, into a row.

    In place: to copy the whole replay for every step would cost more than to learn.
    """
    for column, value in zip(replay, transition, strict=True):
        column[row] = value


def sample(
    replay: Transitions, filled: int, batch_size: int, rng: np.random.Generator
) -> Transitions:
    """Draws `batch_size` of the first `filled` rows, with replacement."""
    rows = rng.integers(filled, size=batch_size)
    return Transitions(*(column[rows] for column in replay))
