"""Who works on a directory: one process at a time."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from utils.errors import UserError
from utils.stopping import StoppedError, StopRequest

LOCK = '.lock'
# Seconds: longer than an onlooker holds a lock, or a process takes to die.
LOCK_TIMEOUT = 3.0


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
                lock = filelock.FileLock(directory / LOCK, timeout=LOCK_TIMEOUT)
                stack.enter_context(lock)
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
    lock, waits = filelock.FileLock(lock_path), False
    while True:
        try:
            lock.acquire(timeout=1.0)
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
    if not (directory / LOCK).exists():
        return False
    lock = filelock.FileLock(directory / LOCK)
    try:
        with lock.acquire(blocking=False):
            return False
    except filelock.Timeout:
        return True
