"""Where data lies that a flag names."""

import os
from pathlib import Path

from utils.errors import UserError

MINARI_ROOT = '~/.minari/datasets'


def locate(given: str, name: str) -> Path:
    """Returns where data lies; a Minari dataset may be given by its id, as Minari has it.

    Args:
        given: path, or id.
        name: of the format, or '' if it is not known yet.

    Raises:
        UserError: there is nothing.
    """
    path = expanded(given, 'in')
    if path.exists():
        return path
    if name == 'minari':
        root = Path(os.environ.get('MINARI_DATASETS_PATH') or MINARI_ROOT).expanduser()
        if (root / given).is_dir():
            return root / given
        raise UserError(
            f'--in: there is no {given}, nor is it in {root}; fetch it: minari download {given}'
        )
    raise UserError(f'--in: there is no {given}; a Minari id needs --format=minari as well')


def expanded(given: str, flag: str) -> Path:
    """Returns a path of a flag, with the home folder in place of ~.

    Raises:
        UserError: it is of somebody who has none.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}: '{given}': {error}") from error
