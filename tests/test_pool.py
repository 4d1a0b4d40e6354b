"""Candidates of a frozen base policy: drawn once, kept on disk, read by the backup."""

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evor, frozen
from tests.helpers import model_of, random_arrays, random_state, small_agent
from tests.test_cli import ENV, data_dir, table, train  # noqa: F401
from utils import critics, datasets, extraction, files, pool, runs
from utils.errors import UserError

ROWS, NUM, STEPS = 70, 3, 2
AGENT = small_agent('bc', chunk_length=2)
NET = model_of(AGENT).policy_net
PARAMS = random_state(small_agent('qc1', chunk_length=2)).policy.params
OBSERVATIONS = np.float32(np.random.default_rng(0).normal(size=(ROWS, 3)))
KEY = jax.random.key(7)


def ensure(path, num=NUM, **provenance):
    return pool.ensure(path, NET, PARAMS, OBSERVATIONS, KEY, num, STEPS, provenance)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(pool, 'CPU_TILE', 16)
    monkeypatch.setattr(pool, 'ACCELERATOR_TILE', 16)


def draw(rows, num=NUM):
    rows = np.array(rows)
    return np.asarray(pool.draw(NET, PARAMS, OBSERVATIONS[rows], rows, KEY, num, STEPS))


def test_candidates_of_a_row_depend_on_the_key_and_the_row_alone():
    some, all_of_them = draw([60, 3]), draw(range(ROWS))
    assert some.shape == (2, NUM, 4)
    np.testing.assert_allclose(some, all_of_them[[60, 3]], atol=2e-3)
    assert np.abs(some[0] - some[1]).max() > 0.1


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
    assert whole.shape == (ROWS, NUM, 4)
    assert whole.dtype == np.float16
    assert isinstance(whole, np.memmap)


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
    monkeypatch.setattr(pool.guards.shutil, 'disk_usage', lambda _: SimpleNamespace(free=100))
    with pytest.raises(UserError, match='the pool of candidates needs 0 MB'):
        ensure(tmp_path / 'pool.npy')
    assert not (tmp_path / 'pool.npy').exists()


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
    batch = datasets.sample(dataset, key, 64, 2, n_step, 0.9, False, num)
    rows, columns = np.moveaxis(np.asarray(batch.next_candidates), -1, 0)
    for row, successor in zip(rows, np.asarray(batch.next_observations), strict=True):
        np.testing.assert_array_equal(dataset.observations[int(row[0])], successor)
        assert len(set(row)) == 1
    assert all(len(set(column)) == num for column in columns)
    assert set(columns.ravel()) == set(range(5))


def test_without_a_pool_the_batches_are_those_they_were(key):
    dataset = datasets.build(random_arrays())
    batch = datasets.sample(dataset, key, 16, 2, 0, 0.9, False)
    choice = jax.random.randint(key, (16,), 0, len(dataset.starts))
    np.testing.assert_array_equal(
        batch.observations, dataset.observations[dataset.starts[np.asarray(choice)]]
    )
    assert batch.next_candidates is None


def pool_batch(key, num):
    arrays = random_arrays()
    rng = np.random.default_rng(1)
    candidates = np.float16(rng.uniform(-1, 1, (75, 6, 2)))
    dataset = datasets.build(arrays).replace(candidates=candidates)
    return datasets.sample(jax.tree.map(jnp.asarray, dataset), key, 32, 1, 0, 0.9, False, num)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('qc1', dict(backup_candidates=4)),
        ('evor_c51', dict(backup_candidates=1)),
        ('evor_c51', dict(backup_candidates=4, backup_return_samples=1)),
        ('evor_coupled', dict(backup_candidates=4, backup_return_samples=2)),
    ],
)
def test_values_learn_from_the_pool_and_the_policy_stays_as_it_is(key, name, changes):
    agent = small_agent(name, next_action='pool', **changes)
    assert agent.num_candidates == changes['backup_candidates']
    state = random_state(agent)
    after, metrics = jax.jit(agent.update)(state, pool_batch(key, agent.num_candidates), key)
    jax.tree.map(np.testing.assert_array_equal, after.policy, state.policy)
    value = 'critic' if name == 'qc1' else 'value'
    moved = jax.tree.map(
        lambda one, other: not np.array_equal(one, other),
        getattr(after, value).params,
        getattr(state, value).params,
    )
    assert all(jax.tree.leaves(moved))
    assert 'policy_loss' not in metrics
    assert np.isfinite(metrics['value_loss'])


def test_the_backup_of_qc_takes_the_best_of_the_pool(key):
    agent = small_agent('qc1', next_action='pool', backup_candidates=4, return_map='none')
    state, batch = random_state(agent), pool_batch(key, 4)
    model = model_of(agent)
    online = np.asarray(
        critics.values_of_candidates(
            model.critic_net, state.critic.params, batch.next_observations, batch.next_candidates
        ).mean(axis=0)
    )
    best = np.asarray(batch.next_candidates)[np.arange(32), online.argmax(axis=1)]
    target = critics.values(
        model.critic_net, state.critic.target_params, batch.next_observations, best
    ).mean(axis=0)
    _, metrics = agent.update(state, batch, key)
    expected = np.mean(batch.rewards + batch.discounts * target)
    np.testing.assert_allclose(metrics['return_mean'], expected, rtol=1e-4)


