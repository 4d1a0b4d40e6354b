"""Markov reward processes whose return law is known in closed form: the ground truth here.

A process hands out transitions like a dataset would, one batch per key, and knows the law of the
true return. Rewards and returns are in units of reward.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import laws
from benchmarks.laws import Law
from utils.datasets import Batch


class Query(NamedTuple):
    """A state and action whose return law is known."""

    observation: list[float]
    action: list[float]
    law: Law


class Process(NamedTuple):
    """A reward process over a few states, told apart by their observation.

    Attributes:
        name: for tables.
        sample: (key, batch_size) -> Batch with chunks of one action.
        queries: states and actions whose law is known.
        bounds: of the returns of all states; of all but 1 in 10,000 where there are none.
    """

    name: str
    sample: Callable[[jax.Array, int], Batch]
    queries: list[Query]
    bounds: tuple[float, float]


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


def _one_state(
    name: str,
    rewards: Callable[[jax.Array, int], jax.Array],
    discounts: Callable[[jax.Array, int], jax.Array],
    law: Law,
    bounds: tuple[float, float],
) -> Process:
    """A process with one state and one action: independent rewards and discounts."""

    def sample(key: jax.Array, size: int) -> Batch:
        reward_key, discount_key = jax.random.split(key)
        still = jnp.zeros((size, 1))
        return make_batch(
            still, still, rewards(reward_key, size), discounts(discount_key, size), still, still
        )

    return Process(name, sample, [Query([0.0], [0.0], law)], bounds)


def _always(discount: float) -> Callable[[jax.Array, int], jax.Array]:
    return lambda key, size: jnp.full(size, discount)


def _goes_on(discount: float) -> Callable[[jax.Array, int], jax.Array]:
    """The discount with chance 1/2, else the end."""
    return lambda key, size: discount * jax.random.bernoulli(key, 0.5, (size,))


def uniform() -> Process:
    """Reward 0 or 1 with equal chance, gamma 1/2: the return is Uniform[0, 2].

    Its binary digits are the rewards.
    """

    def rewards(key: jax.Array, size: int) -> jax.Array:
        return jax.random.bernoulli(key, 0.5, (size,)).astype(jnp.float32)

    return _one_state('uniform', rewards, _always(0.5), laws.uniform(0.0, 2.0), (0.0, 2.0))


def exponential() -> Process:
    """Exponential rewards of mean 1/4, ending with chance 1/2 each: the return is exponential too.

    A geometric number of exponential variables, undiscounted, sums to an exponential variable of
    mean 1/2. Only the terminal states keep the return finite.
    """

    def rewards(key: jax.Array, size: int) -> jax.Array:
        return 0.25 * jax.random.exponential(key, (size,))

    high = -0.5 * np.log(1e-4)
    return _one_state('exponential', rewards, _goes_on(1.0), laws.exponential(0.5), (0.0, high))


def gaussian() -> Process:
    """Rewards N(1/2, 1/4), gamma 1/2: the return is normal, mean 1, variance (1/4) / (1 - 1/4)."""

    def rewards(key: jax.Array, size: int) -> jax.Array:
        return 0.5 + 0.5 * jax.random.normal(key, (size,))

    law = laws.gaussian(1.0, np.sqrt(1 / 3))
    spread = 3.89 * law.std
    return _one_state('gaussian', rewards, _always(0.5), law, (1.0 - spread, 1.0 + spread))


def geometric() -> Process:
    """Reward 1 a step, ending with chance 1/2 each, gamma 1/2: 2 (1 - 2^-L), L geometric.

    A chain that terminates, as a task does: half of all returns are 1, a quarter 1.5, and so on.
    """
    lengths = np.arange(1, 41)
    law = laws.discrete(2.0 * (1.0 - 0.5**lengths), 0.5 ** np.minimum(lengths, 39))
    ones = lambda key, size: jnp.ones(size)  # noqa: E731
    return _one_state('geometric', ones, _goes_on(0.5), law, (0.0, 2.0))


def constant() -> Process:
    """Reward 1 for ever, gamma 1/2: the return is 2, nothing is random."""
    law = laws.discrete([2.0], [1.0])
    ones = lambda key, size: jnp.ones(size)  # noqa: E731
    return _one_state('constant', ones, _always(0.5), law, (0.0, 2.0))


def two_point() -> Process:
    """A coin decides at the start whether 0 or 1 is paid for ever, gamma 1/2: 0 or 1, evenly.

    Observation 0 is the start, which pays nothing; -1 and 1 are the two lanes.
    """

    def sample(key: jax.Array, size: int) -> Batch:
        stage_key, coin_key = jax.random.split(key)
        first = jax.random.bernoulli(stage_key, 0.5, (size,))
        lane = jnp.where(jax.random.bernoulli(coin_key, 0.5, (size,)), 1.0, -1.0)
        still = jnp.zeros((size, 1))
        return make_batch(
            observations=jnp.where(first, 0.0, lane)[:, None],
            actions=still,
            rewards=jnp.where(first | (lane < 0), 0.0, 1.0),
            discounts=jnp.full(size, 0.5),
            next_observations=lane[:, None],
            next_actions=still,
        )

    law = laws.discrete([0.0, 1.0], [0.5, 0.5])
    return Process('two_point', sample, [Query([0.0], [0.0], law)], (0.0, 2.0))


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

    queries = [
        Query([0.0], [-1.0], laws.uniform(*safe)),
        Query([0.0], [1.0], laws.uniform(*risky)),
    ]
    return Process(name, sample, queries, (0.0, 1.0))


def noisy_walk() -> Process:
    """Two moves of 1/2 left or right by chance, then the position is paid: -1, 0 or 1.

    The transitions are stochastic and actions have no effect. Observations are (stage, position).
    """
    law = laws.discrete([-1.0, 0.0, 1.0], [0.25, 0.5, 0.25])
    queries = [Query([0.0, 0.0], [action], law) for action in (-1.0, 1.0)]
    return Process('noisy_walk', _walk(steered=False), queries, (-1.0, 1.0))


def steered_walk() -> Process:
    """The deterministic twin of `noisy_walk`: the action moves, and the data's policy is a coin.

    The law of the start, over the policy's actions, is that of `noisy_walk`; but here a soft value
    is one that a policy can reach.
    """
    queries = [
        Query([0.0, 0.0], [-1.0], laws.discrete([-1.0, 0.0], [0.5, 0.5])),
        Query([0.0, 0.0], [1.0], laws.discrete([0.0, 1.0], [0.5, 0.5])),
    ]
    return Process('steered_walk', _walk(steered=True), queries, (-1.0, 1.0))


def _walk(steered: bool) -> Callable[[jax.Array, int], Batch]:
    def sample(key: jax.Array, size: int) -> Batch:
        stage_key, key = jax.random.split(key)
        stage = jax.random.randint(stage_key, (size,), 0, 3)
        signs = jnp.where(jax.random.bernoulli(key, 0.5, (5, size)), 1.0, -1.0)
        past, actions, next_actions, chances = signs[:2], signs[2], signs[3], signs[4]
        position = 0.5 * (past[0] * (stage > 0) + past[1] * (stage > 1))
        move = 0.5 * (actions if steered else chances)
        last = stage == 2
        return make_batch(
            observations=jnp.stack([stage.astype(jnp.float32), position], axis=1),
            actions=actions[:, None],
            rewards=jnp.where(last, position, 0.0),
            discounts=jnp.where(last, 0.0, 1.0),
            next_observations=jnp.stack([stage + 1.0, position + move], axis=1),
            next_actions=next_actions[:, None],
        )

    return sample


STEPS, NEEDED = 20, 14  # of `rare_success`


def rare_success() -> Process:
    """Twenty coins; 1 is paid at the end, undiscounted, if at least 14 were heads.

    The return distribution has two atoms: 1 with the binomial chance of what is still needed, else
    0. The queries are states of a chance between 0.01 and 0.06, as in a dataset that rarely
    succeeds; a chance travels through as many bootstraps as coins are left. Observations are
    (coins thrown, heads), both scaled to [-1, 1]; all reachable states are equally likely given the
    number of coins thrown.
    """

    def observe(thrown: jax.Array, heads: jax.Array) -> jax.Array:
        return jnp.stack([thrown, heads], axis=-1) / (0.5 * STEPS) - 1.0

    def sample(key: jax.Array, size: int) -> Batch:
        thrown_key, heads_key, coin_key = jax.random.split(key, 3)
        thrown = jax.random.randint(thrown_key, (size,), 0, STEPS)
        heads = jax.random.randint(heads_key, (size,), 0, thrown + 1)
        next_heads = heads + jax.random.bernoulli(coin_key, 0.5, (size,))
        last = thrown == STEPS - 1
        still = jnp.zeros((size, 1))
        return make_batch(
            observations=observe(thrown, heads),
            actions=still,
            rewards=jnp.where(last & (next_heads >= NEEDED), 1.0, 0.0),
            discounts=jnp.where(last, 0.0, 1.0),
            next_observations=observe(thrown + 1, next_heads),
            next_actions=still,
        )

    queries = []
    for thrown, heads in ((0, 0), (5, 2), (5, 3), (10, 5), (10, 6), (15, 9)):
        chance = float(stats.binom.sf(NEEDED - heads - 1, STEPS - thrown, 0.5))
        observation = np.asarray(observe(*map(jnp.float32, (thrown, heads)))).tolist()
        law = laws.discrete([0.0, 1.0], [1.0 - chance, chance])
        queries.append(Query(observation, [0.0], law))
    return Process('rare_success', sample, queries, (0.0, 1.0))


ALL = {
    'uniform': uniform,
    'two_point': two_point,
    'geometric': geometric,
    'gaussian': gaussian,
    'exponential': exponential,
    'tied_actions': tied_actions,
    'noisy_walk': noisy_walk,
    'steered_walk': steered_walk,
    'rare_success': rare_success,
    'better_action': better_action,
    'constant': constant,
}
