"""Run directories, tables, configs and checkpoints: what a run writes and reads again."""

import contextlib
import json
import os
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import configs
from tests.run_folders import write_run
from utils.errors import DivergedError, UserError
from utils.rollouts import evaluation
from utils.rollouts.evaluation import Episodes
from utils.storage import metrics, runs
from utils.storage.metrics import LATER, CsvTable, RunLog
from utils.system import locks
from utils.training import populations
from utils.training.monitor import Monitor, restore_window


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


@pytest.mark.parametrize(
    ('record', 'hardware'),
    [
        (dict(devices=['cpu'], processor='Some CPU', cores=2), 'Some CPU, 2 cores'),
        (dict(devices=['Some GPU'] * 4, processor='Some CPU', cores=16), 'Some GPU'),
        (dict(devices=['cpu']), 'cpu'),  # of an older version
        (dict(), 'unknown'),
    ],
)
def test_the_hardware_of_a_run_is_what_trained_it(record, hardware):
    assert runs.hardware(record) == hardware


def test_a_run_records_its_hardware():
    assert runs.hardware(runs.describe()).endswith(f', {os.cpu_count()} cores')


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


def test_an_older_table_gets_the_columns_that_came_later(tmp_path):
    """No row is lost or moved to another line; what was not known is blank."""
    path = tmp_path / 'eval.csv'
    table = CsvTable(path, widens=True)
    older, newer = [dict(step=step, env='a,"b"', success=0.5) for step in (1, 2)], dict(step=3)
    table.append(older)
    newer |= dict(env='c', n_pi=4, success=1.0, start_value=-7.5, start_return=float('nan'))
    table.append([newer])
    header, *rows = path.read_text().splitlines()
    assert header == 'step,env,n_pi,success,start_value,start_return'
    assert rows == ['1,"a,""b""",,0.5,,', '2,"a,""b""",,0.5,,', '3,c,4,1.0,-7.5,nan']
    table.append([newer | dict(step=4)])
    table.forget_after(3)
    assert [row['step'] for row in table.read()] == ['1', '2', '3']
    assert sorted(tmp_path.glob('[!.]*')) == [path]
    for refused in (older[0], dict(reversed(newer.items()))):
        with pytest.raises(UserError, match='has columns'):
            table.append([refused])


def test_a_run_of_an_older_version_goes_on_with_all_its_rows(tmp_path, capfd):
    """As training resumes it: tables, the best step, and no points where there are no numbers."""
    directory = write_run(tmp_path, seeds=(0,), evaluated=(100, 200), chance=1.0)
    before = {name: CsvTable(directory / f'{name}.csv').read() for name in ('eval', 'episodes')}
    trained = [dict(step='200', seed='0', loss='0.1', updates_per_second='0.5')]
    (directory / 'train.csv').unlink()
    CsvTable(directory / 'train.csv').append(trained)
    nothing = np.full(10, np.nan)
    played = Episodes(np.zeros(10, bool), nothing * 0, np.ones(10, int), nothing, -np.ones(10))
    tags, conditions = dict(step=300, seed=0), dict(env_name='maze', n_pi=4)
    with RunLog(directory, 200, None) as log:
        log.write('eval', [tags | evaluation.summary(played)], conditions)
        log.write('episodes', evaluation.rows(played, tags), conditions)
        log.write('train', [tags | dict(loss=0, updates_per_second=2, cpu_seconds_per_update=1)])
        assert log.best_step({100, 200}) == 100
    for name, rows in before.items():
        now = CsvTable(directory / f'{name}.csv').read()
        added = [column for column in now[0] if column in (*conditions, *LATER)]
        blank = dict.fromkeys(added, '')
        assert len(added) == (7 if name == 'eval' else 4)
        assert now[: len(rows)] == [row | blank for row in rows]
        assert {row['step'] for row in now[len(rows) :]} == {'300'}
        assert {row['start_value'] for row in now[len(rows) :]} == {'nan'}
    now = CsvTable(directory / 'train.csv').read()
    assert now[0] == trained[0] | dict(cpu_seconds_per_update='')
    assert now[1]['cpu_seconds_per_update'] == '1'
    assert capfd.readouterr().err == ''


def test_the_best_step_is_of_evaluations_of_all_seeds(tmp_path):
    """Returns are negative: a seed alone would have a greater sum than two."""
    with RunLog(tmp_path, 0, None) as log:
        for step, returns in ((100, (-200.0, -202.0)), (200, (-300.0, -90.0)), (300, (-150.0,))):
            rows = [
                dict(step=step, seed=seed, episode_return=of) for seed, of in enumerate(returns)
            ]
            log.write('eval', rows)
        assert log.best_step({100, 200, 300, 400}) == 200
        assert log.best_step({100, 300}) == 100  # as where 200 was not saved
        assert log.best_step({400}) is None


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
    runs.write_records({tmp_path: dict(agent=dict(lr=1.0, tau=0.5), seeds=[0])})
    other = dict(agent=dict(lr=2.0, tau=0.5), seeds=[0, 1])
    with pytest.raises(UserError, match=r'differ: agent.lr \(1.0 there, 2.0 here\), seeds'):
        runs.check_records({tmp_path: other})


