"""Where data lies that a flag names."""

import os
from pathlib import Path

from utils import files
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
    path = files.expanded(given, 'in')
    if path.exists():
        return path
    if name == 'minari':
        root = os.environ.get('MINARI_DATASETS_PATH') or MINARI_ROOT
        root = files.expanded(root, 'in')
        if (root / given).is_dir():
            return root / given
        raise UserError(
            f'--in: there is no {given}, nor is it in {root}; fetch it: minari download {given}'
        )
    raise UserError(f'--in: there is no {given}; a Minari id needs --format=minari as well')
