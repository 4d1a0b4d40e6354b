import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import agents
import configs
from agents import Decision
from benchmarks import stepping
from tests.helpers import random_state, small_agent
from utils.environments import env_processes, envs
from utils.environments.env_processes import Played
from utils.errors import UserError
from utils.reporting import evaluations
from utils.rollouts import acting, evaluation
from utils.storage import metrics

ENV = 'pointmaze-medium-navigate-singletask-task1-v0'
KEY = jax.random.key(1)


class Chosen(NamedTuple):
    """As much of a `Decision` as an evaluation asks for."""

    actions: jax.Array
    promised: jax.Array


def noisy(state, observations, key, settings):
    """An agent with chunks of five noisy steps; depends on everything that it may depend on."""
    noise = jax.random.uniform(key, (len(observations), 5, 2), minval=-1.0)
    actions = jnp.clip(noise + state - 0.01 * observations[:, None], -1, 1)
    return Chosen(actions, observations.sum(axis=1))


controller = acting.bind(noisy, 0.5, None)


def agent_of(config_name):
    return configs.get_config(config_name).agent_name


def own_key(key, episode, chunk):
    return jax.random.fold_in(jax.random.fold_in(key, episode), chunk)


@struct.dataclass
class Size:
    """As much of settings of inference as a sampler asks for."""

    n_pi: int = struct.field(pytree_node=False)


class CountingEnvs:
    """Stands in for `VectorEnv`: knows who was sent what, and writes down what happens.

    Episode `e` ends after `lengths[e]` chunks. Its observation is its number and the chunks played,
    its reward the sum of the actions.
    """

    def __init__(self, num_envs, lengths):
        self.num_envs, self.lengths = num_envs, lengths
        self.playing, self.reports, self.started, self.log = {}, {}, [], []

    def start(self, environments, episodes):
        for number, episode in zip(environments, episodes, strict=True):
            self.playing[number] = (int(episode), 0)
            self.started.append(int(episode))
            self._send(number, 0.0)
        self._write('start', environments)

    def play(self, environments, actions):
        for number, chunk in zip(environments, actions, strict=True):
            episode, chunks = self.playing[number]
            assert chunks < self.lengths[episode], 'the episode had ended'
            self.playing[number] = (episode, chunks + 1)
            self._send(number, float(chunk.sum()))
        self._write('play', environments)

    def collect(self, environments):
        self._write('collect', environments)
        reports = [self.reports.pop(number) for number in environments]
        return Played(*(np.array(field) for field in zip(*reports, strict=True)))

    def act(self, observations, key, episodes, chunks):
        self.log.append('act')
        return controller(observations, key, episodes, chunks)

    def _send(self, number, reward):
        assert number not in self.reports, 'the last report was not collected'
        episode, chunks = self.playing[number]
        done = chunks == self.lengths[episode]
        observation = np.array([episode, chunks], np.float32)
        success = bool(done and episode % 2)
        steps, cut = int(chunks > 0), done and not success
        self.reports[number] = observation, reward, [reward], steps, done, success, cut

    def _write(self, what, environments):
        if len(environments):
            self.log.append(f'{what} {" ".join(map(str, environments))}')


@pytest.fixture(scope='module')
def vector_env():
    with env_processes.VectorEnv(ENV, 3) as running:
        yield running


def started(vector_env, episodes):
    """The first observations of these episodes."""
    vector_env.start(np.arange(len(episodes)), episodes)
    return vector_env.collect(np.arange(len(episodes))).observations


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


# Who steps when.


def test_one_group_steps_while_the_actions_of_the_other_are_computed():
    """Between a `play` and the next `collect` of a group stands an `act`: that of the other."""
    counting = CountingEnvs(4, lengths=[2] * 4)
    evaluation.evaluate(counting.act, counting, 4, KEY)
    turns = ['collect 0 2', 'act', 'play 0 2', 'collect 1 3', 'act', 'play 1 3']
    ends = ['collect 0 2', 'collect 1 3']
    assert counting.log == ['start 0 2', 'start 1 3', *turns, *turns, *ends]


