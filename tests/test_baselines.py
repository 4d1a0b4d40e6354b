"""What all agents have in common, and what each baseline computes."""

import functools
from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import agents
import configs
from agents import REGISTRY, fql, iql, qc
from tests.helpers import (
    batch_by_hand,
    compiled,
    member_of,
    model_of,
    random_batch,
    random_state,
    small_agent,
    small_config,
)
from utils.errors import UserError
from utils.models import base_policy, critics, implicit_values

OBSERVATIONS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
VALUE_MODELS = ['evor', 'evor_scalar', 'evor_c51', 'evor_qr', 'evor_iqn']
AGENT_OF = {config: configs.get_config(config).agent_name for config in configs.CONFIGS}
# The first config of every agent that is registered, and what is more.
FIRST = [next(config for config in AGENT_OF if AGENT_OF[config] == name) for name in REGISTRY]
# In every lane; the implicit ones have losses in plain code below.
SHORT = [name for name in FIRST if name not in ('ifql', 'iql')]
CONFIGS = dict.fromkeys([*VALUE_MODELS, *FIRST, 'qc5'])
# One worker runs all tests of an agent, which share its compiled programs.
EVERY_AGENT = pytest.mark.parametrize(
    'name',
    [
        pytest.param(x, marks=[pytest.mark.xdist_group(x)] + [pytest.mark.long] * (x not in SHORT))
        for x in CONFIGS
    ],
)


@functools.cache
def trained(name):
    """An agent before and after forty steps on one batch."""
    agent = compiled(small_agent(name, hidden_dims=(16,), lr=3e-3, tau=0.1))
    chunk_length = small_config(name).chunk_length
    key = jax.random.key(0)
    batch = random_batch(key, chunk_length)
    before = after = agent.init(key)
    one_step, first = agent.update(before, batch, key)
    for step in range(40):
        after, _ = agent.update(after, batch, jax.random.fold_in(key, step))
    _, last = agent.update(after, batch, key)
    return SimpleNamespace(
        agent=agent,
        batch=batch,
        chunk_length=chunk_length,
        before=before,
        one_step=one_step,
        after=after,
        first=first,
        last=last,
    )


# What all agents have in common.


@EVERY_AGENT
def test_update_lowers_the_losses(key, name):
    """Policies are compared under the same critics, with which IQL's weights move."""
    run = trained(name)
    untaught = run.agent.diagnose(run.after.replace(policy=run.before.policy), run.batch, key)
    assert run.last['policy_loss'] < untaught['policy_loss']
    values = {'value_loss', 'expectile_loss', 'distillation_loss'} & run.first.keys()
    assert ('value_loss' in values) == (name != 'bc')
    assert all(run.last[loss] < run.first[loss] for loss in values)


def critic_of(state):
    """Whatever bootstraps."""
    if hasattr(state, 'models'):
        return state.models.critic
    return state.value if hasattr(state, 'value') else state.critic


@EVERY_AGENT
def test_the_target_follows_by_polyak_averaging(name):
    run = trained(name)
    if name == 'bc':
        assert run.after.policy.target_params is None
        return
    before, after = jax.device_get((critic_of(run.before), critic_of(run.one_step)))
    chex.assert_trees_all_equal(before.params, before.target_params)
    expected = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, before.params, after.params)
    chex.assert_trees_all_close(after.target_params, expected, atol=1e-6)
    moves = jax.tree.map(lambda x, y: np.abs(x - y).max(), after.params, before.params)
    assert max(jax.tree.leaves(moves)) > 1e-3  # so that the tolerance tells


@EVERY_AGENT
def test_states_stay_finite(name):
    run = trained(name)
    chex.assert_tree_all_finite(run.after)
    chex.assert_tree_all_finite(run.last)


@EVERY_AGENT
def test_diagnose_reports_the_losses_that_a_step_starts_from(key, name):
    run = trained(name)
    losses = {k: v for k, v in run.first.items() if not k.endswith('grad_norm')}
    assert len(losses) < len(run.first)
    diagnosed = run.agent.diagnose(run.before, run.batch, key)
    chex.assert_trees_all_close(diagnosed, losses, rtol=1e-4, atol=1e-6)


