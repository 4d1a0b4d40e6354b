"""One process at a time, also where the filesystem has no locks, by faults that are injected."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.data import fetching
from utils.errors import STOPPED, UserError
from utils.system import locks
from utils.system.stopping import StopRequest

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL']
# Another process: its flock answers an error, and it holds a directory until it is told to end.
HOLDER = """
import errno, fcntl, sys
from pathlib import Path
from unittest import mock
from utils.system import locks

answer = getattr(errno, sys.argv[2])
with mock.patch.object(fcntl, 'flock', side_effect=OSError(answer, 'no locks')):
    with locks.hold([Path(sys.argv[1])]):
        print('holds', flush=True)
        sys.stdin.read()
"""


@pytest.fixture(params=ANSWERS)
def answer(request, monkeypatch):
    """A filesystem whose flock answers with an error."""
    code = getattr(errno, request.param)

    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr('fcntl.flock', flock)
    monkeypatch.setattr(locks, 'LOCK_TIMEOUT', 0.3)
    locks._say_once.cache_clear()
    return request.param


def start(directory, answer, program=HOLDER, stderr=subprocess.DEVNULL):
    process = subprocess.Popen(
        [sys.executable, '-c', program, str(directory), answer],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    assert process.stdout.readline() == 'holds\n'
    return process


def test_without_locks_a_file_keeps_others_out(tmp_path, answer, capfd):
    run = tmp_path / 'run'
    process = start(run, answer)
    assert locks.is_locked(run)
    with pytest.raises(UserError, match='another process works on this run'), locks.hold([run]):
        pass
    process.communicate('')
    assert not locks.is_locked(run)
    with locks.hold([run]):
        assert locks.is_locked(run)
    assert capfd.readouterr().err.count('this filesystem has no locks') == 1


@pytest.mark.parametrize('code', [errno.EROFS, errno.EACCES])
def test_an_onlooker_need_not_write(tmp_path, monkeypatch, code):
    """As at the status of a colleague's suite, or of one on a disk that is read-only by now."""
    opened = os.open

    def read_only(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(code, os.strerror(code), path)
        return opened(path, flags, *arguments, **options)

    with locks.hold([tmp_path]):
        with monkeypatch.context() as patch:
            patch.setattr(os, 'open', read_only)
            assert locks.is_locked(tmp_path)
    monkeypatch.setattr(os, 'open', read_only)
    assert not locks.is_locked(tmp_path)


@pytest.mark.parametrize('answer', ['ENOLCK'], indirect=True)
def test_a_run_whose_process_was_killed_here_goes_on_at_once(tmp_path, answer):
    process = start(tmp_path / 'run', answer)
    process.kill()
    process.communicate()
    assert not locks.is_locked(tmp_path / 'run')
    with locks.hold([tmp_path / 'run']):
        pass


@pytest.mark.parametrize('answer', ['ENOLCK'], indirect=True)
def test_a_process_elsewhere_that_is_not_heard_of_any_more_is_gone(tmp_path, answer, monkeypatch):
    """Its lease is that of another host, where nobody can look whether it lives."""
    monkeypatch.setattr(locks, 'LEASE', 5.0)  # it is watched for so long before it is taken
    lease = tmp_path / 'run' / '.lock.lease'
    with locks.hold([tmp_path / 'run']):
        content = lease.read_text()
    assert os.uname().nodename in content
    (tmp_path / 'run' / '.lock').touch()
    lease.write_text(content.replace(os.uname().nodename, 'elsewhere'))
    assert locks.is_locked(tmp_path / 'run')
    long_ago = time.time() - 2 * locks.LEASE
    os.utime(lease, (long_ago, long_ago))
    assert not locks.is_locked(tmp_path / 'run')
    with locks.hold([tmp_path / 'run']):
        assert 'elsewhere' not in lease.read_text()


def test_a_process_whose_lease_is_lost_ends(tmp_path):
    """As when its machine was asleep: another one may be at work."""
    held = 'with locks.hold'
    program = HOLDER.replace(held, f'locks.LEASE = 0.3\n    {held}')
    process = start(tmp_path, 'ENOLCK', program, subprocess.PIPE)
    (tmp_path / '.lock.lease').unlink()
    assert process.wait(20) == STOPPED
    assert 'taken by another process or lost' in process.communicate()[1]


@pytest.mark.parametrize('answer', ['ENOLCK'], indirect=True)
def test_datasets_are_made_by_one_process_too(tmp_path, answer):
    with fetching.lock('set-v0', tmp_path, StopRequest()):
        assert (tmp_path / '.set-v0.lock.lease').exists()
    assert not (tmp_path / '.set-v0.lock.lease').exists()


def test_what_is_no_lack_of_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr('fcntl.flock', flock)
    with pytest.raises(UserError, match=r'cannot be written to \(Input/output error\)'):
        with locks.hold([tmp_path]):
            pass
