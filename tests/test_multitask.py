"""Tasks trained together are the tasks trained alone, with the shared work done once."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import random_arrays, small_agent
from utils.data import datasets
from utils.errors import UserError
from utils.jobs import flops
from utils.training import multitask, populations

SEEDS = [0, 3]
AGENTS = {
    'evor_c51': dict(next_action='dataset', chunk_length=2),
    'evor_qr': dict(next_action='policy', backup_candidates=3, backup_return_samples=1),
    'qc1': {},
    'fql': {},
    'iql': {},
}


def task_arrays(task):
    """The trajectories of `random_arrays` under another task's rewards."""
    arrays = random_arrays((40, 30))
    if task:
        rng = np.random.default_rng(task)
        masks = (rng.uniform(size=70) > 0.2).astype(np.float32)
        masks[[39, 69]] = arrays['masks'][[39, 69]]
        arrays |= dict(masks=masks, rewards=2.0 * masks - 2.0)
    return arrays


def sampler(agent, chunk_length):
    def sample(dataset, key):
        return datasets.sample(dataset, key, 16, chunk_length, 0, 0.9, agent.needs_next_actions)

    return sample


def train(agents, shards, seeds, steps, chunk_length, batch_tasks=None):
    """The states of `agents`, one per task, after some updates together."""
    lifted = multitask.lift(agents, batch_tasks)
    sample = multitask.sample(sampler(agents[0], chunk_length))
    train_chunk = populations.make_train_chunk(lifted.update, sample)
    dataset = jax.device_put(multitask.stack(shards))
    keys = populations.streams(seeds, populations.TRAIN_STREAM)
    states = populations.init_states(lifted.init, seeds)
    states, window = train_chunk(states, None, keys, dataset, 0, steps)
    return lifted.split(states), window.sums


@pytest.mark.long
@pytest.mark.parametrize(
    ('name', 'batch_tasks'), [*((name, True) for name in AGENTS), ('iql', False)]
)
def test_each_member_equals_its_separate_run(name, batch_tasks):
    settings = AGENTS[name]
    chunk_length = settings.get('chunk_length', 1)
    shards = [datasets.build(task_arrays(task)) for task in range(2)]
    agents = [small_agent(name, return_mean=-float(task), **settings) for task in range(2)]
    together, sums = train(agents, shards, SEEDS, 10, chunk_length, batch_tasks)
    train_chunk = populations.make_train_chunk(agents[0].update, sampler(agents[0], chunk_length))
    keys = populations.streams(SEEDS, populations.TRAIN_STREAM)
    for task, agent in enumerate(agents):
        population = populations.init_states(agent.init, SEEDS)
        dataset = jax.tree.map(jnp.asarray, shards[task])
        alone, window = train_chunk(population, None, keys, dataset, 0, 10)
        chex.assert_trees_all_equal_shapes_and_dtypes(together[task], alone)
        # Batched and single matrix products may round differently in the last place.
        chex.assert_trees_all_close(together[task], alone, rtol=1e-4, atol=1e-5)
        for metric, total in window.sums.items():
            np.testing.assert_allclose(sums[metric][:, task], total, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('next_action', ['policy', pytest.param('dataset', marks=pytest.mark.long)])
def test_what_no_reward_touches_is_computed_once(next_action):
    """Five tasks cost five value updates, but one policy update and one set of next actions."""
    agent = small_agent(next_action=next_action)
    key = jax.random.key(0)
    sample = sampler(agent, 1)

    @functools.cache
    def cost(num_tasks):
        shards = [datasets.build(task_arrays(task)) for task in range(num_tasks)]
        lifted = multitask.lift([agent] * num_tasks)
        state = jax.eval_shape(lifted.init, key)
        batch = jax.eval_shape(multitask.sample(sample), multitask.stack(shards), key)
        return flops.count(lifted.update, state, batch, key)

    own = cost(2) - cost(1)
    assert cost(5) == cost(1) + 4 * own
    single = flops.count(
        agent.update,
        jax.eval_shape(agent.init, key),
        jax.eval_shape(sample, datasets.build(task_arrays(0)), key),
        key,
    )
    assert cost(1) == single
    # The policy's update: three products a layer, of which the first needs none for its input.
    # Its samples: the observation's part of the first layer once, all else once a step.
    observation, moving, rest = 3 * 16, (2 + 1) * 16, 16 * 16 + 16 * 2
    products = 2 * (observation + moving) + 3 * rest
    products += (observation + 3 * (moving + rest)) if next_action == 'policy' else 0
    assert single - own == pytest.approx(2.0 * 16 * products)


@pytest.mark.parametrize('name', ['iql', 'evor'])
def test_tasks_take_turns_where_they_share_no_training(name):
    """And so a frozen policy is still the one that it was."""
    shards = [datasets.build(task_arrays(task)) for task in range(2)]
    frozen = dict(frozen_policy=True, next_action='dataset') if name == 'evor' else {}
    agents = [small_agent(name, return_mean=-float(task), **frozen) for task in range(2)]
    assert not agents[0].trains_shared
    batched, in_turn = (train(agents, shards, SEEDS, 3, 1, way) for way in (True, False))
    chex.assert_trees_all_close(batched, in_turn, rtol=1e-4, atol=1e-5)


def test_a_policy_in_training_is_trained_once_for_all_tasks():
    with pytest.raises(AssertionError, match='policy'):
        multitask.lift([small_agent()] * 2, batch_tasks=False)


def test_merging_undoes_splitting():
    agents = [small_agent(return_mean=-float(task)) for task in range(2)]
    lifted = multitask.lift(agents)
    states = populations.init_states(lifted.init, SEEDS)
    views = lifted.split(states)
    assert [float(view.returns.mean[0]) for view in views] == [0.0, -1.0]
    chex.assert_trees_all_equal(lifted.merge(views), states)


def test_tasks_whose_trajectories_end_apart_are_refused():
    other = task_arrays(1)
    other['masks'][39] = 1.0 - other['masks'][39]
    with pytest.raises(UserError, match='one by one'):
        multitask.stack([datasets.build(task_arrays(0)), datasets.build(other)])
