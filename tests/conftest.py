import atexit
import importlib.metadata
import os
import shutil
import tempfile

# Nothing in the tests draws a picture with MuJoCo.
os.environ.setdefault('MUJOCO_GL', 'disable')
# A test's own server is here, whatever proxy leads elsewhere.
os.environ['no_proxy'] = '127.0.0.1,localhost'
# Each worker has a core of its own: the threads of several would only take turns.
if 'PYTEST_XDIST_WORKER' in os.environ and hasattr(os, 'sched_setaffinity'):
    _cores = sorted(os.sched_getaffinity(0))
    _worker = int(os.environ['PYTEST_XDIST_WORKER'].removeprefix('gw'))
    os.sched_setaffinity(0, {_cores[_worker % len(_cores)]})
# Most tests are of tiny programs, which take far longer to compile well than to run badly. Those
# that train at length, and those of users' own programs, are `optimised`.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
if tuple(map(int, importlib.metadata.version('jaxlib').split('.')[:2])) < (0, 11):
    # These have a second code generator for the CPU that takes a third less time.
    os.environ.setdefault(
        'XLA_FLAGS',
        '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1',
    )
# Commands that tests start compile the same programs; the first leaves them to the others. Test
# processes inherit the folder of the one that made it.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _cache = tempfile.mkdtemp(prefix='evor-tests-')
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ |= dict(
        JAX_COMPILATION_CACHE_DIR=_cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0.05',
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1',
    )

import hypothesis
import jax
import pytest

# The same examples every time, however slow the machine; nothing is left in the repository.
hypothesis.settings.register_profile('same', deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile('same')

# A (batch,) array against a (batch, 1) array is an error here, not a (batch, batch) array.
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items):
    """One worker runs the short tests of a file, which share fixtures and compiled programs."""
    for item in items:
        if not (item.get_closest_marker('long') or item.get_closest_marker('xdist_group')):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def optimised(monkeypatch):
    """Programs, and those of commands that are started, are compiled as users have them."""
    for name in ('JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS'):
        monkeypatch.delenv(name, raising=False)
    jax.config.update('jax_disable_most_optimizations', False)
    yield
    jax.config.update('jax_disable_most_optimizations', True)