@EVERY_AGENT
def test_more_steps_of_reward_change_what_values_learn_and_nothing_of_behaviour_cloning(key, name):
    run = trained(name)
    batch = random_batch(jax.random.key(0), run.chunk_length, n_step=run.chunk_length + 2)
    chex.assert_trees_all_equal(batch.actions, run.batch.actions)
    after, metrics = run.agent.update(run.before, batch, jax.random.key(0))
    chex.assert_tree_all_finite(after)
    chex.assert_tree_all_finite(metrics)
    if name == 'bc':
        chex.assert_trees_all_equal(after, run.one_step)
    else:
        assert metrics['value_loss'] != run.first['value_loss']


@EVERY_AGENT
def test_act_gives_one_chunk_of_each_observation(key, name):
    run = trained(name)
    decision = run.agent.act(run.after, OBSERVATIONS, key, run.agent.settings)
    chooses = 'n_pi' in REGISTRY[AGENT_OF[name]].SETTINGS
    n_pi = vars(run.agent.settings)['n_pi'] if chooses else 1
    assert n_pi == (4 if chooses else 1)
    chex.assert_shape(decision.actions, (7, run.chunk_length, 2))
    chex.assert_shape(decision.candidates, (7, n_pi, run.chunk_length, 2))
    chex.assert_shape(decision.values, (7, n_pi))
    chosen = np.asarray(decision.candidates)[np.arange(7), decision.index]
    np.testing.assert_array_equal(decision.actions, chosen)


@EVERY_AGENT
def test_actions_stay_in_range_whatever_the_nets_say(key, name):
    run = trained(name)
    wild = run.after
    for part in ('policy', 'student'):
        if hasattr(wild, part):
            model = getattr(wild, part)
            params = jax.tree.map(lambda leaf: 100.0 * leaf, model.params)
            wild = wild.replace(**{part: model.replace(params=params)})
    candidates = run.agent.act(wild, OBSERVATIONS, key, run.agent.settings).candidates
    assert jnp.abs(candidates).max() == 1.0


@EVERY_AGENT
def test_act_is_a_function_of_the_key(key, name):
    run = trained(name)
    one, same, other = (
        run.agent.act(run.after, OBSERVATIONS, k, run.agent.settings)
        for k in (key, key, jax.random.key(1))
    )
    chex.assert_trees_all_equal(one, same)
    assert np.array_equal(one.actions, other.actions) == (name == 'iql')  # whose mean acts


# Plain recomputation.


def plain_values(net, params, observations, actions):
    """Every critic's values, (members, ...), one critic at a time."""
    inputs = np.concatenate([observations, actions], axis=-1)
    members = jax.tree.leaves(params)[0].shape[0]
    apply = jax.jit(net.apply)
    return np.stack([apply(member_of(params, m), inputs)[..., 0] for m in range(members)])


def plain_targets(batch, next_values, mean, std):
    """R + g V' of returns in units of their map."""
    rewards, discounts = np.asarray(batch.rewards), np.asarray(batch.discounts)
    return (rewards + (discounts - 1.0) * mean) / std + discounts * next_values


def repeat(observations, num):
    return np.tile(np.asarray(observations)[:, None], (1, num, 1))


UNITS = dict(return_mean=-5.0, return_std=2.0, return_map='affine')
AGGREGATES = {'mean': np.mean, 'min': np.min}


@functools.cache
def build(name, **changes):
    """A tiny agent whose returns have units of their own, compiled, and its model."""
    agent = small_agent(name, hidden_dims=(16,), **(UNITS | changes))
    return SimpleNamespace(**compiled(agent)._asdict(), model=model_of(agent))


@functools.cache
def untrained(name, **changes):
    """A state whose critics' targets are not copies of them."""
    return random_state(small_agent(name, hidden_dims=(16,), **(UNITS | changes)))


def call(function, *args):
    """Calls a function of a model and arrays, compiled."""
    return jax.jit(partial(function, args[0]))(*args[1:])


# QC.


