import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import random_params
from utils.generation import sac
from utils.generation.replay import Transitions

OBSERVATION_DIM, ACTION_DIM = 3, 2


def small_learner(action_dim=ACTION_DIM, **changes):
    config = sac.ogbench_config()
    config.update(dict(hidden_dims=(16, 16)) | changes)
    return sac.create(config, OBSERVATION_DIM, action_dim)


def model_of(learner):
    return learner.update.args[0]


def transitions(num=64, action_dim=ACTION_DIM, seed=0):
    rng = np.random.default_rng(seed)
    observations, next_observations = rng.normal(size=(2, num, OBSERVATION_DIM))
    actions = rng.uniform(-1.0, 1.0, (num, action_dim))
    columns = observations, actions, rng.normal(size=num), np.ones(num), next_observations
    return Transitions(*(jnp.asarray(column, jnp.float32) for column in columns))


def test_the_settings_are_those_of_ogbench():
    """impls/agents/sac.py: `actor_fc_scale` scales a variance, ours the kernel."""
    config = sac.ogbench_config()
    assert (config.lr, config.batch_size, config.discount, config.tau) == (1e-4, 256, 0.99, 0.005)
    assert (config.hidden_dims, config.value_layer_norm) == ((256, 256), False)
    assert (config.target_entropy, config.random_steps) == (-0.5, 10_000)
    assert config.actor_output_scale == pytest.approx(0.01**0.5)
    assert (sac.LOG_STD_RANGE, sac.NUM_CRITICS) == ((-5.0, 2.0), 2)


def test_an_untrained_actor_hardly_prefers_an_action():
    """The scale multiplies the last kernel of the actor, mean and deviation alike, and no other."""
    plain, small = (
        small_learner(actor_output_scale=scale).init(jax.random.key(0)) for scale in (1.0, 0.1)
    )
    layers = plain.actor.params['params']
    scales = {name: 0.1 if name == 'Dense_2' else 1.0 for name in layers}
    scaled = {
        name: dict(layer, kernel=scales[name] * layer['kernel']) for name, layer in layers.items()
    }
    jax.tree.map(np.testing.assert_allclose, small.actor.params['params'], scaled)
    jax.tree.map(np.testing.assert_array_equal, small.critic.params, plain.critic.params)


def test_the_density_of_the_policy_is_that_of_its_samples():
    """One number, one observation: the share of samples below a point is the density's integral."""
    learner = small_learner(action_dim=1)
    model = model_of(learner)
    params = random_params(learner.init, 0).actor.params
    observations = jnp.ones((20_000, OBSERVATION_DIM))
    actions, log_density = sac.sample_actions(model, params, observations, jax.random.key(1))
    order = np.argsort(actions[:, 0])
    points, density = np.asarray(actions[order, 0], np.float64), np.exp(log_density[order])
    integral = np.concatenate(
        [[0.0], np.cumsum(np.diff(points) * (density[1:] + density[:-1]) / 2.0)]
    )
    shares = (np.arange(len(points)) + 0.5) / len(points)
    np.testing.assert_allclose(integral, shares, atol=0.02)


def test_the_density_is_finite_far_out():
    learner = small_learner()
    params = jax.tree.map(lambda leaf: 50.0 * leaf, random_params(learner.init, 0).actor.params)
    observations = transitions().observations
    _, log_density = sac.sample_actions(model_of(learner), params, observations, jax.random.key(0))
    assert np.all(np.isfinite(log_density))


def test_targets_are_the_bellman_equation_written_out():
    learner, batch, key = small_learner(), transitions(), jax.random.key(0)
    model, state = model_of(learner), random_params(learner.init, 1)
    batch = batch._replace(masks=batch.masks.at[:32].set(0.0))
    targets = sac.critic_targets(model, state, batch, key)
    np.testing.assert_allclose(targets[:32], batch.rewards[:32], rtol=1e-6)
    actions, log_density = sac.sample_actions(
        model, state.actor.params, batch.next_observations, key
    )
    inputs = jnp.concatenate([batch.next_observations, actions], axis=1)

    def critic(number):
        params = jax.tree.map(lambda leaf: leaf[number], state.critic.target_params)
        return model.critic_net.apply(params, inputs)[:, 0]

    least = np.minimum(critic(0), critic(1)) - np.exp(state.log_temperature.params) * log_density
    expected = batch.rewards + 0.99 * least
    np.testing.assert_allclose(targets[32:], expected[32:], rtol=1e-4, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize('wanted', [0.3, -0.5])
def test_on_a_bandit_it_finds_the_best_action_at_the_entropy_it_is_told(wanted):
    """Reward -(a - 0.3)^2: the maximum-entropy policy is a Gaussian around 0.3, cut at the ends."""
    learner = small_learner(action_dim=1, lr=3e-3, target_entropy=wanted, hidden_dims=(32, 32))

    @jax.jit
    def train(state):
        def step(number, state):
            key = jax.random.fold_in(jax.random.key(1), number)
            actions = jax.random.uniform(key, (128, 1), minval=-1.0, maxval=1.0)
            observations = jnp.ones((128, OBSERVATION_DIM))
            rewards = -jnp.square(actions[:, 0] - 0.3)
            batch = Transitions(observations, actions, rewards, jnp.zeros(128), observations)
            return learner.update(state, batch, key)[0]

        return jax.lax.fori_loop(0, 3000, step, state)

    state = train(learner.init(jax.random.key(0)))
    observations = jnp.ones((4000, OBSERVATION_DIM))
    actions, log_density = sac.sample_actions(
        model_of(learner), state.actor.params, observations, jax.random.key(2)
    )
    assert abs(float(jnp.mean(actions)) - 0.3) < 0.06
    assert abs(float(-jnp.mean(log_density)) - wanted) < 0.2


def test_an_update_is_a_function_of_its_arguments():
    learner, key = small_learner(), jax.random.key(3)
    state = learner.init(key)
    update = jax.jit(learner.update)
    (one, metrics), (other, _) = (update(state, transitions(), key) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert set(metrics) == {'critic_loss', 'value_mean', 'actor_loss', 'entropy', 'temperature'}
