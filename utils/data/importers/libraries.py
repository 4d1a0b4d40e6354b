"""Packages that one format alone needs, and what they do when they meet a damaged file."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from utils.errors import UserError

PIP = dict(h5py='h5py', minari="'minari[hdf5]'", pyarrow='pyarrow')


def load(name: str) -> ModuleType:
    """Imports a package.

    Raises:
        UserError: it is not installed.
    """
    top = name.split('.')[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f'{top} is not installed ({error}); pip install {PIP[top]}') from error


@contextlib.contextmanager
def whole(path: Path, kind: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Names a damaged file where a library meets garbage with one of these errors.

    Raises:
        UserError: in place of them, or a package is not installed that this file needs.
    """
    try:
        yield
    except errors as error:
        told = ' '.join(str(error).split())[:160] or type(error).__name__
        raise UserError(f'{path}: not a whole {kind} ({told}); fetch or make it again') from error
    except ImportError as error:
        raise UserError(
            f'{path}: a {kind} that needs another package ({error}); install it by pip'
        ) from error
