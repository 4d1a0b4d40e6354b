import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import random_params
from utils.errors import UserError
from utils.generation import experts, online, sac
from utils.storage.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[1]
ENV_ID = 'online-ant-v0'


@pytest.fixture(scope='module')
def env():
    return experts.make_direction_env(ENV_ID)


@pytest.fixture(scope='module')
def learner(env):
    return sac.create(small_config(), env.observation_space.shape[0], env.action_space.shape[0])


def small_config():
    config = sac.ogbench_config()
    config.update(dict(hidden_dims=(8, 8), batch_size=16, random_steps=50))
    return config


def read_record(path):
    return json.loads(path.read_text())


def test_numpy_acts_like_the_mean_of_the_trained_actor(learner):
    state = random_params(learner.init, 0)
    expert = experts.from_params(state.actor.params)
    observation = np.random.default_rng(0).normal(size=29)
    net = learner.update.args[0].actor_net
    mean = net.apply(state.actor.params, jnp.asarray(observation, jnp.float32)[None])[0, :8]
    np.testing.assert_allclose(expert.action(observation), np.tanh(mean), atol=1e-5)


def test_an_expert_is_read_as_it_was_written(tmp_path, learner):
    expert = experts.from_params(random_params(learner.init, 0).actor.params)
    experts.save(expert, tmp_path / 'walker', dict(seed=1))
    read = experts.load('walker', tmp_path)
    jax.tree.map(np.testing.assert_array_equal, tuple(expert), tuple(read))
    assert read_record(tmp_path / 'walker.json') == dict(seed=1)


def test_what_is_no_expert_is_refused_in_one_line(tmp_path):
    for read in (experts.load, experts.digest):
        with pytest.raises(UserError, match=r'humanoid\.npz'):
            read('humanoid', tmp_path)
    np.savez(tmp_path / 'ant.npz', kernel_0=np.zeros((2, 2)))
    with pytest.raises(UserError, match='no expert'):
        experts.load('ant', tmp_path)


def test_the_expert_at_hand_walks_as_fast_as_its_record_says(env):
    """Two episodes; the record has the mean of many, which vary little."""
    record = read_record(experts.FOLDER / 'ant.json')
    speeds = experts.measure_speed(experts.load('ant').action, env, 2, seed=1)
    assert speeds.mean() > 0.7 * record['metres_per_second'] > 0.7


@pytest.mark.long
def test_training_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path, env, learner):
    """Three episodes in one go, or one, a checkpoint, and two by another process's objects."""
    config, capacity = small_config(), 150
    env = gymnasium.wrappers.TimeLimit(env, 60)

    def play(learning, num):
        play_episode = online.make_play_episode(learner, config, env, seed=5)
        for _ in range(num):
            learning, metrics = play_episode(learning)
        return learning, metrics

    whole, metrics = play(online.start(learner.init, env, capacity, 5), 3)
    assert whole.step > config.random_steps
    assert 'critic_loss' in metrics
    half, _ = play(online.start(learner.init, env, capacity, 5), 1)
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        online.save(half, checkpoints)
        assert half.step < whole.step
        resumed = online.restore(online.start(learner.init, env, capacity, 6), checkpoints)
    resumed, _ = play(resumed, 2)
    assert (resumed.step, resumed.episode) == (whole.step, whole.episode)
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
    jax.tree.map(np.testing.assert_array_equal, whole.replay, resumed.replay)


def test_a_damaged_checkpoint_of_an_expert_is_set_aside(tmp_path, env, learner, capfd):
    learning = online.start(learner.init, env, 150, 5)
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step in (1, 2):
            online.save(learning._replace(step=step), checkpoints)
        (tmp_path / 'checkpoints/2/commit.json').write_text('{')
        assert online.restore(learning, checkpoints).step == 1
        assert checkpoints.steps() == {1}
        assert 'damaged' in capfd.readouterr().err
        (tmp_path / 'checkpoints/1/commit.json').write_text('{')
        with pytest.raises(UserError, match='no checkpoint is whole'):
            online.restore(learning, checkpoints)


@pytest.mark.long
def test_the_command_leaves_an_expert_and_how_well_it_walks(tmp_path):
    """One episode of learning after the random steps: it need not walk well."""
    command = ['scripts/train_expert.py', f'--out={tmp_path}', '--steps=10020']
    result = subprocess.run(
        [sys.executable, *command, '--speed_episodes=2', '--save_interval=10000'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert experts.load('ant', tmp_path).action(np.zeros(29)).shape == (8,)
    record = read_record(tmp_path / 'ant.json')
    assert (record['steps'], record['episodes'], record['seed']) == (10020, 2, 0)
    assert abs(record['metres_per_second']) < 0.5
