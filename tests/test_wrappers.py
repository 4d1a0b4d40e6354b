import gymnasium
import numpy as np
import pytest
from scipy import stats

from utils.environments import env_processes, envs, wrappers
from utils.environments.action_maps import ActionMap
from utils.environments.wrappers import Noise, NoisyActions
from utils.errors import UserError

MAZE = 'pointmaze-medium-navigate-singletask-task1-v0'
CUBE = 'cube-single-play-singletask-task1-v0'


class Listener(gymnasium.Env):
    """Does nothing but write down what it is told to do."""

    def __init__(self, action_dim):
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action_dim,))
        self.told = []

    def reset(self, *, seed=None, options=None):
        self.told = []
        return np.zeros(1), dict(seed=seed, options=options)

    def step(self, action):
        self.told.append(action)
        return np.zeros(1), 0.0, False, False, {}


def executed(chosen, noise, seed=0):
    """What becomes of (steps, action_dim) chosen actions in one episode."""
    env = NoisyActions(Listener(chosen.shape[1]), noise)
    env.reset(seed=seed)
    for action in chosen:
        env.step(action)
    return np.stack(env.unwrapped.told)


def distinct_actions(steps, action_dim=1):
    return np.linspace(-0.5, 0.5, steps * action_dim).reshape(steps, action_dim)


@pytest.mark.parametrize('level', [0.05, 0.2])
def test_action_noise_is_gaussian_of_the_deviation_that_was_asked_for(level):
    chosen = np.full((5000, 4), 0.1)
    noise = executed(chosen, Noise(action_noise=level)) - chosen
    assert stats.kstest(noise.ravel() / level, 'norm').pvalue > 0.01
    # 20,000 numbers: the deviation of their variance is level^2 / 100.
    assert np.var(noise) == pytest.approx(level**2, rel=0.04)
    assert np.abs(np.corrcoef(noise.T) - np.eye(4)).max() < 0.05
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.05


def test_noisy_actions_are_clipped():
    """Of N(0, 1), 31.7% fall on the bounds, and E clip(x)^2 = 1 - 2 phi(1) = 0.516."""
    actions = executed(np.zeros((5000, 4)), Noise(action_noise=1.0))
    assert np.abs(actions).max() == 1.0
    assert np.mean(np.abs(actions) == 1.0) == pytest.approx(0.317, abs=0.01)
    assert np.mean(actions**2) == pytest.approx(1 - 2 * stats.norm.pdf(1.0), abs=0.01)


@pytest.mark.parametrize('chance', [0.1, 0.4])
def test_a_chosen_action_waits_its_turn_as_long_as_the_stickiness_says(chance):
    """The action of `k` steps ago is executed with probability (1 - p) p^k."""
    chosen = distinct_actions(20_000)
    actions = executed(chosen, Noise(sticky_prob=chance))
    steps = np.arange(20_000)
    age = steps - np.searchsorted(chosen[:, 0], actions[:, 0])
    for k in range(4):
        expected = (1 - chance) * chance**k
        assert np.mean(age == k) == pytest.approx(expected, abs=4 * (expected / 20_000) ** 0.5)


def test_all_numbers_of_an_action_stick_together():
    chosen = distinct_actions(200, action_dim=3)
    actions = executed(chosen, Noise(sticky_prob=0.5))
    assert {tuple(row) for row in actions} <= {tuple(row) for row in chosen}


def test_the_first_action_is_never_held():
    """There is none before it, and none of the episode before."""
    env = NoisyActions(Listener(1), Noise(sticky_prob=0.9))
    for seed in range(20):
        env.reset(seed=seed)
        env.step(np.array([seed / 100]))
        assert env.unwrapped.told == [seed / 100]


def test_noise_is_added_to_what_is_held_and_is_not_held_itself():
    chosen, both = distinct_actions(5000), Noise(action_noise=0.1, sticky_prob=0.5)
    held = executed(chosen, both._replace(action_noise=0.0))
    noise = executed(chosen, both) - held
    assert np.std(noise) == pytest.approx(0.1, rel=0.05)
    repeats = np.flatnonzero(held[1:] == held[:-1])
    assert abs(np.corrcoef(noise[repeats, 0], noise[repeats + 1, 0])[0, 1]) < 0.1


@pytest.mark.parametrize('noise', [Noise(0.2, 0.0), Noise(0.0, 0.3), Noise(0.2, 0.3)])
def test_an_episodes_noise_is_its_own(noise):
    chosen = distinct_actions(50, 2)
    first = executed(chosen, noise, seed=7)
    np.testing.assert_array_equal(executed(chosen, noise, seed=7), first)
    assert not np.array_equal(executed(chosen, noise, seed=8), first)


def test_a_seed_fixes_the_noise_whatever_was_played_before():
    env, chosen = NoisyActions(Listener(1), Noise(0.2, 0.3)), distinct_actions(20)
    for steps in (3, 20):
        env.reset(seed=5)
        for action in chosen[:steps]:
            env.step(action)
    np.testing.assert_array_equal(env.unwrapped.told, executed(chosen, Noise(0.2, 0.3), seed=5))