def test_the_next_episode_starts_where_one_ends_and_before_actions_are_computed():
    counting = CountingEnvs(2, lengths=[1, 3, 1])
    evaluation.evaluate(counting.act, counting, 3, KEY, num_groups=1)
    both_play = ['collect 0 1', 'act', 'play 0 1']
    episode_2_follows_0 = ['collect 0 1', 'start 0', 'act', 'play 1']
    turns = [*both_play, *episode_2_follows_0, *both_play]
    assert counting.log == ['start 0 1', *turns, 'collect 0 1']


def test_an_agent_is_asked_once_per_chunk():
    counting = CountingEnvs(1, lengths=[3, 1, 2])
    asked = []

    def act(observations, key, episodes, chunks):
        assert_same((episodes, chunks), observations.T)
        asked.append((int(episodes[0]), int(chunks[0])))
        return counting.act(observations, key, episodes, chunks)

    evaluation.evaluate(act, counting, 3, KEY)
    assert asked == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]


@pytest.mark.parametrize(('num_envs', 'num_groups', 'size'), [(5, 2, 3), (5, 1, 5), (1, 2, 1)])
@pytest.mark.parametrize('num_episodes', [1, 4, 9])
def test_batches_have_one_size_whoever_plays(num_envs, num_groups, size, num_episodes):
    counting = CountingEnvs(num_envs, lengths=[1, 4, 2] * 3)

    def act(observations, key, episodes, chunks):
        assert observations.shape == (size, 2)
        assert episodes.shape == chunks.shape == (size,)
        return counting.act(observations, key, episodes, chunks)

    evaluation.evaluate(act, counting, num_episodes, KEY, num_groups)


# What comes of it.


@pytest.mark.parametrize(
    ('num_envs', 'num_groups'), [(1, 2), (2, 1), (2, 2), (3, 2), (7, 3), (9, 1), (9, 2), (12, 2)]
)
def test_an_outcome_is_the_episodes_own(num_envs, num_groups):
    """That of playing it alone, with its own keys; and every episode is played exactly once."""
    lengths = [3, 1, 4, 1, 5, 2, 6, 5, 3]
    counting = CountingEnvs(num_envs, lengths)
    episodes = evaluation.evaluate(counting.act, counting, 9, KEY, num_groups)
    assert sorted(counting.started) == list(range(9))
    assert not counting.reports  # nothing is left to collect
    np.testing.assert_array_equal(episodes.lengths, lengths)
    np.testing.assert_array_equal(episodes.success, np.arange(9) % 2 == 1)
    for episode, length in enumerate(lengths):
        alone = [
            noisy(0.5, np.array([[episode, c]], np.float32), own_key(KEY, episode, c), None).actions
            for c in range(length)
        ]
        np.testing.assert_allclose(episodes.returns[episode], np.sum(alone), atol=1e-4)


def test_an_evaluation_equals_a_plain_loop(vector_env):
    """The same start states and keys, an episode at a time, a step at a time."""
    episodes = evaluation.evaluate(controller, vector_env, 4, KEY)
    env, act = envs.make_env(ENV), jax.jit(noisy)
    for episode in range(4):
        observation, total, length, ended = envs.reset(env, episode), 0.0, 0, False
        while not ended:
            key = own_key(KEY, episode, length // 5)
            for action in np.asarray(act(0.5, np.float32(observation)[None], key, None).actions[0]):
                observation, reward, terminated, truncated, info = env.step(action)
                total, length, ended = total + reward, length + 1, terminated or truncated
                if ended:
                    break
        outcome = tuple(field[episode] for field in episodes[:3])
        assert outcome == (bool(info['success']), total, length)


def test_evaluation_repeats_to_the_bit(vector_env):
    results = [evaluation.evaluate(controller, vector_env, 4, KEY) for _ in range(2)]
    assert_same(*results)


def test_many_at_once_equals_one_by_one(vector_env):
    """The same start states and actions, played in a plain loop."""
    everyone = np.arange(3)
    observations = started(vector_env, everyone)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2, 2)).astype(np.float32)
    played = []
    for chunk in actions:
        vector_env.play(everyone, chunk)
        played.append(vector_env.collect(everyone))
    env = envs.make_env(ENV)
    for episode in range(3):
        observation = envs.reset(env, episode)
        np.testing.assert_array_equal(observations[episode], np.float32(observation))
        for chunk, result in zip(actions, played, strict=True):
            rewards = []
            for action in chunk[episode]:
                observation, reward, *_ = env.step(action)
                rewards.append(reward)
            total = rewards[0] + rewards[1]
            np.testing.assert_array_equal(result.observations[episode], np.float32(observation))
            assert (result.rewards[episode], result.steps[episode]) == (total, 2)
            np.testing.assert_array_equal(result.step_rewards[episode], rewards)
            assert not result.done[episode]


