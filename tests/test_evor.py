import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import evor
from agents.interface import Spec
from tests.helpers import random_arrays, small_agent, small_config
from utils import datasets
from utils.errors import UserError


def make_batch(key, chunk_length=1, size=32):
    dataset = jax.tree.map(jnp.asarray, datasets.build(random_arrays()))
    return datasets.sample(dataset, key, size, chunk_length, 0.9, True)


def model_of(agent):
    return agent.act.args[0]


def column(*values):
    return jnp.array(values)[:, None]


def test_velocity_target_by_hand():
    target = evor.velocity_target(column(1.0, -1.0), column(0.5, 0.0), column(4.0, 7.0))
    chex.assert_trees_all_close(target, column(3.0, -1.0))


@pytest.mark.parametrize(('lam', 'expected'), [(0.0, 2.0), (0.5, 2.5), (1.0, 3.0)])
def test_coupled_target_by_hand(lam, expected):
    # z_1 = 1 + 0.5 * 4 = 3, z_1 - z_0 = 2; the control variate is 0.5 * (5 - (4 - 1)) = 1.
    target = evor.coupled_target(*(column(x) for x in (1.0, 0.5, 1.0, 4.0, 5.0)), lam)
    chex.assert_trees_all_close(target, column(expected))


def test_at_lam_one_the_sample_leaves_the_coupled_target():
    """r + g s_bar(z'_t) - (1 - g) z_0, whatever z'_1 is."""
    for next_z_1 in (-3.0, 10.0):
        target = evor.coupled_target(*(column(x) for x in (1.0, 0.5, 2.0, next_z_1, 5.0)), 1.0)
        chex.assert_trees_all_close(target, column(1.0 + 0.5 * 5.0 - 0.5 * 2.0))


def test_scaled_rewards_keep_the_bellman_recursion(key):
    """G = r + g G' in units of reward is z = r' + g z' in the net's."""
    agent = small_agent(return_mean=-80.0, return_std=25.0)
    state, batch = agent.init(key), make_batch(key)
    scaled = evor.scale_rewards(state, batch)
    next_return = jnp.linspace(-100, 0, 32)
    z = scaled.rewards + scaled.discounts * (next_return + 80.0) / 25.0
    np.testing.assert_allclose(
        -80.0 + 25.0 * z, batch.rewards + batch.discounts * next_return, rtol=1e-4, atol=1e-3
    )


def test_without_a_return_map_returns_stay_as_they_are(key):
    state = small_agent(return_mean=-80.0, return_std=25.0, return_map='none').init(key)
    assert (state.return_mean, state.return_std) == (0.0, 1.0)


def test_policy_loss_counts_only_steps_before_a_cut(key):
    model = model_of(small_agent(chunk_length=4))
    params = evor.init(model, key).policy.params
    batch = make_batch(key, chunk_length=4)
    mask = np.repeat(np.asarray(batch.action_mask), 2, axis=1)
    assert mask.min() == 0.0
    noise_key, time_key = jax.random.split(key)
    a_1 = batch.actions.reshape(32, 8)
    a_0 = jax.random.normal(noise_key, (32, 8))
    t = jax.random.uniform(time_key, (32, 1))
    velocity = model.policy_net.apply(params, (1 - t) * a_0 + t * a_1, t, batch.observations)
    errors = np.square(velocity - (a_1 - a_0))
    np.testing.assert_allclose(
        evor.policy_loss(model, params, batch, key), errors[mask == 1].mean(), rtol=1e-5
    )


def test_value_loss_ignores_masked_transitions(key):
    model = model_of(small_agent())
    state = evor.init(model, key)
    params, target_params = (
        jax.tree.map(lambda leaf: leaf[0], tree)
        for tree in (state.value.params, state.value.target_params)
    )
    batch = make_batch(key)
    batch = batch.replace(td_mask=jnp.zeros(32).at[:20].set(1.0))
    wild = batch.replace(rewards=batch.rewards.at[20:].set(1e6))
    next_actions = batch.next_actions[:, 0]
    losses = [
        evor.value_loss(model, params, target_params, b, next_actions, key)[0]
        for b in (batch, wild)
    ]
    assert losses[0] == losses[1]


