"""Files that are whole or not there, also after a power cut."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Syncs all files and directories below `directory`, and itself last."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON under its name only when it is whole and on the disk."""
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its name when the `with` block ends well; else nothing is left.

    One process at a time may write a path: callers hold a lock or have the folder to themselves.

    Args:
        path: of the file; its folder must exist.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    # Always the same name, so that a process that was killed leaves no more than one.
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with partial.open('wb') as file:
            yield file
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        raise UserError(
            f'{path}: cannot be written ({error.strerror or error}); make room, or choose another '
            'folder'
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder may be what is broken
            partial.unlink(missing_ok=True)
