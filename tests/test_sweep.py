"""Suites as arrays: which command an index means, how elements are doing, and running them."""

import importlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import gymnasium
import hypothesis
import pytest
from hypothesis import strategies as st

import configs
from tests.commands import ROOT, run_here
from utils.environments import envs, sparse
from utils.errors import STOPPED, UserError
from utils.generation import generator
from utils.storage import runs
from utils.sweeps import slurm, suites
from utils.sweeps.arrays import Array
from utils.sweeps.suites import Element, Found, Job, State, Suite
from utils.system import locks

STITCH = 'pointmaze-medium-stitch'
TINY = (
    '--offline_steps=20',
    '--log_interval=10',
    '--save_interval=10',
    '--agent.hidden_dims=(8,)',
    '--agent.batch_size=16',
    '--agent.flow_steps=2',
)
# Programs of a few updates take longer to compile well than to run badly.
LIGHT = dict(JAX_DISABLE_MOST_OPTIMIZATIONS='1')


def tuples(values, max_size=3):
    return st.lists(values, min_size=1, max_size=max_size, unique=True).map(tuple)


SUITES = st.builds(
    Suite,
    agents=tuples(st.sampled_from(list(configs.CONFIGS))),
    env_names=tuples(st.sampled_from(configs.FIVE_ENVIRONMENTS)),
    tasks=tuples(st.integers(1, 5)),
    seeds=tuples(st.integers(0, 99)),
    flags=st.just({}),
    mazes=st.sampled_from(['', '_maze']),
)
JOINT = st.sampled_from(suites.JOINT)


# What an index means.


@hypothesis.given(SUITES, JOINT)
def test_an_array_has_every_run_of_its_suite_exactly_once(suite, joint):
    parts = [
        (element.agent, element.env_name, task, seed)
        for element in suites.elements(suite, joint)
        for task in element.tasks
        for seed in element.seeds
    ]
    whole = itertools.product(suite.agents, suite.env_names, suite.tasks, suite.seeds)
    assert sorted(parts) == sorted(whole)


@hypothesis.given(SUITES, JOINT)
def test_index_and_element_mean_each_other(suite, joint):
    elements = suites.elements(suite, joint)
    assert [elements.index(element) for element in elements] == list(range(len(elements)))


@hypothesis.given(SUITES, JOINT)
def test_no_two_elements_share_a_run_directory(suite, joint):
    elements = suites.elements(suite, joint)
    folders = [path for element in elements for path in suites.directories(element, 'exp')]
    assert len(set(folders)) == len(folders)


@hypothesis.given(SUITES, JOINT)
def test_a_seed_is_begun_when_those_before_it_have_been(suite, joint):
    order = [element.seeds for element in suites.elements(suite, joint)]
    assert [seeds for seeds, _ in itertools.groupby(order)] == list(dict.fromkeys(order))


@pytest.mark.parametrize(('joint', 'count'), [('none', 375), ('seeds', 75), ('all', 15)])
def test_the_paper_has_25_tasks_5_seeds_and_3_agents(joint, count):
    elements = suites.elements(configs.get_suite('paper25'), joint)
    assert len(elements) == count
    assert sum(len(of.tasks) * len(of.seeds) for of in elements) == 25 * 5 * 3


def test_arguments_of_one_run_and_of_joint_ones():
    env = 'cube-single-play-singletask-v0'
    one = suites.arguments(Element('qc1', env, (4,), (2,)), Path('configs.py'), {'wandb': True})
    assert one == [
        '--env_name=cube-single-play-singletask-task4-v0',
        '--agent=configs.py:qc1',
        '--seeds=2',
        '--wandb=True',
    ]
    joint = suites.arguments(Element('qc1', env, (4, 5), (2, 3)), Path('configs.py'), {})
    assert joint[2:] == ['--tasks=4,5', '--seeds=2,3']


