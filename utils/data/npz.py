"""Arrays out of .npz files that nobody vouches for.

A file is looked at before memory is taken for it: its zip directory, then the header of every array
that is wanted. Nothing is unpickled and nothing is unpacked to disk.
"""

import contextlib
import copy
import io
import math
import os
import stat
import struct
import textwrap
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import UserError, printable
from utils.system import memory

PIECE = 1 << 20  # bytes read at once; the directory of an honest file is far smaller
MAX_HEADER = 4096  # bytes; those of plain arrays have 128
MAX_RATIO = 1032  # deflate expands no further (https://zlib.net/zlib_tech.html)
MAX_ITEM = 8  # bytes of a number

# What the zip reader and the decompressor raise on garbage, or we do.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,  # seeks to where nothing can be
    NotImplementedError,  # versions and flags that zipfile does not know
    ValueError,
    OverflowError,
    struct.error,
)
# What is often given in place of an .npz file, by its first bytes.
OTHERS = {
    b'\x89HDF': "is HDF5, as D4RL's; turn it into an .npz: python scripts/import_data.py "
    '--in=FILE --out=NAME.npz (docs/data.md)',
    b'version https://git-lfs': 'is a pointer of Git LFS, not the file; fetch it: git lfs pull',
    b'\x93NUMPY': 'is a single array (.npy); save all arrays together with numpy.savez',
}
# What NumPy's header parser raises: a header is a Python literal, and Python's own parser reads it.
UNPARSABLE = (
    SyntaxError,
    tokenize.TokenError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,  # of sizes
    MemoryError,  # nested too deeply, as is
    RecursionError,
    SystemError,  # CPython 3.12 on zero bytes
)


class _NoNumbersError(ValueError):
    """An array of something else, in a file that may well be whole."""


class Header(NamedTuple):
    """What a file says of one of its arrays.

    Attributes:
        name: its key.
        shape, dtype, fortran_order: as NumPy has them.
        start: bytes before the data.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def headers(path: Path, names: Iterable[str] | None = None) -> dict[str, Header]:
    """Reads headers alone.

    Args:
        path: of the .npz file.
        names: keys that are wanted, those that are there are looked at; None: all keys.

    Raises:
        UserError: the file is missing or damaged, or a wanted array does not hold plain numbers or
            has another size than its header says.
    """
    with _opened(path, path) as archive:
        members = _members(archive)
        chosen = members if names is None else [name for name in names if name in members]
        return {name: _header(archive, name, members[name]) for name in chosen}


def keys(path: Path) -> list[str]:
    """Returns the names of all arrays, whatever they hold.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _opened(path, path) as archive:
        return list(_members(archive))


def read(path: Path, header: Header) -> np.ndarray:
    """Reads one array, as its header (from `headers`) describes it.

    Returns:
        A C-ordered array in the machine's byte order.

    Raises:
        UserError: the file is damaged, or memory is short.
    """
    with _opened(path, path) as archive:
        info = _members(archive).get(header.name)
        if info is None or _header(archive, header.name, info) != header:
            raise ValueError('it changed while it was read')
        array = np.empty(header.shape[:: -1 if header.fortran_order else 1], header.dtype)
        target, filled, skip = memoryview(array.reshape(-1).view(np.uint8)), 0, header.start
        for piece in _pieces(archive, info):
            data = memoryview(piece)[skip:]
            target[filled : filled + len(data)] = data
            filled, skip = filled + len(data), 0
        if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"'{header.name}' holds bytes that are no truth values")
        array = array.T if header.fortran_order else array
        return np.ascontiguousarray(array, array.dtype.newbyteorder('='))


def verify(path: Path, names: Iterable[str], label: object) -> None:
    """Reads arrays without keeping them.

    Args:
        path: of the .npz file.
        names: keys that are wanted; those that are there are read.
        label: what an error calls the file.

    Raises:
        UserError: the file is damaged.
    """
    with _opened(path, label) as archive:
        members = _members(archive)
        for name in filter(members.__contains__, names):
            _header(archive, name, members[name])
            for _ in _pieces(archive, members[name]):
                pass


def check_memory(path: Path, needed: int) -> None:
    """Checks that `needed` bytes can be taken.

    Raises:
        UserError: less memory is available.
    """
    available = memory.available()
    if needed > available:
        raise UserError(
            f'{path}: reading it takes {needed / memory.GIB:.2f} GiB of memory, '
            f'{available / memory.GIB:.2f} GiB are available; save it as smaller shards '
            'NAME-000.npz, NAME-001.npz, ... in a folder of their own, or use a machine with more '
            'memory'
        )


