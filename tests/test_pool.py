"""Candidates of a frozen base policy: drawn once, kept on disk, read by the backup."""

import errno
import functools
import itertools
import json
import math
import os
from types import SimpleNamespace
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evor, frozen
from tests.helpers import compiled, model_of, random_arrays, random_state, sample, small_agent
from utils import files
from utils.data import datasets
from utils.data.host_array import HostArray
from utils.errors import UserError
from utils.models import critics, extraction
from utils.system.stopping import StoppedError, StopRequest
from utils.training import pool, populations

ROWS, NUM, STEPS = 70, 3, 2
AGENT = small_agent('bc', chunk_length=2)
NET = model_of(AGENT).policy_net
PARAMS = random_state(small_agent('qc1', chunk_length=2)).policy.params
OBSERVATIONS = np.float32(np.random.default_rng(0).normal(size=(ROWS, 3)))
KEY = jax.random.key(7)
NEVER = StopRequest()


def draw_rows(observations, rows, num=NUM):
    return pool.draw(NET, PARAMS, observations, rows, KEY, num, STEPS)


def ensure(path, stop=NEVER, **provenance):
    return pool.ensure(path, draw_rows, OBSERVATIONS, (NUM, 2, 2), provenance, stop)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(pool, 'CPU_TILE', 16)
    monkeypatch.setattr(pool, 'ACCELERATOR_TILE', 16)


def draw(rows, num=NUM):
    rows = np.array(rows)
    return np.asarray(draw_rows(OBSERVATIONS[rows], rows, num))


def test_candidates_of_a_row_depend_on_the_key_and_the_row_alone():
    some, all_of_them = draw([60, 3]), draw(range(ROWS))
    assert some.shape == (2, NUM, 4)
    np.testing.assert_allclose(some, all_of_them[[60, 3]], atol=2e-3)
    assert np.abs(some[0] - some[1]).max() > 0.1


def test_a_function_draws_the_same_on_every_device():
    """Whatever number of rows a device computes together."""

    def noise(observations, key, num):
        return jax.random.uniform(key, (len(observations), num, 1, 2))

    draw = frozen.ForeignPolicy('mine:noise', noise, '', (1, 2)).draw(KEY, NUM, STEPS)
    rows = np.arange(2 * pool.CPU_TILE)
    observations = np.zeros((len(rows), 3))
    halves = [draw(observations[part], part) for part in np.split(rows, 2)]
    np.testing.assert_array_equal(draw(observations, rows), np.concatenate(halves))


def test_the_first_of_many_candidates_are_those_of_few():
    np.testing.assert_allclose(draw([5], 8)[:, :NUM], draw([5], NUM), atol=2e-3)


def test_candidates_are_samples_of_the_policy():
    """Of its noise: row 3's first candidate is the Euler path from its own a_0, written out."""
    own = jax.random.fold_in(jax.random.fold_in(KEY, 3), 0)
    a = np.asarray(jax.random.normal(own, (4,)))[None]
    for step in range(STEPS):
        velocity = NET.apply(PARAMS, a, jnp.full((1, 1), step / STEPS), OBSERVATIONS[3:4])
        a = a + np.asarray(velocity) / STEPS
    np.testing.assert_allclose(draw([3])[0, 0], np.clip(a[0], -1, 1), atol=2e-3)


def test_a_pool_has_the_same_bytes_whatever_its_blocks(tmp_path, monkeypatch, small_tiles):
    whole = ensure(tmp_path / 'whole.npy')
    monkeypatch.setattr(pool, 'BLOCK_BYTES', 1)  # a tile at a time
    ensure(tmp_path / 'blocks.npy')
    assert (tmp_path / 'whole.npy').read_bytes() == (tmp_path / 'blocks.npy').read_bytes()
    assert whole.shape == (ROWS, NUM, 2, 2)
    assert whole.dtype == np.float16
    assert isinstance(whole, np.memmap)