def test_in_mazes_agents_have_settings_of_their_own_and_their_name():
    elements = suites.elements(configs.get_suite('tasks25_small'), 'all')
    of_evor = {element.env_name: element for element in elements if element.agent == 'evor25'}
    for env_name, element in of_evor.items():
        [config] = [
            argument.removeprefix('--agent=configs.py:')
            for argument in suites.arguments(element, Path('configs.py'), {})
            if argument.startswith('--agent=')
        ]
        assert config == ('evor25_maze' if 'maze' in env_name else 'evor25')
        assert configs.get_config(config).config_name == 'evor25'
        assert all('/evor25/' in str(path) for path in suites.directories(element, 'exp'))


@pytest.mark.parametrize('name', list(configs.SUITES))
def test_every_suite_names_things_that_exist(name):
    suite = configs.get_suite(name)
    in_mazes = {f'{agent}{suite.mazes}' for agent in suite.agents}
    assert {*suite.agents, *in_mazes} <= set(configs.CONFIGS)
    assert not any('agent' in flag for flag in suite.flags), 'a variant is a config of its own'
    assert not set(suite.flags) & {*suites.RESERVED, *suites.OWN}
    importlib.import_module('ogbench')
    for env_name in suite.env_names:
        for name in envs.task_names(env_name, list(suite.tasks)):
            env_id = re.sub('-(play|navigate|stitch)-', '-', sparse.parse(name).base)
            assert env_id in gymnasium.registry


@pytest.mark.long
def test_main_accepts_the_arguments():
    """Of joint runs; those of single ones are run below."""
    suite = configs.get_suite('paper25')
    flags = dict(suite.flags, save_dir='exp', dataset_dir='data', dataset_url='url')
    arguments = suites.arguments(suites.elements(suite, 'all')[0], ROOT / 'configs.py', flags)
    run('main.py', *arguments, '--only_check_args')


@hypothesis.given(st.sets(st.integers(0, 40), min_size=1))
def test_indices_survive_slurms_notation(indices):
    text = suites.format_indices(indices)
    assert suites.parse_indices('elements', text, 41) == sorted(indices)


def test_slurms_notation():
    assert suites.format_indices([7, 0, 1, 2, 3, 5]) == '0-3,5,7'


@pytest.mark.parametrize('text', ['', 'x', '3-1', '0-6', '6', '-1', '1,,2', '1-2-3'])
def test_indices_that_are_none(text):
    with pytest.raises(UserError, match='--elements'):
        suites.parse_indices('elements', text, 6)


def test_flags_of_main():
    given = ['--wandb=true', '--agent.hidden_dims=(8,)', '--wandb=false']
    assert suites.parse_flags(given) == {'wandb': 'false', 'agent.hidden_dims': '(8,)'}


@pytest.mark.parametrize('flag', ['wandb', '--wandb', '-wandb=1', '--seeds=1', '--save_dir=x'])
def test_flags_of_main_that_are_refused(flag):
    with pytest.raises(UserError, match=flag.split('=')[0]):
        suites.parse_flags([flag])


# How an element is doing.


def status(state, step=7, **changes):
    """As main.py tells it; only what has stopped or failed has a reason."""
    reason = 'why' if state in ('stopped', 'failed') else ''
    return dict(state=state, step=step, offline_steps=20, reason=reason, host='n1') | changes


PENDING, RUNNING = Job('PENDING', 'Priority'), Job('RUNNING', '')


