"""Mistakes a person can mend, told in one line."""

import difflib
import sys
from collections.abc import Callable, Iterable

from absl import app, flags, logging

EXIT_CODE = 2


class UserError(Exception):
    """Bad input. The message names the thing, what was expected and the remedy, on one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean ...?' for the known name nearest to `name`, or '' if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ''


def fail(message: object) -> None:
    """Prints `message` as one line on stderr and exits with code 2."""
    print('error: ' + ' '.join(str(message).split()), file=sys.stderr)
    sys.exit(EXIT_CODE)


def run(main: Callable[[list[str]], None], define_flags: Callable[[], None] | None = None) -> None:
    """Runs `main` under absl; a `UserError` or a bad flag prints one line and exits with code 2.

    Args:
        main: given the arguments that are not flags; there must be none.
        define_flags: defines flags that cannot be defined at import, since they read the command
            line.
    """

    def parse(argv: list[str]) -> list[str]:
        app.define_help_flags()
        try:
            if define_flags is not None:
                define_flags()
            rest = flags.FLAGS(argv)
        # ml_collections reports a bad override with whichever of these its parser met.
        except (AttributeError, KeyError) as error:
            name = str(error).strip('"')
            fail(f'an override names a setting that its config lacks: {name}; see configs.py')
        except (flags.Error, UserError, TypeError, ValueError) as error:
            fail(error)
        if len(rest) > 1:
            fail(f"unexpected argument '{rest[1]}': settings are given as --name=value")
        return rest

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS['verbosity'].present:
            # orbax tells its life's story at the level of INFO; --verbosity=0 shows it.
            logging.set_verbosity(logging.WARNING)
        try:
            main(argv)
        except UserError as error:
            fail(error)

    app.run(guarded, flags_parser=parse)
