from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.helpers import column, random_batch, small_agent
from utils.jobs import policy_checks
from utils.models import base_policy, train_state
from utils.models.networks import VelocityField

# A velocity that anyone can integrate: v(a, x, t) = x.
STRAIGHT = SimpleNamespace(
    apply=lambda params, *arguments, method=None: arguments[-1], output_dim=1
)


def small_policy(key, chunk_length=1):
    net = VelocityField((16,), 2 * chunk_length)
    return net, jax.jit(base_policy.init, static_argnums=(0, 2))(net, key, 3)


def test_loss_counts_only_steps_before_a_cut(key):
    net, params = small_policy(key, chunk_length=4)
    batch = random_batch(key, chunk_length=4)
    mask = np.repeat(np.asarray(batch.action_mask), 2, axis=1)
    assert mask.min() == 0.0
    noise_key, time_key = jax.random.split(key)
    a_1 = batch.actions.reshape(32, 8)
    a_0 = jax.random.normal(noise_key, (32, 8))
    t = jax.random.uniform(time_key, (32, 1))
    velocity = jax.jit(net.apply)(params, (1 - t) * a_0 + t * a_1, t, batch.observations)
    errors = np.square(velocity - (a_1 - a_0))
    np.testing.assert_allclose(
        jax.jit(base_policy.loss, static_argnums=0)(net, params, batch, key),
        errors[mask == 1].mean(),
        rtol=1e-5,
    )


def test_a_policy_acts_alone_where_there_is_one_candidate():
    agent = small_agent('evor', n_pi=4, flow_steps=3)
    settings = policy_checks.alone(agent, 7)
    assert (settings.n_pi, settings.flow_steps) == (1, 7)
    assert policy_checks.alone(small_agent('bc'), 7).flow_steps == 7
    assert policy_checks.alone(small_agent('iql'), 7) is None


def test_transport_by_hand():
    """Each observation moves its own noise, and actions end in [-1, 1]."""
    actions = base_policy.transport(
        STRAIGHT, None, column(0.5, 0.5, -2.0), column(0.2, 0.9, 0.0), flow_steps=4
    )
    np.testing.assert_allclose(actions, column(0.7, 1.0, -1.0), rtol=1e-6)


def test_samples_are_transported_standard_normal_noise(key):
    net, params = small_policy(key)
    observations = jax.random.normal(key, (6, 3))
    samples = base_policy.sample(net, params, observations, key, 3)
    a_0 = jax.random.normal(key, (6, 2))
    chex.assert_trees_all_equal(samples, base_policy.transport(net, params, observations, a_0, 3))


def test_samples_of_an_observation_are_many_and_its_own(key):
    observations = column(0.2, -0.2)
    samples = base_policy.sample_many(STRAIGHT, None, observations, key, 5, 1)
    chex.assert_shape(samples, (2, 5, 1))
    noise = [jax.random.normal(jax.random.fold_in(key, i), (2, 1)) for i in range(5)]
    noise = np.stack(noise, axis=1)
    np.testing.assert_allclose(samples, np.clip(noise + observations[:, None], -1, 1), atol=1e-6)
    assert len(np.unique(noise)) == 10


def test_the_first_of_many_samples_are_those_of_few(key):
    observations = column(0.2, -0.2)
    few, many = (
        base_policy.sample_many(STRAIGHT, None, observations, key, num, 1) for num in (3, 40)
    )
    np.testing.assert_array_equal(many[:, :3], few)


def test_the_policy_keeps_two_modes(key):
    """Actions are -0.6 or 0.6: a Gaussian would act 0, the flow acts one or the other."""
    net = VelocityField((32, 32, 32), 2, layer_norm=True)
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, 300))
    policy = train_state.create(base_policy.init(net, key, 3), tx, with_target=False)
    batch = random_batch(key, size=256)

    def step(policy, key):
        action_key, loss_key = jax.random.split(key)
        actions = 0.6 * jax.random.rademacher(action_key, batch.actions.shape, jnp.float32)
        return base_policy.update(net, policy, batch.replace(actions=actions), loss_key, tx)

    policy, _ = jax.jit(lambda policy: jax.lax.scan(step, policy, jax.random.split(key, 300)))(
        policy
    )
    samples = base_policy.sample(net, policy.params, batch.observations, key, 20)
    near = np.abs(np.abs(samples) - 0.6) < 0.2
    assert near.mean() > 0.75  # 0.83 to 0.86 of five keys; 0.3 of a Gaussian of that deviation
    assert 0.35 < np.mean(np.asarray(samples) > 0) < 0.65
