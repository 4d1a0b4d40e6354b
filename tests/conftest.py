import os

# Nothing in the tests draws a picture with MuJoCo.
os.environ.setdefault('MUJOCO_GL', 'disable')

import jax
import pytest

# A (batch,) array against a (batch, 1) array is an error here, not a (batch, batch) array.
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def light_compile():
    """For tests of many tiny programs, which take longer to compile well than to run badly."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)
