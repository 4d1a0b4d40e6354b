"""A command: its flags, its streams, and what a person reads where it fails."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from utils.errors import UserError, fail
from utils.system import streams


def _check_empty() -> None:
    """Checks that no flag was given an empty value, as by a variable of the shell that is not set.

    Raises:
        UserError: one was; without it something else would be done than was meant.
    """
    for module, own in flags.FLAGS.flags_by_module_dict().items():
        # Lists among an agent's settings may be empty.
        named = [] if module.startswith('absl.') else [flag for flag in own if '.' not in flag.name]
        for flag in named:
            if flag.present and flag.value in ('', []) and flag.value != flag.default:
                raise UserError(
                    f'--{flag.name}: is empty; give it a value, or leave it out. {flag.help}'
                )


def _show_in_help() -> None:
    """Makes --help list the flags of the modules that a command is made of, as its own."""
    for module, own in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith('utils.'):
            for flag in own:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


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
            streams.check_names(argv)
            if define_flags is not None:
                define_flags()
            _show_in_help()
            rest = flags.FLAGS(argv)
            _check_empty()
        # ml_collections reports a bad override with whichever of these its parser met.
        except (AttributeError, KeyError, IndexError) as error:
            name = str(error).strip('"')
            fail(f'an override names a setting that its config lacks: {name}; see configs.py')
        except (flags.Error, UserError) as error:
            fail(error)
        except (TypeError, ValueError, OSError, SyntaxError) as error:
            fail(f'a flag or an override cannot be read: {error}')
        if len(rest) > 1:
            fail(f"unexpected argument '{rest[1]}': settings are given as --name=value")
        return rest

    def guarded(argv: list[str]) -> None:
        if not flags.FLAGS['verbosity'].present:
            # orbax tells its life's story below the level of ERROR; --verbosity=0 shows it.
            logging.set_verbosity(logging.ERROR)
        # These import JAX, which a command line that is refused does without.
        from utils.system import guards, numerics

        numerics.pin()
        try:
            with guards.memory_errors():
                main(argv)
            streams.end()
        except UserError as error:
            fail(error, error.exit_code)
        except OSError as error:
            fail(f'{error.filename or "the system"}: {error.strerror or error}; mend it and repeat')

    streams.guard()
    app.run(guarded, flags_parser=parse)
