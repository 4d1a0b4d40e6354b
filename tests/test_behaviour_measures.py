import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.helpers import random_arrays
from utils.data import datasets
from utils.environments import env_processes, envs
from utils.generation import behaviour_measures
from utils.generation.behaviour_measures import Amount
from utils.rollouts import acting, evaluation, outcomes

MAZE = 'pointmaze-medium-navigate-singletask-task1-v0'
CUBES = 'cube-double-play-singletask-task1-v0'
SCENE = 'scene-play-singletask-task1-v0'
PUZZLE = 'puzzle-3x3-play-singletask-task1-v0'


def made(env_name):
    env = envs.make_env(env_name)
    envs.reset(env, 0)
    return env, behaviour_measures.make(env_name, env)


def straight(num, step=0.1):
    return np.stack([step * np.arange(num), np.zeros(num)], axis=1)


def test_who_walks_straight_has_walked_the_window_times_the_speed():
    amount = behaviour_measures.walked(straight(201), stride=1, window=50)
    assert amount.units == 151
    assert amount.done / amount.units == pytest.approx(5.0)


def test_measures_are_called_by_what_they_count():
    assert f'metres_per_{behaviour_measures.WINDOW_SECONDS:g}s' == outcomes.WALKED
    assert f'lifts_per_{behaviour_measures.LIFT_STEPS}_steps' == outcomes.LIFTED


def test_who_walks_to_and_fro_or_trembles_gets_nowhere():
    """The path is as long as that of who walks straight."""
    there_and_back = np.concatenate([straight(26), straight(26)[-2::-1]])
    assert behaviour_measures.walked(there_and_back, stride=1, window=50) == Amount(0.0, 1)
    trembling = np.resize(straight(2), (201, 2))
    amount = behaviour_measures.walked(trembling, stride=1, window=50)
    assert amount.done == pytest.approx(0.0, abs=1e-9)


def test_a_corner_counts_as_the_way_across():
    corner = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert behaviour_measures.walked(corner, stride=1, window=2) == Amount(5.0, 1)


@pytest.mark.parametrize('stride', [1, 2, 3, 5, 10, 100])
def test_how_often_one_looks_does_not_change_a_steady_walk(stride):
    amount = behaviour_measures.walked(straight(1001)[::stride], stride, window=50)
    assert amount.done / amount.units == pytest.approx(5.0)


def test_an_episode_shorter_than_the_window_tells_nothing():
    amount = behaviour_measures.walked(straight(50), stride=1, window=50)
    assert amount == Amount(0.0, 0)
    mean, _ = behaviour_measures.rate([amount, Amount(10.0, 2)])
    assert mean == 5.0


def test_a_lift_is_counted_once_however_long_and_high():
    heights = [0.02, 0.05, 0.13, 0.30, 0.13, 0.06, 0.06, 0.13, 0.10]
    assert behaviour_measures.lifts(np.array(heights)[:, None]) == 2


def test_a_cube_that_is_pushed_tilted_or_stacked_is_not_lifted():
    heights = [0.02, 0.04, 0.03, 0.06, 0.10, 0.10, 0.02]
    assert behaviour_measures.lifts(np.array(heights)[:, None]) == 0


def test_each_cube_has_lifts_of_its_own():
    up, down = [0.02, 0.2, 0.2], [0.2, 0.02, 0.2]
    assert behaviour_measures.lifts(np.array([up, down, down]).T) == 3


def test_the_rate_is_that_of_all_episodes_together():
    """Not the mean of rates: an episode that ends early counts for less."""
    mean, _ = behaviour_measures.rate([Amount(1, 0.3), Amount(0, 1.0), Amount(2, 0.7)])
    assert mean == pytest.approx(1.5)


def test_the_interval_of_the_rate_is_that_of_a_mean_where_episodes_are_equally_long():
    rng = np.random.default_rng(0)
    values = rng.poisson(2.0, 40)
    mean, half_width = behaviour_measures.rate([Amount(value, 1.0) for value in values])
    assert mean == pytest.approx(values.mean())
    assert half_width == pytest.approx(1.96 * values.std(ddof=1) / math.sqrt(40))


def test_the_interval_holds_the_rate_as_often_as_it_says():
    rng, held, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        units = rng.uniform(0.2, 1.0, 50)
        amounts = [Amount(rng.poisson(2.0 * of), of) for of in units]
        mean, half_width = behaviour_measures.rate(amounts)
        held += abs(mean - 2.0) <= half_width
    assert 0.91 < held / trials < 0.98


def test_what_cannot_be_known_is_no_number():
    assert np.isnan(behaviour_measures.rate([Amount(0.0, 0)])).all()
    mean, half_width = behaviour_measures.rate([Amount(3.0, 2)])
    assert mean == 1.5
    assert math.isnan(half_width)