@pytest.mark.usefixtures('small_tiles')
def test_a_row_of_the_pool_has_the_candidates_of_its_own_state(tmp_path):
    found = pool.flattened(ensure(tmp_path / 'pool.npy'))
    np.testing.assert_allclose(found, draw(range(ROWS)), atol=2e-3)


@pytest.mark.parametrize('blocks', [0, 1, 3])
def test_an_interrupted_pool_goes_on_to_the_same_bytes(tmp_path, monkeypatch, small_tiles, blocks):
    ensure(tmp_path / 'whole.npy')
    monkeypatch.setattr(pool, 'BLOCK_BYTES', 1)
    written = []

    def interrupted(path, content):
        if len(written) == blocks:
            raise KeyboardInterrupt
        written.append(content['rows_done'])
        write(path, content)

    write = files.write_json
    monkeypatch.setattr(files, 'write_json', interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path / 'pool.npy')
    monkeypatch.setattr(files, 'write_json', write)
    assert written == [16, 32, 48][:blocks]
    ensure(tmp_path / 'pool.npy')
    assert (tmp_path / 'whole.npy').read_bytes() == (tmp_path / 'pool.npy').read_bytes()


def test_a_pool_that_was_asked_to_stop_keeps_what_it_has(tmp_path, monkeypatch, small_tiles):
    monkeypatch.setattr(pool, 'BLOCK_BYTES', 1)
    answers = iter([False, False, True])
    with pytest.raises(StoppedError):
        ensure(tmp_path / 'pool.npy', stop=lambda: next(answers))
    assert json.loads((tmp_path / 'pool.json').read_text())['rows_done'] == 32
    ensure(tmp_path / 'whole.npy')
    ensure(tmp_path / 'pool.npy')
    assert (tmp_path / 'whole.npy').read_bytes() == (tmp_path / 'pool.npy').read_bytes()


def test_a_finished_pool_is_not_drawn_again(tmp_path, monkeypatch):
    first = np.array(ensure(tmp_path / 'pool.npy', digest='a'))
    monkeypatch.delattr(pool, 'draw')
    np.testing.assert_array_equal(ensure(tmp_path / 'pool.npy', digest='a'), first)


def test_a_pool_of_something_else_is_refused_and_kept(tmp_path):
    ensure(tmp_path / 'pool.npy', digest='a')
    before = (tmp_path / 'pool.npy').read_bytes()
    with pytest.raises(UserError, match='these differ: digest'):
        ensure(tmp_path / 'pool.npy', digest='b')
    assert (tmp_path / 'pool.npy').read_bytes() == before


@pytest.mark.parametrize(
    ('name', 'content'),
    [('pool.json', b'{'), ('pool.json', b'{}'), ('pool.npy', b'no array'), ('pool.npy', None)],
)
def test_a_damaged_pool_is_named(tmp_path, name, content):
    ensure(tmp_path / 'pool.npy')
    if content is None:
        np.save(tmp_path / name, np.zeros((2, 2), np.float16))
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf'{name}: damaged'):
        ensure(tmp_path / 'pool.npy')


def test_a_pool_that_the_disk_cannot_hold_is_refused_before_it_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pool.guards.shutil, 'disk_usage', lambda _: SimpleNamespace(total=200, free=100)
    )
    with pytest.raises(UserError, match='the pool of candidates needs 0 MB'):
        ensure(tmp_path / 'pool.npy')
    assert not (tmp_path / 'pool.npy').exists()


def test_a_disk_whose_files_cannot_be_mapped_is_named(tmp_path):
    error = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    with mock.patch('mmap.mmap', side_effect=error):
        with pytest.raises(UserError, match=r'mapped to memory \(No such device\).*--save_dir'):
            ensure(tmp_path / 'pool.npy')


def test_an_agent_begins_with_the_frozen_policy():
    policy = random_state(small_agent('qc1', chunk_length=2), seed=3).policy
    frozen_policy = frozen.FrozenPolicy(None, {}, 1, NET, policy, '')
    agent = small_agent('qc5_25', chunk_length=2)
    chex.assert_trees_all_equal(frozen_policy.give_to(agent).init(KEY).policy, policy)


