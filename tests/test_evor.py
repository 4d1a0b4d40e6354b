import functools
import itertools
from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import agents
from agents import evor
from agents.interface import Spec
from tests.helpers import (
    compiled,
    member_of,
    model_of,
    random_batch,
    random_state,
    small_agent,
    small_config,
)
from utils.errors import UserError
from utils.models import base_policy, extraction, returns, value_models
from utils.models.value_models import ensemble, flow_value

ONE_LAYER = dict(hidden_dims=(16,))
# Settings that several tests agree on, so that they share compiled programs.
UNITS = dict(return_mean=-5.0, return_std=2.0)
TWO_NETS = UNITS | dict(num_value_nets=2, tau_r=0.7, tau_q=0.0, return_flow_steps=4)
OBSERVATIONS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
CANDIDATES = np.random.default_rng(1).uniform(-1, 1, (4, 5, 2)).astype(np.float32)


@functools.cache
def build(**changes):
    """A tiny EVOR, its model and its parts, compiled once for all tests that ask for it."""
    agent = small_agent(**ONE_LAYER | changes)
    model = model_of(agent)
    return SimpleNamespace(
        **compiled(agent)._asdict(),
        model=model,
        value_candidates=jax.jit(partial(evor.value_candidates, model)),
        extract=jax.jit(partial(evor.extract, model)),
        choose_next_actions=jax.jit(partial(evor.choose_next_actions, model)),
    )


@functools.cache
def untrained(**changes):
    """A state whose target net is not a copy of the net."""
    return random_state(small_agent(**ONE_LAYER | changes))


def values_of(agent, state, candidates, key, **changes):
    return agent.value_candidates(
        state.value.params,
        state.returns,
        OBSERVATIONS,
        candidates,
        key,
        agent.configure(**changes),
    )


def slow_act(model, state, observation, key, settings):
    """EVOR's phase 3 for the first of one observation, one number at a time."""
    policy_velocity = jax.jit(model.policy_net.apply)
    value_velocity = jax.jit(flow_value.network(model.config).apply)
    policy_key, value_key, _ = jax.random.split(key, 3)
    z_0 = [
        float(jax.random.normal(jax.random.fold_in(value_key, j), (1, 1))[0, 0])
        for j in range(settings.num_return_samples)
    ]
    candidates, values = [], []
    for i in range(settings.n_pi):
        a = np.asarray(jax.random.normal(jax.random.fold_in(policy_key, i), (1, 2)))[0]
        for k in range(settings.flow_steps):
            t = np.float32([k / settings.flow_steps])
            v = policy_velocity(state.policy.params, a, t, observation)
            a = a + np.asarray(v) / settings.flow_steps
        a = np.clip(a, -1, 1)
        members = []
        for member in range(model.config.num_value_nets):
            params = member_of(state.value.params, member)
            samples = []
            for z in z_0:
                for k in range(settings.return_flow_steps):
                    t = np.float32([k / settings.return_flow_steps])
                    v = value_velocity(params, np.float32([z]), t, observation, a)
                    z = z + float(v[0]) / settings.return_flow_steps
                samples.append(z)
            tau = float(settings.tau_r)
            members.append(tau * np.log(np.mean(np.exp(np.array(samples) / tau))))
        candidates.append(a)
        values.append(min(members) if model.config.value_aggregation == 'min' else np.mean(members))
    return np.array(candidates), np.array(values)


@pytest.mark.parametrize('aggregation', ['mean', 'min'])
def test_act_equals_a_slow_reference(key, aggregation):
    agent = build(**TWO_NETS, value_aggregation=aggregation)
    state, observation = untrained(**TWO_NETS), OBSERVATIONS[0]
    decision = agent.act(state, observation[None], key, agent.settings)
    candidates, values = slow_act(agent.model, state, observation, key, agent.settings)
    np.testing.assert_allclose(decision.candidates[0, :, 0], candidates, atol=1e-5)
    np.testing.assert_allclose(decision.values[0], -5.0 + 2.0 * values, rtol=1e-4)
    assert decision.index[0] == np.argmax(values)
    np.testing.assert_allclose(decision.actions[0, 0], candidates[np.argmax(values)], atol=1e-5)


@pytest.mark.parametrize('units', [{}, dict(return_mean=-5.0, return_std=2.0)])
def test_on_the_log_scale_act_prefers_by_ratios(key, units):
    """Whatever the units of the net; the least return is -10."""
    changes = units | dict(tau_q=0.5, q_scale='log', n_pi=4)
    agent, state = build(**changes), untrained(**changes)
    many = np.repeat(OBSERVATIONS[:1], 4000, axis=0)
    given = np.broadcast_to(CANDIDATES[:1, :4], (4000, 4, 2))
    settings = agent.configure(num_return_samples=1, return_noise='quadrature')
    decision = agent.act(state, many, key, settings, given)
    weights = (np.asarray(decision.values[0], np.float64) + 10.0) ** 2
    counts = np.bincount(decision.index, minlength=4) / 4000
    np.testing.assert_allclose(counts, weights / weights.sum(), atol=0.03)
    assert np.ptp(weights) > 0.3 * weights.max()


