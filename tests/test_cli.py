"""The commands as a person meets them: what a run leaves, resuming, one clear line for mistakes."""

import csv
import hashlib
import json
import resource
import struct
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tensorboardX.proto import event_pb2

from tests.commands import ROOT, run_here
from tests.equality import TIMED
from utils.generation import generator
from utils.rollouts import outcomes

ENV = 'pointmaze-medium-stitch-singletask-task1-v0'
DATASET = 'pointmaze-medium-stitch-v0'
TINY = (
    '--agent.hidden_dims=(8,)',
    '--agent.batch_size=16',
    '--agent.flow_steps=2',
    '--agent.return_flow_steps=2',
    '--agent.n_pi=2',
    '--agent.chunk_length=5',
)


def run(script, *arguments, cwd=ROOT, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def arguments_of(data_dir, save_dir, *arguments, steps=12, log=4, evaluate=0, save=6, tiny=TINY):
    """Flags of main.py for a run that takes a moment."""
    return (
        f'--env_name={ENV}',
        f'--dataset_dir={data_dir}',
        f'--save_dir={save_dir}',
        f'--offline_steps={steps}',
        f'--log_interval={log}',
        f'--eval_interval={evaluate}',
        '--eval_episodes=2',
        f'--save_interval={save}',
        *tiny,
        *arguments,
    )


def train(*arguments, env=None, preexec_fn=None, **settings):
    flags = arguments_of(*arguments, **settings)
    return run('main.py', *flags, env=env, preexec_fn=preexec_fn)


def train_here(*arguments, **settings):
    return run_here('main.py', *arguments_of(*arguments, **settings))


def run_dir(save_dir, seeds='0'):
    return Path(save_dir) / ENV / 'evor' / f'seeds_{seeds}'


def weights(directory, step):
    path = directory.resolve() / 'checkpoints' / str(step) / 'default'
    leaves, _ = jax.tree.flatten_with_path(ocp.PyTreeCheckpointer().restore(path))
    return {jax.tree_util.keystr(name): np.asarray(leaf) for name, leaf in leaves}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def table(path, without=TIMED):
    with path.open(newline='') as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


def snapshot(folder):
    """Every file below `folder` with a digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.suffix != '.lock'
    }


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    generator.generate(DATASET, folder, episodes=4, workers=1, seed=0)
    return folder


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
    """A finished run of two seeds with one evaluation at the end."""
    save_dir = tmp_path_factory.mktemp('exp')
    result = train(data_dir, save_dir, '--seeds=0,1', evaluate=12)
    assert result.returncode == 0, result.stderr
    return run_dir(save_dir, '0_1')


def test_a_run_leaves_all_its_outputs(trained):
    record = json.loads((trained / 'config.json').read_text())
    assert record['env_name'] == ENV
    assert record['seeds'] == [0, 1]
    assert record['agent']['n_pi'] == 2
    assert {'jax', 'ogbench', 'mujoco', 'numpy'} <= record['versions'].keys()
    rows = table(trained / 'train.csv')
    assert [(row['step'], row['seed']) for row in rows] == [
        (step, seed) for step in ('4', '8', '12') for seed in '01'
    ]
    assert {'policy_loss', 'value_loss', 'val_value_loss'} <= rows[0].keys()
    assert [row['episodes'] for row in table(trained / 'eval.csv')] == ['2', '2']
    episodes = table(trained / 'episodes.csv')
    assert [(row['seed'], row['episode']) for row in episodes] == [
        ('0', '0'),
        ('0', '1'),
        ('1', '0'),
        ('1', '1'),
    ]
    assert all(int(row['episode_length']) > 0 for row in episodes)
    for seed, row in zip('01', table(trained / 'eval.csv'), strict=True):
        own = [episode for episode in episodes if episode['seed'] == seed]
        promised, obtained = (
            np.mean([float(episode[name]) for episode in own])
            for name in ('start_value', 'discounted_return')
        )
        assert float(row['start_value']) == pytest.approx(promised)
        assert float(row['start_return']) == pytest.approx(obtained)
        assert float(row['start_value_error']) == pytest.approx(promised - obtained)


@pytest.mark.long
def test_evaluating_beside_training_changes_nothing(data_dir, trained, tmp_path):
    result = train(data_dir, tmp_path, '--seeds=0,1', '--overlap_evaluation', evaluate=12)
    assert result.returncode == 0, result.stderr
    beside = run_dir(tmp_path, '0_1')
    for name in ('train.csv', 'eval.csv', 'episodes.csv'):
        assert table(beside / name) == table(trained / name)
    assert_same_weights(weights(beside, 12), weights(trained, 12))


@pytest.mark.long
def test_tasks_together_leave_what_each_leaves_alone(data_dir, tmp_path):
    """Records, rows and weights; and a run of one of them can go on alone."""
    together = train(data_dir, tmp_path / 'together', '--tasks=4,5', '--seeds=0,1')
    assert together.returncode == 0, together.stderr
    second = ENV.replace('task1', 'task5')
    alone = train(data_dir, tmp_path / 'alone', f'--env_name={second}', '--seeds=0,1')
    assert alone.returncode == 0, alone.stderr
    folders = [tmp_path / name / second / 'evor' / 'seeds_0_1' for name in ('together', 'alone')]
    records = [(folder / 'config.json').read_text() for folder in folders]
    assert records[0] == records[1]
    rows = [table(folder / 'train.csv') for folder in folders]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for one, other in zip(*rows, strict=True):
        for name in one:
            assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-4)
    stored, other = (weights(folder, 12) for folder in folders)
    assert stored.keys() == other.keys()
    for name in stored:  # batched and single matrix products round differently
        np.testing.assert_allclose(stored[name], other[name], rtol=1e-4, atol=1e-5, err_msg=name)
    resumed = train(
        data_dir,
        tmp_path / 'together',
        f'--env_name={second}',
        '--seeds=0,1',
        steps=18,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert [row['step'] for row in table(folders[0] / 'train.csv')][-2:] == ['16', '16']


def test_tensorboard_holds_what_the_tables_hold(trained):
    path = next((trained / 'tensorboard' / 'seed_1').iterdir())
    content, scalars = path.read_bytes(), {}
    while content:  # TFRecord: length, its checksum, event, its checksum
        (length,) = struct.unpack('<Q', content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        scalars |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
        content = content[16 + length :]
    row = next(r for r in table(trained / 'train.csv') if (r['step'], r['seed']) == ('8', '1'))
    assert scalars['train/value_loss', 8] == pytest.approx(float(row['value_loss']))
    assert ('eval/success', 12) in scalars


@pytest.mark.long
def test_how_often_one_looks_does_not_change_the_weights(data_dir, trained, tmp_path):
    result = train_here(data_dir, tmp_path, '--seeds=0,1', log=5, evaluate=0, save=0)
    assert result.returncode == 0, result.stderr
    assert_same_weights(weights(run_dir(tmp_path, '0_1'), 12), weights(trained, 12))


def test_a_finished_run_started_again_says_so(data_dir, trained):
    before = table(trained / 'train.csv'), weights(trained, 12)
    again = train_here(data_dir, trained.parents[2], '--seeds=0,1', evaluate=12)
    assert (again.returncode, 'finished already' in again.stdout) == (0, True)
    assert table(trained / 'train.csv') == before[0]
    assert_same_weights(weights(trained, 12), before[1])


@pytest.mark.long
def test_a_trained_run_is_evaluated_at_other_settings(trained):
    directory, names = f'--run={trained}', ('inference.csv', 'inference_episodes.csv')
    # Of other tests.
    before = [len(table(trained / name)) if (trained / name).exists() else 0 for name in names]
    result = run(
        'scripts/evaluate.py', directory, '--n_pi=1,3', '--tau_q=0,0.1', '--eval_episodes=1'
    )
    assert result.returncode == 0, result.stderr
    rows = table(trained / 'inference.csv')[before[0] :]
    assert [(row['n_pi'], row['tau_q'], row['seed']) for row in rows] == [
        (n_pi, tau_q, seed) for seed in '01' for n_pi in '13' for tau_q in ('0.0', '0.1')
    ]
    assert len({row['start_value'] for row in rows if row['n_pi'] == '1'}) == 2  # of each seed
    assert result.stdout.count('success') == 8
    assert len(table(trained / 'inference_episodes.csv')) == before[1] + 8
    # What training recorded is told in the same columns, and the trained settings are those.
    in_training = table(trained / 'eval.csv')[-1]
    assert [*rows[0]] == [*in_training, *outcomes.MEASURED]
    assert all(float(row['metres_per_5s']) > 0.0 for row in rows)
    told = {name: in_training[name] for name in ('n_pi', 'env_name', 'action_noise')}
    assert told == dict(n_pi='2', env_name=trained.parents[1].name, action_noise='0.0')


@pytest.mark.long
def test_rows_go_to_another_folder_where_the_run_is_not_ours(trained, tmp_path):
    """As of a colleague's run: before anything is played it is known whether rows can be kept."""
    (tmp_path / 'file').touch()
    arguments = f'--run={trained}', '--eval_episodes=2', '--n_pi=1'
    before = snapshot(trained)
    result = run_here('scripts/evaluate.py', *arguments, f'--out={tmp_path / "file"}')
    assert_one_line(result, 'cannot be written to (File exists); give another folder with --out')
    result = run_here('scripts/evaluate.py', *arguments, f'--out={tmp_path / "new" / "folder"}')
    assert result.returncode == 0, result.stderr
    assert len(table(tmp_path / 'new' / 'folder' / 'inference.csv')) == 2
    assert snapshot(trained) == before


@pytest.mark.long
def test_a_trained_run_is_swept_one_setting_at_a_time(trained):
    """The trained setting once and the others of each list; here in a world made noisy."""
    path = trained / 'inference.csv'
    before = len(table(path)) if path.exists() else 0  # of another test
    lists = '--n_pi=1,2', '--tau_q=0.02,inf', '--action_noise=0.5', '--eval_episodes=1'
    result = run('scripts/sweep_inference.py', f'--run={trained}', *lists)
    assert result.returncode == 0, result.stderr
    rows = table(trained / 'inference.csv')[before:]
    assert [(row['n_pi'], row['tau_q'], row['seed']) for row in rows] == [
        (n_pi, tau_q, seed)
        for seed in '01'
        for n_pi, tau_q in (('2', '0.02'), ('1', '0.02'), ('2', 'inf'))
    ]
    assert {(row['action_noise'], row['sticky_prob']) for row in rows} == {('0.5', '0.0')}
    caption, *tables = result.stdout.split('\n\n')
    assert 't interval' in caption
    marks = [[line.split('|')[1].strip() for line in lines.splitlines()] for lines in tables]
    assert marks[0] == ['n_pi', '---', '1', '2 (trained)']
    assert marks[1] == ['tau_q', '---', '0.02 (trained)', 'inf']


@pytest.mark.long
def test_a_baseline_trains_and_says_which_settings_it_lacks(data_dir, tmp_path):
    """Behaviour cloning: no value model, no candidates."""
    flags = [f'--env_name={ENV}', f'--dataset_dir={data_dir}', f'--save_dir={tmp_path}']
    flags += ['--offline_steps=4', '--log_interval=2', '--eval_interval=4', '--eval_episodes=2']
    flags += ['--agent=configs.py:bc', '--agent.hidden_dims=(8,)', '--agent.batch_size=16']
    result = run_here('main.py', *flags)
    assert result.returncode == 0, result.stderr
    directory = tmp_path / ENV / 'bc' / 'seeds_0'
    assert 'value_loss' not in table(directory / 'train.csv')[0]
    assert [row['episodes'] for row in table(directory / 'eval.csv')] == ['2']
    assert [row['start_value'] for row in table(directory / 'eval.csv')] == ['nan']
    result = run_here('scripts/evaluate.py', f'--run={directory}', '--tau_q=0')
    assert_one_line(result, '--tau_q: bc has no such inference setting; it has flow_steps')


def test_a_noisy_environment_wants_noisy_data(data_dir, tmp_path):
    result = train_here(data_dir, tmp_path, '--sticky_prob=0.1')
    where, flags = f'not in {data_dir / "sticky_prob_0.1"}', '--action_noise=0 --sticky_prob=0.1'
    assert_one_line(result, where)
    assert f'scripts/generate_data.py --dataset={DATASET} --dataset_dir={data_dir} {flags}' in (
        result.stderr
    )


@pytest.mark.long
def test_own_data_trains_through_dataset_path(data_dir, tmp_path):
    """A file with rewards of its own, without states, under any name."""
    with np.load(data_dir / f'{DATASET}.npz') as file:
        arrays = {name: file[name] for name in ('observations', 'actions', 'terminals')}
    rows = len(arrays['terminals'])
    np.savez(tmp_path / 'mine.npz', rewards=np.zeros(rows), masks=np.ones(rows), **arrays)
    path = f'--dataset_path={tmp_path / "mine.npz"}'
    result = train_here('/nowhere', tmp_path / 'exp', path)
    assert result.returncode == 0, result.stderr
    assert 'val_value_loss' not in table(run_dir(tmp_path / 'exp') / 'train.csv')[0]


def assert_one_line(result, message):
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith('error: ')
    assert message in lines[0]


def broken(folder, data_dir, name, change):
    with np.load(data_dir / f'{DATASET}.npz') as file:
        arrays = {key: file[key].copy() for key in file.files}
    change(arrays)
    np.savez(folder / name, **arrays)
    return f'--dataset_path={folder / name}'


def _set(key, value):
    return lambda arrays: arrays[key].__setitem__(3, value)


BROKEN_DATA = {
    'missing key': (lambda arrays: arrays.pop('actions'), "'actions' is missing"),
    'NaN': (_set('observations', np.nan), "'observations' is not finite in row 3"),
    'lengths': (lambda a: a.update(actions=a['actions'][1:]), "'actions' has shape"),
    'range': (_set('actions', 7.0), "'actions' reach 7"),
    'dimension': (
        lambda a: a.update(observations=np.zeros((len(a['actions']), 9), np.float32)),
        "'observations' have size 9",
    ),
}


@pytest.mark.parametrize(('change', 'message'), BROKEN_DATA.values(), ids=BROKEN_DATA.keys())
def test_broken_data_costs_one_line(data_dir, tmp_path, change, message):
    argument = broken(tmp_path, data_dir, 'broken.npz', change)
    assert_one_line(train_here(data_dir, tmp_path / 'exp', argument), message)
    assert not (tmp_path / 'exp').exists()


def test_a_truncated_dataset_costs_one_line(data_dir, tmp_path):
    content = (data_dir / f'{DATASET}.npz').read_bytes()
    (tmp_path / 'cut.npz').write_bytes(content[: len(content) // 2])
    result = train_here(data_dir, tmp_path / 'exp', f'--dataset_path={tmp_path / "cut.npz"}')
    assert_one_line(result, 'not a whole .npz file')


BAD_FLAGS = {
    'unknown env': (['--env_name=cube-singel-play-singletask-task1-v0'], 'Did you mean'),
    'n_pi': (['--agent.n_pi=0'], 'agent.n_pi: must be at least 1, not 0'),
    'unknown key': (['--agent.hidden_dim=(8,)'], 'Did you mean "hidden_dims"'),
    'unknown flag': (['--offline_step=3'], 'Did you mean: offline_steps'),
    'unknown config': (['--agent=configs.py:evor_smal'], "Did you mean 'evor_small'"),
    'wrong type': (['--agent.n_pi=many'], 'n_pi'),
    'no steps': (['--offline_steps=0'], '--offline_steps: must be at least 1'),
    'seeds': (['--seeds=0,0'], '--seeds: must be different'),
    'seeds of a variable that is not set': (['--seeds='], '--seeds: is empty'),
    'no tasks': (['--tasks='], '--tasks: is empty; give it a value'),
    'no data': (['--dataset_path='], '--dataset_path: is empty'),
    'a list twice': (['--agent.hidden_dims=(9,)'], '--agent.hidden_dims: given 2 times'),
    'tasks': (
        ['--tasks=1,9'],
        'no state-based environment',
    ),
    'chunk': (['--agent.chunk_length=500'], 'longer than any trajectory'),
    'n_step': (['--agent.n_step=500'], 'agent.n_step: 500 is longer than any trajectory'),
    'wait': (['--max_wait=-1'], '--max_wait: must be at least 0'),
    'online share': (['--online_share=2'], '--online_share: must be from 0 to 1, not 2.0'),
    'online tasks': (['--online_steps=9', '--tasks=1,2'], 'train them one by one'),
    'online in none': (
        ['--online_steps=9', '--env_name=none', '--dataset_path=mine.npz'],
        '--online_steps: there is no environment to play in',
    ),
    'platform': (['--platform=tpu'], '--platform=tpu: JAX only finds a cpu'),
    'stray word': (['again'], "unexpected argument 'again'"),
}


@pytest.mark.parametrize(('arguments', 'message'), BAD_FLAGS.values(), ids=BAD_FLAGS.keys())
def test_bad_flags_cost_one_line(data_dir, tmp_path, arguments, message):
    assert_one_line(train_here(data_dir, tmp_path, *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_one_line(data_dir, tmp_path):
    (tmp_path / 'exp').write_text('a file')
    assert_one_line(
        train_here(data_dir, tmp_path / 'exp'), 'cannot be written to (Not a directory)'
    )


@pytest.mark.long
def test_too_little_memory_costs_one_line(data_dir, tmp_path):
    wide = '--agent=configs.py:bc', '--agent.hidden_dims=(80,)'
    result = train(data_dir, tmp_path, '--agent.batch_size=2000000000', tiny=wide)
    assert_one_line(result, 'out of memory')
    assert 'lower --agent.batch_size' in result.stderr


@pytest.mark.long
def test_a_full_disk_costs_one_line_and_keeps_what_was_whole(data_dir, tmp_path):
    """A limit on the size of files stands in for the disk: tables fit, arrays do not."""
    assert train(data_dir, tmp_path, steps=6).returncode == 0
    before = weights(run_dir(tmp_path), 6)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # noqa: E731
    result = train(data_dir, tmp_path, preexec_fn=limit)
    assert_one_line(result, 'File too large')
    assert_same_weights(weights(run_dir(tmp_path), 6), before)
    assert train(data_dir, tmp_path).returncode == 0


def test_an_unknown_config_file_costs_one_line():
    assert_one_line(run_here('main.py', '--agent=nowhere.py:evor'), 'nowhere.py')


def test_a_missing_dataset_offline_costs_one_line(tmp_path):
    result = train_here(tmp_path / 'none', tmp_path / 'exp', '--dataset_url=http://127.0.0.1:9')
    assert_one_line(result, 'scripts/generate_data.py --dataset=pointmaze-medium-stitch-v0')


OCCUPIED = {
    'other configuration': (
        [*TINY, '--agent.lr=0.1'],
        'these differ: agent.lr (0.0003 there, 0.1 here)',
    ),
    'other network': (['--agent.hidden_dims=(9,)', *TINY[1:]], 'these differ: agent.hidden_dims'),
}


@pytest.mark.parametrize(('arguments', 'message'), OCCUPIED.values(), ids=OCCUPIED.keys())
def test_an_occupied_run_directory_stays_as_it_is(data_dir, trained, arguments, message):
    before = snapshot(trained)
    result = train_here(data_dir, trained.parents[2], '--seeds=0,1', tiny=arguments, evaluate=12)
    assert_one_line(result, message)
    assert snapshot(trained) == before


FOREIGN = {
    'another env': (['--env_name=cube-single-play-singletask-v0'], 'observation_dim 2'),
    'no such step': (['--step=7'], 'no such checkpoint; there are: 6, 12'),
    'bad n_pi': (['--n_pi=0'], 'agent.n_pi: must be at least 1'),
    'bad list': (['--n_pi=one'], '--n_pi: expected a list of int'),
}


@pytest.mark.parametrize(('arguments', 'message'), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_bad_evaluation_costs_one_line(trained, arguments, message):
    before = snapshot(trained)
    assert_one_line(run_here('scripts/evaluate.py', f'--run={trained}', *arguments), message)
    assert snapshot(trained) == before


def test_a_checkpoint_of_another_network_size_is_refused(trained, tmp_path):
    """As after an edit of config.json by hand."""
    record = json.loads((trained / 'config.json').read_text())
    record['agent']['hidden_dims'] = [8, 8]
    (tmp_path / 'config.json').write_text(json.dumps(record))
    (tmp_path / 'checkpoints').symlink_to(trained / 'checkpoints')
    result = run_here('scripts/evaluate.py', f'--run={tmp_path}')
    assert_one_line(result, 'another environment, network size or number of seeds')


def test_a_folder_without_a_run_costs_one_line(tmp_path):
    for name in ('--run', '--checkpoint'):  # the second is its name of an earlier release
        assert_one_line(run_here('scripts/evaluate.py', f'{name}={tmp_path}'), 'no run here')


def test_help_lists_the_flags_of_every_module_of_ours():
    told = run_here('main.py', '--help').stdout
    for name in ('offline_steps', 'env_name', 'env_id', 'tasks', 'online_steps'):
        assert f'--{name}:' in told
    assert '--verbosity' not in told
    assert 'orbax' not in told
