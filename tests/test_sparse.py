"""Sparse rewards: by hand in data and in play, and the name that keeps them apart."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands import ROOT, run_here
from tests.run_folders import write_run
from tests.test_cli import TINY, assert_one_line, run, table
from utils.data import dataset_files
from utils.environments import env_processes, envs, sparse
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.generation import generator
from utils.reporting import results
from utils.sweeps import suites

SCENE = 'scene-play-singletask-task1-v0'
SPARSE = 'scene-play-sparse-singletask-task1-v0'
CUBE, DRAWER, WINDOW = slice(14, 17), 23, 24  # in qpos; two buttons lie between them


# Names.


@pytest.mark.parametrize(
    ('base', 'name'),
    [
        (SCENE, SPARSE),
        ('scene-play-singletask-v0', 'scene-play-sparse-singletask-v0'),
        ('puzzle-4x4-play-singletask-task5-v0', 'puzzle-4x4-play-sparse-singletask-task5-v0'),
    ],
)
def test_a_name_goes_there_and_back(base, name):
    assert sparse.sparse_name(base) == name == sparse.sparse_name(name)
    assert sparse.parse(name) == (base, True)
    assert sparse.parse(base) == (base, False)
    assert envs.dataset_name(name) == envs.dataset_name(base)
    assert 'sparse' not in envs.dataset_name(name)
    tasks = [3, 1]
    assert [sparse.parse(task).base for task in envs.task_names(name, tasks)] == (
        envs.task_names(base, tasks)
    )


@pytest.mark.parametrize('name', ['', '-', 'singletask', 'any', 'cube-single-play-v0', 'sparse-v0'])
def test_what_is_no_name_has_no_sparse_rewards(name):
    assert sparse.parse(name) == (name, False)
    assert not sparse.parse(sparse.sparse_name(name)).sparse


@pytest.mark.parametrize(
    'family', ['cube-single-play', 'pointmaze-medium-stitch', 'antsoccer-arena-navigate']
)
def test_where_rewards_are_sparse_anyway_the_name_is_refused(family):
    with pytest.raises(UserError, match='are -1 and 0 anyway; use that name'):
        envs.make_env(f'{family}-sparse-singletask-task1-v0')


@pytest.mark.parametrize(
    'name',
    [
        'scene-sparse-singletask-task1-v0',
        'scene-sparse-play-singletask-task1-v0',
        'scene-play-singletask-sparse-task1-v0',
        'scene-play-sparse-sparse-singletask-task1-v0',
        'visual-scene-play-sparse-singletask-task1-v0',
        'sparse-singletask',
    ],
)
def test_the_mark_elsewhere_is_no_environment(name):
    with pytest.raises(UserError, match='no state-based environment'):
        envs.make_env(name)


def test_a_suite_is_sparse_by_its_names_alone(tmp_path):
    suite = suites.Suite(('evor',), ('scene-play-sparse-singletask-v0',), (1, 2), (0,), {})
    [element] = suites.elements(suite, 'all')
    assert f'--env_name={SPARSE}' in suites.arguments(element, tmp_path, {})
    assert suites.directories(element, 'exp')[0] == Path('exp') / SPARSE / 'evor/seeds_0'
    with pytest.raises(UserError, match='--sparse: decided by the suite'):
        suites.parse_flags(['--sparse=true'])


# Rewards.


@pytest.fixture(scope='module')
def scene():
    return envs.make_env(SPARSE)


def solved_or_not(env):
    """A row for each way to have solved a cube, two buttons, a drawer and a window, or not."""
    envs.reset(env, 0)
    inner = env.unwrapped
    ways = np.array(list(itertools.product([True, False], repeat=5)))
    qpos = np.zeros((len(ways), inner.model.nq))
    qpos[:, CUBE] = inner._data.mocap_pos[0] + 0.05 * ~ways[:, :1]
    qpos[:, DRAWER] = inner._target_drawer_pos + 0.05 * ~ways[:, 3]
    qpos[:, WINDOW] = inner._target_window_pos + 0.05 * ~ways[:, 4]
    states = np.array(inner._target_button_states) ^ ~ways[:, 1:3]
    return ways, dict(qpos=qpos, button_states=states)


def arrays_of(env, states):
    rows = len(states['qpos'])
    rng = np.random.default_rng(0)
    return dict(
        observations=rng.normal(size=(rows, *env.observation_space.shape)).astype(np.float32),
        actions=rng.uniform(-1, 1, (rows, *env.action_space.shape)).astype(np.float32),
        terminals=np.arange(rows) % 8 == 7,
        **states,
    )


def test_rewards_of_data_count_sub_goals_or_are_sparse(scene):
    ways, states = solved_or_not(scene)
    arrays = arrays_of(scene, states)
    standard = dataset_files.relabel(arrays, 'scene.npz', SCENE, scene)
    labelled = dataset_files.relabel(arrays, 'scene.npz', SPARSE, scene)
    np.testing.assert_array_equal(standard['rewards'], -np.sum(~ways, axis=1))
    np.testing.assert_array_equal(labelled['rewards'], np.where(ways.all(axis=1), 0, -1))
    # As in Q-chunking's code.
    np.testing.assert_array_equal(labelled['rewards'], (standard['rewards'] != 0.0) * -1.0)
    assert labelled['rewards'].dtype == standard['rewards'].dtype == np.float32
    np.testing.assert_array_equal(labelled['masks'], standard['masks'])
    assert standard.keys() == labelled.keys()


@pytest.mark.long
@pytest.mark.parametrize(
    'name', ['puzzle-3x3-play-singletask-task1-v0', 'cube-double-play-singletask-task1-v0']
)
def test_other_families_have_sparse_rewards_too(name):
    env = envs.make_env(sparse.sparse_name(name))
    envs.reset(env, 0)
    inner = env.unwrapped
    states = dict(qpos=np.zeros((8, inner.model.nq)))
    if 'puzzle' in name:
        states['button_states'] = np.tile(inner._target_button_states, (8, 1))
        states['button_states'][2:, 0] ^= 1
        states['button_states'][5:, 1] ^= 1
        expected = [0, 0, -1, -1, -1, -2, -2, -2]
    else:
        states['qpos'][:, 14:17], states['qpos'][:, 21:24] = inner._data.mocap_pos
        states['qpos'][2:, 14] += 0.05
        states['qpos'][5:, 21] += 0.05
        expected = [0, 0, -1, -1, -1, -2, -2, -2]
    for of, rewards in ((name, expected), (sparse.sparse_name(name), np.maximum(expected, -1))):
        labelled = dataset_files.relabel(arrays_of(env, states), 'some.npz', of, env)
        np.testing.assert_array_equal(labelled['rewards'], rewards)
    assert env.step(env.action_space.sample())[1] == -1.0


def test_rewards_of_a_file_must_be_what_the_name_says(scene):
    arrays = arrays_of(scene, solved_or_not(scene)[1])
    own = arrays | dict(rewards=np.where(arrays['terminals'], 0.0, -1.0))
    assert dataset_files.relabel(own, 'own.npz', SPARSE, scene) is own
    for value in (-2.0, 1.0):
        own['rewards'][3] = value
        with pytest.raises(UserError, match=r"own\.npz: has 'rewards' of its own other than -1"):
            dataset_files.relabel(own, 'own.npz', SPARSE, scene)
        assert dataset_files.relabel(own, 'own.npz', SCENE, scene) is own


def solve(env):
    """Makes the present the goal: the next step is worth 0, the one after it is the success."""
    inner = env.unwrapped
    inner._data.mocap_pos[0] = inner._data.joint('object_joint_0').qpos[:3]
    inner._target_button_states = inner._cur_button_states.copy()
    inner._target_drawer_pos = inner._data.joint('drawer_slide').qpos[0]
    inner._target_window_pos = inner._data.joint('window_slide').qpos[0]


@pytest.mark.long
@pytest.mark.parametrize('noise', [Noise(), Noise(action_noise=0.1)], ids=['clean', 'noisy'])
def test_a_step_differs_in_its_reward_alone(noise):
    actions = np.random.default_rng(0).uniform(-1, 1, (7, 5))
    played = {}
    for name in (SCENE, SPARSE):
        env = envs.make_env(name, noise)
        steps = [(envs.reset(env, 3), None, False, False, dict(success=False))]
        for number, action in enumerate(actions):
            if number == 5:
                solve(env)
            steps.append(env.step(action))
        played[name] = [(*step[:4], step[4]['success']) for step in steps]
    for counted, step in zip(played[SCENE], played[SPARSE], strict=True):
        np.testing.assert_array_equal(counted[0], step[0])
        assert counted[2:] == step[2:]
    rewards = {name: [step[1] for step in steps[1:]] for name, steps in played.items()}
    assert rewards[SPARSE] == 5 * [-1.0] + 2 * [0.0]
    assert rewards[SCENE][5:] == [0.0, 0.0]
    assert max(rewards[SCENE][:5]) < -1.0
    assert str(rewards[SPARSE][-1]) == '0.0', 'no negative zero'
    assert played[SPARSE][-1][2:] == (True, False, True)


@pytest.mark.long
def test_processes_play_for_sparse_rewards():
    with env_processes.VectorEnv(SPARSE, 1) as vector_env:
        vector_env.start(np.arange(1), np.arange(1))
        vector_env.collect(np.arange(1))
        vector_env.play(np.arange(1), np.zeros((1, 4, 5)))
        played = vector_env.collect(np.arange(1))
    assert played.step_rewards.tolist() == [[-1.0] * 4]
    assert played.rewards.tolist() == [-4.0]


# Runs and tables.


@pytest.fixture(scope='module')
def trained(scene, tmp_path_factory):
    """The run of task 1 of two tasks, trained on a set that lies under the name of the base."""
    folder = tmp_path_factory.mktemp('sparse')
    for name in ('scene-play-v0', 'scene-play-v0-val'):
        np.savez(folder / f'{name}.npz', **arrays_of(scene, solved_or_not(scene)[1]))
    flags = ['--sparse', '--tasks=1,2', '--agent=configs.py:bc', '--agent.hidden_dims=(8,)']
    flags += ['--agent.batch_size=16', '--agent.flow_steps=1', '--agent.chunk_length=5']
    flags += ['--offline_steps=4', '--eval_interval=4', '--log_interval=2', '--eval_episodes=1']
    paths = [f'--dataset_dir={folder}', f'--save_dir={folder}/exp', '--dataset_url=file:///none']
    result = run('main.py', '--env_name=scene-play-singletask-v0', *flags, *paths)
    assert result.returncode == 0, result.stderr
    return folder / 'exp' / SPARSE / 'bc/seeds_0'


@pytest.mark.long
def test_a_run_of_sparse_rewards_has_their_name(trained):
    folder = trained.parents[2]
    assert sorted(path.name for path in folder.iterdir()) == [
        SPARSE,
        SPARSE.replace('task1', 'task2'),
    ]
    [row] = table(trained / 'eval.csv')
    if not float(row['success']):
        assert -float(row['episode_return']) == float(row['episode_length'])
        assert float(row['start_return']) == pytest.approx(-1 / (1 - 0.99), rel=1e-5)
    assert len(table(trained / 'train.csv')) == 2


@pytest.mark.long
def test_a_script_goes_on_with_the_name_of_a_run(trained):
    folder = f'--dataset_dir={trained.parents[3]}'
    result = run(
        'scripts/check_policy.py', f'--run={trained}', folder, '--eval_episodes=1',
        '--samples=16',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    [row] = table(trained / 'base_policy.csv')
    assert 'lifts_per_200_steps_data' in row
    assert float(row['episode_return']) >= -float(row['episode_length'])


@pytest.mark.parametrize(
    'arguments',
    [['--sparse'], ['--env_name=cube-single-play-sparse-singletask-task1-v0']],
    ids=['flag', 'name'],
)
def test_main_refuses_a_second_name_in_one_line(tmp_path, arguments):
    refused = run_here('main.py', *arguments, *TINY, f'--save_dir={tmp_path}')
    assert_one_line(refused, '-1 and 0 anyway')
    assert not list(tmp_path.iterdir())


def test_a_sparse_name_makes_no_new_data(tmp_path):
    arguments = ['--dataset=scene-play-sparse-v0', f'--dataset_dir={tmp_path}']
    assert_one_line(
        run_here('scripts/generate_data.py', *arguments), "Did you mean 'scene-play-v0'"
    )
    assert 'scene-play-sparse-v0' not in generator.SOURCES
    # In a process of its own, since importing a script defines its flags.
    code = """
