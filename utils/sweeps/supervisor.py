"""Child processes, some at a time, which hear of every signal that their parent gets."""

import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from utils.errors import STOPPED

# What a parent passes on. A terminal that closes or an interrupt from the keyboard asks a child to
# stop as SIGTERM does.
FORWARDED = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGUSR1: signal.SIGUSR1,
    signal.SIGINT: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
}


class Outcome(NamedTuple):
    """How commands ended.

    Attributes:
        codes: exit codes of those that were started, by their name.
        signals: as they were passed on, or would have been to a command that had not ended.
    """

    codes: dict[int, int]
    signals: list[signal.Signals]


def run(
    start: Callable[[int], subprocess.Popen],
    names: list[int],
    at_once: int,
    again: Callable[[int, int, bool], bool],
) -> Outcome:
    """Runs commands, `at_once` at a time, until all have ended.

    A signal is passed on to all; from then on nothing is started, and what runs is waited for. An
    error of `start` or `again` is raised when what runs has been told to stop and has ended.

    Args:
        start: starts the command of a name.
        names: of the commands.
        at_once: number of processes.
        again: told of every end, the name, the exit code and whether there was a signal; returns
            whether to start the command again after those that wait.
    """
    waiting, running, codes = deque(names), {}, {}
    signals: list[signal.Signals] = []
    with contextlib.ExitStack() as stack, _listening() as (received, bell):
        stack.callback(_stop, running)
        while running or (waiting and not received):
            while waiting and not received and len(running) < at_once:
                name = waiting.popleft()
                running[name] = start(name)
            while len(signals) < len(received):
                signals.append(FORWARDED[received[len(signals)]])
                for process in running.values():
                    process.send_signal(signals[-1])
            bell.recv(4096)  # waits; for a signal that came since the last wait, not at all
            for name in [name for name, process in running.items() if process.poll() is not None]:
                codes[name] = _exit_code(running.pop(name).returncode, received)
                if again(name, codes[name], bool(received)):
                    waiting.append(name)
    return Outcome(codes, [FORWARDED[number] for number in received])


def _stop(running: Mapping[int, subprocess.Popen]) -> None:
    """Tells what still runs, where something failed here, to stop, and waits for it."""
    for process in running.values():
        process.terminate()
    for process in running.values():
        process.wait()


def _exit_code(code: int, received: list[int]) -> int:
    """A child that was not yet listening when it was told to stop dies of it, and loses nothing."""
    if -code in [FORWARDED[number] for number in received]:
        return STOPPED
    # As a shell has it: 137 for a process that was killed.
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _listening() -> Iterator[tuple[list[int], socket.socket]]:
    """The signals received so far, as they come, and where a byte comes for each and a child's end.

    Those that are ignored stay so.
    """
    received: list[int] = []
    heard = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    handlers = dict.fromkeys(heard, lambda number, _: received.append(number))
    # Only signals that have a handler ring; what this one tells is asked of the children.
    handlers[signal.SIGCHLD] = lambda *_: None
    bell, ringer = socket.socketpair()
    with bell, ringer:
        ringer.setblocking(False)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        bell_before = signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
        try:
            yield received, bell
        finally:
            signal.set_wakeup_fd(bell_before)
            for number, handler in before.items():
                signal.signal(number, handler)


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(processes: int, of_cores: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of each of several processes that share a machine.

    Every library would use all cores, and XLA three quarters of a GPU's memory at once. What the
    environment sets already stays as it is.

    Args:
        processes: at a time.
        of_cores: that they share.
        environment: of the parent.
    """
    threads = str(max(1, of_cores // processes))
    limits = dict(NPROC=threads, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
    if processes > 1:
        limits['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{0.9 / processes:.3f}'
    return limits | dict(environment)
