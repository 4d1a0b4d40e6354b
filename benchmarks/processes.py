"""Markov reward processes whose return distribution is known in closed form: the ground truth here.

A process hands out transitions like a dataset would, one batch per key, and knows the distribution
of the true return. Rewards and returns are in units of reward.

`start` and `step` of a process are given one key; what they draw from it is independent.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks import distributions
from benchmarks.distributions import Distribution
from utils.data.datasets import Batch

# Folded into the key of a batch for its later steps: far from the numbers that `split` counts by,
# so that no key is used twice.
LATER = 1 << 20


class Query(NamedTuple):
    """A state and action whose return distribution is known."""

    observation: list[float]
    action: list[float]
    distribution: Distribution


class Step(NamedTuple):
    """What follows on states and actions.

    Attributes:
        rewards: (batch,).
        discounts: (batch,); 0 where the process ends.
        next_observations: (batch, observation_dim); anything of this shape after an end.
        next_actions: (batch, action_dim) that the policy takes there.
    """

    rewards: jax.Array
    discounts: jax.Array
    next_observations: jax.Array
    next_actions: jax.Array


Start = Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]
Dynamics = Callable[[jax.Array, jax.Array, jax.Array], Step]


class Process(NamedTuple):
    """A reward process over a few states, told apart by their observation.

    Attributes:
        name: for tables.
        start: (key, batch_size) -> observations and actions, (batch, d) each.
        step: (key, observations, actions) -> Step.
        queries: states and actions whose distribution is known.
        bounds: of the returns of all states; of all but 1 in 10,000 where there are none.
    """

    name: str
    start: Start
    step: Dynamics
    queries: list[Query]
    bounds: tuple[float, float]

    def sample(self, key: jax.Array, size: int, n_step: int = 1) -> Batch:
        """Draws a batch of `size` chunks of one action, with rewards of `n_step` steps.

        The policy goes on for the later steps, so the distribution of the return stays what it is.
        """
        observations, actions = self.start(key, size)
        following = self.step(key, observations, actions)
        for later_key in jax.random.split(jax.random.fold_in(key, LATER), n_step - 1):
            following = _then(following, self.step, later_key)
        return Batch(
            observations=observations,
            actions=actions[:, None],
            action_mask=jnp.ones((size, 1)),
            rewards=following.rewards,
            discounts=following.discounts,
            next_observations=following.next_observations,
            next_actions=following.next_actions[:, None],
            td_mask=jnp.ones(size),
        )


def _then(before: Step, step: Dynamics, key: jax.Array) -> Step:
    """Goes one step on; after an end rewards and discounts stay what they are."""
    after = step(key, before.next_observations, before.next_actions)
    return after._replace(
        rewards=before.rewards + before.discounts * after.rewards,
        discounts=before.discounts * after.discounts,
    )


def _one_state(
    name: str,
    rewards: Callable[[jax.Array, int], jax.Array],
    discounts: Callable[[jax.Array, int], jax.Array],
    distribution: Distribution,
    bounds: tuple[float, float],
) -> Process:
    """A process with one state and one action: independent rewards and discounts."""

    def start(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros((size, 1)), jnp.zeros((size, 1))

    def step(key: jax.Array, observations: jax.Array, actions: jax.Array) -> Step:
        reward_key, discount_key = jax.random.split(key)
        size = len(observations)
        return Step(rewards(reward_key, size), discounts(discount_key, size), observations, actions)

    return Process(name, start, step, [Query([0.0], [0.0], distribution)], bounds)


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

    return _one_state('uniform', rewards, _always(0.5), distributions.uniform(0.0, 2.0), (0.0, 2.0))


def exponential() -> Process:
    """Exponential rewards of mean 1/4, ending with chance 1/2 each: the return is exponential too.

    A geometric number of exponential variables, undiscounted, sums to an exponential variable of
    mean 1/2. Only the terminal states keep the return finite.
    """

    def rewards(key: jax.Array, size: int) -> jax.Array:
        return 0.25 * jax.random.exponential(key, (size,))

    high = -0.5 * np.log(1e-4)
    return _one_state(
        'exponential', rewards, _goes_on(1.0), distributions.exponential(0.5), (0.0, high)
    )


def gaussian() -> Process:
    """Rewards N(1/2, 1/4), gamma 1/2: the return is normal, mean 1, variance (1/4) / (1 - 1/4)."""

    def rewards(key: jax.Array, size: int) -> jax.Array:
        return 0.5 + 0.5 * jax.random.normal(key, (size,))

    distribution = distributions.gaussian(1.0, np.sqrt(1 / 3))
    spread = 3.89 * distribution.std
    return _one_state('gaussian', rewards, _always(0.5), distribution, (1.0 - spread, 1.0 + spread))


def geometric() -> Process:
    """Reward 1 a step, ending with chance 1/2 each, gamma 1/2: 2 (1 - 2^-L), L geometric.

    A chain that terminates, as a task does: half of all returns are 1, a quarter 1.5, and so on.
    """
    lengths = np.arange(1, 41)
    distribution = distributions.discrete(
        2.0 * (1.0 - 0.5**lengths), 0.5 ** np.minimum(lengths, 39)
    )
    ones = lambda key, size: jnp.ones(size)  # noqa: E731
    return _one_state('geometric', ones, _goes_on(0.5), distribution, (0.0, 2.0))


def constant() -> Process:
    """Reward 1 for ever, gamma 1/2: the return is 2, nothing is random."""
    distribution = distributions.discrete([2.0], [1.0])
    ones = lambda key, size: jnp.ones(size)  # noqa: E731
    return _one_state('constant', ones, _always(0.5), distribution, (0.0, 2.0))


def two_point() -> Process:
    """A coin decides at the start whether 0 or 1 is paid for ever, gamma 1/2: 0 or 1, evenly.

    Observation 0 is the start, which pays nothing; -1 and 1 are the two lanes.
    """

    def draw_lane(key: jax.Array, size: int) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, 0.5, (size,)), 1.0, -1.0)

    def start(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        stage_key, coin_key = jax.random.split(key)
        first = jax.random.bernoulli(stage_key, 0.5, (size,))
        # The same coin as that of `step`, which counts where this one does not.
        lane = draw_lane(coin_key, size)
        return jnp.where(first, 0.0, lane)[:, None], jnp.zeros((size, 1))

    def step(key: jax.Array, observations: jax.Array, actions: jax.Array) -> Step:
        _, coin_key = jax.random.split(key)
        here, size = observations[:, 0], len(observations)
        lane = jnp.where(here == 0, draw_lane(coin_key, size), here)
        return Step(
            rewards=jnp.where(here > 0, 1.0, 0.0),
            discounts=jnp.full(size, 0.5),
            next_observations=lane[:, None],
            next_actions=actions,
        )

    distribution = distributions.discrete([0.0, 1.0], [0.5, 0.5])
    return Process('two_point', start, step, [Query([0.0], [0.0], distribution)], (0.0, 2.0))


def tied_actions() -> Process:
    """Two actions of equal mean: action -1 is paid Uniform[0.4, 0.6], action 1 Uniform[0, 1].

    The pay comes one step after the action, undiscounted, so that the distribution has to travel
    through a bootstrap. Observation 0 is the choice; observations -1 and 1 are paid accordingly
    and end.
    """
    return _paid_later('tied_actions', safe=(0.4, 0.6), risky=(0.0, 1.0))


def better_action() -> Process:
    """As `tied_actions`, but action -1 is paid Uniform[0.5, 0.7]: its mean is the better one."""
    return _paid_later('better_action', safe=(0.5, 0.7), risky=(0.0, 1.0))


def _paid_later(name: str, safe: tuple[float, float], risky: tuple[float, float]) -> Process:
    def start(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        choice_key, stage_key, _ = jax.random.split(key, 3)
        choice = jnp.where(jax.random.bernoulli(choice_key, 0.5, (size,)), 1.0, -1.0)
        first = jax.random.bernoulli(stage_key, 0.5, (size,))
        return jnp.where(first, 0.0, choice)[:, None], jnp.where(first, choice, 0.0)[:, None]

    def step(key: jax.Array, observations: jax.Array, actions: jax.Array) -> Step:
        *_, pay_key = jax.random.split(key, 3)
        here = observations[:, 0]
        first = here == 0
        choice = jnp.where(first, actions[:, 0], here)
        low = jnp.where(choice > 0, risky[0], safe[0])
        high = jnp.where(choice > 0, risky[1], safe[1])
        paid = low + (high - low) * jax.random.uniform(pay_key, here.shape)
        return Step(
            rewards=jnp.where(first, 0.0, paid),
            discounts=jnp.where(first, 1.0, 0.0),
            next_observations=choice[:, None],
            next_actions=jnp.zeros_like(actions),
        )

    queries = [
        Query([0.0], [-1.0], distributions.uniform(*safe)),
        Query([0.0], [1.0], distributions.uniform(*risky)),
    ]
    return Process(name, start, step, queries, (0.0, 1.0))


def noisy_walk() -> Process:
    """Two moves of 1/2 left or right by chance, then the position is paid: -1, 0 or 1.

    The transitions are stochastic and actions have no effect. Observations are (stage, position).
    """
    distribution = distributions.discrete([-1.0, 0.0, 1.0], [0.25, 0.5, 0.25])
    queries = [Query([0.0, 0.0], [action], distribution) for action in (-1.0, 1.0)]
    return Process('noisy_walk', _start_walk, _walk(steered=False), queries, (-1.0, 1.0))


def steered_walk() -> Process:
    """The deterministic twin of `noisy_walk`: the action moves, and the data's policy is a coin.

    The distribution of the start, over the policy's actions, is that of `noisy_walk`; but here a
    soft value is one that a policy can reach.
    """
    queries = [
        Query([0.0, 0.0], [-1.0], distributions.discrete([-1.0, 0.0], [0.5, 0.5])),
        Query([0.0, 0.0], [1.0], distributions.discrete([0.0, 1.0], [0.5, 0.5])),
    ]
    return Process('steered_walk', _start_walk, _walk(steered=True), queries, (-1.0, 1.0))


def _signs(key: jax.Array, size: int) -> jax.Array:
    """Five coins each: of two past moves, the action, the next action and the move by chance."""
    return jnp.where(jax.random.bernoulli(key, 0.5, (5, size)), 1.0, -1.0)


def _start_walk(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    stage_key, key = jax.random.split(key)
    stage = jax.random.randint(stage_key, (size,), 0, 3)
    one, other, actions, _, _ = _signs(key, size)
    position = 0.5 * (one * (stage > 0) + other * (stage > 1))
    return jnp.stack([stage.astype(jnp.float32), position], axis=1), actions[:, None]


def _walk(steered: bool) -> Dynamics:
    def step(key: jax.Array, observations: jax.Array, actions: jax.Array) -> Step:
        _, key = jax.random.split(key)
        stage, position = observations.T
        *_, next_actions, chances = _signs(key, len(observations))
        move = 0.5 * (actions[:, 0] if steered else chances)
        last = stage == 2
        return Step(
            rewards=jnp.where(last, position, 0.0),
            discounts=jnp.where(last, 0.0, 1.0),
            next_observations=jnp.stack([stage + 1.0, position + move], axis=1),
            next_actions=next_actions[:, None],
        )

    return step


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

    def start(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        thrown_key, heads_key, _ = jax.random.split(key, 3)
        thrown = jax.random.randint(thrown_key, (size,), 0, STEPS)
        heads = jax.random.randint(heads_key, (size,), 0, thrown + 1)
        return observe(thrown, heads), jnp.zeros((size, 1))

    def step(key: jax.Array, observations: jax.Array, actions: jax.Array) -> Step:
        *_, coin_key = jax.random.split(key, 3)
        thrown, heads = jnp.round((observations + 1.0) * (0.5 * STEPS)).astype(int).T
        next_heads = heads + jax.random.bernoulli(coin_key, 0.5, heads.shape)
        last = thrown == STEPS - 1
        return Step(
            rewards=jnp.where(last & (next_heads >= NEEDED), 1.0, 0.0),
            discounts=jnp.where(last, 0.0, 1.0),
            next_observations=observe(thrown + 1, next_heads),
            next_actions=actions,
        )

    queries = []
    for thrown, heads in ((0, 0), (5, 2), (5, 3), (10, 5), (10, 6), (15, 9)):
        chance = float(stats.binom.sf(NEEDED - heads - 1, STEPS - thrown, 0.5))
        observation = np.asarray(observe(*map(jnp.float32, (thrown, heads)))).tolist()
        distribution = distributions.discrete([0.0, 1.0], [1.0 - chance, chance])
        queries.append(Query(observation, [0.0], distribution))
    return Process('rare_success', start, step, queries, (0.0, 1.0))


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
