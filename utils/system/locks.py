"""Who works on a directory: one process at a time.

The system's locks end with the process that holds them, so they come first. Where a filesystem has
none (NFS without lockd, Lustre without flock), a file with the holder's host, process and heartbeat
stands in: it is free again when its holder has gone, or has not been heard of for `LEASE` seconds.
"""

import contextlib
import errno
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from utils.errors import STOPPED, UserError
from utils.system.stopping import StoppedError, StopRequest

LOCK = '.lock'
# Seconds: longer than an onlooker holds a lock, or a process takes to die.
LOCK_TIMEOUT = 3.0
LEASE = 120.0  # seconds
# What flock answers where there are no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def take(path: Path, timeout: float = -1.0) -> filelock.BaseFileLock:
    """Takes the lock of a path, and returns it; call its `release`.

    Args:
        path: of the lock's file.
        timeout: seconds; -1: as long as it takes.

    Raises:
        filelock.Timeout: another process has it.
        OSError: the file cannot be written.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=timeout)
    except (OSError, NotImplementedError) as error:  # the latter for ENOSYS
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        _say_once(str(error))
        lease = _lease(path)
        lock = filelock.SoftFileLease(
            lease, lease_duration=LEASE, on_compromise=lambda _: _end(lease)
        )
        # Whether a holder elsewhere is gone is known when it was watched for so long.
        lock.acquire(timeout=LEASE + LOCK_TIMEOUT if _is_stale(lease) and timeout >= 0 else timeout)
    return lock


def _lease(path: Path) -> Path:
    return path.with_name(f'{path.name}.lease')


def _is_stale(lease: Path) -> bool:
    """Returns whether a lease's holder has not been heard of, by the clocks of both machines."""
    try:
        return time.time() - lease.stat().st_mtime > LEASE
    except FileNotFoundError:
        return False


@functools.cache
def _say_once(reason: str) -> None:
    print(
        f'note: this filesystem has no locks ({reason}); files .lease say who works where. Of a '
        f'process that was killed on another machine they say so for {LEASE:g} seconds more',
        file=sys.stderr,
    )


def _end(lease: Path) -> None:
    """Ends this process where it stands, as if it were killed: the folder is another one's now."""
    print(
        f'error: {lease}: taken by another process or lost, since this one was not heard of '
        f'for {LEASE:g} seconds; what was saved is whole, repeat the command',
        file=sys.stderr,
        flush=True,
    )
    os._exit(STOPPED)


@contextlib.contextmanager
def hold(directories: Iterable[Path]) -> Iterator[None]:
    """Makes the directories and keeps other processes from working on them.

    Raises:
        UserError: another process works on one of them, or it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        for directory in directories:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                stack.callback(take(directory / LOCK, LOCK_TIMEOUT).release)
            except filelock.Timeout as error:
                raise UserError(
                    f'{directory}: another process works on this run; wait for it or choose '
                    'another --save_dir'
                ) from error
            except OSError as error:
                raise UserError(
                    f'{directory}: cannot be written to ({error.strerror}); choose another '
                    '--save_dir'
                ) from error
        yield


@contextlib.contextmanager
def hold_in_turn(lock_path: Path, stop: StopRequest) -> Iterator[None]:
    """Waits until no other process holds a lock, and holds it.

    Of many processes that need one thing, one makes it, and the others find it made.

    Raises:
        StoppedError: `stop` said so meanwhile.
        UserError: the lock cannot be written.
    """
    waits = False
    while True:
        try:
            lock = take(lock_path, 1.0)
            break
        except filelock.Timeout:
            if not waits:
                print(f'waits for another process that makes {lock_path.parent}', flush=True)
            waits = True
        except OSError as error:
            raise UserError(
                f'{lock_path}: cannot be written to ({error.strerror}); choose another folder'
            ) from error
        if stop():
            raise StoppedError
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Returns whether a process works on the run in `directory`."""
    if not (directory / LOCK).exists() or _is_stale(_lease(directory / LOCK)):
        return False
    try:
        take(directory / LOCK, 0.0).release()
    except filelock.Timeout:
        return True
    return False