# What the backup reads.


def pooled_dataset(size=5):
    """Every candidate tells its row and column."""
    dataset = datasets.build(random_arrays())
    rows, columns = np.arange(75), np.arange(size)
    names = np.stack(np.broadcast_arrays(rows[:, None], columns[None]), axis=-1)
    return jax.tree.map(jnp.asarray, dataset.replace(candidates=np.float16(names)))


@pytest.mark.parametrize(('num', 'n_step'), [(1, 0), (3, 0), (5, 0), (3, 4)])
def test_a_batch_has_different_candidates_of_each_successor(key, num, n_step):
    dataset = pooled_dataset()
    batch = sample(dataset, key, 64, 2, n_step, 0.9, False, num)
    rows, columns = np.moveaxis(np.asarray(batch.next_candidates), -1, 0)
    for row, successor in zip(rows, np.asarray(batch.next_observations), strict=True):
        np.testing.assert_array_equal(dataset.observations[int(row[0])], successor)
        assert len(set(row)) == 1
    assert all(len(set(column)) == num for column in columns)
    assert set(columns.ravel()) == set(range(5))


def test_without_a_pool_the_batches_are_those_they_were(key):
    dataset = datasets.build(random_arrays())
    batch = sample(dataset, key, 16, 2, 0, 0.9, False)
    choice = jax.random.randint(key, (16,), 0, len(dataset.starts))
    np.testing.assert_array_equal(
        batch.observations, dataset.observations[dataset.starts[np.asarray(choice)]]
    )
    assert batch.next_candidates is None


def pool_batch(key, num, chunk_length=1):
    arrays = random_arrays()
    rng = np.random.default_rng(1)
    candidates = np.float16(rng.uniform(-1, 1, (75, 6, 2 * chunk_length)))
    dataset = datasets.build(arrays).replace(candidates=candidates)
    dataset = jax.tree.map(jnp.asarray, dataset)
    return sample(dataset, key, 32, chunk_length, 0, 0.9, False, num)


def picking(name, picker, num):
    """A case; in every lane several candidates are tried with each picker, and a single one."""
    always = [('qc1', 'target', 4), ('evor_c51', 'online', 4), ('evor_coupled', 'target', 1)]
    case = name, picker, num
    return pytest.param(*case, marks=[pytest.mark.long] * (case not in always))


MODELS = ['qc1', 'evor_c51', 'evor_coupled', 'evor_scalar', 'evor_qr', 'evor_iqn']
PICKING = [picking(*case) for case in itertools.product(MODELS, ('online', 'target'), (1, 4))]


@pytest.mark.parametrize(('name', 'picker', 'num'), PICKING)
def test_values_learn_from_the_pool_and_the_policy_stays_as_it_is(key, name, picker, num):
    agent = small_agent(name, frozen_policy=True, backup_candidates=num, backup_picker=picker)
    assert agent.num_candidates == num
    state, agent = random_state(agent), compiled(agent)
    after, metrics = agent.update(state, pool_batch(key, num), key)
    jax.tree.map(np.testing.assert_array_equal, after.policy, state.policy)
    value = 'critic' if name == 'qc1' else 'value'
    moved = jax.tree.map(
        lambda one, other: not np.array_equal(one, other),
        getattr(after, value).params,
        getattr(state, value).params,
    )
    assert all(jax.tree.leaves(moved))
    assert 'policy_loss' not in metrics
    assert 'policy_loss' not in agent.diagnose(state, pool_batch(key, num), key)
    assert np.isfinite(metrics['value_loss'])