@pytest.mark.parametrize(
    ('statuses', 'locked', 'job', 'error', 'expected'),
    [
        ([status('finished', 20)], False, None, '', State('done', 20, '')),
        ([status('finished', 20)] * 2, False, None, '', State('done', 20, '')),
        # Not all tasks are done, or they are done with fewer updates than are wanted now.
        ([status('finished', 20), None], False, None, '', State('stopped', 0, 'finished at 20')),
        ([status('finished', 10)], False, None, '', State('stopped', 10, 'finished at 10')),
        ([status('stopped', 20)], False, None, '', State('stopped', 20, 'why')),
        ([status('stopped')], False, None, '', State('stopped', 7, 'why')),
        ([status('failed')], False, None, '', State('failed', 7, 'why')),
        ([None], False, None, 'no data', State('failed', 0, 'no data')),
        ([status('stopped')], False, None, 'no data', State('failed', 7, 'no data')),
        ([status('running')], False, None, '', State('killed', 7, 'without notice, on n1')),
        ([None], False, None, '', State('missing', 0, '')),
        # A process holds the lock.
        ([status('running')], True, None, '', State('running', 7, '')),
        ([status('stopped')], True, None, '', State('running', 7, '')),
        ([None], True, None, '', State('running', 0, '')),
        # What SLURM says.
        ([None], False, RUNNING, '', State('running', 0, '')),
        ([status('running')], False, RUNNING, '', State('running', 7, '')),
        ([status('running')], False, PENDING, '', State('queued', 7, 'Priority')),
        ([status('failed')], False, PENDING, 'no data', State('queued', 7, 'Priority')),
        ([status('finished', 20)], False, RUNNING, '', State('done', 20, '')),
        ([None], False, Job('CANCELLED', ''), '', State('missing', 0, '')),
        ([None], False, Job('NODE_FAIL', ''), '', State('failed', 0, 'SLURM: NODE_FAIL')),
        (
            [status('running')],
            False,
            Job('OUT_OF_MEMORY', ''),
            '',
            State('killed', 7, 'SLURM: OUT_OF_MEMORY'),
        ),
    ],
)
def test_the_state_of_an_element(statuses, locked, job, error, expected):
    assert suites.state(Found(statuses, locked, job, error), 20) == expected


@pytest.mark.parametrize(
    ('log', 'error'),
    [
        ('$ this\nerror: one\n', 'one'),
        ('$ this\nbar\rbar\rerror: one\nmore\n', 'one'),
        ('cut off\n$ this\nerror: one\nerror: two\n', 'two'),
        ('$ this\nerror: one\n$ this\nall well\n', ''),
        ('$ this\nerror: one\n$ that\nerror: two\n', ''),
        ('$ this\nslurmstepd: error: cancelled\n', ''),
        ('error: before anything was announced\n', ''),
        ('', ''),
    ],
)
def test_the_error_of_the_newest_attempt(log, error):
    assert suites.last_error(log.splitlines(keepends=True), '$ this') == error


def programs(folder, **outputs):
    """Programs that print what they are given and note their arguments; first on the path."""
    folder.mkdir()
    for name, output in outputs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.calls\n{output}\n')
        path.chmod(0o755)
    return f'{folder}:{os.environ["PATH"]}'


def test_slurms_answers_are_told_apart(tmp_path, monkeypatch):
    """In the form in which SLURM 22.05 gives them."""
    queue = ['7|0|COMPLETED|None', '7|[4-6]|PENDING|Resources', '7|1|RUNNING|None']
    queue += ['9|2|PENDING|BeginTime', '9|3|CANCELLED|None', '8|1|FAILED|NonZeroExitCode']
    queue += ['5|N/A|RUNNING|None']
    accounts = ['7_0|COMPLETED', '7_2|FAILED', '7_3|RUNNING', '7_8|CANCELLED by 1000', '7_[4-6]|X']
    lines = {name: '\n'.join(text) for name, text in dict(squeue=queue, sacct=accounts).items()}
    path = programs(tmp_path / 'bin', **{k: f"cat <<'E'\n{v}\nE" for k, v in lines.items()})
    monkeypatch.setenv('PATH', path)
    assert slurm.jobs(['7', '9']) == {
        0: Job('COMPLETED', ''),
        1: Job('RUNNING', ''),
        2: Job('PENDING', 'BeginTime'),
        3: Job('RUNNING', ''),  # the newer job was cancelled, the older one is under way
        8: Job('CANCELLED', ''),
    }
    assert slurm.jobs([]) == {}


def test_slurm_that_does_not_answer(tmp_path, monkeypatch):
    path = programs(tmp_path / 'bin', squeue='echo "no controller" >&2; exit 1', sacct='exit 1')
    monkeypatch.setenv('PATH', path)
    with pytest.raises(UserError, match='squeue failed with exit code 1: no controller'):
        slurm.jobs(['7'])
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='squeue: not found'):
        slurm.jobs(['7'])


