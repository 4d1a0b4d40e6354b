"""Markov reward processes whose return law is known in closed form: the ground truth here.

A process hands out transitions like a dataset would, one batch per key, and knows the quantiles of
the true return. Rewards and returns are in units of reward.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from utils.datasets import Batch


class Process(NamedTuple):
    """A reward process over a few states, told apart by their observation.

    Attributes:
        name: for tables.
        discount: gamma.
        sample: (key, batch_size) -> Batch with chunks of one action.
        queries: states and actions whose law is known, [(observation, action)].
        quantiles: for each query, a function of levels in (0, 1).
    """

    name: str
    discount: float
    sample: Callable[[jax.Array, int], Batch]
    queries: list[tuple[list[float], list[float]]]
    quantiles: list[Callable[[np.ndarray], np.ndarray]]


def make_batch(
    observations: jax.Array,
    actions: jax.Array,
    rewards: jax.Array,
    discounts: jax.Array,
    next_observations: jax.Array,
    next_actions: jax.Array,
) -> Batch:
    """Assembles (batch, d) observations and actions and (batch,) rewards and discounts."""
    size = rewards.shape[0]
    return Batch(
        observations=observations,
        actions=actions[:, None],
        action_mask=jnp.ones((size, 1)),
        rewards=rewards,
        discounts=discounts,
        next_observations=next_observations,
        next_actions=next_actions[:, None],
        td_mask=jnp.ones(size),
    )


def uniform() -> Process:
    """One state, reward 0 or 1 with equal chance, gamma 1/2: the return is Uniform[0, 2].

    Its binary digits are the rewards.
    """

    def sample(key: jax.Array, size: int) -> Batch:
        rewards = jax.random.bernoulli(key, 0.5, (size,)).astype(jnp.float32)
        still = jnp.zeros((size, 1))
        return make_batch(still, still, rewards, jnp.full(size, 0.5), still, still)

    return Process('uniform', 0.5, sample, [([0.0], [0.0])], [lambda u: 2.0 * u])


def exponential() -> Process:
    """Exponential rewards of mean 1/4, ending with chance 1/2 each: the return is exponential too.

    A geometric number of exponential variables, undiscounted, sums to an exponential variable of
    mean 1/2. Only the terminal states keep the return finite.
    """

    def sample(key: jax.Array, size: int) -> Batch:
        reward_key, end_key = jax.random.split(key)
        rewards = 0.25 * jax.random.exponential(reward_key, (size,))
        goes_on = jax.random.bernoulli(end_key, 0.5, (size,)).astype(jnp.float32)
        still = jnp.zeros((size, 1))
        return make_batch(still, still, rewards, goes_on, still, still)

    return Process('exponential', 1.0, sample, [([0.0], [0.0])], [lambda u: -0.5 * np.log1p(-u)])


def constant() -> Process:
    """Reward 1 for ever, gamma 1/2: the return is 2, nothing is random."""

    def sample(key: jax.Array, size: int) -> Batch:
        del key
        still = jnp.zeros((size, 1))
        return make_batch(still, still, jnp.ones(size), jnp.full(size, 0.5), still, still)

    return Process('constant', 0.5, sample, [([0.0], [0.0])], [lambda u: np.full_like(u, 2.0)])


def tied_actions() -> Process:
    """Two actions of equal mean: action -1 is paid Uniform[0.4, 0.6], action 1 Uniform[0, 1].

    The pay comes one step after the action, undiscounted, so that the law has to travel through a
    bootstrap. Observation 0 is the choice; observations -1 and 1 are paid accordingly and end.
    """
    return _paid_later('tied_actions', safe=(0.4, 0.6), risky=(0.0, 1.0))


def better_action() -> Process:
    """As `tied_actions`, but action -1 is paid Uniform[0.5, 0.7]: its mean is the better one."""
    return _paid_later('better_action', safe=(0.5, 0.7), risky=(0.0, 1.0))


def _paid_later(name: str, safe: tuple[float, float], risky: tuple[float, float]) -> Process:
    def sample(key: jax.Array, size: int) -> Batch:
        choice_key, stage_key, pay_key = jax.random.split(key, 3)
        choice = jnp.where(jax.random.bernoulli(choice_key, 0.5, (size,)), 1.0, -1.0)
        first = jax.random.bernoulli(stage_key, 0.5, (size,))
        low = jnp.where(choice > 0, risky[0], safe[0])
        high = jnp.where(choice > 0, risky[1], safe[1])
        paid = low + (high - low) * jax.random.uniform(pay_key, (size,))
        return make_batch(
            observations=jnp.where(first, 0.0, choice)[:, None],
            actions=jnp.where(first, choice, 0.0)[:, None],
            rewards=jnp.where(first, 0.0, paid),
            discounts=jnp.where(first, 1.0, 0.0),
            next_observations=choice[:, None],
            next_actions=jnp.zeros((size, 1)),
        )

    def quantile(bounds: tuple[float, float]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda u: bounds[0] + (bounds[1] - bounds[0]) * u

    queries = [([0.0], [-1.0]), ([0.0], [1.0])]
    return Process(name, 1.0, sample, queries, [quantile(safe), quantile(risky)])


ALL = {
    'uniform': uniform,
    'exponential': exponential,
    'tied_actions': tied_actions,
    'better_action': better_action,
    'constant': constant,
}