@pytest.mark.parametrize('num_value_nets', [1, 2, 3, 5, 6])
@pytest.mark.parametrize('value_model', ['scalar', 'categorical'])
def test_the_best_is_taken_of_any_number_of_nets(key, value_model, num_value_nets):
    """A mean over three is rounded where it is computed, which may be twice in one program."""
    changes = dict(value_model=value_model, num_value_nets=num_value_nets, tau_q=0.0, n_pi=16)
    agent, state = build(**changes), untrained(**changes)
    decision = agent.act(state, OBSERVATIONS, key, agent.settings)
    np.testing.assert_array_equal(decision.promised, np.max(decision.values, axis=1))


def test_act_gives_chunks_of_the_right_shape(key):
    agent = build(chunk_length=3, n_pi=5)
    decision = agent.act(untrained(chunk_length=3, n_pi=5), np.zeros((7, 3)), key, agent.settings)
    chex.assert_shape(decision.actions, (7, 3, 2))
    chex.assert_shape(decision.candidates, (7, 5, 3, 2))
    chex.assert_shape(decision.values, (7, 5))
    chex.assert_shape(decision.index, (7,))
    assert jnp.abs(decision.candidates).max() <= 1.0


def test_one_candidate_is_behaviour_cloning(key):
    agent, state = build(), untrained()
    decision = agent.act(state, OBSERVATIONS, key, agent.configure(n_pi=1))
    policy_key = jax.random.split(key, 3)[0]
    [sampled] = base_policy.sample_many(
        agent.model.policy_net, state.policy.params, OBSERVATIONS, policy_key, 1, 3
    ).swapaxes(0, 1)
    sampled = sampled[:, None]
    chex.assert_trees_all_close(decision.actions, sampled, atol=1e-6)


def test_equal_candidates_have_equal_values(key):
    """The noise is common to the candidates: what is equal compares as equal."""
    equal = np.tile(np.float32([0.1, -0.2]), (4, 5, 1))
    values = values_of(build(), untrained(), equal, key)
    chex.assert_trees_all_equal(values, jnp.broadcast_to(values[:, :1], (4, 5)))
    assert len(np.unique(values[:, 0])) == 4  # but it differs between observations


def test_quadrature_needs_no_randomness():
    values = [
        values_of(build(), untrained(), CANDIDATES, jax.random.key(k), return_noise='quadrature')
        for k in (0, 1)
    ]
    chex.assert_trees_all_equal(*values)


def test_quadrature_is_what_many_samples_tend_to(key):
    changes = dict(tau_r=1.0, return_flow_steps=10)
    nodes, many = (
        values_of(build(), untrained(), CANDIDATES[:, :2], key, **changes, **noise)
        for noise in (
            dict(return_noise='quadrature', num_return_samples=16),
            dict(return_noise='random', num_return_samples=20_000),
        )
    )
    np.testing.assert_allclose(nodes, many, atol=0.05)


@pytest.mark.parametrize('value_model', list(value_models.MODULES))
def test_candidates_are_valued_by_the_soft_value_of_their_distribution(key, value_model):
    """Whatever the model: tau ln E exp(z / tau) of each member, from common noise."""
    changes = TWO_NETS | dict(value_model=value_model)
    agent, state = build(**changes), untrained(**changes)
    noise = extraction.return_noise(key, (4, 1), 4, 'random')
    noise = noise._replace(z_0=jnp.tile(noise.z_0, (1, 5, 1)))
    support = returns.support(state.returns)
    assert support == (-2.5, 2.5)
    distribution = jax.jit(agent.model.value_model.distribution, static_argnums=5)
    repeated = np.tile(OBSERVATIONS[:, None], (1, 5, 1))
    members = []
    for m in range(2):
        params = member_of(state.value.params, m)
        z, weights = distribution(params, repeated, CANDIDATES, noise, support, 4)
        members.append(0.7 * logsumexp(np.float64(z) / 0.7, b=np.float64(weights), axis=-1))
    values = values_of(agent, state, CANDIDATES, key)
    np.testing.assert_allclose(values, np.mean(members, axis=0), rtol=1e-4, atol=1e-5)


def test_a_temperature_sweep_compiles_once(key):
    agent = small_agent(**ONE_LAYER)
    state, traces = untrained(), []

    @jax.jit
    def act(state, settings):
        traces.append(None)
        return agent.act(state, OBSERVATIONS, key, settings).actions

    for tau_q in (0.0, 0.1, 1.0, float('inf')):
        for tau_r in (0.0, 1.0, float('inf')):
            act(state, agent.configure(tau_q=tau_q, tau_r=tau_r))
    assert len(traces) == 1
    act(state, agent.configure(n_pi=2))
    assert len(traces) == 2