def test_a_start_state_is_fixed_by_the_episode_alone(vector_env):
    first = started(vector_env, np.array([0, 1, 2]))
    second = started(vector_env, np.array([2, 7, 0]))
    np.testing.assert_array_equal(second[[2, 0]], first[[0, 2]])
    assert not np.array_equal(second[1], first[1])


def test_an_episode_ends_with_its_success(vector_env):
    """A walker that knows the way reaches the goal, and takes no step of its chunk from then on."""
    env = envs.make_env(ENV)
    envs.reset(env, 0)
    goal = np.array(env.unwrapped.cur_goal_xy)

    def walk(observations, key, episodes, chunks):
        subgoals = [env.unwrapped.get_oracle_subgoal(xy, goal)[0] for xy in observations]
        steps = np.array(subgoals) - observations
        steps /= np.linalg.norm(steps, axis=1, keepdims=True) + 1e-6
        return acting.Acts(np.repeat(steps[:, None], 2, axis=1), np.zeros(len(steps)))

    episodes = evaluation.evaluate(walk, vector_env, 3, KEY)
    assert episodes.success.all()
    # Reward -1 per step until the goal is reached; the success is noticed one step later.
    np.testing.assert_array_equal(episodes.returns, -(episodes.lengths - 1))
    assert episodes.lengths.max() < 1000
    assert (episodes.lengths % 2).any()


# Asking an agent.


