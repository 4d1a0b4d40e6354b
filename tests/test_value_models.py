import functools
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.special import softmax as softmax_along
from scipy.stats import norm

from tests.helpers import batch_by_hand, column, random_batch, random_params, small_config
from utils.models import extraction, value_models
from utils.models.losses import expectile_loss
from utils.models.value_models import categorical, flow_value, quantile, scalar

MODELS = {name: dict(value_model=name) for name in value_models.MODULES}
MODELS['trunk'] = dict(
    value_model='flow', value_net='trunk', head_dims=(5, 6), return_solver='midpoint'
)
EVERY_MODEL = pytest.mark.parametrize('name', list(MODELS))
SUPPORT = (jnp.float32(-10.0), jnp.float32(0.0))
ATOMS = np.linspace(-10.0, 0.0, 11)
# A net whose answer anyone can compute: Q = parameter * x.
LINEAR = SimpleNamespace(apply=lambda params, inputs: params * inputs[..., :1])


@functools.cache
def small_model(name, **changes):
    """A model of the distribution given 3 + 2 numbers, compiled, with a net and a target net."""
    sizes = dict(hidden_dims=(16,), num_atoms=11, num_quantiles=7, num_levels=5)
    config = small_config(**MODELS[name], **sizes, clip_returns=True, **changes)
    model = value_models.create(config, 3, 2)
    return SimpleNamespace(
        config=config,
        params=random_params(model.init, 1),
        target_params=random_params(model.init, 2),
        loss=jax.jit(model.loss),
        distribution=jax.jit(model.distribution, static_argnums=5),
        apply=jax.jit(value_models.MODULES[config.value_model].network(config).apply),
    )


def inputs(key):
    """A batch and next actions of its successors."""
    return random_batch(key), jax.random.uniform(key, (32, 2), minval=-1.0)


def softmax(logits):
    return softmax_along(np.float64(logits), axis=-1)


def present(model, batch):
    """What the net says of the batch's states and actions."""
    return model.apply(model.params, np.hstack([batch.observations, batch.actions[:, 0]]))


def successor(model, batch, next_actions):
    """What the target net says of the successors."""
    return model.apply(model.target_params, np.hstack([batch.next_observations, next_actions]))


def td_targets(batch, next_returns):
    rewards, discounts = np.asarray(batch.rewards), np.asarray(batch.discounts)
    return rewards[:, None] + discounts[:, None] * next_returns


# Targets of the flow.


def test_velocity_target_by_hand():
    target = flow_value.velocity_target(column(1.0, -1.0), column(0.5, 0.0), column(4.0, 7.0))
    chex.assert_trees_all_close(target, column(3.0, -1.0))


@pytest.mark.parametrize(('lam', 'expected'), [(0.0, 2.0), (0.5, 2.5), (1.0, 3.0)])
def test_coupled_target_by_hand(lam, expected):
    # z_1 = 1 + 0.5 * 4 = 3, z_1 - z_0 = 2; the control variate is 0.5 * (5 - (4 - 1)) = 1.
    target = flow_value.coupled_target(*(column(x) for x in (1.0, 0.5, 1.0, 4.0, 5.0)), lam)
    chex.assert_trees_all_close(target, column(expected))


def test_at_lam_one_the_sample_leaves_the_coupled_target():
    """r + g s_bar(z'_t) - (1 - g) z_0, whatever z'_1 is."""
    for next_z_1 in (-3.0, 10.0):
        target = flow_value.coupled_target(*(column(x) for x in (1.0, 0.5, 2.0, next_z_1, 5.0)), 1)
        chex.assert_trees_all_close(target, column(1.0 + 0.5 * 5.0 - 0.5 * 2.0))


