import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import random_arrays, small_agent
from utils.data import datasets
from utils.training import populations


@pytest.fixture
def dataset():
    return jax.tree.map(jnp.asarray, datasets.build(random_arrays((100, 100))))


def make_chunk(agent, **options):
    def sample(dataset, key):
        return datasets.sample(dataset, key, 32, 1, 0, 0.9, agent.needs_next_actions)

    return populations.make_train_chunk(agent.update, sample, **options)


@pytest.fixture(scope='module')
def evor():
    agent = small_agent()
    return agent, make_chunk(agent)


def train(train_chunk, agent, dataset, seeds, chunks):
    population = populations.init_states(agent.init, seeds)
    keys = populations.streams(seeds, populations.TRAIN_STREAM)
    window = populations.empty_window(train_chunk, population, keys, dataset)
    step = 0
    for num_steps in chunks:
        population, window = train_chunk(population, window, keys, dataset, step, num_steps)
        step += num_steps
    return population, window


def test_where_chunks_are_cut_does_not_change_a_bit(dataset, evor):
    agent, train_chunk = evor
    whole = train(train_chunk, agent, dataset, [0], [60])
    parts = train(train_chunk, agent, dataset, [0], [1, 0, 36, 23])
    chex.assert_trees_all_equal(whole, parts)  # states and the sums of metrics


@pytest.mark.parametrize('name', ['evor', 'qc1'])
def test_undiscounted_returns_have_no_bounds_and_are_trained_on(dataset, name):
    agent = small_agent(name, discount=1.0, bounds=(-np.inf, np.inf))
    _, window = train(make_chunk(agent), agent, dataset, [0], [2])
    assert not window.bad_state.any()
    assert not window.bad_update.any()


@pytest.mark.long
@pytest.mark.parametrize('batch_seeds', [False, True])
def test_three_seeds_together_equal_three_separate_runs(dataset, batch_seeds):
    agent = small_agent()
    train_chunk = make_chunk(agent, batch_seeds=batch_seeds)
    together, _ = train(train_chunk, agent, dataset, [0, 1, 2], [50])
    for index, seed in enumerate([0, 1, 2]):
        alone, _ = train(train_chunk, agent, dataset, [seed], [50])
        # Batched and single matrix products may round differently in the last place.
        chex.assert_trees_all_close(
            populations.member(together, index), populations.member(alone, 0), rtol=1e-4, atol=1e-6
        )


def test_seeds_differ(dataset):
    agent = small_agent('bc')
    population, _ = train(make_chunk(agent), agent, dataset, [0, 1], [5])
    kernels = jax.tree.leaves(population.policy.params)[-1]
    assert not np.allclose(kernels[0], kernels[1])


def test_one_program_serves_chunks_of_any_length(dataset):
    agent = small_agent('bc')
    train_chunk = make_chunk(agent)
    train(train_chunk, agent, dataset, [0], [0, 1, 5, 10])
    assert train_chunk._cache_size() == 1


def test_the_dataset_is_an_argument_of_the_program(dataset):
    """A captured dataset would be a constant, large and compiled in."""
    agent = small_agent('bc')
    train_chunk = make_chunk(agent)
    population = populations.init_states(agent.init, [0])
    keys = populations.streams([0], populations.TRAIN_STREAM)
    text = train_chunk.lower(population, None, keys, dataset, 0, 1).as_text()
    rows = dataset.observations.shape[0]
    signature = next(line for line in text.splitlines() if '@main' in line)
    assert f'tensor<{rows}x3xf32>' in signature
    constants = [line for line in text.splitlines() if 'stablehlo.constant' in line]
    assert not any(f'tensor<{rows}x' in line for line in constants)


@pytest.mark.long
def test_a_window_sums_the_metrics_of_single_updates(dataset, evor):
    agent, train_chunk = evor
    keys = populations.streams([0], populations.TRAIN_STREAM)
    population, total = populations.init_states(agent.init, [0]), 0.0
    for step in range(4):
        population, window = train_chunk(population, None, keys, dataset, step, 1)
        total += float(window.sums['policy_loss'][0])
    _, window = train(train_chunk, agent, dataset, [0], [4])
    assert float(window.sums['policy_loss'][0]) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize('batch_seeds', [False, True])
def test_a_window_names_the_update_that_went_wrong(dataset, batch_seeds):
    """Seed 1 counts to infinity in update 7, seed 0 never does; the state keeps what it has."""

    def update(state, batch, key):
        state = state + 1.0
        return jnp.where(state == 107.0, jnp.inf, state), dict(loss=1.0 / (107.0 - state))

    train_chunk = populations.make_train_chunk(
        update, lambda dataset, key: None, batch_seeds=batch_seeds
    )
    keys = populations.streams([0, 1], populations.TRAIN_STREAM)
    start = jnp.array([0.0, 100.0])
    population, window = train_chunk(start.copy(), None, keys, dataset, 0, 6)
    assert (window.bad_update.tolist(), window.bad_state.tolist()) == ([0, 0], [False, False])
    population, window = train_chunk(population, window, keys, dataset, 6, 3)
    assert (window.bad_update.tolist(), window.bad_state.tolist()) == ([0, 7], [False, True])


def test_streams_of_a_seed_differ():
    names = (populations.INIT_STREAM, populations.TRAIN_STREAM, populations.EVAL_STREAM)
    draws = {float(jax.random.uniform(populations.stream(0, name))) for name in names}
    assert len(draws) == 3
