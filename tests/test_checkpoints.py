"""Checkpoints: back to the bit, committed or not there, and nothing but data."""

import contextlib
import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import hypothesis
import jax
import pytest
from hypothesis import strategies as st

from tests.helpers import small_agent
from utils.errors import UserError
from utils.storage import commits
from utils.storage.checkpoints import KEEP, Checkpoints, DamagedError
from utils.storage.commits import COMMIT
from utils.training import populations

PROGRESS = dict(window_steps=3, sums={'loss': [0.1]})


@functools.cache
def population():
    return populations.init_states(small_agent(hidden_dims=(4,)).init, [0, 1])


@functools.cache
def shapes():
    return jax.eval_shape(population)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('written')
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(7, population(), PROGRESS)
    return folder


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copytree(written, tmp_path / 'copy')


def restore(folder, step=7):
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.restore(step, shapes())


def test_a_checkpoint_comes_back_to_the_bit(written):
    restored, progress = restore(written)
    chex.assert_trees_all_equal(restored, population())
    assert progress == PROGRESS


def test_the_newest_are_kept_and_what_is_protected(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == set()
        for step in range(KEEP + 3):
            checkpoints.save(step, population(), {}, protect={1})
        assert checkpoints.steps() == {1, 3, 4, 5}
        with pytest.raises(UserError, match='no such checkpoint; there are: 1, 3, 4, 5'):
            checkpoints.restore(0, shapes())
        checkpoints.forget_after(3)
        assert checkpoints.steps() == {1, 3}
        checkpoints.save(2, population(), {})
        assert checkpoints.steps() == {1, 2, 3}


def test_progress_can_be_written_again(copy):
    with Checkpoints(copy) as checkpoints:
        checkpoints.save(7, population(), dict(evaluated=True))
        assert checkpoints.restore(7, shapes())[1] == dict(evaluated=True)


@pytest.mark.parametrize(
    'other', [dict(observation_dim=4), dict(hidden_dims=(4, 5)), dict(num_value_nets=2)]
)
def test_a_checkpoint_of_other_shapes_is_refused(written, other):
    agent = small_agent(**(dict(hidden_dims=(4,)) | other))
    expected = jax.eval_shape(lambda: populations.init_states(agent.init, [0, 1]))
    with Checkpoints(written, read_only=True) as checkpoints:
        with pytest.raises(UserError, match='another environment, network size') as caught:
            checkpoints.restore(7, expected)
    assert not isinstance(caught.value, DamagedError)


def test_only_what_is_committed_counts(copy):
    (copy / '8.orbax-checkpoint-tmp').mkdir()
    shutil.copytree(copy / '7', copy / '9')
    (copy / '9' / COMMIT).unlink()
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == {7}
        checkpoints.save(9, population(), {})
    assert sorted(path.name for path in copy.iterdir()) == ['7', '9']


def test_reading_changes_nothing(copy):
    (copy / '8.orbax-checkpoint-tmp').mkdir()
    restore(copy)
    assert (copy / '8.orbax-checkpoint-tmp').is_dir()
    assert Checkpoints(copy / 'none', read_only=True).steps() == set()
    assert not (copy / 'none').exists()


def recommit(folder):
    """What somebody would do who wants the damage to go unnoticed."""
    commits.write(folder, json.loads((folder / COMMIT).read_text())['progress'])


def link_out(folder):
    path = next(folder.rglob('.zarray'))
    path.rename(folder.parent / 'outside')
    path.symlink_to(folder.parent / 'outside')


DAMAGE = {
    'missing file': (lambda folder: next(folder.rglob('.zarray')).unlink(), 'is missing'),
    'extra chunk': (lambda folder: (folder / 'default' / '0.0').write_text('x'), '0.0 is extra'),
    'extra index': (
        lambda folder: (folder / 'default' / 'manifest.ocdbt').write_text('x'),
        r'manifest\.ocdbt is extra',
    ),
    'link': (link_out, 'is a link'),
    'no json': (lambda folder: (folder / COMMIT).write_text('{'), 'damaged'),
    'no files': (lambda folder: (folder / COMMIT).write_text('{}'), 'damaged'),
    'no dict': (lambda folder: (folder / COMMIT).write_text('[1]'), 'damaged'),
    'too large': (lambda folder: (folder / COMMIT).write_bytes(b' ' * 16_000_001), 'too large'),
}


@pytest.mark.parametrize(('damage', 'message'), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named(copy, damage, message):
    damage(copy / '7')
    with pytest.raises(DamagedError, match=message):
        restore(copy)


@pytest.mark.parametrize(
    ('error', 'raised'),
    [
        (PermissionError(errno.EACCES, 'Permission denied'), 'cannot be read .Permission denied.'),
        (OSError(errno.EMFILE, 'Too many open files'), 'cannot be read .Too many open files.'),
        (MemoryError('no room'), 'no room'),
        (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory'), 'RESOURCE_EXHAUSTED'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_lacks_is_no_damage(copy, monkeypatch, error, raised):
    """Else a whole checkpoint would be set aside, or all of a run be given up."""

    def verify(_):
        raise error

    monkeypatch.setattr(commits, 'verify', verify)
    with pytest.raises((UserError, type(error)), match=raised) as caught:
        restore(copy)
    assert not isinstance(caught.value, DamagedError)


FOREIGN = ('.DS_Store', '._7', '._.zarray', 'Thumbs.db', 'desktop.ini', '.nfs0000a1', 'notes.txt~')
FOREIGN += ('.fuse_hidden01', '.zarray.swp', 'commit.json.bak', 'notes.txt')
# Of zip on macOS, of Synology and NetApp, of Jupyter, and of who tidies up.
FOREIGN_FOLDERS = ('__MACOSX', '@eaDir', '.snapshot', '.ipynb_checkpoints', 'lost+found', 'a copy')


def litter(folder):
    for below in [folder, *(path for path in folder.rglob('*') if path.is_dir())]:
        for name in FOREIGN:
            (below / name).write_bytes(b'\0')
        for name in FOREIGN_FOLDERS:
            (below / name).mkdir(exist_ok=True)
            (below / name / 'config.json').write_bytes(b'{')


def test_files_of_others_are_nobodys_business(copy):
    """As a copy through a Mac, or an editor, leaves them in every folder; they come and go."""
    litter(copy)
    chex.assert_trees_all_equal(restore(copy)[0], population())
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == {7}
        checkpoints.save(8, population(), PROGRESS)
        litter(copy)
        checkpoints.save(8, population(), PROGRESS)
    for path in [path for path in copy.rglob('*') if path.name in FOREIGN]:
        if path.name != 'notes.txt':  # of a stranger's name nobody knows whose it is
            path.unlink()
    assert restore(copy, 8)[1] == PROGRESS


def test_a_disk_that_is_full_for_many_arrays_costs_one_line(tmp_path):
    program = (
        'import resource, sys, numpy\nfrom pathlib import Path\n'
        'from utils.storage.checkpoints import Checkpoints\nfrom utils.errors import UserError\n'
        'rng = numpy.random.default_rng(0)\n'
        'arrays = {str(number): rng.normal(size=2000) for number in range(40)}\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n'
        'with Checkpoints(Path(sys.argv[1])) as checkpoints:\n'
        '    try:\n        checkpoints.save(3, arrays, {})\n'
        '    except UserError as error:\n        print(error)\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', program, tmp_path / 'saved'],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'not written (File too large)' in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert 'Traceback' not in result.stderr, result.stderr


@pytest.mark.skipif(shutil.which('cc') is None, reason='no compiler')
def test_a_disk_whose_directories_cannot_be_synced_holds_checkpoints(tmp_path):
    """As over SMB: a library that stands before the system's answers EINVAL, also tensorstore."""
    (tmp_path / 'shim.c').write_text(
        '#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <sys/stat.h>\n'
        'int fsync(int fd) { struct stat s; fstat(fd, &s);\n'
        'if (S_ISDIR(s.st_mode)) { errno = EINVAL; return -1; }\n'
        'return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }\n'
    )
    shim = tmp_path / 'shim.so'
    subprocess.run(['cc', '-shared', '-fPIC', '-o', shim, tmp_path / 'shim.c', '-ldl'], check=True)
    program = (
        'import sys, numpy\nfrom pathlib import Path\n'
        'from utils.storage.checkpoints import Checkpoints\n'
        'with Checkpoints(Path(sys.argv[1])) as checkpoints:\n'
        '    checkpoints.save(3, dict(a=numpy.arange(4.0)), {})\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', program, tmp_path / 'saved'],
        env=os.environ | dict(LD_PRELOAD=str(shim)),
        cwd=Path(__file__).resolve().parents[1],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    with Checkpoints(tmp_path / 'saved', read_only=True) as checkpoints:
        assert checkpoints.steps() == {3}


def test_a_huge_array_is_refused_before_memory_is_taken(copy):
    for path in (copy / '7').rglob('.zarray'):
        header = json.loads(path.read_text())
        path.write_text(json.dumps(header | dict(shape=[2**40] * len(header['shape']))))
    recommit(copy / '7')
    with pytest.raises(UserError):
        restore(copy)


@pytest.mark.long
@pytest.mark.filterwarnings('ignore')  # orbax leaves what it was reading where it failed
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_whatever_the_bytes_say_only_arrays_come_out(written, tmp_path_factory, data):
    """Bytes are changed and the digests made to fit, as by an adversary."""
    folder = tmp_path_factory.mktemp('fuzz') / 'copy'
    shutil.copytree(written, folder)
    files = sorted(path for path in (folder / '7').rglob('*') if path.is_file())
    path = data.draw(st.sampled_from([path for path in files if path.name != COMMIT]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    recommit(folder / '7')
    with contextlib.suppress(UserError):
        restored, _ = restore(folder)
        chex.assert_trees_all_equal_shapes_and_dtypes(restored, population())
    shutil.rmtree(folder.parent)