class _SmallReads(io.FileIO):
    """A file that is read piece by piece, whatever sizes its content claims."""

    def read(self, size: int = -1) -> bytes:
        if size > PIECE:
            raise zipfile.BadZipFile(f'a directory of {size} bytes')
        return super().read(size)


@contextlib.contextmanager
def _opened(path: Path, label: object) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; what is wrong with it becomes one line."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(
            f'{label}: no such dataset file ({error.strerror}); check --dataset_path or '
            '--dataset_dir'
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f'{label}: not a regular file; give the .npz file itself')
    if not status.st_size:
        raise UserError(f'{label}: empty, not a whole .npz file; fetch or make it again')
    try:
        with _SmallReads(path) as file:
            _check_beginning(file, label)
            with zipfile.ZipFile(file) as archive:
                yield archive
    except _NoNumbersError as error:
        raise UserError(f'{label}: {shown(error)}; save them as arrays of numbers') from error
    except PermissionError as error:
        raise UserError(f'{label}: cannot be read; check its permissions') from error
    except MemoryError as error:
        raise UserError(
            f'{label}: memory ran out; use a smaller dataset or a machine with more memory'
        ) from error
    except DAMAGE as error:
        raise UserError(
            f'{label}: not a whole .npz file of plain arrays ({shown(error)}); fetch or make it '
            'again'
        ) from error


def _check_beginning(file: io.FileIO, label: object) -> None:
    beginning = file.read(max(map(len, OTHERS)))
    for start, advice in OTHERS.items():
        if beginning.startswith(start):
            raise UserError(f'{label}: {advice}')


def shown(value: object) -> str:
    """A value's text, or its type's name, as a short line that a terminal can show."""
    return textwrap.shorten(printable(value) or type(value).__name__, 160)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the arrays of a zip directory by their keys."""
    members = {}
    for info in archive.infolist():
        name = info.filename
        if name.startswith('/') or '\\' in name or {'.', '..'} & {*name.split('/')}:
            raise ValueError(f'a member is named {name!r}, a path')
        if stat.S_ISLNK(info.external_attr >> 16) or name.endswith('/'):
            raise ValueError(f'member {name!r} is a link or a folder')
        key = name.removesuffix('.npy')
        if key in members:
            raise ValueError(f'member {name!r} is there twice')
        members[key] = info
    return members


def _header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Header:
    """Reads the header of a member and compares it with the sizes that the directory claims."""
    if info.flag_bits & 0x41:
        raise ValueError(f'{info.filename!r} is encrypted')
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f'{info.filename!r} is compressed by method {info.compress_type}')
    ratio = 1 if info.compress_type == zipfile.ZIP_STORED else MAX_RATIO
    if info.file_size > ratio * info.compress_size:
        raise ValueError(f'{info.filename!r} cannot hold the {info.file_size} bytes it claims')
    with archive.open(info) as member:
        header = _parse(name, member.read(MAX_HEADER))
    if header.dtype.kind not in 'biuf' or header.dtype.itemsize > MAX_ITEM:
        raise _NoNumbersError(f"'{name}' has dtype {header.dtype}; expected plain numbers")
    if min(header.shape, default=0) < 0 or header.start + header.nbytes != info.file_size:
        raise ValueError(
            f"'{name}' of shape {header.shape} and {header.dtype} does not fill the "
            f'{info.file_size - header.start} bytes that are there'
        )
    return header


def _parse(name: str, beginning: bytes) -> Header:
    """Parses a header. Only the beginning of a member: a header may claim any length."""
    stream = io.BytesIO(beginning)
    version = np.lib.format.read_magic(stream)
    parsers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in parsers:
        raise ValueError(f"'{name}' is of version {version}; plain arrays are (1, 0) or (2, 0)")
    try:
        with warnings.catch_warnings(action='ignore'):  # of the parsers, about the literal
            shape, fortran_order, dtype = parsers[version](stream, max_header_size=MAX_HEADER)
    except UNPARSABLE as error:
        raise ValueError(f"the header of '{name}' does not describe an array") from error
    return Header(name, tuple(map(int, shape)), dtype, fortran_order, stream.tell())


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields the bytes of a member, all of them or an error."""
    longer = copy.copy(info)
    longer.file_size += 1  # zipfile stops at this size; bytes beyond the claimed one show by it
    left = info.file_size
    with archive.open(longer) as member:
        while piece := member.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise ValueError(f'{info.filename!r} is longer than the {info.file_size} claimed')
            yield piece
    if left:
        raise ValueError(f'{info.filename!r} breaks off {left} bytes before its end')