def test_a_base_policy_is_known_by_its_digest(tmp_path):
    """Equal ones are found in runs of `bc` on different tasks."""
    policy = dict(env_name='scene-play-singletask-task3-v0', digest='abc')
    runs.write_records({tmp_path: dict(base_policy=policy)})
    runs.check_records({tmp_path: dict(base_policy=policy | dict(env_name='another'))})
    with pytest.raises(UserError, match=r'base_policy\.digest'):
        runs.check_records({tmp_path: dict(base_policy=policy | dict(digest='def'))})


def test_settings_that_an_earlier_versions_record_lacks_have_their_defaults(tmp_path):
    runs.write_records({tmp_path: dict(agent=dict(lr=1.0), seeds=[0])})
    record = dict(agent=dict(lr=1.0, widths=[2, 3]), seeds=[0])
    runs.check_records({tmp_path: record}, defaults=dict(lr=0.5, widths=(2, 3)))
    with pytest.raises(UserError, match=r'differ: agent.widths'):
        runs.check_records({tmp_path: record}, defaults=dict(lr=0.5, widths=(4,)))


def test_a_record_of_an_earlier_version_says_nothing_of_the_datas_contents(tmp_path):
    """One that does is another run's, where rewards were corrected under the same name."""
    record = dict(seeds=[0], contents=dict(rewards=1))
    for name in ('old', 'new'):
        (tmp_path / name).mkdir()
    runs.write_records({tmp_path / 'old': dict(seeds=[0]), tmp_path / 'new': record})
    runs.check_records({tmp_path / 'old': record, tmp_path / 'new': record})
    with pytest.raises(UserError, match=r'differ: contents.rewards \(1 there, 2 here\)'):
        runs.check_records({tmp_path / 'new': record | dict(contents=dict(rewards=2))})


def window(*losses, bad_update=(0, 0), bad_state=False):
    """Of one seed or more; a loss is a row per seed of numbers per task."""
    return populations.Window(
        {'loss': jnp.array(losses)},
        jnp.array([bad_update] * len(losses)),
        jnp.array([bad_state] * len(losses)),
    )


def test_the_monitor_averages_over_its_window():
    """Metrics are (seeds, tasks); a third seed only fills a device."""
    monitor = Monitor(None, None, None, [0, 1])
    monitor.add(window([1.0, 4.0], [10.0, 40.0], [0.0, 0.0]), 1)
    monitor.add(window([6.0, 24.0], [30.0, 120.0], [0.0, 0.0]), 2)
    assert monitor.progress(1) == dict(window_steps=3, sums={'loss': [24.0, 120.0]})
    first, second = monitor.close_window(None, 3)
    assert [(row['step'], row['seed'], row['loss']) for row in first] == [(3, 0, 2.0), (3, 1, 10.0)]
    assert [row['loss'] for row in second] == [8.0, 40.0]
    assert monitor.progress(1) == dict(window_steps=0, sums={})


def test_the_monitor_tells_what_updates_take_without_pauses(monkeypatch):
    """By the clock, and of all processors of the process."""
    now = dict(perf_counter=100.0, process_time=7.0)
    for name in now:
        monkeypatch.setattr(f'utils.training.monitor.time.{name}', lambda name=name: now[name])
    monitor = Monitor(None, None, None, [0])

    def pass_time(taken, of_processors):
        now.update(
            perf_counter=now['perf_counter'] + taken,
            process_time=now['process_time'] + of_processors,
        )

    for steps in (3, 5):
        pass_time(2.0, 3.0)
        monitor.add(window([1.0]), steps)
        with monitor.paused():
            pass_time(50.0, 90.0)
    ((first,),) = monitor.close_window(None, 8)
    assert (first['updates_per_second'], first['cpu_seconds_per_update']) == (8 / 4, 6 / 8)
    pass_time(1.0, 0.5)
    monitor.add(window([1.0]), 2)
    ((second,),) = monitor.close_window(None, 10)
    assert (second['updates_per_second'], second['cpu_seconds_per_update']) == (2.0, 0.25)


def test_the_monitor_names_what_is_not_finite():
    monitor = Monitor(None, None, None, [3])
    monitor.add(window([1.0, 4.0]), 2)
    with pytest.raises(DivergedError, match=r'seed 3, task number 2 .* in update 4 .*loss nan'):
        monitor.add(window([2.0, jnp.nan], bad_update=(0, 4)), 2)
    with pytest.raises(DivergedError, match=r'in the state after the last update'):
        monitor.add(window([2.0, 4.0], bad_state=True), 1)