def slow_act(model, state, observation, key, settings):
    """EVOR's phase 3 for the first of one observation, one number at a time."""
    policy_key, value_key, _ = jax.random.split(key, 3)
    noise = jax.random.normal(policy_key, (1, settings.n_pi, 2))[0]
    z_0 = np.asarray(jax.random.normal(value_key, (1, 1, settings.num_return_samples)))[0, 0]
    candidates, values = [], []
    for i in range(settings.n_pi):
        a = noise[i]
        for k in range(settings.flow_steps):
            t = jnp.array([k / settings.flow_steps])
            v = model.policy_net.apply(state.policy.params, a, t, observation)
            a = a + v / settings.flow_steps
        a = jnp.clip(a, -1, 1)
        members = []
        for member in range(model.config.num_value_nets):
            params = jax.tree.map(lambda leaf, m=member: leaf[m], state.value.params)
            returns = []
            for z in z_0:
                for k in range(settings.return_flow_steps):
                    t = jnp.array([k / settings.return_flow_steps])
                    v = model.value_net.apply(
                        params, jnp.array([z]), t, observation, jnp.asarray(a)
                    )
                    z = z + float(v[0]) / settings.return_flow_steps
                returns.append(z)
            tau = float(settings.tau_r)
            members.append(tau * np.log(np.mean(np.exp(np.array(returns) / tau))))
        candidates.append(a)
        values.append(min(members) if model.config.value_aggregation == 'min' else np.mean(members))
    return np.array(candidates), np.array(values)


@pytest.mark.parametrize('aggregation', ['mean', 'min'])
def test_act_equals_a_slow_reference(key, aggregation):
    agent = small_agent(
        return_mean=-5.0,
        return_std=2.0,
        num_value_nets=2,
        value_aggregation=aggregation,
        return_flow_steps=4,
        tau_r=0.7,
        tau_q=0.0,
    )
    state = agent.init(key)
    observation = jnp.array([0.3, -1.0, 0.5])
    decision = agent.act(state, observation[None], key, agent.settings)
    candidates, values = slow_act(model_of(agent), state, observation, key, agent.settings)
    np.testing.assert_allclose(decision.candidates[0, :, 0], candidates, atol=1e-5)
    np.testing.assert_allclose(decision.values[0], -5.0 + 2.0 * values, rtol=1e-4)
    assert decision.index[0] == np.argmax(values)
    np.testing.assert_allclose(decision.actions[0, 0], candidates[np.argmax(values)], atol=1e-5)


def test_act_gives_chunks_of_the_right_shape(key):
    agent = small_agent(chunk_length=3, n_pi=5)
    decision = jax.jit(agent.act)(agent.init(key), jnp.zeros((7, 3)), key, agent.settings)
    chex.assert_shape(decision.actions, (7, 3, 2))
    chex.assert_shape(decision.candidates, (7, 5, 3, 2))
    chex.assert_shape(decision.values, (7, 5))
    chex.assert_shape(decision.index, (7,))
    assert jnp.abs(decision.candidates).max() <= 1.0


def test_one_candidate_is_behaviour_cloning(key):
    agent = small_agent()
    state, observations = agent.init(key), jnp.ones((6, 3))
    decision = agent.act(state, observations, key, agent.configure(n_pi=1))
    policy_key = jax.random.split(key, 3)[0]
    sampled = evor.sample_actions(
        model_of(agent), state.policy.params, observations[:, None], policy_key, 3
    )
    chex.assert_trees_all_close(decision.actions, sampled.reshape(6, 1, 2))


def test_equal_candidates_have_equal_values(key):
    """The noise is common to the candidates: what is equal compares as equal."""
    agent = small_agent(num_return_samples=2)
    state = agent.init(key)
    candidates = jnp.broadcast_to(jnp.array([0.1, -0.2]), (4, 5, 2))
    values = evor.value_candidates(
        model_of(agent), state, jnp.ones((4, 3)), candidates, key, agent.settings
    )
    chex.assert_trees_all_equal(values, jnp.broadcast_to(values[:, :1], (4, 5)))
    assert len(np.unique(values[:, 0])) == 4  # but it differs between observations


def test_quadrature_needs_no_randomness(key):
    agent = small_agent(return_noise='quadrature')
    state, candidates = agent.init(key), jax.random.uniform(key, (4, 5, 2))
    values = [
        evor.value_candidates(
            model_of(agent), state, jnp.ones((4, 3)), candidates, jax.random.key(k), agent.settings
        )
        for k in (0, 1)
    ]
    chex.assert_trees_all_equal(*values)