@pytest.mark.parametrize('how', ['mean', 'min'])
def test_qc_backs_up_the_best_by_the_critics_valued_by_their_targets(key, how):
    changes = dict(chunk_length=3, backup_candidates=6, value_aggregation=how)
    model, state = build('qc1', **changes).model, untrained('qc1', chunk_length=3)
    batch = random_batch(key, 3)
    sample_many = jax.jit(partial(base_policy.sample_many, model.policy_net), static_argnums=(3, 4))
    candidates = sample_many(state.policy.params, batch.next_observations, key, 6, 3)
    candidates, repeated = np.asarray(candidates), repeat(batch.next_observations, 6)

    def value(params):
        return AGGREGATES[how](plain_values(model.critic_net, params, repeated, candidates), axis=0)

    best = np.argmax(value(state.critic.params), axis=1)
    target_values = value(state.critic.target_params)
    expected = plain_targets(batch, target_values[np.arange(32), best], -5.0, 2.0)
    targets = call(qc.critic_targets, model, state, batch, key)
    np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-5)
    assert np.any(best != np.argmax(target_values, axis=1))


def test_qc_trains_every_critic_where_the_mask_says(key):
    model, state = build('qc1', chunk_length=3).model, untrained('qc1', chunk_length=3)
    batch, targets = random_batch(key, 3), np.linspace(-1, 1, 32, dtype=np.float32)
    values = plain_values(
        model.critic_net, state.critic.params, batch.observations, batch.actions.reshape(32, 6)
    )
    errors = np.square(values - targets)[:, np.asarray(batch.td_mask) == 1]
    assert errors.shape[1] < 32
    loss, metrics = call(
        critics.loss, model.critic_net, state.returns, state.critic.params, batch, targets
    )
    np.testing.assert_allclose([loss, metrics['value_loss']], errors.mean(), rtol=1e-4)
    counted = targets[np.asarray(batch.td_mask) == 1]
    np.testing.assert_allclose(metrics['return_mean'], -5.0 + 2.0 * counted.mean(), rtol=1e-5)


@pytest.mark.parametrize('how', ['mean', 'min'])
def test_qc_acts_by_the_best_critic_value(key, how):
    agent, state = build('qc1', value_aggregation=how), untrained('qc1')
    model, settings = agent.model, agent.configure(n_pi=9)
    decision = agent.act(state, OBSERVATIONS, key, settings)
    values = AGGREGATES[how](
        plain_values(
            model.critic_net,
            state.critic.params,
            repeat(OBSERVATIONS, 9),
            np.asarray(decision.candidates)[:, :, 0],
        ),
        axis=0,
    )
    np.testing.assert_array_equal(decision.index, np.argmax(values, axis=1))
    np.testing.assert_allclose(decision.values, -5.0 + 2.0 * values, rtol=1e-4)


# FQL.


def slow_flow(model, state, observations, a_0):
    """The flow policy's answer to noise, by Euler steps."""
    apply = jax.jit(model.policy_net.apply)
    for k in range(model.config.flow_steps):
        t = np.full((len(a_0), 1), k / model.config.flow_steps, np.float32)
        a_0 = a_0 + apply(state.policy.params, a_0, t, observations) / model.config.flow_steps
    return np.clip(a_0, -1, 1)


@functools.cache
def loud():
    """A state whose student often leaves the range of actions."""
    state = untrained('fql')
    params = jax.tree.map(lambda leaf: 3.0 * leaf, state.student.params)
    return state.replace(student=state.student.replace(params=params))


def student_of(model, state, observations, a_0):
    return model.student_net.apply(
        state.student.params, np.concatenate([observations, a_0], axis=1)
    )


@pytest.mark.parametrize('normalize', [False, True])
def test_fql_student_loss_in_plain_code(key, normalize):
    changes = dict(normalize_q_loss=normalize, alpha=3.0)
    model, state = build('fql', **changes).model, loud()
    batch = random_batch(key)
    a_0 = np.asarray(jax.random.normal(key, (32, 2)))
    student = np.asarray(student_of(model, state, batch.observations, a_0))
    taught = slow_flow(model, state, batch.observations, a_0)
    distillation = np.mean(np.square(student - taught))
    clipped = np.clip(student, -1, 1)
    assert np.any(clipped != student)
    values = plain_values(model.critic_net, state.critic.params, batch.observations, clipped)
    values = values.mean(axis=0)
    scale = np.mean(np.abs(values)) if normalize else 1.0
    loss, metrics = call(fql.student_loss, model, state, state.student.params, batch, key)
    np.testing.assert_allclose(loss, 3.0 * distillation - values.mean() / scale, rtol=1e-4)
    np.testing.assert_allclose(metrics['distillation_loss'], distillation, rtol=1e-4)