def test_a_window_comes_back_to_the_bit():
    """From its record, of two saved seeds, to three members of a padded population."""
    rng = np.random.default_rng(0)
    sums = rng.normal(size=(2, 2)).astype(np.float32)
    monitor = Monitor(None, None, None, [0, 1])
    monitor.add(window(*sums), 7)
    record = json.loads(json.dumps([monitor.progress(task) for task in range(2)]))
    empty = populations.zeros_like(window([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]))
    restored = restore_window(empty, record, np.array([0, 1, 1]))
    np.testing.assert_array_equal(restored.sums['loss'], sums[[0, 1, 1]])
    with pytest.raises(UserError, match='which logged other metrics'):
        restore_window(empty.replace(sums={'other': sums}), record, np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ('seeds', 'name'),
    [
        ([0, 1, 2], 'seeds_0_1_2'),
        (list(range(100)), 'seeds_0_to_99'),
        (list(range(99, -1, -1)), 'seeds_99_and_99_more_'),
        (list(range(0, 200, 2)), 'seeds_0_and_99_more_'),
    ],
)
def test_the_name_of_many_seeds_is_short_and_its_own(tmp_path, seeds, name):
    path = runs.run_dir(str(tmp_path), 'env', 'evor', seeds)
    assert path.name.startswith(name)
    assert len(path.name) <= 143
    path.mkdir(parents=True)
    assert runs.run_dir(str(tmp_path), 'env', 'evor', seeds) == path
    assert runs.run_dir(str(tmp_path), 'env', 'evor', [*seeds, 7777]) != path


def test_a_run_of_an_earlier_version_keeps_its_long_name(tmp_path):
    old = tmp_path / 'env' / 'evor' / f'seeds_{"_".join(map(str, range(60)))}'
    assert 143 < len(old.name) < 255
    old.mkdir(parents=True)
    assert runs.run_dir(str(tmp_path), 'env', 'evor', list(range(60))) == old


def test_a_run_is_held_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, 'LOCK_TIMEOUT', 0.1)
    assert not locks.is_locked(tmp_path / 'run')
    with locks.hold([tmp_path / 'run']):
        assert locks.is_locked(tmp_path / 'run')
        with pytest.raises(UserError, match='another process works on this run'):
            with locks.hold([tmp_path / 'other', tmp_path / 'run']):
                pass
        assert not locks.is_locked(tmp_path / 'other')
    assert not locks.is_locked(tmp_path / 'run')


def test_a_status_tells_how_it_goes_and_how_it_failed(tmp_path):
    assert runs.read_status(tmp_path) is None
    with contextlib.suppress(UserError), runs.Status([tmp_path], 10) as status:
        status.tell('running', 4)
        assert runs.read_status(tmp_path)['state'] == 'running'
        raise UserError('no luck')
    told = runs.read_status(tmp_path)
    assert (told['state'], told['step'], told['reason']) == ('failed', 4, 'no luck')


def test_a_row_that_was_cut_short_is_dropped(tmp_path):
    table = CsvTable(tmp_path / 'train.csv')
    table.append([dict(step=5, loss=0.5), dict(step=10, loss=0.5)])
    with (tmp_path / 'train.csv').open('ab') as file:
        file.write(b'1')  # of '15,0.5'; it looks like step 1
    table.forget_after(10)
    assert [row['step'] for row in table.read()] == ['5', '10']
    (tmp_path / 'train.csv').write_bytes(b'step,lo')
    table.forget_after(10)
    table.append([dict(step=5, loss=0.5)])
    assert table.read() == [dict(step='5', loss='0.5')]


def test_a_row_waits_until_those_of_another_process_are_whole(tmp_path):
    path, row = tmp_path / 'inference.csv', dict(step=5, success=0.5)
    CsvTable(path).append([row])
    other = locks.take(tmp_path / metrics.LOCK)
    with path.open('a', newline='') as file:
        file.write('5,0.')
        file.flush()
        own = threading.Thread(target=CsvTable(path).append, args=([row | dict(success=1.0)],))
        own.start()
        own.join(0.2)
        file.write('75\r\n')
    other.release()
    own.join()
    assert [row['success'] for row in CsvTable(path).read()] == ['0.5', '0.75', '1.0']


def test_a_row_is_not_written_into_the_line_of_one_that_was_cut_short(tmp_path, capfd):
    table = CsvTable(tmp_path / 'inference.csv')
    table.append([dict(step=5, success=0.5)])
    with (tmp_path / 'inference.csv').open('ab') as file:
        file.write(b'5,0.')
    table.append([dict(step=5, success=0.75)])
    assert [row['success'] for row in table.read()] == ['0.5', '0.75']
    assert 'inference.csv: its last row was cut short; it is dropped' in capfd.readouterr().err