def test_quadrature_is_what_many_samples_tend_to(key):
    agent = small_agent(tau_r=1.0, return_flow_steps=10)
    state, candidates = agent.init(key), jax.random.uniform(key, (1, 3, 2))

    def values(**changes):
        return evor.value_candidates(
            model_of(agent), state, jnp.ones((1, 3)), candidates, key, agent.configure(**changes)
        )

    nodes = values(return_noise='quadrature', num_return_samples=16)
    many = values(num_return_samples=20_000)
    np.testing.assert_allclose(nodes, many, atol=0.05)


def test_a_temperature_sweep_compiles_once(key):
    agent = small_agent()
    state, traces = agent.init(key), []

    @jax.jit
    def act(observations, settings):
        traces.append(None)
        return agent.act(state, observations, key, settings).actions

    for tau_q in (0.0, 0.1, 1.0, float('inf')):
        for tau_r in (0.0, 1.0, float('inf')):
            act(jnp.ones((2, 3)), agent.configure(tau_q=tau_q, tau_r=tau_r))
    assert len(traces) == 1
    act(jnp.ones((2, 3)), agent.configure(n_pi=2))
    assert len(traces) == 2


def test_several_temperatures_in_one_batch(key):
    agent = small_agent()
    state, observations = agent.init(key), jnp.ones((3, 3))
    mixed = agent.settings.replace(tau_r=jnp.array([0.0, 1.0, jnp.inf]))
    together = agent.act(state, observations, key, mixed).values
    for row, tau_r in enumerate((0.0, 1.0, float('inf'))):
        alone = agent.act(state, observations, key, agent.configure(tau_r=tau_r)).values
        np.testing.assert_allclose(together[row], alone[row], rtol=1e-6)


@pytest.mark.parametrize('td_target', ['velocity', 'coupled'])
@pytest.mark.parametrize('next_action', ['policy', 'dataset'])
@pytest.mark.parametrize('chunk_length', [1, 3])
def test_update_lowers_both_losses(key, td_target, next_action, chunk_length):
    agent = small_agent(
        td_target=td_target, next_action=next_action, chunk_length=chunk_length, lr=3e-3
    )
    state, batch = agent.init(key), make_batch(key, chunk_length)
    before = agent.diagnose(state, batch, key)
    update = jax.jit(agent.update)
    for step in range(40):
        state, _ = update(state, batch, jax.random.fold_in(key, step))
    after = agent.diagnose(state, batch, key)
    assert after['policy_loss'] < before['policy_loss']
    assert after['value_loss'] < before['value_loss']


def test_the_target_follows_by_polyak_averaging(key):
    agent = small_agent(tau=0.25)
    before = agent.init(key)
    after, _ = agent.update(before, make_batch(key), key)
    expected = jax.tree.map(
        lambda old, new: 0.75 * old + 0.25 * new, before.value.target_params, after.value.params
    )
    chex.assert_trees_all_close(after.value.target_params, expected, atol=1e-6)


def test_the_base_policy_sees_no_reward(key):
    agent = small_agent()
    state, batch = agent.init(key), make_batch(key)
    one, _ = agent.update(state, batch, key)
    other, _ = agent.update(state, batch.replace(rewards=batch.rewards + 100.0), key)
    chex.assert_trees_all_equal(one.policy, other.policy)


def test_members_of_the_ensemble_differ(key):
    agent = small_agent(num_value_nets=3)
    state, _ = agent.update(agent.init(key), make_batch(key), key)
    kernels = jax.tree.leaves(state.value.params)[-1]
    assert kernels.shape[0] == 3
    assert not np.allclose(kernels[0], kernels[1])


BAD_SETTINGS = [
    (dict(n_pi=0), r'agent\.n_pi: must be at least 1, not 0'),
    (dict(flow_steps=0), r'agent\.flow_steps'),
    (dict(chunk_length=0), r'agent\.chunk_length'),
    (dict(td_target='velocty'), r"agent\.td_target: 'velocty' .* Did you mean 'velocity'"),
    (dict(return_noise='none'), r'agent\.return_noise'),
    (dict(lam=1.5), r'agent\.lam: must lie in \[0.0, 1.0\], not 1.5'),
    (dict(discount=-0.1), r'agent\.discount'),
    (dict(tau_q=-1.0), r'agent\.tau_q: a temperature is at least 0'),
    (dict(tau_r=float('nan')), r'agent\.tau_r: a temperature is at least 0'),
    (dict(hidden_dims=()), r'agent\.hidden_dims'),
    (dict(lr=0.0), r'agent\.lr'),
]


@pytest.mark.parametrize(('changes', 'message'), BAD_SETTINGS)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        evor.create(small_config(**changes), Spec(3, 2, 0.0, 1.0))