def test_several_temperatures_in_one_batch(key):
    agent, state = build(), untrained()
    mixed = agent.settings.replace(tau_r=jnp.array([0.0, 1.0, jnp.inf, 0.1]))
    together = agent.act(state, OBSERVATIONS, key, mixed).values
    for row, tau_r in enumerate((0.0, 1.0, float('inf'), 0.1)):
        alone = agent.act(state, OBSERVATIONS, key, agent.configure(tau_r=tau_r)).values
        np.testing.assert_allclose(together[row], alone[row], rtol=1e-5)


# The backup.

CHOICE = TWO_NETS | dict(next_action='policy', backup_candidates=5, backup_return_samples=3)


def test_the_backup_takes_the_best_candidate_by_the_target_net(key):
    agent, state, batch = build(**CHOICE), untrained(**CHOICE), random_batch(key)
    policy_key, value_key, _ = jax.random.split(key, 3)
    candidates = base_policy.sample_many(
        agent.model.policy_net, state.policy.params, batch.next_observations, policy_key, 5, 3
    )
    settings = agent.configure(n_pi=5, num_return_samples=3)

    def best(params):
        values = agent.value_candidates(
            params, state.returns, batch.next_observations, candidates, value_key, settings
        )
        return np.argmax(values, axis=1)

    chosen = agent.choose_next_actions(state, batch, key)
    expected = np.asarray(candidates)[np.arange(32), best(state.value.target_params)]
    np.testing.assert_allclose(chosen, expected, atol=1e-5)
    assert np.any(best(state.value.target_params) != best(state.value.params))


def test_a_hot_backup_takes_any_candidate(key):
    """The choice follows the rule of `act`: at tau_q = inf it is that of the base policy."""
    changes = CHOICE | dict(tau_q=float('inf'))
    agent, state, batch = build(**changes), untrained(**changes), random_batch(key)
    candidates, _, index = agent.extract(
        state,
        state.value.target_params,
        batch.next_observations,
        key,
        agent.configure(n_pi=5, num_return_samples=3),
    )
    assert len(np.unique(index)) == 5
    chosen = agent.choose_next_actions(state, batch, key)
    np.testing.assert_allclose(chosen, candidates[np.arange(32), index], atol=1e-5)


def test_the_papers_backup_is_a_sample_of_the_base_policy(key):
    agent, state, batch = build(), untrained(), random_batch(key)
    sample = base_policy.sample(
        agent.model.policy_net, state.policy.params, batch.next_observations, key, 3
    )
    np.testing.assert_allclose(agent.choose_next_actions(state, batch, key), sample, atol=1e-6)


def test_the_backup_may_take_the_next_action_of_the_data(key):
    changes = dict(chunk_length=3, next_action='dataset')
    batch = random_batch(key, chunk_length=3)
    chosen = build(**changes).choose_next_actions(untrained(**changes), batch, key)
    chex.assert_trees_all_equal(chosen, batch.next_actions.reshape(32, 6))


def test_only_the_data_s_next_actions_have_to_be_recorded():
    assert build(next_action='dataset').needs_next_actions
    assert not build(next_action='policy').needs_next_actions


# Training.


def test_every_member_learns_from_its_own_target(key):
    """The objective is the members' sum, the metrics their mean in units of reward."""
    agent, state, batch = build(**TWO_NETS), untrained(**TWO_NETS), random_batch(key)
    scaled, support = returns.scale_rewards(state.returns, batch), returns.support(state.returns)
    next_actions, keys = batch.next_actions[:, 0], jax.random.split(key)
    member_loss = jax.jit(agent.model.value_model.loss)
    losses, means, deviations = [], [], []
    for m in range(2):
        params, target_params = (
            member_of(tree, m) for tree in (state.value.params, state.value.target_params)
        )
        loss, metrics = member_loss(params, target_params, scaled, next_actions, support, keys[m])
        losses.append(loss)
        means.append(metrics['return_mean'])
        deviations.append(metrics['return_std'])
    together = jax.jit(partial(ensemble.losses, agent.model.value_model))
    loss, metrics = together(
        state.returns, state.value.params, state.value.target_params, batch, next_actions, key
    )
    np.testing.assert_allclose(loss, np.sum(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics['value_loss'], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics['return_mean'], -5.0 + 2.0 * np.mean(means), rtol=1e-5)
    np.testing.assert_allclose(metrics['return_std'], 2.0 * np.mean(deviations), rtol=1e-5)


@pytest.mark.parametrize(
    ('td_target', 'next_action', 'chunk_length'),
    [  # ('velocity', 'policy', 1) is the config 'evor', which test_baselines trains
        pytest.param('velocity', 'dataset', 3, marks=pytest.mark.long),
        ('coupled', 'policy', 3),
        pytest.param('coupled', 'dataset', 1, marks=pytest.mark.long),
    ],
)
def test_update_lowers_both_losses(key, td_target, next_action, chunk_length):
    agent = build(td_target=td_target, next_action=next_action, chunk_length=chunk_length, lr=3e-3)
    state, batch = agent.init(key), random_batch(key, chunk_length)
    _, before = agent.update(state, batch, key)
    for step in range(40):
        state, _ = agent.update(state, batch, jax.random.fold_in(key, step))
    _, after = agent.update(state, batch, key)
    assert after['policy_loss'] < before['policy_loss']
    assert after['value_loss'] < before['value_loss']


UPDATED = dict(num_value_nets=3, tau=0.25)


def test_the_target_follows_by_polyak_averaging(key):
    before = untrained(**UPDATED)
    after, _ = build(**UPDATED).update(before, random_batch(key), key)
    expected = jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new, before.value.target_params, after.value.params
    )
    chex.assert_trees_all_close(after.value.target_params, expected, atol=1e-6)