@pytest.mark.parametrize(
    ('name', 'changes'),
    [('evor_c51', dict(next_action='dataset')), ('ifql', {})],
)
def test_values_that_need_no_candidates_freeze_the_policy_too(key, name, changes):
    agent = small_agent(name, frozen_policy=True, **changes)
    assert agent.num_candidates == 0
    state, agent = random_state(agent), compiled(agent)
    batch = sample(datasets.build(random_arrays()), key, 32, 1, 0, 0.9, True)
    after, metrics = agent.update(state, batch, key)
    jax.tree.map(np.testing.assert_array_equal, after.policy, state.policy)
    assert 'policy_loss' not in metrics


@pytest.mark.parametrize('picker', ['online', 'target'])
def test_the_backup_of_qc_takes_the_best_of_the_pool(key, picker):
    agent = small_agent(
        'qc1', frozen_policy=True, backup_candidates=4, backup_picker=picker, return_map='none'
    )
    state, batch = random_state(agent), pool_batch(key, 4)
    model, critic = model_of(agent), state.critic
    params = critic.params if picker == 'online' else critic.target_params
    values_of_candidates, values_of = (
        jax.jit(function, static_argnums=0)
        for function in (critics.values_of_candidates, critics.values)
    )
    values = values_of_candidates(
        model.critic_net, params, batch.next_observations, batch.next_candidates
    )
    index = np.asarray(values.mean(axis=0)).argmax(axis=1)
    best = np.asarray(batch.next_candidates)[np.arange(32), index]
    target = values_of(model.critic_net, critic.target_params, batch.next_observations, best).mean(
        axis=0
    )
    _, metrics = jax.jit(agent.update)(state, batch, key)
    expected = np.mean(batch.rewards + batch.discounts * target)
    np.testing.assert_allclose(metrics['return_mean'], expected, rtol=1e-4)


@pytest.mark.parametrize('picker', ['online', 'target'])
@pytest.mark.parametrize('changes', [dict(tau_q=0.0), dict(tau_q=math.inf, backup_pick='best')])
def test_the_backup_of_evor_picks_by_the_rule_that_acts_or_the_best(key, changes, picker):
    """A greedy rule picks the candidate of the greatest value."""
    agent = small_agent(
        'evor_scalar',
        frozen_policy=True,
        backup_candidates=4,
        backup_picker=picker,
        backup_return_samples=1,
        **changes,
    )
    state, batch = random_state(agent), pool_batch(key, 4)
    model = model_of(agent)
    values = jax.jit(functools.partial(evor.value_candidates, model))(
        state.value.params if picker == 'online' else state.value.target_params,
        state.returns,
        batch.next_observations,
        batch.next_candidates,
        key,
        evor.backup_settings(model.config),
    )
    picked = jax.jit(functools.partial(evor.choose_next_actions, model))(state, batch, key)
    best = extraction.take(batch.next_candidates, jnp.argmax(values, axis=1))
    np.testing.assert_array_equal(picked, best)


def test_a_backup_may_pick_the_best_where_acting_picks_softly(key):
    changes = dict(frozen_policy=True, backup_candidates=4, tau_q=math.inf)
    softly, best = (
        evor.choose_next_actions(model_of(agent), random_state(agent), pool_batch(key, 4), key)
        for agent in (
            small_agent('evor_scalar', backup_pick=how, **changes) for how in ('softmax', 'best')
        )
    )
    assert 0 < np.all(softly == best, axis=1).mean() < 1


@pytest.mark.parametrize('name', ['evor_c51', 'qc1', 'ifql'])
def test_an_agent_chooses_among_candidates_that_it_is_given(key, name):
    agent = small_agent(name, tau_q=0.0) if name == 'evor_c51' else small_agent(name)
    state = random_state(agent).replace(policy=None)
    candidates = np.random.default_rng(0).uniform(-1, 1, (5, 7, 2)).astype(np.float32)
    observations = OBSERVATIONS[:5]
    decision = jax.jit(agent.act)(state, observations, key, agent.settings, candidates)
    np.testing.assert_array_equal(decision.candidates[:, :, 0], candidates)
    best = np.asarray(decision.values).argmax(axis=1)
    np.testing.assert_array_equal(decision.actions[:, 0], candidates[np.arange(5), best])


