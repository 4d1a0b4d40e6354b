"""Compiled programs are kept in the user's cache folder, and nowhere else than asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.system import compilation

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import jax
from utils.system import compilation
compilation.keep_programs()
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
jax.jit(lambda x: x + 1)(1.0)
"""


def compile_something(**variables):
    own = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
    result = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        cwd=ROOT,
        env=own | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stderr


def programs(folder):
    return [path for path in folder.rglob('jit_*') if path.is_file()]


def test_programs_are_kept_in_the_users_cache(tmp_path):
    compile_something(XDG_CACHE_HOME=str(tmp_path))
    assert programs(compilation.folder_of(tmp_path))


@pytest.mark.parametrize('setting', ['elsewhere', 'off'])
def test_settings_of_jax_come_first(tmp_path, setting):
    own, elsewhere = tmp_path / 'own', tmp_path / 'elsewhere'
    variables = dict(
        elsewhere=dict(JAX_COMPILATION_CACHE_DIR=str(elsewhere)),
        off=dict(JAX_ENABLE_COMPILATION_CACHE='false'),
    )
    compile_something(XDG_CACHE_HOME=str(own), **variables[setting])
    assert not own.exists()
    assert bool(programs(elsewhere)) == (setting == 'elsewhere')


def test_without_a_place_to_keep_them_training_goes_on(tmp_path):
    (tmp_path / 'file').touch()
    told = compile_something(XDG_CACHE_HOME=str(tmp_path / 'file'))
    assert told.startswith('note: ')
    assert 'JAX_COMPILATION_CACHE_DIR=FOLDER chooses another place' in told