def slow_flow_loss(config, velocity, params, target_params, batch, next_actions, support, key):
    """The flow's temporal difference, one number at a time."""
    noise_key, time_key = jax.random.split(key)
    low, high = support
    shape = (len(batch.rewards), 1)
    noise, times = jax.random.normal(noise_key, shape), jax.random.uniform(time_key, shape)
    losses = []
    for i, (z_0, t) in enumerate(
        zip(np.float64(noise)[:, 0], np.float64(times)[:, 0], strict=True)
    ):
        r, g = float(batch.rewards[i]), float(batch.discounts[i])
        here = float(batch.observations[i, 0]), float(batch.actions[i, 0, 0])
        there = float(batch.next_observations[i, 0]), float(next_actions[i, 0])
        from_here = config.td_target == 'velocity'
        z, dt = z_0, 1 / config.backup_flow_steps
        for k in range(config.backup_flow_steps):
            where = here if from_here else there
            z = z + dt * velocity(target_params, z, k * dt, *where)
        if i < config.mean_share * len(batch.rewards):
            t = 0.0
        if config.td_target == 'coupled' and config.clip_returns:
            z = min(max(z, low), high)
        next_z_1 = z
        z_1 = z if from_here else r + g * z
        z_t = (1 - t) * z_0 + t * z_1
        if config.td_target != 'coupled':
            value = velocity(target_params, z_t, t, *there)
            target = r + g * (min(max(value, low), high) if config.clip_returns else value)
        elif t == 0.0:
            mean = z_0 + velocity(target_params, z_0, t, *there)
            mean = min(max(mean, low), high) if config.clip_returns else mean
            target = r + g * mean - z_0
        else:
            next_z_t = (1 - t) * z_0 + t * next_z_1
            control = velocity(target_params, next_z_t, t, *there) - (next_z_1 - z_0)
            target = (z_1 - z_0) + config.lam * g * control
        losses.append((velocity(params, z_t, t, *here) - target) ** 2)
    return np.mean(losses)


@pytest.mark.parametrize('clip_returns', [True, False])
@pytest.mark.parametrize(
    ('td_target', 'lam'),
    [('velocity', 0), ('velocity_successor', 0), ('coupled', 0), ('coupled', 0.7)],
)
def test_flow_loss_equals_a_slow_reference(key, td_target, lam, clip_returns):
    """On a support so narrow that bootstrapped returns leave it; the first of two is at t = 0."""

    def velocity(params, z, t, x, a):
        return params * (z + 2 * t + x * a)

    config = small_config(
        td_target=td_target,
        lam=lam,
        clip_returns=clip_returns,
        backup_solver='euler',
        mean_share=0.5,
    )
    support = -0.2, 0.3
    batch, next_actions = batch_by_hand(discounts=jnp.array([0.5, 0.9])), column(0.3, -0.8)
    batch = batch.replace(actions=column(0.5, -0.25)[..., None])

    def apply(params, *inputs, method):
        if method == 'features':
            return jnp.concatenate(inputs, axis=-1)
        z, t, features = inputs
        return velocity(params, z, t, features[:, :1], features[:, 1:])

    loss, _ = flow_value.loss(
        SimpleNamespace(apply=apply), config, 0.6, 1.4, batch, next_actions, support, key
    )
    expected = slow_flow_loss(config, velocity, 0.6, 1.4, batch, next_actions, support, key)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# The scalar model.


def test_scalar_loss_by_hand(key):
    """Q is 1, -1 at parameter 1; the targets are 1 + 0.5 * 3 * 2 = 4 and 0.

    Where returns are at most 4, the successor's 6 counts as 4, and the first target is 3.
    """
    for clips, target in [(False, 4.0), (True, 3.0)]:
        args = LINEAR, SimpleNamespace(clip_returns=clips), 1.0, 3.0, batch_by_hand()
        loss, metrics = scalar.loss(*args, column(0.0, 0.0), (-10.0, 4.0), key)
        assert loss == ((target - 1) ** 2 + 1**2) / 2
        assert (metrics['return_mean'], metrics['return_std']) == (target / 2, target / 2)


# Atoms.


def slow_project(points, probabilities, low, high, num):
    """The projection of C51's algorithm 1, one point at a time."""
    projected = np.zeros((len(points), num))
    for row, (z, p) in enumerate(zip(np.float64(points), np.float64(probabilities), strict=True)):
        for point, mass in zip(z, p, strict=True):
            b = (min(max(point, low), high) - low) / ((high - low) / (num - 1))
            below, above = int(np.floor(b)), int(np.ceil(b))
            if below == above:
                projected[row, below] += mass
            else:
                projected[row, below] += mass * (above - b)
                projected[row, above] += mass * (b - below)
    return projected


def project(points, probabilities):
    """On the atoms 0, 1, 2, 3, 4."""
    atoms = jnp.arange(5.0)
    even, uneven = (
        categorical.project(jnp.array([points]), jnp.array([probabilities]), atoms, kind)[0]
        for kind in (True, False)
    )
    np.testing.assert_allclose(even, uneven, atol=1e-6)
    return even


