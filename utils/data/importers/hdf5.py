"""HDF5 files that nobody vouches for: plain numbers that are in the file and fit into memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils.data import npz
from utils.data.importers import libraries
from utils.errors import UserError

MAX_ITEM = 8  # bytes of a number
# What h5py raises on garbage; the last where it visits links.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, SystemError)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a file for reading.

    Raises:
        UserError: it is damaged, links to other files, or h5py is not installed.
    """
    h5py = libraries.load('h5py')
    with libraries.whole(path, 'HDF5 file', DAMAGE):
        with h5py.File(path, 'r') as file:
            _check_links(path, file)
            yield file


def _check_links(path: Path, file: Any) -> None:
    """Checks that all is in the file: else the record's digest tells too little."""
    external = libraries.load('h5py').ExternalLink

    def visit(name: str, link: Any) -> str | None:  # h5py ends at a name
        return name if isinstance(link, external) else None

    if name := file.visititems_links(visit):
        raise UserError(f"{path}: '{name}' lies in other files; put it into this one")


def is_group(node: Any) -> bool:
    """Returns whether something in a file is a group."""
    return isinstance(node, libraries.load('h5py').Group)


def columns(group: Any) -> list[str]:
    """Returns the paths of all arrays below a group, in the order of their names."""
    h5py, found = libraries.load('h5py'), []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(name)

    group.visititems(visit)
    return sorted(found)


def read(path: Path, group: Any, name: str) -> np.ndarray:
    """Reads an array.

    Raises:
        UserError: it holds no plain numbers, lies in another file, or memory is short.
    """
    node = group[name]
    check_own(path, node)
    if is_group(node) or node.dtype.kind not in 'biuf' or node.dtype.itemsize > MAX_ITEM:
        raise UserError(f"{path}: '{node.name}' holds no plain numbers; name another")
    npz.check_memory(path, 2 * node.nbytes)  # once more while it is converted
    return np.asarray(node[()])


def check_own(path: Path, node: Any) -> None:
    """Checks that an array's numbers are in the file, as `opened` checks its links.

    Raises:
        UserError: it is in another.
    """
    if not is_group(node) and (node.external or node.is_virtual):
        raise UserError(f"{path}: '{node.name}' lies in other files; put it into this one")


def check_all(path: Path) -> None:
    """Checks a file that somebody else's package is to read as a whole.

    Raises:
        UserError: it is damaged, names other files, or does not fit into memory.
    """
    with opened(path) as file:
        nodes = [file[name] for name in columns(file)]
        for node in nodes:
            check_own(path, node)
        npz.check_memory(path, 2 * sum(node.nbytes for node in nodes))