def test_every_row_is_acted_on_as_if_it_were_alone():
    agent = small_agent()
    state = random_state(agent)
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    episodes, chunks = np.array([5, 5, 2, 2]), np.array([0, 1, 0, 0])
    observations[3] = observations[2]
    act = acting.bind(agent.act, state, agent.settings)
    actions, promised = act(observations, KEY, episodes, chunks)
    alone = jax.jit(agent.act)
    for row in range(4):
        key = own_key(KEY, episodes[row], chunks[row])
        decision = alone(state, observations[row][None], key, agent.settings)
        np.testing.assert_allclose(actions[row], decision.actions[0], atol=1e-5)
        value = decision.values[0, decision.index[0]]
        np.testing.assert_allclose(promised[row], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(actions[2], actions[3])


@pytest.mark.parametrize('name', sorted(agents.REGISTRY))
def test_every_agent_can_be_evaluated(name):
    """By shapes alone: nothing is compiled or computed."""
    agent = small_agent(next(c for c in configs.CONFIGS if agent_of(c) == name))

    def act(key, observations, numbers):
        bound = acting.bind(agent.act, agent.init(key), agent.settings)
        return bound(observations, key, numbers, numbers)

    acts = jax.eval_shape(act, KEY, np.zeros((4, 3), np.float32), np.arange(4))
    assert (len(acts.actions), acts.actions.ndim, acts.actions.shape[-1]) == (4, 3, 2)
    assert acts.promised.shape == (4,)


def test_an_agent_is_compiled_once_for_all_states_and_episodes():
    traced = []

    def act(state, observations, key, settings):
        traced.append(observations.shape)
        return noisy(state + settings, observations, key, None)

    for state, temperature in ((0.5, 0.1), (0.4, 0.2)):
        counting = CountingEnvs(5, lengths=[2, 1, 3] * 3)
        bound = acting.bind(act, state, temperature)
        for num_episodes in (9, 2):
            evaluation.evaluate(bound, counting, num_episodes, KEY)
    assert len(traced) == 1


# Many settings at once.


@struct.dataclass
class Push:
    """Settings of an agent that pushes: how hard is an array, how often is static."""

    force: jax.Array
    times: int = struct.field(pytree_node=False)


def pushing(state, observations, key, settings):
    noise = 0.1 * jax.random.normal(key, (len(observations), 5, 2))
    actions = settings.times * settings.force + noise + state
    return Chosen(actions, jnp.full(len(observations), settings.force))


PUSHES = [Push(force, times) for force in (0.0, 10.0, 200.0) for times in (1, 3)]


@pytest.mark.parametrize('num_envs', [1, 4, 50])
def test_a_sweep_yields_what_each_setting_gives_alone_and_in_order(num_envs):
    lengths = [3, 1, 4, 1, 5]
    counting = CountingEnvs(num_envs, lengths)
    act = acting.bind_each(pushing, 0.5, PUSHES, 5)
    swept = list(evaluation.sweep(act, counting, len(PUSHES), 5, KEY))
    assert sorted(counting.started) == sorted(list(range(5)) * len(PUSHES))
    assert not counting.reports  # nothing is left to collect
    assert len(swept) == len(PUSHES)
    for one, episodes in zip(PUSHES, swept, strict=True):
        alone = acting.bind(pushing, 0.5, one)
        expected = evaluation.evaluate(alone, CountingEnvs(2, lengths), 5, KEY)
        np.testing.assert_allclose(episodes.returns, expected.returns, rtol=1e-5)
        assert_same((episodes.success, episodes.lengths), (expected.success, expected.lengths))
        np.testing.assert_array_equal(episodes.start_values, one.force)


def test_a_setting_is_yielded_as_soon_as_it_and_those_before_it_are_played():
    """With one environment: before the next one begins."""
    counting = CountingEnvs(1, lengths=[2, 1])
    act = acting.bind_each(pushing, 0.5, PUSHES[:3], 2)
    swept = evaluation.sweep(act, counting, 3, 2, KEY)
    begun = [len(counting.started) for _ in swept]
    assert begun == [3, 5, 6]  # the one that follows has started, but was not played


@pytest.mark.parametrize('num_rows', [5, 19])
def test_rows_with_nothing_to_do_cost_nothing(num_rows):
    """As when most episodes have ended: batches are of one size, and only as many as needed."""
    sizes = []

    def counted(state, observations, key, settings):
        jax.debug.callback(lambda row: sizes.append(row), observations[0, 0])
        return pushing(state, observations, key, settings)

    act = acting.bind_each(counted, 0.0, PUSHES[:1], 20)
    rollouts = np.full(40, acting.IDLE)
    rollouts[:num_rows] = np.arange(num_rows)
    actions = act(np.zeros((40, 2), np.float32), KEY, rollouts, np.zeros(40, int)).actions
    jax.effects_barrier()
    assert len(sizes) == -(-num_rows // acting.BATCH_ROWS) * acting.BATCH_ROWS
    assert np.all(actions[:num_rows] != 0)
    assert np.all(actions[num_rows:] == 0)


def test_somebody_else_s_policy_is_asked_where_something_is_played():
    """Elsewhere the observation is made up, and a policy may refuse it."""

    def sampler(observations, key, num):
        assert np.all(observations == 1.0)
        return np.ones((len(observations), num, 1, 2), np.float32)

    def first(state, observations, key, settings, candidates):
        return Chosen(candidates[:, 0], observations.sum(axis=1))

    act = acting.bind(first, 0.5, Size(2), sampler)
    episodes = np.array([acting.IDLE, 0, acting.IDLE, 1])
    observations = np.float32(episodes >= 0)[:, None]
    actions = act(observations, KEY, episodes, np.zeros(4, int)).actions
    np.testing.assert_array_equal(actions, np.repeat(observations, 2, axis=1))


def test_settings_of_one_static_part_share_a_program():
    traced = []

    def act(state, observations, key, settings):
        traced.append(settings.times)
        return pushing(state, observations, key, settings)

    bound = acting.bind_each(act, 0.5, PUSHES, 4)
    list(evaluation.sweep(bound, CountingEnvs(50, [2, 1, 3, 1]), len(PUSHES), 4, KEY))
    assert sorted(traced) == [1, 3]


def test_an_agent_acts_the_same_in_a_sweep_and_alone():
    """Whatever else is swept, up to the rounding of batched products."""
    agent = small_agent()
    few, many = dict(n_pi=2, flow_steps=1), dict(n_pi=6, num_return_samples=7)
    temperatures = [dict(tau_q=0.1), dict(tau_q=0.0, tau_r=0.1), dict(tau_r=np.inf)]
    settings = [agent.configure(**static, **tau) for tau in temperatures for static in (few, many)]
    rng = np.random.default_rng(0)
    rollouts = rng.integers(0, 10 * len(settings), 25)
    asked = rng.normal(size=(25, 3)).astype(np.float32), KEY
    chunks = rng.integers(0, 5, 25)
    state = random_state(agent)
    bound = acting.bind_each(agent.act, state, settings, 10)
    acts = bound(*asked, rollouts, chunks)
    for number, one in enumerate(settings):
        rows = np.flatnonzero(rollouts // 10 == number)
        alone = acting.bind_each(agent.act, state, [one], 10)
        expected = alone(*asked, rollouts % 10, chunks)
        for field, other in zip(acts, expected, strict=True):
            np.testing.assert_allclose(field[rows], other[rows], rtol=1e-4, atol=1e-5)


def test_candidates_of_a_few_are_the_first_of_many_and_valued_alike():
    agent = small_agent()
    state, act = random_state(agent), jax.jit(agent.act)
    observations = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    few, many = (act(state, observations, KEY, agent.configure(n_pi=n)) for n in (4, 64))
    np.testing.assert_allclose(many.candidates[:, :4], few.candidates, atol=1e-5)
    np.testing.assert_allclose(many.values[:, :4], few.values, rtol=1e-4, atol=1e-5)


# What start states were promised, and what they got.

# By episode: rewards of its steps, and whether the last one is a success or meets the time limit.
SCRIPTS = [([-1, -1, -1, -1, 0], True), ([-1, -1, -1, -2], False), ([-4], False), ([0], True)]
# Of values and returns at a discount of 1/2: -1 - 1/2 - 1/4 - 1/8; -1 - 1/2 - 1/4 - 2/8, and then
# -2 for ever, (1/2)^4 * -2 / (1/2); -4, and then -4 for ever; 0.
OBTAINED = [-1.875, -2.0 - 0.25, -4.0 - 4.0, 0.0]
PROMISED = [0.0, 110.0, 20.0, 130.0]


class Scripted:
    """An environment whose rewards are known, whatever is done; it observes episode and step."""

    def __init__(self, episode):
        self.episode, self.steps = episode, 0

    def observe(self):
        return np.array([self.episode, self.steps], np.float32)

    def step(self, action):
        rewards, success = SCRIPTS[self.episode]
        reward, self.steps = rewards[self.steps], self.steps + 1
        last = self.steps == len(rewards)
        won, lost = last and success, last and not success
        return self.observe(), float(reward), won, lost, dict(success=won)


class ScriptedEnvs:
    """Stands in for `VectorEnv`, with the reports that its processes send, but no processes."""

    def __init__(self, num_envs):
        self.num_envs, self.running, self.reports = num_envs, {}, {}

    def start(self, environments, episodes):
        for number, episode in zip(environments, episodes, strict=True):
            self.running[number] = Scripted(int(episode))
            begun = self.running[number].observe(), [], False, False, False
            report = env_processes._report(*begun)
            self.reports[number] = report.tobytes()

    def play(self, environments, actions):
        for number, chunk in zip(environments, actions, strict=True):
            self.reports[number] = env_processes.play(self.running[number], chunk).tobytes()

    def collect(self, environments):
        return env_processes.read([self.reports.pop(number) for number in environments])


def promising(state, observations, key, settings):
    """Weighs two candidates, 100 apart, and chooses the second one in odd episodes.

    What it promises in the start state is ten times the number of the episode; later on, thousands.
    """
    episode, step = observations.T
    value = 10.0 * episode + 1000.0 * step
    candidates = jnp.zeros((len(observations), 2, settings.times))
    values = jnp.stack([value, value + 100.0], axis=1)
    return Decision.of(candidates, values, jnp.int32(episode) % 2, settings.times)


@pytest.mark.parametrize('num_envs', [1, 3])
@pytest.mark.parametrize('chunk_length', [1, 3])
def test_promised_and_obtained_are_those_of_a_calculation_by_hand(chunk_length, num_envs):
    act = acting.bind(promising, None, Push(0.0, chunk_length))
    episodes = evaluation.evaluate(act, ScriptedEnvs(num_envs), 4, KEY, discount=0.5)
    np.testing.assert_array_equal(episodes.start_values, PROMISED)
    np.testing.assert_array_equal(episodes.discounted_returns, OBTAINED)
    np.testing.assert_array_equal(episodes.returns, [-4, -5, -4, 0])
    np.testing.assert_array_equal(episodes.lengths, [5, 4, 1, 1])
    np.testing.assert_array_equal(episodes.success, [True, False, False, True])


def test_without_a_discount_rewards_are_summed_and_nothing_is_added():
    act = acting.bind(promising, None, Push(0.0, 3))
    episodes = evaluation.evaluate(act, ScriptedEnvs(2), 4, KEY)
    np.testing.assert_array_equal(episodes.discounted_returns, episodes.returns)


def test_each_setting_of_a_sweep_has_its_own_promises():
    act = acting.bind_each(promising, None, [Push(force, 3) for force in (0.0, 1.0)], 4)
    for episodes in evaluation.sweep(act, ScriptedEnvs(3), 2, 4, KEY, discount=0.5):
        np.testing.assert_array_equal(episodes.start_values, PROMISED)
        np.testing.assert_array_equal(episodes.discounted_returns, OBTAINED)


def test_tables_show_means_of_promised_and_obtained_and_an_interval_of_their_difference():
    act = acting.bind(promising, None, Push(0.0, 1))
    episodes = evaluation.evaluate(act, ScriptedEnvs(2), 4, KEY, discount=0.5)
    summary = evaluation.summary(episodes)
    assert summary['start_value'] == 65.0
    assert summary['start_return'] == -3.03125
    assert summary['start_value_error'] == 68.03125
    low, high = summary['start_value_error_low'], summary['start_value_error_high']
    errors = np.array(PROMISED) - OBTAINED
    assert errors.min() < low < 68.03125 < high < errors.max()
    rows = evaluation.rows(episodes, dict(step=7))
    assert [row['start_value'] for row in rows] == PROMISED
    assert [row['discounted_return'] for row in rows] == OBTAINED
    assert {*summary, *rows[0]} & {*metrics.LATER} == {*metrics.LATER}
    assert tuple(summary)[-5:] == tuple(name for name in summary if name in metrics.LATER)
    assert {*summary} <= {*evaluations.OUTCOMES}  # scripts take other columns for settings


def test_a_single_episode_has_no_interval():
    act = acting.bind(promising, None, Push(0.0, 1))
    episodes = evaluation.evaluate(act, ScriptedEnvs(1), 1, KEY, discount=0.5)
    summary = evaluation.summary(episodes)
    assert summary['start_value_error'] == 1.875
    assert np.isnan([summary['start_value_error_low'], summary['start_value_error_high']]).all()


@pytest.mark.parametrize('name', ['bc', 'iql', 'fql', 'qc1'])
def test_agents_that_weigh_nothing_promise_nan_and_others_a_number(name):
    agent = small_agent(name)
    state = random_state(agent) if name == 'qc1' else jax.jit(agent.init)(KEY)
    act = acting.bind(agent.act, state, agent.settings)
    acts = act(np.zeros((2, 3), np.float32), KEY, np.arange(2), np.zeros(2, int))
    assert np.isfinite(acts.actions).all()
    assert (np.isfinite(acts.promised) if name == 'qc1' else np.isnan(acts.promised)).all()
    assert agent.discount == configs.get_config(name).discount


def test_what_was_not_promised_has_no_error_but_a_return():
    nothing = np.full(3, np.nan)
    lost = np.zeros(3, bool)
    episodes = evaluation.Episodes(lost, nothing * 0, np.ones(3, int), nothing, np.arange(3.0))
    summary = evaluation.summary(episodes)
    assert summary['start_return'] == 1.0
    names = ['start_value', *(f'start_value_error{bound}' for bound in ('', '_low', '_high'))]
    assert np.isnan([summary[name] for name in names]).all()


# Mishaps and sums.


def test_a_dead_process_is_a_user_error():
    with env_processes.VectorEnv(ENV, 2) as running:
        started(running, np.arange(2))
        pid = running._process.pid
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        with pytest.raises(UserError, match='a process of an environment died') as caught:
            evaluation.evaluate(controller, running, 2, KEY)
        assert '\n' not in str(caught.value)


def test_leaving_in_the_middle_of_a_chunk_is_quiet(capfd):
    """As when `act` raises while the other group steps."""
    with env_processes.VectorEnv(ENV, 2) as running:
        started(running, np.arange(2))
        running.play(np.arange(2), np.zeros((2, 100, 2)))
    assert capfd.readouterr().err == ''


def test_rates_of_stepping_are_positive(vector_env):
    assert stepping.steps_per_second(ENV, 2, num_steps=50) > 0
    assert stepping.evaluation_rate(controller, vector_env, 2, KEY) > 0


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('cube-single-play-v0', 'not an OGBench singletask environment'),
        ('cube-singel-play-singletask-task1-v0', 'no state-based environment'),
        ('humanoidmaze-teleport-stitch-singletask-v0', 'not supported: .* lacks the material'),
        ('singletask', 'no state-based environment'),
    ],
)
def test_unknown_environments_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        envs.make_env(name)


@pytest.mark.parametrize(
    ('name', 'right'),
    [
        ('cube-singel-play-singletask-task1-v0', 'cube-single-play-singletask-task1-v0'),
        ('visual-cube-single-play-singletask-task2-v0', 'cube-single-play-singletask-task2-v0'),
        ('visual-antmaze-large-navigate-singletask-v0', 'antmaze-large-navigate-singletask-v0'),
        ('cube-single-singletask-v0', 'cube-single-play-singletask-v0'),
        pytest.param(
            'scene-noisy-singletask-task7-v0',
            'scene-noisy-singletask-task1-v0',
            marks=pytest.mark.long,
        ),
        ('pointmaze-medum-stitch-singletask-v0', 'pointmaze-medium-stitch-singletask-v0'),
    ],
)
def test_the_name_that_is_suggested_works(name, right):
    with pytest.raises(UserError) as caught:
        envs.make_env(name)
    suggested = re.search(r"Did you mean '(.*)'\?", str(caught.value))[1]
    assert suggested.replace('task5', 'task1') == right
    envs.make_env(suggested).close()


SCRIPT = """
from pathlib import Path
import numpy as np
from utils.environments import env_processes
from utils.generation import generator

print('begins', flush=True)
with env_processes.VectorEnv('{env}', 2) as vector_env:
    vector_env.start(np.arange(2), np.arange(2))
    print(vector_env.collect(np.arange(2)).observations.shape, flush=True)
generator.generate('pointmaze-medium-stitch-v0', Path('data'), episodes=1, workers=1, seed=0)
print('ends', flush=True)
"""


def test_a_plain_script_may_evaluate_and_generate(tmp_path):
    """Without a guard of `__main__`, each process that it starts would run it again."""
    (tmp_path / 'plain.py').write_text(SCRIPT.format(env=ENV))
    environment = os.environ | dict(PYTHONPATH=str(Path(__file__).resolve().parents[1]))
    arguments = [sys.executable, 'plain.py']
    result = subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ['begins', '(2, 2)', 'ends']


OTHER_ENVS = 'cube-single-play-singletask-v0', 'scene-play-singletask-v0'


@pytest.mark.parametrize(
    'name', [ENV, *(pytest.param(x, marks=pytest.mark.long) for x in OTHER_ENVS)]
)
def test_resets_repeat_to_the_bit(name):
    env = envs.make_env(name)
    rollouts = []
    for episode in (5, 6, 5):
        rows = [envs.reset(env, episode)]
        rows += [env.step(np.full(env.action_space.shape, 0.3))[0] for _ in range(20)]
        rollouts.append(np.stack(rows))
    np.testing.assert_array_equal(rollouts[0], rollouts[2])
    assert not np.array_equal(rollouts[0], rollouts[1])


def test_summary_has_a_wilson_interval():
    won = np.array([1] * 8 + [0] * 2)
    episodes = evaluation.Episodes(won, np.zeros(10), *[np.ones(10)] * 3)
    summary = evaluation.summary(episodes)
    # Wilson's formula by hand for 8 of 10 and z = 1.96.
    assert summary['success'] == 0.8
    np.testing.assert_allclose(
        [summary['success_low'], summary['success_high']], [0.490, 0.943], atol=5e-4
    )