def test_an_element_requeues_itself_and_not_the_array(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', programs(tmp_path / 'bin', scontrol=''))
    monkeypatch.setenv('SLURM_ARRAY_JOB_ID', '12')
    monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '3')
    for attempts in (1, 2, 3):
        slurm.requeue(attempts)
    assert (tmp_path / 'bin/scontrol.calls').read_text() == 'requeue 12_3\n' * 3


def test_an_element_that_gets_nowhere_is_not_requeued_for_ever(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', programs(tmp_path / 'bin', scontrol=''))
    with pytest.raises(UserError, match=r'4 attempts ended at the same update.*raise the time'):
        slurm.requeue(4)
    assert not (tmp_path / 'bin/scontrol.calls').exists()


def test_an_attempt_gains_by_updates_and_by_evaluations(tmp_path):
    """An evaluation of five tasks may take as many attempts, each of which finishes one."""
    [element] = suites.elements(configs.get_suite('smoke'), 'all')
    array = Array([element], [0], dict(save_dir=tmp_path), 100, tmp_path / 'logs')
    directories = suites.directories(element, tmp_path)
    for directory in directories:
        directory.mkdir(parents=True)

    def ends_at(step, rows, first=False):
        runs.Status(directories, 100).tell('stopped', step)
        (directories[-1] / 'eval.csv').write_text('step\n' * rows)
        return array.attempts_without_gain(0, first)

    ends = (0, 0), (0, 0), (5, 1), (5, 1), (5, 1), (5, 2), (9, 2)
    assert [ends_at(*end) for end in ends] == [1, 2, 1, 2, 3, 1, 1]
    assert ends_at(9, 2) == 2
    # Rows of an evaluation that was given up come and go.
    assert [ends_at(9, 1), ends_at(9, 2), ends_at(9, 1)] == [3, 4, 5]
    assert ends_at(9, 2, first=True) == 1


def test_an_attempt_gains_by_the_phases_before_its_values(tmp_path):
    """Its own, or those of another element, for which it has waited."""
    [element] = suites.elements(configs.get_suite('smoke'), 'all')
    array = Array([element], [0], dict(save_dir=tmp_path), 100, tmp_path / 'logs')
    policy = tmp_path / runs.BASE_POLICIES / 'a-set' / 'h5_seed0'
    (policy / 'pool').mkdir(parents=True)

    def ends_at(step, rows):
        runs.Status([policy], 100).tell('stopped', step)
        (policy / 'pool' / 'train.json').write_text(json.dumps(dict(rows_done=rows)))
        return array.attempts_without_gain(0, first=False)

    assert [ends_at(*end) for end in ((50, 0), (100, 0), (100, 0), (100, 7))] == [1, 1, 2, 1]


# The command.


def run(script, *arguments, code=0, **environment):
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | environment,
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result


@pytest.mark.long
def test_the_status_of_a_suite(tmp_path):
    elements = suites.elements(configs.get_suite('quick5'), 'none')
    folders = [suites.directories(element, str(tmp_path))[0] for element in elements]
    logs = tmp_path / 'sweeps/quick5/none'
    logs.mkdir(parents=True)
    (logs / 'jobs').write_text('31\n')
    path = programs(tmp_path / 'bin', squeue="echo '31|4|PENDING|Priority'", sacct='exit 1')
    for index, state in enumerate(('finished', 'running', 'running', 'stopped')):
        folders[index].mkdir(parents=True)
        step = 10_000 if state == 'finished' else 500
        content = status(state, step, time=time.time())
        (folders[index] / 'status.json').write_text(json.dumps(content))
    options = ('--suite=quick5', f'--save_dir={tmp_path}', '--elements=0-6', '--dataset_dir=/none')
    listed = run('scripts/sweep.py', *options, '--list').stdout.splitlines()
    command = listed[5].split(' ', 1)[1]
    (logs / '5.log').write_text(f'$ {command}\nerror: dataset cube: not there\n')
    with filelock.FileLock(folders[1] / '.lock'):
        output = run('scripts/sweep.py', *options, '--status', PATH=path).stdout
    rows = [line.split(maxsplit=4) for line in output.splitlines()[:-1]]
    assert [(int(row[0]), row[1], row[2]) for row in rows] == [
        (0, 'done', '10000/10000'),
        (1, 'running', '500/10000'),
        (2, 'killed', '500/10000'),
        (3, 'stopped', '500/10000'),
        (4, 'queued', '0/10000'),
        (5, 'failed', '0/10000'),
        (6, 'missing', '0/10000'),
    ]
    reasons = ['without notice, on n1', 'why', 'Priority', 'dataset cube: not there']
    assert [row[4] for row in rows[2:6]] == reasons
    assert [Path(row[3]) for row in rows] == [
        folder.relative_to(tmp_path) for folder in folders[:7]
    ]
    assert output.splitlines()[-1] == (
        '7 elements: 1 done, 1 running, 1 queued, 1 stopped, 1 failed, 1 killed, 1 missing'
    )


def test_what_is_submitted_is_neither_done_nor_under_way(tmp_path):
    path = programs(tmp_path / 'bin', squeue="echo '31|1|RUNNING|None'", sacct='exit 1')
    folder = tmp_path / 'a folder/sweeps/smoke/none'
    folder.mkdir(parents=True)
    (folder / 'jobs').write_text('31\n')
    output = run(
        'scripts/sweep.py',
        '--suite=smoke',
        '--submit',
        '--dry_run',
        f'--save_dir={tmp_path}/a folder',
        '--sbatch_options=--time=1:00:00 --comment="two words"',
        '--',
        '--wandb=true',
        PATH=path,
    ).stdout
    command = shlex.split(output.splitlines()[-1])
    script = command.index(str(ROOT / 'scripts/slurm/array.sbatch'))
    assert command[0] == 'sbatch'
    assert {'--array=0,2-5', f'--output={folder}/%a.log'} < set(command[:script])
    assert command[script - 2 : script] == ['--time=1:00:00', '--comment=two words']
    assert command[-2:] == ['--', '--wandb=true']
    assert not (tmp_path / 'bin/sbatch.calls').exists()


def test_a_suite_that_does_not_exist():
    with pytest.raises(UserError, match="Did you mean 'smoke'"):
        configs.get_suite('smok')


def test_a_number_of_updates_that_is_none():
    with pytest.raises(UserError, match='--offline_steps: expected a whole number'):
        suites.total_steps({'offline_steps': 'many'})
    with pytest.raises(UserError, match='--online_steps: expected a whole number'):
        suites.total_steps({'offline_steps': 3, 'online_steps': '1e3'})


def test_updates_online_are_updates_that_an_element_is_to_have():
    assert suites.total_steps({'offline_steps': 3, 'online_steps': '4'}) == 7


def test_the_name_of_a_config_is_the_suites_own():
    with pytest.raises(UserError, match=r'--agent\.config_name: decided by the suite'):
        suites.parse_flags(['--agent.config_name=try2'])


@pytest.mark.parametrize('flag', ['--dry_run', '--sbatch_options=--time=1:00:00'])
def test_what_is_for_submissions_alone_is_not_passed_over(flag, tmp_path):
    result = run_here('scripts/sweep.py', '--suite=smoke', '--local=1', flag)
    assert result.returncode == 2
    assert 'goes with --submit alone' in result.stderr


def test_one_thing_is_done_at_a_time():
    result = run_here('scripts/sweep.py', '--suite=smoke', '--list', '--status')
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.endswith('got --list --status')


def test_missing_data_is_told_before_anything_runs(tmp_path):
    for name in ('', '-val'):
        (tmp_path / f'pointmaze-medium-navigate-v0{name}.npz').touch()
    options = ('--suite=quick5', '--elements=0-9', f'--dataset_dir={tmp_path}')
    nowhere = f'--dataset_url=file://{tmp_path}/none'
    save_dir = tmp_path / 'exp'
    result = run_here('scripts/sweep.py', *options, nowhere, f'--save_dir={save_dir}', '--local=1')
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith('error: dataset antmaze-large-navigate-v0: not in')
    assert line.endswith('--elements=0-4 runs those whose data is there')
    assert not save_dir.exists()


@pytest.fixture(scope='module')
def local(tmp_path_factory):
    """Flags of `scripts/sweep.py` for `smoke`, and where its runs go."""
    data_dir, save_dir = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('exp')
    generator.generate(f'{STITCH}-v0', data_dir, episodes=4, workers=1, seed=0)
    elements = suites.elements(configs.get_suite('smoke'), 'none')
    folders = [suites.directories(element, str(save_dir))[0] for element in elements]
    return ['--suite=smoke', f'--save_dir={save_dir}', f'--dataset_dir={data_dir}'], folders


@pytest.mark.long
@pytest.mark.xdist_group('sweep')
def test_an_element_of_an_array_saves_itself_and_goes_back_into_the_queue(local, tmp_path):
    """Before its time limit; SLURM's own signals are sent by `make test-slurm`."""
    options, folders = local
    environment = dict(
        PATH=programs(tmp_path / 'bin', scontrol=''), SLURM_ARRAY_JOB_ID='12', **LIGHT
    )
    arguments = [*options, '--element=0', '--', *TINY, '--offline_steps=100000000']
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'scripts/sweep.py'), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment | dict(SLURM_ARRAY_TASK_ID='0'),
    )
    # Its progress shows losses once it has logged some; without any it ends, and so does its text.
    assert any('value_loss=' in line for line in process.stderr)
    process.send_signal(signal.SIGUSR1)
    output = process.communicate()[0]
    assert process.returncode == STOPPED, output
    assert not locks.is_locked(folders[0])
    told = runs.read_status(folders[0])
    assert (told['state'], told['reason']) == ('stopped', 'SIGUSR1')
    assert output.splitlines()[-1] == f'requeueing at {told["step"]} updates'
    assert (tmp_path / 'bin/scontrol.calls').read_text() == 'requeue 12_0\n'