def test_agents_and_levels_meet_the_same_noise():
    zeros, others = np.zeros((100, 2)), distinct_actions(100, 2)
    little, more = (executed(zeros, Noise(action_noise=level)) for level in (0.1, 0.2))
    np.testing.assert_allclose(2 * little, more)
    np.testing.assert_allclose(executed(others, Noise(action_noise=0.1)) - others, little)
    # Where a low stickiness holds on, a high one does too.
    seldom, often = (executed(others, Noise(sticky_prob=p))[:, 0] for p in (0.2, 0.6))
    kept = seldom[1:] == seldom[:-1]
    assert kept.any()
    assert np.all((often[1:] == often[:-1])[kept])


def rollout(env, episode, steps=30):
    rows = [envs.reset(env, episode)]
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape))
    rows += [env.step(action)[0] for action in actions.astype(np.float32)]
    return np.stack(rows)


@pytest.mark.parametrize('name', [MAZE, CUBE])
def test_no_noise_is_the_plain_environment_to_the_bit(name):
    plain = envs.make_env(name, Noise())
    assert not isinstance(plain, NoisyActions)
    expected = rollout(plain, 3)
    np.testing.assert_array_equal(rollout(NoisyActions(plain, Noise()), 3), expected)


@pytest.mark.parametrize('name', [MAZE, CUBE])
def test_noise_changes_an_episode_but_not_its_start(name):
    plain, noisy = (rollout(envs.make_env(name, noise), 3) for noise in (Noise(), Noise(0.2)))
    np.testing.assert_array_equal(plain[0], noisy[0])
    assert not np.array_equal(plain[1], noisy[1])


def test_processes_have_the_same_noise():
    noise = Noise(0.2, 0.3)
    expected = [rollout(envs.make_env(MAZE, noise), episode)[-1] for episode in (0, 4)]
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    with env_processes.VectorEnv(MAZE, 2, noise) as vector_env:
        vector_env.start(np.arange(2), np.array([0, 4]))
        vector_env.collect(np.arange(2))
        vector_env.play(np.arange(2), np.stack([actions, actions]))
        played = vector_env.collect(np.arange(2))
    np.testing.assert_array_equal(played.observations, np.float32(expected))


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ((-0.1, 0.0), '--action_noise: must be at least 0'),
        ((np.inf, 0.0), '--action_noise: must be at least 0 and finite'),
        ((np.nan, 0.0), '--action_noise'),
        ((0.0, 1.0), '--sticky_prob: must be at least 0 and less than 1, not 1'),
        ((0.0, -0.1), '--sticky_prob'),
        (('much', 0.0), '--action_noise'),
    ],
)
def test_noise_out_of_range_is_refused(flags, message):
    with pytest.raises(UserError, match=message):
        wrappers.make_noise(*flags)


def test_a_record_tells_of_its_noise():
    assert wrappers.recorded_noise(dict(action_noise=0.1, sticky_prob=0.2)) == Noise(0.1, 0.2)
    assert wrappers.recorded_noise({}) == Noise()


@pytest.mark.parametrize(
    ('noise', 'label'),
    [
        (Noise(), ''),
        (Noise(0.1), 'action_noise_0.1'),
        (Noise(0.25, 0.1), 'action_noise_0.25_sticky_prob_0.1'),
    ],
)
def test_a_label_names_what_there_is(noise, label):
    assert noise.label == label


def test_a_map_of_actions_is_undone_where_they_are_done():
    """The environment does what the data's actions were, whatever they were divided by."""
    action_map = ActionMap((0.1, -0.2), (0.5, 0.25))
    plain, mapped = envs.make_env(MAZE), envs.make_env(MAZE, action_map=action_map)
    np.testing.assert_array_equal(mapped.action_space.low, [-1, -1])
    envs.reset(plain, 0)
    envs.reset(mapped, 0)
    for action in np.float32([[1, 1], [-1, 0], [0.4, -0.8]]):
        one = plain.step(np.float32([0.1, -0.2]) + np.float32([0.5, 0.25]) * action)
        np.testing.assert_allclose(mapped.step(action)[0], one[0], rtol=1e-6)


def test_processes_undo_a_map_of_actions_as_well():
    """One that turns actions round: what was forwards is backwards."""
    turned, observations = ActionMap((0.0, 0.0), (-1.0, -1.0)), []
    for action_map, sign in ((None, 1.0), (turned, -1.0)):
        with env_processes.VectorEnv(MAZE, 1, wrappers.NO_NOISE, action_map) as vector_env:
            one = np.array([0])
            vector_env.start(one, one)
            vector_env.collect(one)
            vector_env.play(one, np.full((1, 3, 2), sign * 0.7, np.float32))
            observations.append(vector_env.collect(one).observations)
    np.testing.assert_array_equal(*observations)
