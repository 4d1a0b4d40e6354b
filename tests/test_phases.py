"""Base policy, candidates, values: made by one command, found again, open to others' policies."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from agents import frozen, policy_file
from tests.equality import assert_equal_runs
from tests.helpers import small_agent, small_config
from tests.test_cli import ENV, ROOT, data_dir, table, train, train_here  # noqa: F401
from utils.errors import UserError
from utils.storage import runs
from utils.training import populations

CONFIG = '--agent=configs.py:qc5_pool'
POLICY = ('--agent.hidden_dims=(8,)', '--agent.batch_size=16', '--agent.flow_steps=2')
POLICY += ('--agent.chunk_length=2',)
VALUES = ('--agent.backup_candidates=3', '--agent.n_pi=2', '--agent.num_pool=4')
STEPS = '--agent.policy_steps=12'
TINY_VALUES = (CONFIG, *POLICY, *VALUES, STEPS)
DOCS = (ROOT / 'docs/base-policies.md').read_text()


def train_values(data_dir, save_dir, *arguments, by=train, tiny=TINY_VALUES, **options):  # noqa: F811
    return by(data_dir, save_dir, *arguments, tiny=tiny, **options)


train_values_here = functools.partial(train_values, by=train_here)


def run_of(save_dir, task=1, config='qc5_pool', seeds='0'):
    return Path(save_dir) / ENV.replace('task1', f'task{task}') / config / f'seeds_{seeds}'


def base_policy_of(save_dir):
    """The first that was made there."""
    return min((save_dir / 'base_policies').glob('*/h*'), key=lambda path: path.stat().st_ctime_ns)


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):  # noqa: F811
    """A run that made all three phases."""
    save_dir = tmp_path_factory.mktemp('exp')
    result = train_values_here(data_dir, save_dir, '--tasks=1,2', evaluate=12)
    assert result.returncode == 0, result.stderr
    return save_dir, result


def test_one_command_makes_all_phases_and_says_so(trained):
    save_dir, result = trained
    directory = base_policy_of(save_dir)
    assert f'base policy: 12 updates, goes to: {directory}' in result.stdout
    assert re.search(r'pool: 4 candidates at each of \d+ states, 0 MB, goes to: ', result.stdout)
    for label in ('base policy:', 'pool:', 'qc5_pool:'):  # progress bars
        assert label in result.stderr
    record = json.loads((directory / 'config.json').read_text())
    assert record['agent']['agent_name'] == 'bc'
    assert {path.name for path in (directory / 'pool').glob('*.npy')} == {
        'train_4_by_2_steps.npy',
        'val_4_by_2_steps.npy',
    }
    for task in (1, 2):
        record = json.loads((run_of(save_dir, task) / 'config.json').read_text())
        assert record['base_policy']['step'] == 12
        losses = [float(row['value_loss']) for row in table(run_of(save_dir, task) / 'train.csv')]
        assert np.isfinite(losses).all()


@pytest.mark.long
def test_another_task_and_agent_reuse_what_is_there(trained, data_dir):  # noqa: F811
    save_dir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in base_policy_of(save_dir).rglob('*.npy')}
    c51 = ('--agent=configs.py:evor5_pool_c51', *POLICY, *VALUES, STEPS)
    result = train_values(data_dir, save_dir, '--tasks=3', '--seeds=0,1', tiny=c51)
    assert result.returncode == 0, result.stderr
    assert f'base policy: 12 updates, is there: {base_policy_of(save_dir)}' in result.stdout
    assert result.stdout.count('is there: ') == 3  # the policy and two pools
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.long
def test_a_finished_run_of_bc_is_the_base_policy(trained, data_dir, tmp_path):  # noqa: F811
    """Of the same settings; and it is the policy that would have been trained."""
    bc = ('--agent=configs.py:bc', *POLICY)
    result = train(data_dir, tmp_path, tiny=bc)
    assert result.returncode == 0, result.stderr
    result = train_values(data_dir, tmp_path)
    assert f'is there: {run_of(tmp_path, config="bc")}' in result.stdout
    assert not (tmp_path / 'base_policies').exists()
    save_dir, _ = trained
    records = [
        json.loads((run_of(folder) / 'config.json').read_text())['base_policy']
        for folder in (tmp_path, save_dir)
    ]
    assert records[0] == records[1]
    # Had it learned from other actions at the same observations, it would be another policy.
    path = run_of(tmp_path, config='bc') / 'config.json'
    record = json.loads(path.read_text())
    actions = record['contents']['actions']
    # So would one that went on online be, whose updates are counted on.
    others = (
        dict(contents=record['contents'] | dict(actions=actions + 1)),
        dict(online=dict(after=1, share=0.5)),
    )
    for other in others:
        path.write_text(json.dumps(record | other))
        changes = '--agent.config_name=other', '--max_wall_time=0.001'
        result = train_values(data_dir, tmp_path, *changes)
        assert 'updates, goes to: ' in result.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    'change', ['--agent.policy_steps=6', '--agent.policy_seed=1', '--agent.policy_hidden_dims=(4,)']
)
def test_another_base_policy_is_another_artefact(trained, data_dir, change):  # noqa: F811
    save_dir, _ = trained
    before = set((save_dir / 'base_policies').glob('*/h*'))
    config = '--agent.config_name=other'
    result = train_values(data_dir, save_dir, change, config, '--max_wall_time=0.001')
    assert result.returncode == 75, result.stderr
    [made] = set((save_dir / 'base_policies').glob('*/h*')) - before
    assert f'updates, goes to: {made}' in result.stdout


@pytest.mark.long
def test_other_euler_steps_are_another_pool_of_the_same_policy(trained, data_dir):  # noqa: F811
    save_dir, _ = trained
    changes = '--agent.flow_steps=1', '--agent.config_name=fewer_steps'
    result = train_values(data_dir, save_dir, *changes)
    assert result.returncode == 0, result.stderr
    base = base_policy_of(save_dir)
    assert f'base policy: 12 updates, is there: {base}' in result.stdout
    assert f'goes to: {base}/pool/train_4_by_1_steps.npy' in result.stdout
    pools = [np.load(base / f'pool/train_4_by_{steps}_steps.npy') for steps in (1, 2)]
    assert np.abs(pools[0] - pools[1]).max() > 1e-3


@pytest.mark.long
def test_tasks_together_learn_what_they_learn_alone(trained, data_dir, tmp_path):  # noqa: F811
    save_dir, _ = trained
    base = f'--base_policy={base_policy_of(save_dir)}'
    result = train_values(data_dir, tmp_path, base, '--tasks=2')
    assert result.returncode == 0, result.stderr
    rows = [table(run_of(folder, 2) / 'train.csv') for folder in (save_dir, tmp_path)]
    for joint_row, row in zip(*rows, strict=True):
        assert float(joint_row['value_loss']) == pytest.approx(float(row['value_loss']), rel=1e-4)


@pytest.mark.long
@pytest.mark.usefixtures('optimised')
def test_a_run_stopped_in_every_phase_equals_one_that_was_not(data_dir, tmp_path):  # noqa: F811
    steps = '--agent.policy_steps=3000'
    values = '--offline_steps=3000', '--log_interval=500', '--save_interval=1000'
    tiny = (CONFIG, *POLICY, *VALUES, steps, *values, '--max_wait=0.1')
    whole = train_values(data_dir, tmp_path / 'whole', tiny=tiny)
    assert whole.returncode == 0, whole.stderr
    arguments = [*whole.args, f'--save_dir={tmp_path / "parts"}']

    def stop_in(phase):
        process = subprocess.Popen(
            arguments, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        seen = b''
        while phase not in seen:
            seen += process.stderr.read1()
            assert process.poll() is None or phase in seen, seen
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
        return process.returncode

    assert stop_in(b'base policy:   ') == 75
    assert base_policy_of(tmp_path / 'parts').joinpath('checkpoints').is_dir()
    assert not run_of(tmp_path / 'parts').exists()
    assert stop_in(b'pool:') == 75
    assert stop_in(b'qc5_pool:') == 75
    assert subprocess.run(arguments, cwd=ROOT, capture_output=True, check=False).returncode == 0
    folders = tmp_path / 'whole', tmp_path / 'parts'
    assert_equal_runs(*(run_of(folder) for folder in folders), 3000, ('train',))
    assert_equal_runs(*(base_policy_of(folder) for folder in folders), 3000, ())
    pools = [base_policy_of(folder) / 'pool/train_4_by_2_steps.npy' for folder in folders]
    assert pools[0].read_bytes() == pools[1].read_bytes()


def test_a_base_policy_may_be_older_than_steps_of_reward(trained, tmp_path):
    base = base_policy_of(trained[0])
    record = json.loads((base / 'config.json').read_text())
    config = runs.agent_config(record)
    del record['agent']['n_step']
    (tmp_path / 'config.json').write_text(json.dumps(record))
    (tmp_path / 'checkpoints').symlink_to(base / 'checkpoints')
    sizes = record['observation_dim'], record['action_dim']
    older, policy = (frozen.load(path, config, *sizes) for path in (tmp_path, base))
    assert older.digest == policy.digest


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp('exported') / 'policy.npz'
    arguments = f'--run={base_policy_of(trained[0])}', f'--out={path}'
    command = [sys.executable, 'scripts/export_base_policy.py', *arguments]
    subprocess.run(command, cwd=ROOT, check=True)
    return path


@pytest.mark.long
def test_a_policy_as_a_file_is_the_policy(trained, exported, data_dir, tmp_path):  # noqa: F811
    save_dir, _ = trained
    result = train_values(data_dir, tmp_path, f'--base_policy={exported}', evaluate=12)
    assert result.returncode == 0, result.stderr
    [pool] = tmp_path.glob('base_policies/*/policy_*/pool/train_4_by_2_steps.npy')
    there = base_policy_of(save_dir) / 'pool' / pool.name
    assert pool.read_bytes() == there.read_bytes()
    records = [
        json.loads((run_of(folder) / 'config.json').read_text())['base_policy']
        for folder in (tmp_path, save_dir)
    ]
    assert records[0] == records[1]


@pytest.mark.long
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda arrays: arrays.pop('record'), r'no base policy \(record is missing\)'),
        (lambda arrays: arrays.popitem(), 'is not what its record says; copy it again'),
        (
            lambda arrays: arrays.update(record=np.frombuffer(b'{"seeds": 1}', np.uint8)),
            'damaged .env_name is missing',
        ),
    ],
)
def test_a_damaged_policy_file_costs_one_line(exported, tmp_path, change, message):
    path, config = tmp_path / 'policy.npz', small_config('qc5_pool', hidden_dims=(8,))
    arrays = dict(np.load(exported))
    record = json.loads(arrays['record'].tobytes())
    config.chunk_length = record['agent']['chunk_length']
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message):
        policy_file.read(path, config, record['observation_dim'], record['action_dim'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--base_policy=nowhere.npz',), r'nowhere\.npz: no such file'),
        (('--base_policy={exported}', '--agent.chunk_length=3'), r'chunk_length \(2 there'),
        (('--agent.num_pool=2',), r'agent\.num_pool: must be at least agent\.backup_candidates=3'),
        (('--agent.frozen_policy=False', '--base_policy=x'), '--base_policy: is for agents with'),
        (('--base_policy=nowhere',), 'nowhere: no run here'),
        (('--base_policy=no_such_module:f',), 'no_such_module cannot be imported'),
        (('--base_policy=json:no_such',), 'json has no function no_such'),
        (
            ('--base_policy={base}', '--agent.chunk_length=3'),
            r'other settings: chunk_length \(2 th',
        ),
        (('--pool=x.npy', '--eval_interval=6'), '--pool: an evaluation needs the policy too'),
        (('--pool=x.npy',), r'x\.npy: damaged, or no .npy file'),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    trained,
    exported,
    data_dir,  # noqa: F811
    tmp_path,
    arguments,
    message,
):
    places = dict(base=base_policy_of(trained[0]), exported=exported)
    arguments = (item.format(**places) for item in arguments)
    result = train_values_here(data_dir, tmp_path, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search(message, result.stderr), result.stderr


def test_a_pool_that_nothing_would_read_is_refused(data_dir, tmp_path):  # noqa: F811
    ifql = ('--agent=configs.py:ifql', *POLICY, '--agent.frozen_policy=True')
    result = train_values_here(data_dir, tmp_path, '--pool=x.npy', tiny=ifql)
    assert result.returncode == 2
    assert result.stderr == 'error: --pool: updates of this agent read no candidates\n'


def test_a_run_in_the_way_is_told_before_a_base_policy_is_trained(trained, data_dir, tmp_path):  # noqa: F811
    save_dir, _ = trained
    run_of(tmp_path).parent.mkdir(parents=True)
    run_of(tmp_path).symlink_to(run_of(save_dir))
    result = train_values_here(data_dir, tmp_path, '--agent.lr=0.1')
    assert result.returncode == 2
    assert 'holds a run of another configuration; these differ: agent.lr' in result.stderr
    assert not (tmp_path / 'base_policies').exists()


def test_only_a_run_of_bc_is_a_base_policy(trained, tmp_path):
    record = json.loads((base_policy_of(trained[0]) / 'config.json').read_text())
    record['agent']['agent_name'] = 'qc'
    (tmp_path / 'config.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match=r'is a run of qc; train one with --agent=configs\.py:bc'):
        frozen.load(tmp_path, None, 3, 2)


# Somebody else's.


@pytest.fixture(scope='module')
def neighbours(data_dir, tmp_path_factory):  # noqa: F811
    """The page's example on the path of commands."""
    folder = tmp_path_factory.mktemp('neighbours')
    [code] = re.findall(r'```python\n(.*?)```', DOCS, re.DOTALL)
    (folder / 'neighbours.py').write_text(code)
    [data] = [path for path in data_dir.glob('*.npz') if 'val' not in path.name]
    return dict(os.environ, PYTHONPATH=str(folder), NEIGHBOURS_DATA=str(data))