def test_fql_takes_the_scale_of_the_critics_as_a_constant(key):
    """Else the normalised term would be 1 and without a gradient wherever all values agree."""
    batch, state = random_batch(key), loud()

    def gradient(**changes):
        model = build('fql', **changes).model
        loss = functools.partial(fql.student_loss, model, state, batch=batch, key=key)
        return jax.jit(jax.grad(lambda params: loss(params)[0]))(state.student.params)

    tiny = 1e-6  # as good as no distillation
    plain, normalised = (gradient(alpha=tiny, normalize_q_loss=x) for x in (False, True))
    ratios = [
        np.linalg.norm(p) / np.linalg.norm(n)
        for p, n in zip(jax.tree.leaves(plain), jax.tree.leaves(normalised), strict=True)
    ]
    model = build('fql').model
    a_0 = np.asarray(jax.random.normal(key, (32, 2)))
    clipped = np.clip(student_of(model, state, batch.observations, a_0), -1, 1)
    values = plain_values(model.critic_net, state.critic.params, batch.observations, clipped)
    np.testing.assert_allclose(ratios, np.mean(np.abs(values.mean(axis=0))), rtol=1e-2)


@pytest.mark.parametrize('how', ['mean', 'min'])
def test_fql_backs_up_the_student_valued_by_the_target_critics(key, how):
    model, state = build('fql', value_aggregation=how).model, loud()
    batch = random_batch(key)
    a_0 = np.asarray(jax.random.normal(key, (32, 2)))
    student = student_of(model, state, batch.next_observations, a_0)
    actions = np.clip(student, -1, 1)
    assert np.any(actions != student)
    values = plain_values(
        model.critic_net, state.critic.target_params, batch.next_observations, actions
    )
    expected = plain_targets(batch, AGGREGATES[how](values, axis=0), -5.0, 2.0)
    targets = call(fql.critic_targets, model, state, batch, key)
    np.testing.assert_allclose(targets, expected, rtol=1e-4, atol=1e-5)


def test_fql_acts_by_its_student(key):
    agent, state = build('fql'), loud()
    a_0 = np.asarray(jax.random.normal(key, (7, 2)))
    decision = agent.act(state, OBSERVATIONS, key, agent.settings)
    expected = np.clip(student_of(agent.model, state, OBSERVATIONS, a_0), -1, 1)
    np.testing.assert_allclose(decision.actions[:, 0], expected, atol=1e-6)


# IQL's critics and value.

# Q = parameter * x and V = parameter * x, so that every number can be checked by eye.
LINEAR = SimpleNamespace(apply=lambda params, inputs: params * inputs[..., :1])
NETS = implicit_values.Nets(LINEAR, LINEAR)
TWO_CRITICS = jnp.array([2.0, 3.0])
IDENTITY = implicit_values.ReturnMap(*(jnp.float32(x) for x in (0.0, 1.0, -10.0, 0.0)))


