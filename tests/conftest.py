import atexit
import os
import shutil
import tempfile

# Nothing in the tests draws a picture with MuJoCo.
os.environ.setdefault('MUJOCO_GL', 'disable')
# Commands that tests start compile the same programs; the first leaves them to the others. Test
# processes inherit the folder of the one that made it.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _cache = tempfile.mkdtemp(prefix='evor-tests-')
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ |= dict(
        JAX_COMPILATION_CACHE_DIR=_cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.3',
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1',
    )

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