FOREIGN = (CONFIG, *POLICY, *VALUES, '--base_policy=neighbours:sample')


@pytest.fixture(scope='module')
def on_neighbours(data_dir, neighbours, tmp_path_factory):  # noqa: F811
    save_dir = tmp_path_factory.mktemp('foreign')
    result = train_values(data_dir, save_dir, tiny=FOREIGN, evaluate=12, env=neighbours)
    assert result.returncode == 0, result.stderr
    return save_dir


@pytest.mark.long
def test_the_page_s_policy_is_acted_by_and_drawn_from(on_neighbours):
    rows = table(run_of(on_neighbours) / 'eval.csv')
    assert int(rows[-1]['episodes']) == 2
    pools = on_neighbours / 'base_policies/pointmaze-medium-stitch-v0/neighbours.sample/pool'
    candidates = np.load(pools / 'train_4.npy', mmap_mode='r')
    assert candidates.shape[1:] == (4, 2, 2)
    record = json.loads((run_of(on_neighbours) / 'config.json').read_text())
    assert record['base_policy']['function'] == 'neighbours:sample'


@pytest.mark.long
def test_a_run_on_somebody_else_s_policy_is_evaluated_again(on_neighbours, neighbours):
    command = [sys.executable, 'scripts/evaluate.py', f'--run={run_of(on_neighbours)}']
    command += ['--n_pi=1,3', '--eval_episodes=2']
    result = subprocess.run(
        command, cwd=ROOT, env=neighbours, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(table(run_of(on_neighbours) / 'inference.csv')) == 2


@pytest.mark.long
def test_a_pool_that_others_wrote_is_read(data_dir, neighbours, on_neighbours, tmp_path):  # noqa: F811
    """Its own drawing, given as a file, trains the same values."""
    pools = on_neighbours / 'base_policies/pointmaze-medium-stitch-v0/neighbours.sample/pool'
    (tmp_path / 'theirs.npy').write_bytes((pools / 'train_4.npy').read_bytes())
    given = f'--pool={tmp_path / "theirs.npy"}'
    result = train_values(data_dir, tmp_path, given, tiny=FOREIGN[:-1])
    assert result.returncode == 0, result.stderr
    rows = [table(run_of(folder) / 'train.csv') for folder in (on_neighbours, tmp_path)]
    for drawn, read in zip(*rows, strict=True):
        assert drawn['value_loss'] == read['value_loss']
        assert 'val_value_loss' not in read  # nobody gave candidates at held-out states
    evaluate = [sys.executable, 'scripts/evaluate.py', f'--run={run_of(tmp_path)}']
    result = subprocess.run(evaluate, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert 'was trained on a pool alone and has no base policy' in result.stderr


@pytest.mark.long
def test_a_policy_without_weights_is_no_leaf_of_a_state(on_neighbours):
    folder = run_of(on_neighbours) / 'checkpoints/12/default'
    assert not [path for path in folder.iterdir() if path.name.startswith('policy')]
    assert jax.tree.leaves(None) == []


@pytest.mark.parametrize(
    'candidates',
    [np.zeros((3, 4, 2)), np.zeros((3, 4, 2, 1)), np.full((3, 4, 2, 2), 1.5)],
)
def test_what_a_function_returns_is_checked(candidates):
    policy = frozen.ForeignPolicy('mine:sample', lambda *_: candidates, '', (2, 2))
    with pytest.raises(UserError, match=r'mine:sample returned shape .* expected \(3, 4, 2, 2\)'):
        policy.sample(np.zeros((3, 5)), jax.random.key(0), 4)


def test_a_pool_of_a_function_knows_of_no_euler_steps():
    policy = frozen.ForeignPolicy('mine:sample', print, 'its digest', (2, 2))
    assert policy.pool_provenance(4) == policy.pool_provenance(10)


def test_a_function_that_has_changed_is_not_acted_by(tmp_path, monkeypatch):
    (tmp_path / 'changing.py').write_text('def sample(observations, key, num): pass')
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = frozen.load_function('changing:sample', (2, 2)).digest
    record = dict(base_policy=dict(function='changing:sample', digest=digest))
    record |= dict(agent=dict(chunk_length=2), action_dim=2)
    agent = small_agent('qc1', chunk_length=2)
    assert frozen.restored(agent, record).sampler is not None
    (tmp_path / 'changing.py').write_text('def sample(observations, key, num): return 1')
    with pytest.raises(UserError, match='the file of changing:sample has changed'):
        frozen.restored(agent, record)


def test_a_module_without_a_file_is_refused():
    with pytest.raises(UserError, match='--base_policy: sys has no file'):
        frozen.load_function('sys:getsizeof', (2, 2))


@pytest.mark.long
def test_candidates_of_new_states_are_drawn_as_they_come(trained, data_dir, tmp_path):  # noqa: F811
    """By the base policy, once for each state; also in a run that goes on after a while."""
    base = base_policy_of(trained[0])
    for folder, parts in dict(whole=(12,), parts=(5, 12)).items():
        for steps in parts:
            result = train_values(
                data_dir, tmp_path / folder, f'--base_policy={base}', f'--online_steps={steps}'
            )
            assert result.returncode == 0, result.stderr
    one, other = (run_of(tmp_path / folder) for folder in ('whole', 'parts'))
    assert_equal_runs(one, other, 24, ('train',))
    collected = ocp.PyTreeCheckpointer().restore(one / 'collected/24/default')
    observations, candidates = (collected['data'][name] for name in ('observations', 'candidates'))
    policy = frozen.load(base, small_config('qc5_pool', chunk_length=2, hidden_dims=(8,)), 2, 2)
    key = populations.stream(0, populations.CANDIDATE_STREAM)
    draw = policy.draw(key, 4, 2)
    assert len(observations) == 13
    for row in range(13):
        expected = draw(np.asarray(observations[row])[None], np.array([row]))
        np.testing.assert_allclose(candidates[row], expected[0], atol=2e-3)
