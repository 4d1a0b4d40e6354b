"""Environments of Gymnasium: what is described, what is refused, how episodes are judged."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests import toy_envs
from utils.environments import action_maps, descriptions, env_processes, envs, gym_envs, wrappers
from utils.environments.descriptions import describe_env
from utils.errors import UserError

POINT = 'tests.toy_envs:Point-v0'
PUSH = action_maps.from_range(np.array([-2.0]), np.array([2.0]))


def refused(match):
    return pytest.raises(UserError, match=match)


def play(env, action=0.0, steps=20):
    """Steps of an episode until it ends: rewards, and what `info['success']` says of each."""
    envs.reset(env, 0)
    told = []
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(np.float32([action]))
        told.append((reward, info['success']))
        if terminated or truncated:
            break
    return map(np.array, zip(*told, strict=True))


@pytest.mark.parametrize('env_id', ['Pendulum-v1', POINT, 'phys2d/CartPole-v1'])
def test_the_name_of_an_environment_is_fit_for_a_folder(env_id):
    assert set(describe_env(env_id).name).isdisjoint('/:\\ ')


@pytest.mark.parametrize(
    'flags',
    [
        ('Pendulum-v1',),
        (POINT, '{"fall": 2.5}', 'is_success'),
        (POINT, '{"max_episode_steps": 7}', 'return:-12.5', ['-20', '0']),
    ],
)
def test_a_record_tells_of_an_environment_what_the_flags_have(flags):
    environment = describe_env(*flags)
    record = dict(env_name=environment.name) | descriptions.describe(environment)
    record = json.loads(json.dumps(record))
    assert descriptions.recorded(record, Path('config.json')) == environment


def test_records_of_ogbench_tell_its_name_alone_as_those_of_earlier_versions():
    name = 'scene-play-singletask-task1-v0'
    assert descriptions.describe(name) == {}
    assert descriptions.recorded(dict(env_name=name), Path('config.json')) == name


@pytest.mark.parametrize('told', [None, 3, {}, dict(env_id='Pendulum-v1', kwargs=[], success='')])
def test_a_damaged_description_is_refused(told):
    with refused("config.json: 'environment' is damaged; restore"):
        descriptions.recorded(dict(env_name='x', environment=told), Path('config.json'))


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('Pendulum-v1', '{"g": 1'), '--env_kwargs: .* is not JSON .*expected an object'),
        (('Pendulum-v1', '[1]'), '--env_kwargs: .* is no JSON object'),
        (('Pendulum-v1', '', 'return:much'), '--success: .*expected return:NUMBER'),
        (('Pendulum-v1', '', 'return:nan'), '--success: .*expected a finite number'),
        (('Pendulum-v1', '', '', ['1']), '--reference_returns: expected LOW,HIGH'),
        (('Pendulum-v1', '', '', ['2', '1']), '--reference_returns: expected finite LOW < HIGH'),
        (('scene-singletask-v0',), "--env_id: 'scene-singletask-v0' is OGBench's; .*--env_name"),
    ],
)
def test_flags_that_describe_no_environment_cost_one_line(flags, message):
    with refused(message):
        describe_env(*flags)


@pytest.mark.parametrize(
    ('env_id', 'message'),
    [
        ('Pendulm-v1', 'Did you mean: `Pendulum`.*expected a registered environment'),
        ('Pendulum', 'names no version; here it is Pendulum-v1'),
        ('nowhere_to_be_found:Reach-v0', 'nowhere_to_be_found.*PYTHONPATH, or install it'),
        ('tests.toy_envs:Dictionary-v0', 'observations are Dict.*Box.*FlattenObservation'),
        ('tests.toy_envs:Pixels-v0', 'observations are Box.*a Box of one axis of floats'),
        ('tests.toy_envs:Discrete-v0', r'actions are Discrete\(3\); expected a Box'),
        ('tests.toy_envs:Endless-v0', 'no limit of steps.*max_episode_steps'),
        ('powderworld-easy-v0', 'cannot be made|observations are Box'),
    ],
)
def test_environments_that_are_not_flat_or_not_there_cost_one_line(env_id, message):
    with refused(f"--env_id: '{env_id}'.*{message}") as raised:
        envs.make_env(describe_env(env_id))
    assert '\n' not in str(raised.value)


def test_arguments_that_an_environment_does_not_take_are_refused():
    with refused("unexpected keyword argument 'gravity'.*--env_kwargs"):
        envs.make_env(describe_env('Pendulum-v1', '{"gravity": 1}'))


def test_arguments_reach_the_environment():
    env = envs.make_env(describe_env(POINT, '{"max_episode_steps": 3}'))
    rewards, _ = play(env)
    assert len(rewards) == 3


def test_success_is_what_the_key_says():
    rewards, success = play(envs.make_env(describe_env(POINT, '', 'is_success')), action=0.3)
    np.testing.assert_array_equal(success, rewards > -0.5)
    assert 0 < success.sum() < len(success)


def test_success_is_a_return_of_at_least_so_much():
    rewards, _ = play(envs.make_env(describe_env(POINT)))
    least = rewards.cumsum()[10]
    _, success = play(envs.make_env(describe_env(POINT, '', f'return:{least}')))
    np.testing.assert_array_equal(success, rewards.cumsum() >= least)


def test_a_key_of_success_that_is_never_told_is_refused_with_those_that_are():
    environment = describe_env(POINT, '', 'success')
    with refused('--success: .*there were: is_success, pushed'):
        gym_envs.check_success(envs.make_env(environment), environment)
    for rule in ('is_success', 'none', 'return:3'):
        environment = describe_env(POINT, '', rule)
        gym_envs.check_success(envs.make_env(environment), environment)


DATA = Path('mine.npz')


def check_bounds(action_map, told=True):
    environment = describe_env(POINT)
    gym_envs.check_bounds(envs.make_env(environment), environment, action_map, DATA, told)


def test_actions_of_data_may_span_the_bounds_or_less():
    for action_map in (PUSH, None, action_maps.from_range(np.array([-1.0]), np.array([2.0]))):
        check_bounds(action_map)


def test_actions_that_reach_beyond_the_bounds_are_refused():
    wide = action_maps.from_range(np.array([-2.0]), np.array([3.0]))
    with refused('actions are in -2:3, those of .* in -2:2; import it with --action_range=-2:2'):
        check_bounds(wide)


def test_nobody_guesses_what_actions_without_a_record_stand_for():
    with refused('in -2:2, and no record .*import_data.py --action_range=-2:2'):
        check_bounds(None, told=False)


def test_actions_in_the_units_of_ogbench_need_no_record():
    gymnasium.register(
        'Unit-v0',
        toy_envs.Point,
        max_episode_steps=20,
        kwargs=dict(action_space=gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)),
    )
    environment = describe_env('Unit-v0')
    gym_envs.check_bounds(envs.make_env(environment), environment, None, DATA, told=False)


def test_agents_act_in_their_units_and_the_environment_in_its_own():
    env = envs.make_env(describe_env(POINT), wrappers.NO_NOISE, action_map=PUSH)
    envs.reset(env, 0)
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    assert env.step(np.float32([0.75]))[-1]['pushed'] == 1.5


@pytest.fixture(scope='module')
def falling():
    """Two of them at a time; whoever is pushed for long falls, which ends an episode by reward."""
    environment = describe_env(POINT, '{"fall": 1.2}', 'is_success')
    with env_processes.VectorEnv(environment, 2, wrappers.NO_NOISE, PUSH) as running:
        yield running


def test_processes_play_what_is_described_and_repeat_it(falling):
    env = envs.make_env(describe_env(POINT))
    first = [envs.reset(env, episode) for episode in (5, 6)]
    for _ in range(2):
        falling.start(np.arange(2), np.array([5, 6]))
        np.testing.assert_array_equal(falling.collect(np.arange(2)).observations, first)


def test_what_a_limit_of_time_ends_is_cut_and_what_ends_by_reward_is_not(falling):
    falling.start(np.arange(2), np.array([5, 6]))
    falling.collect(np.arange(2))
    actions = np.stack([np.ones((40, 1)), np.zeros((40, 1))])
    falling.play(np.arange(2), actions)
    played = falling.collect(np.arange(2))
    assert played.done.all()
    assert played.steps[0] < played.steps[1] == 20
    np.testing.assert_array_equal(played.cut, [False, True])


@pytest.mark.parametrize('family', ['pointmaze-medium-navigate', 'cube-single-play'])
def test_success_ends_the_episodes_of_ogbench(family):
    """So that where a limit of time ends one, its last reward is that of a task not solved."""
    assert envs.make_env(f'{family}-singletask-v0').unwrapped._terminate_at_goal