@pytest.mark.parametrize(
    ('points', 'probabilities', 'expected'),
    [
        pytest.param([1.25], [1.0], [0, 0.75, 0.25, 0, 0], id='between two atoms'),
        pytest.param([3.0], [1.0], [0, 0, 0, 1, 0], id='on an atom'),
        pytest.param([0.0, 4.0], [0.5, 0.5], [0.5, 0, 0, 0, 0.5], id='on the ends'),
        pytest.param([-7.0, 9.0], [0.25, 0.75], [0.25, 0, 0, 0, 0.75], id='beyond the ends'),
        pytest.param([1.5, 2.5], [0.5, 0.5], [0, 0.25, 0.5, 0.25, 0], id='neighbours add up'),
    ],
)
def test_projection_by_hand(points, probabilities, expected):
    np.testing.assert_allclose(project(points, probabilities), expected, atol=1e-6)


def random_distributions(low, high):
    rng = np.random.default_rng(0)
    return (
        np.float32(rng.uniform(low, high, (40, 9))),
        np.float32(rng.dirichlet(np.full(9, 0.5), 40)),
    )


def test_projection_keeps_mass_and_within_the_support_the_mean():
    points, probabilities = random_distributions(-10.0, 0.0)
    projected = categorical.project(points, probabilities, jnp.float32(ATOMS))
    np.testing.assert_allclose(projected.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        projected @ ATOMS, np.sum(points * probabilities, axis=1), rtol=1e-4, atol=1e-5
    )


def steps_config(**changes):
    return ConfigDict(dict(num_atoms=21, atom_steps=100, discount=0.9) | changes)


def test_atoms_in_steps_are_the_returns_of_successes_evenly_spaced_in_time():
    """The last before 'never' is that of a success after 100 steps, the next of one after 95."""
    atoms = categorical.atoms(steps_config(), (jnp.float32(-10.0), jnp.float32(0.0)))
    steps = [100 - 100 * k / 19 for k in range(20)]
    paid = [-sum(0.9**t for t in range(int(step))) for step in steps if step == int(step)]
    assert atoms[0] == -10.0
    np.testing.assert_allclose(atoms[1:], [-(1 - 0.9**t) / 0.1 for t in steps], rtol=1e-5)
    np.testing.assert_allclose([atoms[1], atoms[20]], [paid[0], paid[-1]], rtol=1e-5)
    assert (np.diff(atoms) > 0).all()


def test_projection_onto_atoms_in_steps_keeps_mass_and_mean():
    atoms = categorical.atoms(steps_config(), (jnp.float32(-10.0), jnp.float32(0.0)))
    points, probabilities = random_distributions(-10.0, 0.0)
    projected = categorical.project(points, probabilities, atoms, even=False)
    np.testing.assert_allclose(projected.sum(axis=1), 1.0, rtol=1e-5)
    means = np.sum(points * probabilities, axis=1)
    np.testing.assert_allclose(projected @ atoms, means, rtol=1e-4, atol=1e-5)
    neighbours = categorical.project(atoms[None, :3], jnp.full((1, 3), 1 / 3), atoms, even=False)
    np.testing.assert_allclose(neighbours[0, :3], 1 / 3, rtol=1e-5)


def test_projection_equals_an_independent_one():
    points, probabilities = random_distributions(-14.0, 3.0)
    points[:, 0] = np.round(points[:, 0])
    np.testing.assert_allclose(
        categorical.project(points, probabilities, jnp.float32(ATOMS)),
        slow_project(points, probabilities, -10.0, 0.0, 11),
        atol=1e-5,
    )


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    target = jnp.array([[0.5, 0.5], [0.9, 0.1]])
    first = -0.5 * np.log(0.25) - 0.5 * np.log(0.75)
    for mask, expected in [([1, 1], (first + np.log(2)) / 2), ([1, 0], first), ([0, 0], 0.0)]:
        loss = categorical.cross_entropy(logits, target, jnp.array(mask, jnp.float32))
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_cross_entropy_is_least_at_the_target_where_it_is_the_entropy():
    target = jnp.array([[0.2, 0.3, 0.5]])

    def loss(logits):
        return categorical.cross_entropy(logits, target, jnp.ones(1))

    entropy = -np.sum(np.float64(target) * np.log(np.float64(target)))
    np.testing.assert_allclose(loss(jnp.log(target)), entropy, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(jnp.log(target)), 0.0, atol=1e-6)
    assert loss(jnp.log(target) + jnp.array([[0.1, 0.0, 0.0]])) > entropy