@pytest.mark.parametrize(('env_name', 'num_cubes'), [(CUBES, 2), (SCENE, 1)])
def test_heights_are_read_off_observations_as_they_are(env_name, num_cubes):
    env, measure = made(env_name)
    assert measure.name == 'lifts_per_200_steps'
    raw = env.unwrapped
    expected = 0.31 + 0.01 * np.arange(num_cubes)
    for number in range(num_cubes):
        raw._data.joint(f'object_joint_{number}').qpos[2] = expected[number]
    observation = np.asarray(raw.compute_observation(), np.float32)[None]
    heights = behaviour_measures.cube_heights(observation, num_cubes)
    np.testing.assert_allclose(heights, expected[None], atol=1e-6)
    lying = observation.copy()
    lying[:, behaviour_measures.FIRST_CUBE + behaviour_measures.HEIGHT] = 0.2
    episode = np.concatenate([lying, observation, lying, observation])
    assert measure.of(episode, 5) == Amount(2, 20 / 200)


def test_a_walk_is_read_off_observations_in_simulated_time():
    """A tenth of a second is a step; a point at full speed does about 0.2 m in it."""
    env, measure = made(MAZE)
    assert measure.name == 'metres_per_5s'
    assert env.unwrapped.dt == pytest.approx(0.1)
    mean, _ = behaviour_measures.rate([measure.of(straight(101, step=0.2), 1)])
    assert mean == pytest.approx(10.0)


def test_what_a_maze_needs_is_its_way_in_the_time_there_is():
    """A corridor: three cells of 4 m in 100 steps of 0.1 s are 12 m in 10 s."""
    maze_map = np.ones((3, 6), int)
    maze_map[1, 1:5] = 0
    task = dict(init_ij=(1, 1), goal_ij=(1, 4))
    maze = SimpleNamespace(dt=0.1, cur_task_info=task, maze_map=maze_map, _maze_unit=4.0)
    env = SimpleNamespace(unwrapped=maze, spec=SimpleNamespace(max_episode_steps=100))
    measure = behaviour_measures.make('antmaze-corridor-navigate-singletask-v0', env)
    assert measure.needed == pytest.approx(6.0)


@pytest.mark.parametrize(
    'name', [PUZZLE, 'antsoccer-arena-navigate-singletask-v0', 'my_envs_gridmaze-v0', 'cube-v0']
)
def test_families_that_neither_walk_nor_lift_have_no_measure(name):
    assert behaviour_measures.make(name, None) is None


def test_recorded_episodes_are_looked_at_as_often_as_played_ones():
    arrays = random_arrays()
    dataset = datasets.build(arrays)
    cuts = np.flatnonzero(arrays['terminals']) + 1
    expected = np.split(arrays['observations'], cuts[:-1])
    found = behaviour_measures.recorded(dataset, 3)
    assert len(found) == len(expected) > 1
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs[::3].astype(np.float32))


@pytest.mark.long
def test_a_watched_policy_acts_as_before_and_is_seen_at_every_chunk_of_every_episode():
    """Three episodes in two environments: chunks of five actions, until 200 steps are over."""
    name = 'cube-single-play-singletask-task1-v0'

    def act(observations, key, episodes, chunks):
        still = np.zeros((len(observations), 5, 5), np.float32)
        return acting.Acts(still, np.full(len(observations), np.nan))

    seen = {}
    with env_processes.VectorEnv(name, 2) as vector_env:
        plain = evaluation.evaluate(act, vector_env, 3, jax.random.key(0))
        watched = behaviour_measures.watched(act, seen)
        episodes = evaluation.evaluate(watched, vector_env, 3, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, plain, episodes)
    assert sorted(seen) == [0, 1, 2]
    env = envs.make_env(name)
    for number, observations in seen.items():
        assert len(observations) * 5 == episodes.lengths[number] == 200
        np.testing.assert_allclose(observations[0], envs.reset(env, number), atol=1e-5)


def test_a_policy_stands_beside_the_data_and_what_is_needed():
    walk = behaviour_measures.Measure('metres', behaviour_measures.make(MAZE, made(MAZE)[0]).of, 3)
    played, data = [straight(101), straight(101)], [straight(101, 0.2)] * 3
    row = behaviour_measures.columns(walk, played, data, 1)
    assert list(row) == [
        'metres',
        'metres_half_width',
        'metres_data',
        'metres_data_half_width',
        'metres_needed',
    ]
    np.testing.assert_allclose(list(row.values()), [5.0, 0.0, 10.0, 0.0, 3.0], atol=1e-9)
