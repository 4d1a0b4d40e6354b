import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from utils.models import flow


def test_interpolant_goes_straight_from_noise_to_data():
    x_0, x_1 = jnp.array([[0.0], [2.0]]), jnp.array([[4.0], [0.0]])
    chex.assert_trees_all_close(flow.interpolate(x_0, x_1, 0.0), x_0)
    chex.assert_trees_all_close(flow.interpolate(x_0, x_1, 1.0), x_1)
    chex.assert_trees_all_close(flow.interpolate(x_0, x_1, 0.25), jnp.array([[1.0], [1.5]]))


def test_matching_loss_by_hand():
    velocity, target = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 4.0]])
    assert flow.matching_loss(velocity, target) == 2.5  # (1 + 4) / 2
    assert flow.matching_loss(velocity, target, jnp.array([[1.0, 0.0]])) == 1.0


def test_matching_loss_of_nothing_is_zero():
    ones = jnp.ones((2, 3))
    assert flow.matching_loss(ones, 0 * ones, 0 * ones) == 0.0


def test_matching_loss_minimiser_has_its_closed_form(key):
    """For x_0 ~ N(0, 1) and x_1 ~ N(m, s^2) the best velocity is linear in x_t, and known.

    The loss is quadratic in the coefficients of a linear velocity, so one Newton step finds its
    minimiser.
    """
    m, s, t = 1.5, 0.5, 0.7
    key_0, key_1 = jax.random.split(key)
    x_0 = jax.random.normal(key_0, (400_000, 1))
    x_1 = m + s * jax.random.normal(key_1, (400_000, 1))
    x_t = flow.interpolate(x_0, x_1, t)

    def loss(coefficients):
        return flow.matching_loss(coefficients[0] + coefficients[1] * x_t, x_1 - x_0)

    start = jnp.zeros(2)
    minimiser = start - jnp.linalg.solve(jax.hessian(loss)(start), jax.grad(loss)(start))
    slope = (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2)
    np.testing.assert_allclose(minimiser, [m - slope * t * m, slope], atol=0.01)


@pytest.mark.parametrize(
    ('velocity', 'exact'),
    [
        (lambda x, t: x, np.e),
        (lambda x, t: t * x, np.exp(0.5)),
        (lambda x, t: jnp.cos(t) * jnp.ones_like(x), 1 + np.sin(1)),
    ],
    ids=['exponential', 'time-dependent', 'quadrature'],
)
@pytest.mark.parametrize(('solver', 'order'), [('euler', 1), ('midpoint', 2), ('heun', 2)])
def test_solvers_converge_with_their_order(velocity, exact, solver, order):
    """Twice the steps, a half or a quarter of the error: dx/dt with a known x(1) from x(0) = 1."""
    with jax.enable_x64(True):
        errors = [
            abs(float(flow.integrate(velocity, jnp.ones(1), steps, solver)[0]) - exact)
            for steps in (16, 32, 64, 128)
        ]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.1)


@pytest.mark.parametrize(('solver', 'slope'), [('euler', 1.0), ('midpoint', 2.25), ('heun', 2.5)])
def test_one_step_by_hand(solver, slope):
    """dx/dt = x^2 from 1: the slopes are 1 at the start, 9/4 half way and 4 where Euler ends."""
    assert flow.integrate(lambda x, t: x**2, jnp.ones(()), 1, solver) == 1.0 + slope


def test_a_constant_velocity_takes_one_step():
    x = flow.integrate(lambda x, t: 3.0 * jnp.ones_like(x), jnp.ones((2, 2)), 1)
    chex.assert_trees_all_close(x, 4.0 * jnp.ones((2, 2)))


def test_euler_evaluates_at_the_left_ends():
    seen = flow.integrate(lambda x, t: t * jnp.ones_like(x), jnp.zeros(()), 4)
    np.testing.assert_allclose(seen, (0 + 0.25 + 0.5 + 0.75) / 4, rtol=1e-6)