# Where the pool is.


def test_a_pool_on_the_host_gives_the_candidates_that_it_gives_on_the_device(key):
    array = np.float16(np.random.default_rng(0).normal(size=(20, 6, 4)))
    rows = jnp.arange(12).reshape(3, 4)
    drawn = [
        jax.jit(jax.vmap(lambda rows, of=of: datasets.draw_candidates(of, rows, key, 2)))(rows)
        for of in (jnp.asarray(array), HostArray(array))
    ]
    assert drawn[0].shape == (3, 4, 2, 4)
    np.testing.assert_array_equal(*drawn)


@pytest.mark.long
@pytest.mark.usefixtures('optimised')
@pytest.mark.parametrize('batch_seeds', [False, True])
def test_weights_do_not_depend_on_where_the_pool_is(batch_seeds):
    agent = small_agent('qc1', frozen_policy=True, backup_candidates=4)
    dataset = jax.tree.map(jnp.asarray, datasets.build(random_arrays()))
    array = np.float16(np.random.default_rng(0).uniform(-1, 1, (75, 6, 2)))

    def sample(dataset, key):
        return datasets.sample(dataset, key, 32, 1, 0, 0.9, False, 4)

    chunk = populations.make_train_chunk(agent.update, sample, batch_seeds=batch_seeds)
    keys = populations.streams([0, 1], populations.TRAIN_STREAM)
    trained = [
        chunk(
            populations.init_states(agent.init, [0, 1]),
            None,
            keys,
            dataset.replace(candidates=of),
            0,
            5,
        )
        for of in (jnp.asarray(array), HostArray(array))
    ]
    jax.tree.map(np.testing.assert_array_equal, *trained)


# Pools that somebody else has made.


def others_pool(tmp_path, array):
    np.save(tmp_path / 'theirs.npy', array)
    return pool.read(tmp_path / 'theirs.npy', 6, 3, (2, 4))


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_a_pool_may_be_somebody_elses(tmp_path, dtype):
    array = np.random.default_rng(0).uniform(-1, 1, (6, 3, 2, 4)).astype(dtype)
    read = others_pool(tmp_path, array)
    assert isinstance(read, np.memmap)
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(pool.flattened(read)[5, 2], array[5, 2].ravel())


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (
            np.zeros((5, 3, 2, 4), np.float32),
            r'expected \(rows, candidates, h, action_dim\) = \(6, ',
        ),
        (np.zeros((6, 2, 2, 4), np.float32), 'at least 3'),
        (np.zeros((6, 3, 8), np.float32), r'has shape \(6, 3, 8\)'),
        (np.zeros((6, 3, 2, 4)), 'dtype float64'),
        (np.asfortranarray(np.zeros((6, 3, 2, 4), np.float32)), 'Fortran order'),
        (np.zeros((6, 3, 2, 4), object), r'Python objects.*numpy\.save$'),
        (np.full((6, 3, 2, 4), np.float32(1.5)), r'row 0 leave \[-1, 1\]'),
        (np.full((6, 3, 2, 4), np.float32(np.nan)), r'row 0 leave \[-1, 1\]'),
    ],
)
def test_what_is_no_pool_of_the_dataset_is_refused(tmp_path, array, message):
    with pytest.raises(UserError, match=message):
        others_pool(tmp_path, array)


def test_a_pool_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r'theirs\.npy: damaged, or no .npy file .*No such file'):
        pool.read(tmp_path / 'theirs.npy', 6, 3, (2, 4))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04' + bytes(99), b'\x93NUMPY\x01\x00v\x00{('])
def test_what_is_no_array_at_all_is_no_pool(tmp_path, content):
    """Nothing, an .npz by another name, a header that is cut off."""
    (tmp_path / 'theirs.npy').write_bytes(content)
    with pytest.raises(UserError, match=r'theirs\.npy: damaged, or no .npy file'):
        pool.read(tmp_path / 'theirs.npy', 6, 3, (2, 4))