def test_the_base_policy_sees_no_reward(key):
    agent, state, batch = build(**UPDATED), untrained(**UPDATED), random_batch(key)
    one, _ = agent.update(state, batch, key)
    other, _ = agent.update(state, batch.replace(rewards=batch.rewards + 100.0), key)
    chex.assert_trees_all_equal(one.policy, other.policy)
    assert not np.array_equal(*(jax.tree.leaves(s.value.params)[0] for s in (one, other)))


def test_members_of_the_ensemble_begin_differently(key):
    model = value_models.create(small_config(**UPDATED), 3, 2)
    [*kernels] = [
        leaf
        for path, leaf in jax.tree.leaves_with_path(ensemble.init(model, key, 3))
        if path[-1].key == 'kernel'
    ]
    assert kernels
    for kernel in kernels:
        for one, other in itertools.combinations(kernel, 2):
            assert np.abs(one - other).mean() > 0.01


# Settings.

BAD_SETTINGS = [
    (dict(n_pi=0), r'agent\.n_pi: must be at least 1, not 0'),
    (dict(flow_steps=0), r'agent\.flow_steps'),
    (dict(chunk_length=0), r'agent\.chunk_length'),
    (dict(td_target='velocty'), r"agent\.td_target: 'velocty' .* Did you mean 'velocity'"),
    (dict(return_noise='none'), r'agent\.return_noise'),
    (dict(lam=1.5), r'agent\.lam: must lie in \[0.0, 1.0\], not 1.5'),
    (dict(discount=-0.1), r'agent\.discount'),
    (dict(q_scale='log', discount=1.0), r'agent\.q_scale: log needs bounded returns'),
    (dict(tau_q=-1.0), r'agent\.tau_q: a temperature is at least 0'),
    (dict(tau_r=float('nan')), r'agent\.tau_r: a temperature is at least 0'),
    (dict(hidden_dims=()), r'agent\.hidden_dims'),
    (dict(lr=0.0), r'agent\.lr'),
    (dict(value_model='categorial'), r"agent\.value_model: .* Did you mean 'categorical'\?"),
    (
        dict(return_noise='quadrature', num_return_samples=64),
        r'agent\.num_return_samples, .*: 64 with agent\.return_noise=quadrature',
    ),
    (dict(num_atoms=1), r'agent\.num_atoms: must be at least 2, not 1'),
    (dict(kappa=0.0), r'agent\.kappa: must be positive, not 0'),
    (dict(backup_candidates=0), r'agent\.backup_candidates: must be at least 1'),
    (
        dict(backup_candidates=4, next_action='dataset'),
        r'agent\.backup_candidates: .* agent\.next_action=policy',
    ),
]


@pytest.mark.parametrize(('changes', 'message'), BAD_SETTINGS)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=f'^{message}') as error:
        agents.create(small_config(**changes), Spec(3, 2))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize('changes', [dict(discount=0.0), dict(num_atoms=2)], ids=str)
def test_atoms_in_time_need_time_and_room(changes):
    config = small_config(value_model='categorical', atom_steps=10, **changes)
    with pytest.raises(UserError, match=r'^agent\.atom_steps: '):
        agents.create(config, Spec(3, 2))


def test_atoms_need_bounded_returns():
    """Without a discount returns have no bounds; the other models can do without."""
    spec = Spec(3, 2)
    for name in value_models.MODULES:
        config = small_config(value_model=name, discount=1.0)
        if name == 'categorical':
            with pytest.raises(UserError, match=r'^agent\.value_model: .* agent\.discount=1'):
                agents.create(config, spec)
        else:
            agents.create(config, spec)
