"""Mistakes a person can mend, told in one line."""

import difflib
import sys
from collections.abc import Iterable

# Exit codes: of a mistake a person can mend, of training that went astray, and of a run that was
# asked to stop and goes on when its command is repeated (EX_TEMPFAIL of sysexits.h).
EXIT_CODE, DIVERGED, STOPPED = 2, 3, 75


class UserError(Exception):
    """Bad input. The message names the thing, what was expected and the remedy, on one line."""

    exit_code = EXIT_CODE


class DivergedError(UserError):
    """Training produced numbers that are not finite."""

    exit_code = DIVERGED


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean ...?' for the known name nearest to `name`, or '' if none is near."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near else ''


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the known name nearest to `name`, or '' if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), '')


def printable(message: object) -> str:
    """Returns a message on one line, without what a file could tell a terminal to do."""
    line = ' '.join(str(message).split())
    return ''.join(letter if letter.isprintable() else '?' for letter in line)


def fail(message: object, exit_code: int = EXIT_CODE) -> None:
    """Prints `message` as one line on stderr and exits."""
    print('error: ' + printable(message), file=sys.stderr)
    sys.exit(exit_code)
