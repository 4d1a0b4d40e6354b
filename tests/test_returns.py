import chex
import jax.numpy as jnp
import numpy as np

from tests.helpers import batch_by_hand, random_batch
from utils.models import returns

AFFINE = returns.create('affine', returns.ReturnScale(-80.0, 25.0, -100.0, 0.0))
NONE = returns.create('none', returns.ReturnScale(-80.0, 25.0, -100.0, 0.0))


def test_units_by_hand():
    np.testing.assert_allclose(returns.to_reward_units(AFFINE, jnp.array([0.0, 2.0])), [-80, -30])
    chex.assert_trees_all_close(returns.support(AFFINE), (-0.8, 3.2))


def test_without_a_return_map_returns_stay_as_they_are(key):
    batch = random_batch(key)
    chex.assert_trees_all_equal(returns.scale_rewards(NONE, batch), batch)
    chex.assert_trees_all_equal(returns.to_reward_units(NONE, jnp.array([3.0])), jnp.array([3.0]))
    chex.assert_trees_all_close(returns.support(NONE), (-100.0, 0.0))


def test_scaled_rewards_by_hand():
    """(r + g mean - mean) / std; where nothing follows, the mean of 0 is taken off as well."""
    scaled = returns.scale_rewards(AFFINE, batch_by_hand())
    np.testing.assert_allclose(scaled.rewards, [(1 - 40 + 80) / 25, 80 / 25], rtol=1e-6)


def test_scaled_rewards_keep_the_bellman_recursion(key):
    """G = r + g G' in units of reward is z = r' + g z' in the net's."""
    batch = random_batch(key)
    scaled = returns.scale_rewards(AFFINE, batch)
    next_return = jnp.linspace(-100, 0, 32)
    z = scaled.rewards + scaled.discounts * (next_return + 80.0) / 25.0
    np.testing.assert_allclose(
        returns.to_reward_units(AFFINE, z),
        batch.rewards + batch.discounts * next_return,
        rtol=1e-4,
        atol=1e-3,
    )
