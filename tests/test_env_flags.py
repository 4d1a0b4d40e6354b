"""Which environment the flags of main.py ask for, and what they may not say together."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import main  # noqa: F401  # declares --dataset_path
from tests import toy_envs
from tests.helpers import random_arrays, small_config
from utils.environments import wrappers
from utils.environments.descriptions import GymEnv
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.jobs import assembly, env_flags

POINT = 'tests.toy_envs:Point-v0'
DATA = dict(dataset_path='mine.npz')


@pytest.fixture(autouse=True)
def parsed():
    flags.FLAGS.mark_as_parsed()


def chosen(**given):
    with flagsaver.as_parsed(**given):
        return env_flags.chosen()


def test_ogbench_is_named_as_ever():
    assert chosen() == [env_flags.DEFAULT]
    name = 'scene-play-singletask-v0'
    assert chosen(env_name=name, tasks='1,2', sparse='true') == [
        'scene-play-sparse-singletask-task1-v0',
        'scene-play-sparse-singletask-task2-v0',
    ]


def test_another_environment_is_named_by_its_id():
    assert chosen(env_id='Pendulum-v1', **DATA) == [GymEnv('Pendulum-v1', {})]
    given = dict(env_kwargs='{"fall": 3}', success='is_success', reference_returns='-20,0')
    assert chosen(env_id=POINT, **given, **DATA) == [
        GymEnv(POINT, dict(fall=3), 'is_success', (-20.0, 0.0))
    ]


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(env_id=POINT), "--env_id=.*: has no data of OGBench's; .*--dataset_path"),
        (dict(env_name='none'), "--env_name=none: has no data of OGBench's"),
        (dict(env_id=POINT, env_name='none', **DATA), '--env_name: goes with OGBench; leave'),
        (dict(env_id=POINT, tasks='1,2', **DATA), '--tasks: goes with OGBench'),
        (dict(env_name='none', tasks='1,2', **DATA), '--tasks: there is no environment'),
        (dict(env_name='none', sparse='true', **DATA), '--sparse: there is no environment'),
        (dict(success='is_success'), '--success: goes with --env_id'),
        (dict(env_name='none', env_kwargs='{}', **DATA), '--env_kwargs: goes with --env_id'),
        (dict(reference_returns='0,1'), '--reference_returns: goes with --env_id'),
    ],
)
def test_flags_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        chosen(**given)


def load(folder, environment):
    made = env_flags.make([environment])
    val_path = folder / 'mine-val.npz'
    data = assembly.load_data(folder / 'mine.npz', val_path, made, small_config('bc'))
    return data, *made.values()


def check(folder, environment, noise=wrappers.NO_NOISE, evaluates=True):
    data, env = load(folder, environment)
    env_flags.check_data(environment, env, data, noise, evaluates)


@pytest.fixture
def mine(tmp_path):
    """A set of ours with rewards and held-out data, of sizes 3 and 2."""
    for name in ('mine.npz', 'mine-val.npz'):
        np.savez(tmp_path / name, **random_arrays())
    return tmp_path


def test_without_an_environment_held_out_data_are_asked_for(mine, capsys):
    check(mine, 'none')
    assert 'success cannot be known without playing' in capsys.readouterr().out
    (mine / 'mine-val.npz').unlink()
    check(mine, 'none', evaluates=False)
    assert capsys.readouterr().out == ''
    with pytest.raises(UserError, match=r'no held-out data mine-val.npz .*--eval_interval=0'):
        check(mine, 'none')


def test_noise_needs_somebody_who_plays(mine):
    with pytest.raises(UserError, match=r'action_noise_0.1: nothing is played'):
        check(mine, 'none', Noise(action_noise=0.1))


def test_data_without_rewards_need_an_environment_of_ogbench(tmp_path):
    arrays = random_arrays()
    np.savez(
        tmp_path / 'mine.npz', **{k: arrays[k] for k in ('observations', 'actions', 'terminals')}
    )
    with pytest.raises(UserError, match=r"mine.npz: keys 'rewards' and 'masks' are missing"):
        load(tmp_path, 'none')


def test_data_of_another_size_are_refused(mine):
    with pytest.raises(UserError, match=r"'observations' have size 3, tests.toy_envs_Point-v0 exp"):
        load(mine, GymEnv(POINT, {}))


def test_a_key_of_success_is_looked_for_before_data_are_read(tmp_path):
    with pytest.raises(UserError, match="--success: 'solved' was in no info"):
        env_flags.make([GymEnv(POINT, {}, 'solved')])


def test_actions_are_those_that_the_record_beside_the_data_tells(tmp_path):
    toy_envs.write_imported(tmp_path / 'mine.npz')
    environment = GymEnv(POINT, {})
    check(tmp_path, environment)
    record = json.loads((tmp_path / 'mine.json').read_text())
    record['action_map']['scale'] = [3.0]
    (tmp_path / 'mine.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match=r'actions are in -3:3, those of .* in -2:2'):
        check(tmp_path, environment)