@pytest.mark.parametrize(
    ('mask', 'expected'),
    [
        pytest.param([1.0, 1.0], (0.9 * 1 + 0.1 * 4) / 2, id='both count'),
        pytest.param([1.0, 0.0], 0.9 * 1, id='the second is masked'),
    ],
)
def test_expectile_value_loss_by_hand(mask, expected):
    """The least critics are 2, -3, the values 1, -1, and the errors 1, -2."""
    batch = batch_by_hand(td_mask=jnp.array(mask))
    config = small_config('iql', expectile=0.9)
    loss, _ = implicit_values.expectile_value_loss(NETS, config, 1.0, TWO_CRITICS, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


UNCLIPPED, CLIPPED = (SimpleNamespace(clip_returns=clips) for clips in (False, True))


def test_implicit_critics_can_be_kept_within_what_returns_can_be():
    """Where no return is above 1, the successor's 2 counts as 1: the first target is 1.5."""
    bounded = IDENTITY.replace(low=jnp.float32(-9.0), high=jnp.float32(1.0))
    nets = NETS, CLIPPED, bounded
    _, metrics = implicit_values.td_loss(*nets, TWO_CRITICS, 1.0, batch_by_hand())
    assert metrics['return_mean'] == 0.75


@pytest.mark.parametrize('name', ['qc1', 'fql'])
def test_critics_can_be_kept_within_what_returns_can_be(key, name):
    """All returns lie in [-10, 0]; the nets of this state know nothing of it."""
    plain, clipped = (
        small_agent(name, return_map='none', clip_returns=clips) for clips in (False, True)
    )
    state, batch = random_state(plain), random_batch(key)
    state = state.replace(
        critic=state.critic.replace(
            target_params=jax.tree.map(lambda leaf: 100.0 * leaf, state.critic.target_params)
        )
    )
    module = dict(qc1=qc, fql=fql)[name]
    free, bounded = (
        module.critic_targets(model_of(agent), state, batch, key) for agent in (plain, clipped)
    )
    rewards, discounts = batch.rewards, batch.discounts
    assert np.any(free > rewards)
    assert np.all(bounded <= rewards)
    assert np.all(bounded >= rewards - 10.0 * discounts)
    inside = (free <= rewards) & (free >= rewards - 10.0 * discounts)
    np.testing.assert_allclose(bounded[inside], free[inside], rtol=1e-5)


def test_implicit_critics_bootstrap_from_the_value_by_hand():
    """The targets are 1 + 0.5 * 2 = 2 and 0, the critics 2, -2 and 3, -3."""
    nets = NETS, UNCLIPPED, IDENTITY
    loss, metrics = implicit_values.td_loss(*nets, TWO_CRITICS, 1.0, batch_by_hand())
    assert loss == (0 + 4 + 1 + 9) / 4
    assert metrics['return_mean'] == 1.0


def test_implicit_critics_see_returns_in_their_units():
    """With mean -4 and deviation 2 the rewards are (1 - 2 + 4) / 2 and 4 / 2."""
    units = IDENTITY.replace(mean=jnp.float32(-4.0), std=jnp.float32(2.0))
    nets = NETS, UNCLIPPED, units
    loss, metrics = implicit_values.td_loss(*nets, TWO_CRITICS, 1.0, batch_by_hand())
    assert loss == (0.5**2 + 4**2 + 0.5**2 + 5**2) / 4  # the targets are 2.5 and 2
    assert metrics['return_mean'] == -4.0 + 2.0 * 2.25


def test_the_data_s_own_actions_are_the_only_ones_that_implicit_values_see(key):
    agent, state, batch = build('iql'), untrained('iql'), random_batch(key)
    one, _ = agent.update(state, batch, key)
    other, _ = agent.update(state, batch.replace(next_actions=-batch.next_actions), key)
    chex.assert_trees_all_equal(one, other)


def parts_of(state):
    """What is trained, with its optimiser: what an update makes of it tells its gradient."""
    critic, value = state.models.critic, state.models.value
    return dict(
        policy=state.policy,
        critic=(critic.params, critic.opt_state),
        target=critic.target_params,
        value=value,
    )


@pytest.mark.parametrize(
    ('model', 'params', 'pupils'),
    [
        pytest.param('critic', 'params', {'critic', 'target', 'policy'}, id='critics'),
        pytest.param('critic', 'target_params', {'target', 'value'}, id='target critics'),
        pytest.param('value', 'params', {'value', 'critic', 'target', 'policy'}, id='value'),
    ],
)
def test_what_learns_from_implicit_values(key, model, params, pupils):
    """V learns from the target critics, the critics from V, the policy from critics and V."""
    agent, state, batch = build('iql'), untrained('iql'), random_batch(key)
    moved = getattr(state.models, model)
    moved = moved.replace(**{params: jax.tree.map(lambda x: x + 0.1, getattr(moved, params))})
    moved = state.replace(models=state.models.replace(**{model: moved}))
    one, other = (parts_of(agent.update(s, batch, key)[0]) for s in (state, moved))
    differ = {
        name
        for name in one
        if any(map(np.any, jax.tree.leaves(jax.tree.map(jnp.not_equal, one[name], other[name]))))
    }
    assert differ == pupils


# IFQL.


def test_ifql_acts_by_the_least_critic(key):
    agent, state = build('ifql'), untrained('ifql')
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    decision = agent.act(state, observations, key, agent.configure(n_pi=9))
    values = plain_values(
        agent.model.nets.critic,
        state.models.critic.params,
        repeat(observations, 9),
        np.asarray(decision.candidates)[:, :, 0],
    )
    least = values.min(axis=0)
    np.testing.assert_array_equal(decision.index, np.argmax(least, axis=1))
    np.testing.assert_allclose(decision.values, -5.0 + 2.0 * least, rtol=1e-4)
    for other in (values[0], values[1], values.mean(axis=0)):
        assert np.any(np.argmax(other, axis=1) != decision.index)


# IQL's policy.


def test_advantage_weights_by_hand():
    weights = iql.advantage_weights(jnp.array([0.0, 0.5, -1.0, 2.3, 10.0, 1e6]), 2.0)
    expected = [1.0, np.e, np.exp(-2.0), np.exp(4.6), 100.0, 100.0]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('mask', 'expected'),
    [
        pytest.param([[1.0, 1.0], [1.0, 1.0]], (2 * 2.5 + 1 * 2.0) / 2, id='whole chunks'),
        pytest.param([[1.0, 0.0], [1.0, 1.0]], (2 * 0.5 + 1 * 2.0) / 2, id='a chunk is cut'),
    ],
)
def test_weighted_imitation_by_hand(mask, expected):
    means, actions = jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([[1.0, 2.0], [1.0, 3.0]])
    loss = iql.weighted_imitation(means, actions, jnp.array([2.0, 1.0]), jnp.array(mask))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_iql_imitates_by_the_advantage_of_the_least_critic(key):
    """Steps after a cut do not count, nor do chunks whose successor is unknown."""
    model = build('iql', chunk_length=4, alpha=2.0).model
    state, batch = untrained('iql', chunk_length=4), random_batch(key, 4)
    mask = np.asarray(batch.action_mask)
    assert mask.min() == 0.0
    assert set(np.asarray(batch.td_mask)) == {0.0, 1.0}
    actions = np.asarray(batch.actions).reshape(32, 8)
    critic, value = state.models.critic.params, state.models.value.params
    q = plain_values(model.nets.critic, critic, batch.observations, actions).min(axis=0)
    v = np.asarray(model.nets.value.apply(value, batch.observations))[:, 0]
    means = np.asarray(model.policy_net.apply(state.policy.params, batch.observations))
    losses = []
    for i in range(32):
        steps = np.square(means[i] - actions[i]).reshape(4, 2).sum(axis=1)
        weight = min(np.exp(2.0 * (q[i] - v[i])), 100.0) * batch.td_mask[i]
        losses.append(weight * 0.5 * steps[mask[i] == 1].sum())
    loss, _ = call(iql.policy_loss, model, state, state.policy.params, batch)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)


