"""Files that are whole or not there, also after a power cut."""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError

# Of the repository, where `results/` and the commands are.
ROOT = Path(__file__).resolve().parents[1]

# What fsync answers where the filesystem has no such call, as SMB and some of FUSE for directories.
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
# Likewise of directories alone: they cannot be opened, or not be synced (as PostgreSQL ignores).
NO_DIRECTORY_SYNC = (*NO_SYNC, errno.EBADF, errno.EISDIR, errno.EACCES)

# What systems and editors leave beside the files of others: of macOS, Windows, NFS, FUSE, SMB,
# network storage and Jupyter.
FOREIGN = re.compile(
    r'\.DS_Store|\._.*|\.localized|Thumbs\.db|desktop\.ini|\.nfs.*|\.fuse_hidden.*|\.smbdelete.*'
    r'|.*~|.*\.sw[a-p]|.*\.bak|#.*#|__MACOSX|\.AppleDouble|\.Trash.*|@eaDir|#recycle'
    r'|\.snapshots?|\.ipynb_checkpoints|lost\+found|\$RECYCLE\.BIN|System Volume Information',
    re.IGNORECASE,
)


def is_foreign(name: str) -> bool:
    """Returns whether a file or folder of this name is nobody's here."""
    return FOREIGN.fullmatch(name) is not None


def expanded(given: str, flag: str) -> Path:
    """Returns a path of a flag, with the home folder in place of ~.

    Raises:
        UserError: it is of somebody who has none.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}: '{given}': {error}") from error


def check_writable(folder: Path, names: Iterable[str], remedy: str) -> None:
    """Makes a folder, and checks that files of these names can be written or continued there.

    Raises:
        UserError: one cannot; `remedy` ends the line.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for path in filter(os.path.exists, (folder / name for name in names)):
            with path.open('ab'):
                pass
    except OSError as error:
        raise UserError(f'{folder}: cannot be written to ({error.strerror}); {remedy}') from error


def sync(path: Path) -> bool:
    """Waits until a file's content, or a directory's list of names, is on the disk.

    Returns:
        Whether it is. Where the filesystem has no such call, there is nothing to wait for.

    Raises:
        OSError: it could not be written, whatever was said of it before.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (NO_DIRECTORY_SYNC if path.is_dir() else NO_SYNC):
            raise
        return False
    return True


def sync_tree(directory: Path) -> None:
    """Syncs all files and directories below `directory` but foreign ones, and itself last."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            if is_foreign(name):
                continue
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
