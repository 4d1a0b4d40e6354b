"""Runs outside OGBench: on an environment of Gymnasium, and on none."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import toy_envs
from tests.commands import run_here
from tests.helpers import random_arrays, small_config
from utils.data import datasets
from utils.environments import descriptions, envs, wrappers
from utils.environments.descriptions import GymEnv, describe_env, name_of
from utils.errors import UserError
from utils.jobs import assembly, env_flags, restore, value_checks
from utils.models.calibration import HeldOut
from utils.reporting import all_tables, commands
from utils.rollouts import outcomes
from utils.storage import runs
from utils.system.stopping import StopRequest
from utils.training.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]
POINT = 'tests.toy_envs:Point-v0'
SCHEDULE = Schedule(
    offline_steps=4,
    log_interval=4,
    eval_interval=4,
    save_interval=4,
    eval_episodes=3,
    eval_envs=3,
    max_wait=60.0,
    overlaps=False,
)


def train(folder, environment, name, seeds, eval_interval=4):
    """Trains four updates, as main.py does; returns the run's directory."""
    config = small_config(name, hidden_dims=(8,))
    config.config_name = name
    made = env_flags.make([environment])
    data = assembly.load_data(folder / 'mine.npz', folder / 'mine-val.npz', made, config)
    env_flags.check_data(environment, *made.values(), data, wrappers.NO_NOISE, True)
    directory = runs.run_dir(str(folder / 'exp'), name_of(environment), name, seeds)
    record = runs.describe(
        env_name=name_of(environment),
        **descriptions.describe(environment),
        **wrappers.NO_NOISE._asdict(),
        seeds=seeds,
        offline_steps=4,
        agent=config.to_dict(),
        **assembly.describe_data(data, data.train[0]),
    )
    directory.mkdir(parents=True)
    runs.write_records({directory: record})
    run = assembly.make_run(config, [environment], seeds, data, wrappers.NO_NOISE)
    assert assembly.train(
        run, [directory], SCHEDULE._replace(eval_interval=eval_interval), StopRequest()
    )
    return directory