@pytest.mark.long
@pytest.mark.xdist_group('sweep')
def test_a_suite_on_one_machine(local):
    """Two processes at a time; that one of the elements fails does not concern the other."""
    options, folders = local
    folders[1].mkdir(parents=True)
    (folders[1] / 'config.json').write_text('{}')
    arguments = [*options, '--elements=1-2', '--local=2', '--', *TINY]
    result = run('scripts/sweep.py', *arguments, code=1, **LIGHT)
    assert 'failed: --elements=1;' in result.stderr
    assert result.stdout.splitlines()[-1] == '2 elements: 1 done, 1 failed'
    assert 'holds a run of another configuration' in result.stdout
    record = runs.read_record(folders[2])
    assert (record['env_name'], record['seeds']) == (f'{STITCH}-singletask-task1-v0', [1])
    assert runs.read_status(folders[2])['state'] == 'finished'


@pytest.mark.long
@pytest.mark.xdist_group('sweep')
def test_an_element_that_gets_nowhere_is_not_started_for_ever(local):
    options, _ = local
    arguments = [*options, '--elements=3', '--local=1', '--', *TINY, '--max_wall_time=0.01']
    result = run('scripts/sweep.py', *arguments, code=1, **LIGHT)
    assert 'failed: --elements=3;' in result.stderr


def test_a_suite_is_projected_from_the_largest_population():
    """Six seeds of five tasks in turns of two by five: three times 1000 updates of 0.36 s."""
    suite = suites.Suite(
        ('evor',), ('a', 'b'), (1, 2, 3, 4, 5), tuple(range(6)), dict(offline_steps=1000)
    )
    rows = [
        dict(agent='evor', seeds=1, tasks=1, ms_per_update=50.0),
        dict(agent='evor', seeds=2, tasks=5, ms_per_update=360.0),
    ]
    row, hours = suites.projected_hours(suite, rows, 'evor')
    assert row is rows[1]
    assert hours == pytest.approx(0.3)
    with pytest.raises(UserError, match='qc1 was not measured'):
        suites.projected_hours(suite, rows, 'qc1')