def test_cross_entropy_is_finite_however_sure_the_net_is():
    loss = categorical.cross_entropy(
        jnp.array([[300.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.ones(1)
    )
    assert loss == 300.0


def test_categorical_loss_sees_atoms_spaced_in_time(key):
    """Where even atoms would stand is nowhere near."""
    model = small_model('categorical', atom_steps=10, discount=0.9)
    places = categorical.atoms(model.config, SUPPORT)
    assert not np.allclose(places, ATOMS, atol=0.3)
    batch, next_actions = inputs(key)
    points = td_targets(batch, np.tile(places, (32, 1)))
    probabilities = softmax(successor(model, batch, next_actions))
    target = categorical.project(points, probabilities, places, even=False)
    losses = -np.sum(target * np.log(softmax(present(model, batch))), axis=1)
    loss, _ = model.loss(model.params, model.target_params, batch, next_actions, SUPPORT, key)
    np.testing.assert_allclose(loss, losses[batch.td_mask == 1].mean(), rtol=1e-4)


def test_categorical_loss_is_the_cross_entropy_to_the_projected_target(key):
    model = small_model('categorical')
    batch, next_actions = inputs(key)
    points = td_targets(batch, np.tile(ATOMS, (32, 1)))
    target = slow_project(points, softmax(successor(model, batch, next_actions)), -10.0, 0.0, 11)
    losses = -np.sum(target * np.log(softmax(present(model, batch))), axis=1)
    loss, metrics = model.loss(model.params, model.target_params, batch, next_actions, SUPPORT, key)
    np.testing.assert_allclose(loss, losses[batch.td_mask == 1].mean(), rtol=1e-4)
    # The distribution of the batch is the average of its items' distributions.
    distribution = target.mean(axis=0)
    mean, second = distribution @ ATOMS, distribution @ ATOMS**2
    np.testing.assert_allclose(metrics['return_mean'], mean, rtol=1e-4)
    np.testing.assert_allclose(metrics['return_std'], np.sqrt(second - mean**2), rtol=1e-4)


# Quantiles.


def slow_quantile_huber_loss(predictions, levels, targets, kappa):
    """Equation 10 of QR-DQN, one pair at a time."""
    losses = np.zeros(len(predictions))
    for row in range(len(predictions)):
        for prediction, level in zip(predictions[row], levels[row], strict=True):
            for target in targets[row]:
                u = float(target) - float(prediction)
                huber = 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                share = abs(level - (u < 0)) * huber / kappa
                losses[row] += share / len(targets[row])
    return losses


@pytest.mark.parametrize(
    ('predictions', 'levels', 'targets', 'kappa', 'expected'),
    [
        pytest.param([0.0], [0.25], [0.5], 1.0, 0.25 * 0.125, id='within kappa'),
        pytest.param([0.0], [0.25], [-0.5], 1.0, 0.75 * 0.125, id='within kappa, target below'),
        pytest.param([0.0], [0.25], [3.0], 1.0, 0.25 * 2.5, id='beyond kappa'),
        pytest.param([0.0], [0.25], [-3.0], 1.0, 0.75 * 2.5, id='beyond kappa, target below'),
        pytest.param([0.0], [0.25], [0.05], 0.1, 0.25 * 0.0125, id='within a small kappa'),
        pytest.param([0.0], [0.25], [2.0], 0.1, 0.25 * 1.95, id='beyond a small kappa'),
        pytest.param([0.0, 1.0], [0.25, 0.75], [2.0], 1.0, 0.375 + 0.375, id='predictions add up'),
        pytest.param([0.0], [0.5], [2.0, -4.0], 1.0, (0.75 + 1.75) / 2, id='targets average'),
    ],
)
def test_quantile_huber_loss_by_hand(predictions, levels, targets, kappa, expected):
    arrays = (jnp.array([numbers]) for numbers in (predictions, levels, targets))
    loss = quantile.quantile_huber_loss(*arrays, kappa)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize('kappa', [0.05, 1.0])
def test_quantile_huber_loss_equals_an_independent_one(kappa):
    rng = np.random.default_rng(0)
    predictions, targets = np.float32(rng.normal(size=(6, 4))), np.float32(rng.normal(size=(6, 5)))
    levels = np.float32(rng.uniform(size=(6, 4)))
    np.testing.assert_allclose(
        quantile.quantile_huber_loss(predictions, levels, targets, kappa),
        slow_quantile_huber_loss(predictions, levels, targets, kappa),
        rtol=1e-5,
    )


GRID = np.linspace(0, 1, 201, dtype=np.float32)


def best_prediction(level, targets, kappa):
    levels, targets = np.full((201, 1), level), np.tile(targets, (201, 1))
    return GRID[np.argmin(quantile.quantile_huber_loss(GRID[:, None], levels, targets, kappa))]


def test_spreads_well_above_kappa_are_told_by_quantiles_and_those_below_by_expectiles():
    targets = np.linspace(0, 1, 51, dtype=np.float32) ** 2
    quantile_07 = np.quantile(targets, 0.7)
    expectile_07 = GRID[np.argmin(expectile_loss(targets[None] - GRID[:, None], 0.7).sum(axis=1))]
    assert best_prediction(0.7, targets, 1e-3) == pytest.approx(quantile_07, abs=0.02)
    assert best_prediction(0.7, targets, 100.0) == pytest.approx(expectile_07, abs=1e-6)
    assert abs(quantile_07 - expectile_07) > 0.02


def test_levels_are_midpoints():
    np.testing.assert_allclose(quantile.midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_quantile_loss_compares_with_every_quantile_of_the_successor(key):
    model = small_model('quantile')
    batch, next_actions = inputs(key)
    targets = td_targets(batch, np.clip(successor(model, batch, next_actions), *SUPPORT))
    levels = np.tile((np.arange(7) + 0.5) / 7, (32, 1))
    predictions = np.asarray(present(model, batch))
    losses = slow_quantile_huber_loss(predictions, levels, targets, model.config.kappa)
    loss, metrics = model.loss(model.params, model.target_params, batch, next_actions, SUPPORT, key)
    np.testing.assert_allclose(loss, losses[batch.td_mask == 1].mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics['return_mean'], targets.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['return_std'], targets.std(), rtol=1e-4)


def test_implicit_quantile_loss_draws_levels_for_both_sides(key):
    model = small_model('implicit_quantile')
    batch, next_actions = inputs(key)
    levels, next_levels = np.asarray(jax.random.uniform(key, (2, 32, 5)))
    next_quantiles = model.apply(
        model.target_params, next_levels, batch.next_observations, next_actions
    )
    next_quantiles = np.clip(next_quantiles, *SUPPORT)
    predictions = model.apply(model.params, levels, batch.observations, batch.actions[:, 0])
    losses = slow_quantile_huber_loss(
        np.asarray(predictions), levels, td_targets(batch, next_quantiles), model.config.kappa
    )
    loss, _ = model.loss(model.params, model.target_params, batch, next_actions, SUPPORT, key)
    np.testing.assert_allclose(loss, losses[batch.td_mask == 1].mean(), rtol=1e-4)


def test_a_quantile_is_a_function_of_its_own_level(key):
    """Levels of one distribution are answered separately, and the answer depends on the level."""
    model = small_model('implicit_quantile')
    batch, _ = inputs(key)
    levels = np.tile([0.1, 0.5, 0.9], (32, 1))
    distribution = model.apply(model.params, levels, batch.observations, batch.actions[:, 0])
    backwards = model.apply(model.params, levels[:, ::-1], batch.observations, batch.actions[:, 0])
    np.testing.assert_allclose(distribution, backwards[:, ::-1], atol=1e-6)
    assert np.ptp(distribution, axis=1).min() > 1e-3


# What every model promises.


@EVERY_MODEL
def test_loss_ignores_masked_transitions(key, name):
    model = small_model(name)
    batch, next_actions = inputs(key)
    batch = batch.replace(td_mask=jnp.zeros(32).at[:20].set(1.0))
    wild = batch.replace(
        rewards=batch.rewards.at[20:].set(1e6), observations=batch.observations.at[20:].set(9.0)
    )
    counted = wild.replace(td_mask=jnp.ones(32))
    one, other, more = (
        model.loss(model.params, model.target_params, b, next_actions, SUPPORT, key)
        for b in (batch, wild, counted)
    )
    assert one == other  # the loss, and the metrics of returns
    assert one[0] != more[0]


@EVERY_MODEL
def test_the_target_net_gets_no_gradient(key, name):
    model = small_model(name)
    batch, next_actions = inputs(key)

    def loss(target_params):
        return model.loss(model.params, target_params, batch, next_actions, SUPPORT, key)[0]

    gradient = jax.jit(jax.grad(loss))(model.target_params)
    chex.assert_trees_all_equal(gradient, jax.tree.map(jnp.zeros_like, gradient))


@EVERY_MODEL
def test_every_parameter_gets_a_gradient(key, name):
    model = small_model(name)
    batch, next_actions = inputs(key)

    def loss(params):
        return model.loss(params, model.target_params, batch, next_actions, SUPPORT, key)[0]

    gradient = jax.jit(jax.grad(loss))(model.params)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))


@EVERY_MODEL
def test_loss_bootstraps_from_the_target_net_and_the_next_actions(key, name):
    model = small_model(name)
    batch, next_actions = inputs(key)
    losses = [
        float(model.loss(model.params, target_params, batch, actions, SUPPORT, key)[0])
        for target_params in (model.target_params, model.params)
        for actions in (next_actions, -next_actions)
    ]
    assert len(set(losses)) == 4


@EVERY_MODEL
def test_distribution_is_points_and_their_probabilities(key, name):
    model = small_model(name)
    config = model.config
    num = dict(scalar=1, categorical=config.num_atoms, quantile=config.num_quantiles).get(name, 6)
    noise = extraction.return_noise(key, (4, 5), 6, 'quadrature')
    x, a = jax.random.normal(key, (4, 5, 3)), jax.random.uniform(key, (4, 5, 2))
    returns, weights = model.distribution(model.params, x, a, noise, SUPPORT, 3)
    chex.assert_shape((returns, weights), (4, 5, num))
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert weights.min() > 0
    elsewhere, _ = model.distribution(model.params, x, a.at[2:].set(0.0), noise, SUPPORT, 3)
    chex.assert_trees_all_close(elsewhere[:2], returns[:2], atol=1e-6)
    assert name == 'categorical' or not np.allclose(elsewhere[2:], returns[2:])


def distribution_and_output(name, key):
    """The distribution at one state and action, and what the net says there by itself."""
    model = small_model(name)
    x, a = jax.random.normal(key, (1, 3)), jax.random.uniform(key, (1, 2))
    noise = extraction.return_noise(key, (1,), 4, 'random')
    # In double precision: the cosines of a level make its rounding dozens of times larger.
    with jax.enable_x64(True):
        noise = noise._replace(z_0=jnp.asarray(np.float64(noise.z_0)))
        returns, weights = model.distribution(model.params, x, a, noise, SUPPORT, 3)
    if name == 'implicit_quantile':
        with jax.enable_x64(True):
            output = model.apply(model.params, norm.cdf(np.float64(noise.z_0)), x, a)
    else:
        output = model.apply(model.params, np.hstack([x, a]))
    return returns[0], weights[0], output[0]


@pytest.mark.parametrize('name', ['scalar', 'quantile', 'implicit_quantile'])
def test_distribution_is_what_the_net_says_equally_likely(key, name):
    returns, weights, output = distribution_and_output(name, key)
    np.testing.assert_allclose(returns, output, rtol=1e-5)
    np.testing.assert_allclose(weights, 1 / len(output), rtol=1e-6)


def test_categorical_distribution_is_a_softmax_over_the_atoms(key):
    returns, weights, output = distribution_and_output('categorical', key)
    np.testing.assert_allclose(returns, ATOMS, rtol=1e-6)
    np.testing.assert_allclose(weights, softmax(output), rtol=1e-5)


def test_flow_distribution_is_carried_noise(key):
    """Three Euler steps of every point by itself; the points keep the noise's weights."""
    model = small_model('flow')
    x, a = jax.random.normal(key, (5, 3)), jax.random.uniform(key, (5, 2))
    noise = extraction.return_noise(key, (5,), 4, 'quadrature')
    returns, weights = model.distribution(model.params, x, a, noise, SUPPORT, 3)
    for point in range(4):
        z = noise.z_0[:, point : point + 1]
        for k in range(3):
            z = z + model.apply(model.params, z, jnp.full((5, 1), k / 3), x, a) / 3
        np.testing.assert_allclose(returns[:, point], z[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(weights, np.tile(noise.weights, (5, 1)))
