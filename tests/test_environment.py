"""Commands in environments of all kinds: numbers stay the same, output goes where it can."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from tests import fuzz_flags
from utils.errors import UserError
from utils.system import guards

ROOT = Path(__file__).resolve().parents[1]
# A command that draws random numbers, and then has more to say than a pipe holds.
COMMAND = """
import sys
import jax, jax.numpy as jnp
from utils.system import command

def main(_):
    key = jax.random.key(0)
    numbers = jax.random.normal(key, (3,))
    print(jax.random.key_data(jax.random.split(key)[0]).tolist(), numbers.dtype, numbers.tolist())
    print(jnp.arange(2.0) * jnp.arange(2))
    for line in range(2000):
        print(line, 60 * '.', flush=True)
    open(sys.argv[0], 'w').write('the end')

sys.argv = [sys.argv[1]]
command.run(main)
"""
OTHERWISE = dict(
    JAX_ENABLE_X64='1',
    JAX_DEFAULT_PRNG_IMPL='rbg',
    JAX_THREEFRY_PARTITIONABLE='0',
    JAX_RANDOM_SEED_OFFSET='5',
    JAX_DEFAULT_MATMUL_PRECISION='bfloat16',
    JAX_NUMPY_DTYPE_PROMOTION='strict',
    JAX_TRANSFER_GUARD='disallow',
)


# A command whose machine has too little memory.
GREEDY = """
import sys
from utils.system import command

def main(_):
    raise MemoryError('8 GiB')

sys.argv = sys.argv[:1]
command.run(main)
"""


def shell(tmp_path, redirection, program=COMMAND, **environment):
    """A command of a shell; says how it ended, what it wrote, and whether it did all its work."""
    (tmp_path / 'command.py').write_text(program)
    done = tmp_path / 'done'
    command = f'"{sys.executable}" "{tmp_path}/command.py" "{done}" {redirection}'
    result = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', command],
        env=os.environ | dict(PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu') | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Traceback' not in result.stderr, result.stderr
    return result, done.exists() and done.read_text() == 'the end'


def test_numbers_do_not_hang_on_variables_of_jax(tmp_path):
    plain, _ = shell(tmp_path, '')
    pinned, _ = shell(tmp_path, '', **OTHERWISE)
    assert pinned.stdout == plain.stdout
    assert 'float32' in plain.stdout.splitlines()[0]
    assert plain.stderr == ''
    assert [line.split('=')[0] for line in pinned.stderr.splitlines()] == [
        f'note: {name}' for name in OTHERWISE
    ]


def test_too_little_memory_costs_one_line(tmp_path):
    result, _ = shell(tmp_path, '', GREEDY)
    [line] = result.stderr.splitlines()
    assert 'out of memory (8 GiB); ask for fewer --seeds' in line
    assert result.returncode == 2


def test_a_reader_that_goes_away_ends_no_work(tmp_path):
    """And the command ends as Unix programs do, by SIGPIPE."""
    result, is_done = shell(tmp_path, '| head -1')
    assert is_done
    assert (result.returncode, result.stderr) == (141, '')
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    'closed', ['<&- >&- 2>&-', *(pytest.param(x, marks=pytest.mark.long) for x in ('2>&-', '>&-'))]
)
def test_a_closed_stream_ends_no_work(tmp_path, closed):
    result, is_done = shell(tmp_path, closed)
    assert is_done
    assert result.returncode == 0


@pytest.mark.parametrize('how', ['argument', 'folder'])
def test_names_that_the_locale_cannot_read_cost_one_line(tmp_path, how):
    """Libraries in C++ do not take them; Python guesses UTF-8 unless it is told not to."""
    folder = tmp_path / 'ümlaut'
    folder.mkdir()
    settings = dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', PYTHONPATH=str(ROOT))
    result = subprocess.run(
        [sys.executable, '-c', COMMAND, str(folder) if how == 'argument' else 'x'],
        env=os.environ | settings,
        cwd=folder if how == 'folder' else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, '')
    [line] = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert 'set PYTHONUTF8=1 or LC_ALL=C.UTF-8' in line


@pytest.mark.parametrize(
    'backend',
    ['osmesa', *(pytest.param(x, marks=pytest.mark.long) for x in ('nothing-of-the-kind', 'egl'))],
)
def test_rendering_is_not_loaded_where_nothing_is_drawn(backend):
    program = (
        'import sys\nfrom utils.environments import envs\n'
        "envs.make_env('pointmaze-medium-stitch-singletask-task1-v0')\n"
        "assert not [name for name in sys.modules if name.startswith('OpenGL')]"
    )
    environment = os.environ | dict(MUJOCO_GL=backend)
    subprocess.run([sys.executable, '-c', program], env=environment, cwd=ROOT, check=True)


def test_warnings_that_are_made_errors_stop_no_command(tmp_path):
    """PYTHONWARNINGS=error meets libraries that Python is about to leave behind."""
    parse = fuzz_flags.Parser(tmp_path)
    with warnings.catch_warnings(action='error'):
        assert parse(['--agent=configs.py:bc_small']) == 'valid'


@pytest.mark.parametrize('error', [RuntimeError('no cuda'), AssertionError()])
def test_a_platform_that_jax_does_not_find_costs_one_line(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
    monkeypatch.setattr(jax, 'default_backend', fail)
    with pytest.raises(UserError, match=r"JAX_PLATFORMS='cuda'.*set JAX_PLATFORMS=cpu"):
        guards.check_platform(None)
