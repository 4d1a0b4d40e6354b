import jax.numpy as jnp
import numpy as np
import pytest

from utils.models import losses


def test_masked_mean_by_hand():
    values = jnp.array([1.0, 3.0, 100.0])
    assert losses.masked_mean(values, jnp.array([1.0, 1.0, 0.0])) == 2.0
    assert losses.masked_mean(values, jnp.zeros(3)) == 0.0


def test_expectile_loss_by_hand():
    errors = jnp.array([2.0, -2.0, 0.0])
    np.testing.assert_allclose(losses.expectile_loss(errors, 0.9), [3.6, 0.4, 0.0], rtol=1e-6)


@pytest.mark.parametrize(('expectile', 'minimiser'), [(0.5, 0.25), (0.9, 0.75)])
def test_expectile_loss_minimiser_has_its_closed_form(expectile, minimiser):
    """Of 0, 0, 0, 1 it is m = e / (e + 3 (1 - e)), since 3 (1 - e) m = e (1 - m)."""
    grid = jnp.linspace(0, 1, 101)
    errors = jnp.array([0.0, 0.0, 0.0, 1.0])[None] - grid[:, None]
    best = grid[jnp.argmin(losses.expectile_loss(errors, expectile).sum(axis=1))]
    np.testing.assert_allclose(best, minimiser, atol=1e-6)
