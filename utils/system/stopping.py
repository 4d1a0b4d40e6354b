"""Being asked to stop, by a signal or by the clock, and stopping where nothing is lost."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

from utils.errors import STOPPED, UserError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StoppedError(Exception):
    """Work was given up because the run was asked to stop."""


class ToldToStopError(UserError):
    """A command was told to stop, and can be repeated."""

    exit_code = STOPPED


@contextlib.contextmanager
def _handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


class StopRequest:
    """Whether a run was asked to stop.

    Attributes:
        reason: why, in words; '' as long as nobody asked.
    """

    def __init__(self, max_wall_time: float = 0.0):
        """Starts the clock.

        Args:
            max_wall_time: seconds from now after which the run is to stop; 0: none.
        """
        self.reason = ''
        self._max_wall_time = max_wall_time
        self._deadline = time.monotonic() + max_wall_time if max_wall_time else float('inf')

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes signals as requests; a second SIGINT ends the process as it always did."""
        with _handled(self._receive):
            yield

    def _receive(self, number: int, _: object) -> None:
        self.reason = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)

    @contextlib.contextmanager
    def at_errors(self) -> Iterator[None]:
        """Asks work beside to stop when something fails within."""
        try:
            yield
        except BaseException:
            self.reason = self.reason or 'an error'
            raise

    def error(self) -> ToldToStopError:
        """Returns what a command that keeps what is finished is to raise.

        The handler of a signal does not raise it: Python drops an error that meets a callback.
        """
        return ToldToStopError(f'stopped by {self.reason}; the same command goes on')

    def __call__(self) -> bool:
        """Returns whether to stop."""
        if not self.reason and time.monotonic() >= self._deadline:
            self.reason = f'--max_wall_time={self._max_wall_time:g}'
        return bool(self.reason)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started within never hear these signals.

    A batch system sends them to all processes of a job; those that serve a run end when it closes
    their pipes.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