# Settings.


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('qc1', dict(n_pi=0), r'agent\.n_pi: must be at least 1, not 0'),
        ('qc1', dict(backup_candidates=0), r'agent\.backup_candidates: must be at least 1'),
        ('qc1', dict(value_aggregation='max'), r"agent\.value_aggregation: 'max' is not one of"),
        ('qc1', dict(tau=1.5), r'agent\.tau: must lie in \[0.0, 1.0\]'),
        ('fql', dict(alpha=0.0), r'agent\.alpha: must be positive, not 0'),
        ('fql', dict(alpha=-1.0), r'agent\.alpha: must be positive, not -1'),
        ('fql', dict(flow_steps=0), r'agent\.flow_steps: must be at least 1'),
        ('fql', dict(num_value_nets=0), r'agent\.num_value_nets: must be at least 1'),
        ('ifql', dict(n_pi=0), r'agent\.n_pi: must be at least 1, not 0'),
        ('ifql', dict(expectile=2.0), r'agent\.expectile: must lie in \[0.0, 1.0\], not 2'),
        ('iql', dict(expectile=2.0), r'agent\.expectile: must lie in \[0.0, 1.0\], not 2'),
        ('iql', dict(alpha=-1.0), r'agent\.alpha'),
        ('iql', dict(return_map='afine'), r"agent\.return_map: .* Did you mean 'affine'\?"),
        ('bc', dict(flow_steps=0), r'agent\.flow_steps: must be at least 1, not 0'),
        ('bc', dict(chunk_length=0), r'agent\.chunk_length: must be at least 1, not 0'),
    ],
)
def test_settings_out_of_range_are_refused(name, changes, message):
    with pytest.raises(UserError, match=f'^{message}') as error:
        agents.create(small_config(name, **changes), agents.Spec(3, 2))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('name', ['qc1', 'ifql'])
def test_inference_settings_out_of_range_are_refused(name):
    with pytest.raises(UserError, match=r'^agent\.n_pi'):
        small_agent(name).configure(n_pi=0)