import configs
from utils.jobs import dataset_flags
from utils.sweeps import suites
names = 'scene-play-singletask-v0', 'scene-play-sparse-singletask-v0'
configs.SUITES['both'] = suites.Suite(('evor',), names, (1,), (0,), {})
dataset_flags.FLAGS(['test', '--suite=both'])
print(dataset_flags.chosen_datasets())
"""
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "['scene-play-v0']\n"


def test_tables_keep_both_apart_and_beside_their_own_published_numbers(tmp_path):
    for name, chance in ((SCENE, 0.2), (SPARSE, 0.9)):
        for task in range(1, 6):
            write_run(tmp_path / 'exp', name.replace('task1', f'task{task}'), chance=chance)
    found = results.read([tmp_path / 'exp'], 'last')
    assert {result.run.environment for result in found} == {'scene-play', 'scene-play-sparse'}
    made = run_here('scripts/make_tables.py', f'--runs={tmp_path}/exp', f'--out={tmp_path}/out')
    assert made.returncode == 0, made.stderr
    rows = {row['environment']: row for row in table(tmp_path / 'out/environments.csv')}
    assert rows.keys() == {'scene-play', 'scene-play-sparse'}
    means = {name: float(row['bc_small'].split()[0]) for name, row in rows.items()}
    assert means['scene-play'] < 50 < means['scene-play-sparse']
    others = table(tmp_path / 'out/published.csv')
    published = {
        name: {(row['agent'], row['source']) for row in others if row[name] != '—'} for name in rows
    }
    assert not published['scene-play'] & published['scene-play-sparse']
    assert all(published.values())
