import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import member_of
from utils.models import critics
from utils.models.networks import MLP

VALUES = jnp.array([[1.0, 5.0], [3.0, 4.0]])


@pytest.mark.parametrize(('how', 'expected'), [('mean', [2.0, 4.5]), ('min', [1.0, 4.0])])
def test_aggregate_by_hand(how, expected):
    np.testing.assert_array_equal(critics.aggregate(VALUES, how), expected)


def test_members_are_critics_of_their_own(key):
    net = MLP((8,), 1)
    params = jax.jit(critics.init, static_argnums=(0, 2, 3))(net, key, 5, 3)
    rng = np.random.default_rng(0)
    x, a = np.float32(rng.normal(size=(4, 6, 3))), np.float32(rng.normal(size=(4, 6, 2)))
    apply = jax.jit(net.apply)
    expected = [
        apply(member_of(params, m), np.concatenate([x, a], axis=-1))[..., 0] for m in range(3)
    ]
    values = jax.jit(critics.values, static_argnums=0)(net, params, x, a)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert not np.allclose(expected[0], expected[1])


def test_squared_error_by_hand():
    """Errors are 1, 5 and 3, 4; the second transition does not count."""
    targets = jnp.zeros(2)
    assert critics.squared_error(VALUES, targets, jnp.ones(2)) == (1 + 25 + 9 + 16) / 4
    assert critics.squared_error(VALUES, targets, jnp.array([1.0, 0.0])) == (1 + 9) / 2


def test_the_target_of_the_squared_error_gets_no_gradient():
    gradients = jax.grad(critics.squared_error, (0, 1))(VALUES, jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(gradients[0], VALUES / 2)
    np.testing.assert_array_equal(gradients[1], [0.0, 0.0])