def table(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('mine')
    toy_envs.write_imported(path / 'mine.npz')
    toy_envs.write_imported(path / 'mine-val.npz', str(path / 'mine.json'), episodes=6, seed=99)
    return path


@pytest.fixture(scope='module')
def played(folder):
    """A run of bc on the point, whose success is not defined."""
    environment = GymEnv(POINT, {'fall': 3}, reference_returns=(-20.0, 0.0))
    return train(folder, environment, 'bc', [0], eval_interval=2)


@pytest.fixture(scope='module')
def checked(folder):
    """A run of EVOR, two seeds, on no environment."""
    return train(folder, 'none', 'evor', [0, 1])


@pytest.mark.long
def test_a_run_is_found_by_the_name_of_its_environment(played, checked):
    assert played.parts[-3:] == ('tests.toy_envs_Point-v0', 'bc', 'seeds_0')
    assert checked.parts[-3:] == ('none', 'evor', 'seeds_0_1')


@pytest.mark.long
def test_where_success_is_not_defined_tables_show_returns(played):
    rows, episodes = (table(played / f'{name}.csv') for name in ('eval', 'episodes'))
    assert [row['step'] for row in rows] == ['2', '4']
    assert not [name for row in (rows[0], episodes[0]) for name in row if 'success' in name]
    returns = [float(row['episode_return']) for row in episodes if row['step'] == '4']
    assert float(rows[1]['episode_return']) == pytest.approx(np.mean(returns))


@pytest.mark.long
def test_normalised_returns_are_0_and_100_at_the_references(played):
    for row in table(played / 'eval.csv'):
        expected = 100 * (float(row['episode_return']) + 20.0) / 20.0
        assert float(row['normalised_return']) == pytest.approx(expected)


def test_a_summary_says_success_where_it_is_defined():
    summary = dict(success=0.5, success_low=0.25, success_high=0.75, episode_return=-3.0)
    assert outcomes.in_words(summary) == 'success 0.50 [0.25, 0.75]'
    assert outcomes.in_words(dict(episode_return=-3.0)) == 'return -3'
    assert outcomes.in_words(dict(episode_return=-3.0, normalised_return=85.0)).endswith(' 85.0')


@pytest.mark.long
def test_a_run_brings_its_environment_and_the_map_of_its_actions(played):
    record = runs.read_record(played)
    environment = descriptions.recorded(record, played / runs.RECORD)
    assert environment == GymEnv(POINT, {'fall': 3}, reference_returns=(-20.0, 0.0))
    _, _, step = restore.restore(played, record, environment, None)
    assert step == 4
    assert record['action_map'] == dict(offset=[0.0], scale=[2.0])


@pytest.mark.long
def test_the_command_of_a_run_names_its_environment(played):
    command = commands.train_command(runs.read_record(played))
    for flag in (f'--env_id={POINT}', '--reference_returns=-20.0,0.0', '{"fall":3}', 'mine.npz'):
        assert flag in command
    assert 'action_map' not in command


@pytest.mark.long
def test_tables_show_returns_where_there_is_no_success(played, checked, folder):
    for found in (folder / 'exp', played):
        [shown] = all_tables.make(all_tables.find([str(found)], [], 'last', returns=True))
        [row] = shown.rows
        assert [cell.text for cell in row[:4]] == ['tests.toy_envs_Point-v0', 'bc', '1', '4']
        assert float(row[4].text) == pytest.approx(
            float(table(played / 'eval.csv')[-1]['episode_return']), abs=0.05
        )
    with pytest.raises(UserError, match='success is not defined in any of these runs'):
        all_tables.find([str(checked)], [], 'last', returns=True)
    with pytest.raises(UserError, match=r'success is not defined .*make_tables.py shows returns'):
        all_tables.find([str(folder / 'exp')], [], 'last')


@pytest.mark.long
@pytest.mark.parametrize(
    ('change', 'differs'),
    [
        (dict(kwargs={'fall': 4}), r'environment.kwargs.fall \(3 there, 4 here\)'),
        (dict(success='is_success'), 'environment.success'),
    ],
)
def test_a_run_does_not_go_on_in_another_environment(played, change, differs):
    record = runs.read_record(played)
    other = json.loads(json.dumps(record))
    other['environment'] |= change
    with pytest.raises(UserError, match=differs):
        runs.check_records({played: other})
    runs.check_records({played: record})


@pytest.mark.long
def test_without_an_environment_an_evaluation_checks_held_out_data(checked):
    assert not (checked / 'eval.csv').exists()
    rows = table(checked / 'checks.csv')
    assert [(row['step'], row['seed']) for row in rows] == [('4', '0'), ('4', '1')]
    for row in rows:
        numbers = {name: float(value) for name, value in row.items()}
        assert all(map(math.isfinite, numbers.values())), row
        assert numbers['policy_loss'] > 0
        assert 0 <= numbers['coverage_low'] <= numbers['coverage'] <= numbers['coverage_high'] <= 1
        assert numbers['bias_low'] <= numbers['bias'] <= numbers['bias_high']
        assert -1 <= numbers['agreement'] <= 1


def test_without_an_environment_a_pool_has_held_out_candidates():
    pools, path = assembly.Pools(np.zeros((1, 1, 1, 1)), None), Path('theirs.npy')
    env_flags.check_pools('pointmaze', pools, path, evaluates=True)
    env_flags.check_pools(descriptions.NONE, pools, path, evaluates=False)
    with pytest.raises(UserError, match=r'--pool: there is no theirs-val.npy beside theirs.npy'):
        env_flags.check_pools(descriptions.NONE, pools, path, evaluates=True)


@pytest.mark.long
def test_held_out_data_are_found_again_without_an_environment(checked, folder):
    record = runs.read_record(checked)
    restore.restore(checked, record, 'none', None)
    val, _ = restore.held_out(record, folder, 'nowhere')
    assert val.observations.shape == (6 * 20 + 6, 2)


def test_what_is_no_environment_is_not_played():
    with pytest.raises(UserError, match='none is no environment to play in'):
        envs.make_env('none')


def test_returns_of_short_trajectories_are_taken_where_the_cut_hides_least():
    arrays = random_arrays(lengths=(6, 6))
    arrays |= dict(rewards=np.ones(12, np.float32), masks=np.ones(12, np.float32))
    val = datasets.build(arrays)
    data, hidden = value_checks.returns_at(val, small_config(discount=0.5), seed=0)
    # From the first row to the cut: all but 1/2 ** steps of a return of 2 is there.
    assert set(data.trajectories) == {5, 11}
    np.testing.assert_allclose(data.outcomes, 2.0, rtol=1e-5)
    assert 0 < hidden < 0.5


def test_bias_is_value_minus_return_where_values_are_numbers():
    outcomes_ = np.arange(8.0)
    data = HeldOut(np.zeros((8, 3)), np.zeros((8, 2)), outcomes_, np.repeat([0, 1], 4))

    def act(state, observations, key, settings, candidates):
        assert candidates.shape == (8, 1, 2)
        return SimpleNamespace(values=jnp.asarray(outcomes_ + state)[:, None])

    agent = SimpleNamespace(act=act, configure=lambda n_pi: None)
    row = value_checks.calibrate(agent, 2.0, None, data, seed=0)
    assert row == dict(bias=2.0, bias_low=2.0, bias_high=2.0)


@pytest.mark.long
@pytest.mark.parametrize('name', ['qc1', 'ifql', 'iql', 'fql', 'bc'])
def test_agents_are_checked_for_what_they_have(folder, tmp_path, name):
    for path in folder.glob('mine*.*'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    row = table(train(tmp_path, 'none', name, [0]) / 'checks.csv')[-1]
    assert ('bias' in row) == (name in ('qc1', 'ifql'))
    assert ('action_distance' in row) == (name in ('qc1', 'ifql', 'bc'))
    assert [name for name in row if name.endswith('loss')]


def run(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.long
def test_values_are_compared_with_those_of_another_run(checked, folder, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    other = train(folder, 'none', 'qc1', [0])
    asked = 'scripts/check_values.py', f'--dataset_dir={folder}', '--samples=16'
    result = run(*asked, f'--run={checked}', f'--other={other}', cwd=folder)
    assert result.returncode == 0, result.stderr
    assert {(row['other'], row['other_step']) for row in table(checked / 'values.csv')[-8:]} == {
        (str(other), '4')
    }
    result = run(*asked, f'--run={other}', f'--other={checked}', cwd=folder)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert f'--other: {checked} has 2 seeds; expected one' in result.stderr


@pytest.mark.long
def test_scripts_need_no_flags_of_the_environment(played, checked, folder, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    data = f'--dataset_dir={folder}'
    for script, *arguments in (
        ('evaluate', f'--run={played}', '--eval_episodes=2'),
        ('check_policy', f'--run={played}', data, '--eval_episodes=2', '--samples=16'),
        ('check_policy', f'--run={checked}', data, '--samples=16'),
        ('check_values', f'--run={checked}', data, '--samples=16'),
    ):
        result = run(f'scripts/{script}.py', *arguments, cwd=folder)
        assert result.returncode == 0, result.stderr
    assert 'normalised_return' in table(played / 'inference.csv')[0]
    assert 'episode_return' in table(played / 'base_policy.csv')[0]
    assert 'episode_return' not in table(checked / 'base_policy.csv')[0]
    result = run('scripts/evaluate.py', f'--run={checked}', cwd=folder)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert 'trained without an environment; name one to play it in by --env_id or' in line


@pytest.mark.long
def test_what_was_trained_without_an_environment_plays_where_one_is_named(
    checked, folder, monkeypatch
):
    """A simulator may come later: the rows say of which environment they are."""
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    out = folder / 'later'
    asked = f'--run={checked}', f'--out={out}', '--eval_episodes=2', f'--env_id={POINT}'
    result = run('scripts/evaluate.py', *asked, '--success=is_success', cwd=folder)
    assert result.returncode == 0, result.stderr
    assert {row['env_name'] for row in table(out / 'inference.csv')} == {describe_env(POINT).name}
    assert {row['success'] for row in table(out / 'inference.csv')} <= {'0.0', '0.5', '1.0'}
    for wrong, told in (
        ('--success=never', "--success: 'never' was in no info"),
        ('--env_name=cube-single-play-singletask-task1-v0', '--env_name: names another'),
        ('--success=none', 'its rows tell success, unlike those of'),
        (f'--out={checked}', 'is not what'),
    ):
        result = run('scripts/evaluate.py', *asked, wrong, cwd=folder)
        assert result.returncode == 2
        assert told in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.long
def test_an_episode_is_drawn_by_a_command(played, folder, monkeypatch):
    """Where something draws; here nobody asks MuJoCo."""
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.syspath_prepend(ROOT)
    out = folder / 'drawn'
    result = run_here('scripts/record_episode.py', f'--run={played}', f'--out={out}')
    assert result.returncode == 0, result.stderr
    [row] = table(out / 'videos.csv')
    assert (row['config'], row['seed'], row['episode']) == ('bc', '0', '0')
    with Image.open(out / row['file']) as animation:
        assert animation.n_frames > 1
    assert (out / row['file']).with_suffix('.png').exists()
    again = run_here('scripts/record_episode.py', f'--run={played}', f'--out={out}')
    assert (again.returncode, 'exists already' in again.stderr) == (2, True)


@pytest.mark.long
def test_where_success_is_not_defined_curves_are_of_returns(checked, folder, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    out = folder / 'swept'
    asked = f'--run={checked}', f'--out={out}', '--eval_episodes=3', f'--env_id={POINT}'
    result = run('scripts/sweep_inference.py', *asked, '--n_pi=1,2', cwd=folder)
    assert result.returncode == 0, result.stderr
    assert 'success' not in result.stdout
    header, _, *lines = (line for line in result.stdout.splitlines() if line.startswith('|'))
    assert header.split('|')[1:3] == [' n_pi ', ' returns ']
    rows = table(out / 'inference.csv')
    for line in lines:
        setting, mean, interval, *_ = (cell.strip() for cell in line.split('|')[1:-1])
        own = [row['episode_return'] for row in rows if row['n_pi'] == setting.split()[0]]
        assert len(own) == 2
        assert float(mean) == pytest.approx(np.mean([float(text) for text in own]), abs=0.006)
        low, high = (float(bound) for bound in interval.strip('[]').split(', '))
        assert low <= float(mean) <= high


def test_an_environment_is_described_once():
    """What the flags say is what the trainer, the record and the scripts hand on."""
    assert describe_env(POINT) == GymEnv(POINT, {}, 'none', None)
