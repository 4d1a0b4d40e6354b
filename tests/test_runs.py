"""Run directories, tables, configs and checkpoints: what a run writes and reads again."""

import json

import chex
import jax
import jax.numpy as jnp
import pytest

import configs
from tests.helpers import small_agent
from utils import runs, training
from utils.checkpoints import KEEP, Checkpoints
from utils.errors import UserError
from utils.metrics import CsvTable
from utils.monitor import Monitor


def test_the_default_config_is_the_papers():
    config = configs.get_config('evor')
    assert config.hidden_dims == (512, 512, 512, 512)
    assert (config.lr, config.batch_size, config.discount, config.tau) == (3e-4, 256, 0.99, 0.005)
    assert (config.flow_steps, config.n_pi, config.num_value_nets) == (10, 32, 1)
    assert (config.td_target, config.next_action, config.chunk_length) == ('velocity', 'policy', 1)


@pytest.mark.parametrize('name', configs.CONFIGS)
def test_configs_survive_their_record(name):
    config = configs.get_config(name)
    record = json.loads(json.dumps(runs.describe(agent=config.to_dict()), allow_nan=False))
    assert runs.agent_config(record).to_dict() == config.to_dict()


def test_configs_are_fresh_copies():
    configs.get_config('evor').unlock().lr = 1.0
    assert configs.get_config('evor').lr == 3e-4


def test_an_unknown_config_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'evor_small'"):
        configs.get_config('evor_smal')


def test_a_table_grows_and_keeps_its_columns(tmp_path):
    table = CsvTable(tmp_path / 'train.csv')
    table.append([dict(step=1, loss=0.5)])
    CsvTable(tmp_path / 'train.csv').append([dict(step=2, loss=0.25)])
    assert table.read() == [dict(step='1', loss='0.5'), dict(step='2', loss='0.25')]
    with pytest.raises(UserError, match='has columns'):
        table.append([dict(step=3, loss=0.1, extra=1)])
    assert len(table.read()) == 2


def test_a_table_forgets_what_will_be_written_again(tmp_path):
    table = CsvTable(tmp_path / 'train.csv')
    table.append([dict(step=step, loss=0.0) for step in (5, 10, 15)])
    table.forget_after(10)
    assert [row['step'] for row in table.read()] == ['5', '10']
    table.forget_after(0)
    table.append([dict(step=5, loss=1.0)])
    assert table.read() == [dict(step='5', loss='1.0')]


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / 'config.json').write_text('{"env_name": ')
    with pytest.raises(UserError, match=r'config.json: damaged'):
        runs.read_record(tmp_path)


def test_differences_are_listed_key_by_key(tmp_path):
    runs.open_runs({tmp_path: dict(agent=dict(lr=1.0, tau=0.5), seeds=[0])}, resume=False)
    other = dict(agent=dict(lr=2.0, tau=0.5), seeds=[0, 1])
    with pytest.raises(UserError, match=r'differ: agent.lr \(1.0 there, 2.0 here\), seeds'):
        runs.open_runs({tmp_path: other}, resume=True)


def test_a_checkpoint_comes_back_to_the_bit(tmp_path, key):
    agent = small_agent()
    population = training.init_population(agent.init, [0, 1])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() is None
        for step in range(KEEP + 2):
            checkpoints.save(step, population)
        assert checkpoints.latest_step() == KEEP + 1
        restored = checkpoints.restore(KEEP + 1, jax.eval_shape(lambda: population))
        with pytest.raises(UserError, match='no such checkpoint; there are: 2, 3, 4'):
            checkpoints.restore(0, population)
    chex.assert_trees_all_equal(restored, population)


@pytest.mark.parametrize(
    'other', [dict(observation_dim=4), dict(hidden_dims=(16, 17)), dict(num_value_nets=2)]
)
def test_a_checkpoint_of_other_shapes_is_refused(tmp_path, other):
    population = training.init_population(small_agent().init, [0])
    expected = jax.eval_shape(lambda: training.init_population(small_agent(**other).init, [0]))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, population)
        with pytest.raises(UserError, match='another environment, network size'):
            checkpoints.restore(1, expected)


def test_the_monitor_averages_over_its_window():
    """Metrics are (seeds, tasks); a third seed only fills a device."""
    monitor = Monitor(None, None, None, [0, 1])
    monitor.add({'loss': jnp.array([[1.0, 4.0], [10.0, 40.0], [0.0, 0.0]])}, 1)
    monitor.add({'loss': jnp.array([[5.0, 20.0], [20.0, 80.0], [0.0, 0.0]])}, 2)
    first, second = monitor.close_window(None, 3)
    assert [(row['step'], row['seed'], row['loss']) for row in first] == [(3, 0, 2.0), (3, 1, 10.0)]
    assert [row['loss'] for row in second] == [8.0, 40.0]