def test_the_backup_of_evor_picks_by_the_rule_that_acts(key):
    """Greedy: the candidate of the greatest value of the target net."""
    agent = small_agent(
        'evor_scalar', next_action='pool', backup_candidates=4, backup_return_samples=1, tau_q=0.0
    )
    state, batch = random_state(agent), pool_batch(key, 4)
    model = model_of(agent)
    settings = evor.backup_settings(model.config)
    values = evor.value_candidates(
        model,
        state.value.target_params,
        state.returns,
        batch.next_observations,
        batch.next_candidates,
        key,
        settings,
    )
    picked = evor.choose_next_actions(model, state, batch, key)
    best = extraction.take(batch.next_candidates, jnp.argmax(values, axis=1))
    np.testing.assert_array_equal(picked, best)


# The three phases from the command line.


@pytest.fixture(scope='module')
def base_policy(data_dir, tmp_path_factory):  # noqa: F811
    save_dir = tmp_path_factory.mktemp('base')
    result = train(data_dir, save_dir, tiny=('--agent=configs.py:bc', *CHUNKS, *BC))
    assert result.returncode == 0, result.stderr
    return save_dir / ENV / 'bc' / 'seeds_0'


BC = ('--agent.hidden_dims=(8,)', '--agent.batch_size=16', '--agent.flow_steps=2')
CHUNKS = ('--agent.chunk_length=3',)
FEW = '--agent.backup_candidates=3', '--agent.n_pi=2'


def train_values(data_dir, save_dir, base, *arguments):  # noqa: F811
    return train(
        data_dir,
        save_dir,
        f'--base_policy={base}',
        '--num_pool=4',
        *arguments,
        tiny=('--agent=configs.py:qc5_pool', *CHUNKS, *BC, *FEW),
    )


def test_values_are_trained_on_a_base_policy_that_was_trained_before(
    data_dir,  # noqa: F811
    base_policy,
    tmp_path,
):
    result = train_values(data_dir, tmp_path, base_policy, '--tasks=1,2')
    assert result.returncode == 0, result.stderr
    made = {path.name for path in (base_policy / 'pool').iterdir()}
    assert {'train_4.npy', 'train_4.json', 'val_4.npy', 'val_4.json'} <= made
    for task in (1, 2):
        directory = tmp_path / ENV.replace('task1', f'task{task}') / 'qc5_pool' / 'seeds_0'
        record = json.loads((directory / 'config.json').read_text())
        assert record['num_pool'] == 4
        assert record['base_policy']['step'] == 12
        losses = [float(row['value_loss']) for row in table(directory / 'train.csv')]
        assert np.isfinite(losses).all()
    # Alone, task 2 reads the same pool, and learns the same.
    alone = tmp_path / 'alone'
    result = train_values(data_dir, alone, base_policy, '--tasks=2')
    assert result.returncode == 0, result.stderr
    name = ENV.replace('task1', 'task2')
    rows = [table(folder / name / 'qc5_pool/seeds_0/train.csv') for folder in (tmp_path, alone)]
    for joint_row, row in zip(*rows, strict=True):
        assert float(joint_row['value_loss']) == pytest.approx(float(row['value_loss']), rel=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--num_pool=2',), '--num_pool: must be at least agent.backup_candidates=3, not 2'),
        (('--base_policy=',), '--base_policy: give the directory of a bc run'),
        (('--base_policy=nowhere',), 'nowhere: no run here'),
        (('--agent.chunk_length=2',), r'other settings: chunk_length \(3 there\)'),
    ],
)
def test_what_does_not_fit_a_base_policy_is_refused(
    data_dir,  # noqa: F811
    base_policy,
    tmp_path,
    arguments,
    message,
):
    result = train_values(data_dir, tmp_path, base_policy, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search(message, result.stderr), result.stderr


def test_a_base_policy_may_be_older_than_steps_of_reward(base_policy, tmp_path):
    record = json.loads((base_policy / 'config.json').read_text())
    config = runs.agent_config(record)
    del record['agent']['n_step']
    (tmp_path / 'config.json').write_text(json.dumps(record))
    (tmp_path / 'checkpoints').symlink_to(base_policy / 'checkpoints')
    sizes = record['observation_dim'], record['action_dim']
    older, policy = (frozen.load(path, config, *sizes) for path in (tmp_path, base_policy))
    assert older.digest == policy.digest


def test_only_a_run_of_bc_is_a_base_policy(base_policy, tmp_path):
    record = json.loads((base_policy / 'config.json').read_text())
    record['agent']['agent_name'] = 'qc'
    (tmp_path / 'config.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match=r'is a run of qc; train one with --agent=configs\.py:bc'):
        frozen.load(tmp_path, None, 3, 2)
