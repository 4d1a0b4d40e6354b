"""Standard streams that others closed, and text that the locale cannot read."""

import io
import os
import signal
import sys

from utils.errors import UserError


class _Unbroken(io.FileIO):
    """A stream whose reader may go away: what is written after that is dropped."""

    broken = False

    def write(self, content: bytes) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            self.broken = True
            return len(content)


def guard() -> None:
    """Prepares the standard streams of a command.

    A reader that goes away, as `| head -1` does, ends no work that has rows to write yet. Where a
    stream is closed, its number would be given to the next file that is opened, which libraries
    would then write their messages to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, number in dict(stdout=1, stderr=2).items():
        # Another one is somebody's who listens in this process.
        if getattr(sys, f'__{name}__') is None:
            # Its number may be another file's by now.
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, 'w')))
        elif getattr(sys, name) is getattr(sys, f'__{name}__'):
            setattr(sys, name, _opened(number))


def _opened(number: int) -> io.TextIOWrapper:
    is_errors = number == 2
    return io.TextIOWrapper(
        io.BufferedWriter(_Unbroken(number, 'w', closefd=False)),
        errors='backslashreplace',
        line_buffering=is_errors or os.isatty(number),
        write_through=is_errors,
    )


def end() -> None:
    """Ends this process as the system ends one whose output nobody reads, if nobody does."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, 'buffer', None), 'raw', None)
    if isinstance(raw, _Unbroken) and raw.broken:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)


def check_names(arguments: list[str]) -> None:
    """Checks that the command line and where it is given are text in this locale.

    Raises:
        UserError: a name is bytes to Python, which libraries below do not take.
    """
    for name in [*arguments, os.getcwd(), os.path.expanduser('~')]:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = name.encode(errors='surrogateescape').decode(errors='replace')
            raise UserError(
                f"'{shown}' cannot be read in this locale; set PYTHONUTF8=1 or LC_ALL=C.UTF-8, and "
                'repeat the command'
            ) from error
