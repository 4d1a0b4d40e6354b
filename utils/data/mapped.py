"""Shards that exceed the memory together: copied once to .npy files beside them and mapped.

A compressed file cannot be mapped. Of the copies the system keeps in memory what is in use. On a
CPU programs read them where they are; an accelerator is given all of them.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils import files
from utils.data import shards
from utils.data.host_array import map_file
from utils.errors import UserError
from utils.system import guards, locks
from utils.system.stopping import StoppedError, StopRequest

RECORD = 'mapped.json'

Arrays = dict[str, np.ndarray]


def ensure(
    parts: Sequence[Path],
    num_bytes: int,
    read: Callable[[Path], Arrays],
    stop: StopRequest | None = None,
) -> Arrays:
    """Returns the arrays of many files as memory maps; copies are made if they are not there.

    Args:
        parts: the files, in their order.
        num_bytes: that the copies take, at most.
        read: reads and checks one of them.
        stop: asked while another process is waited for, and between files; None: nobody.

    Raises:
        StoppedError: `stop` said so.
        UserError: the folder cannot be written to, lacks room, or holds damaged copies; see
            `shards.check_alike` as well.
    """
    folder = parts[0].with_name(f'{parts[0].stem}-mapped')
    if _names(folder, parts) is None:
        files.check_writable(folder, (), 'copy the shards into a folder of your own')
        stop = stop or StopRequest()
        with locks.hold_in_turn(folder / locks.LOCK, stop):
            if _names(folder, parts) is None:  # another process may have made them meanwhile
                _copy(folder, parts, num_bytes, read, stop)
    print(f'{folder}: mapped', flush=True)
    remedy = f'delete {folder}, and it is made again, or raise the limit of memory (ulimit -v)'
    names = _names(folder, parts)
    if names is None:
        raise UserError(f'{parts[0].parent}: a shard changed while it was copied; repeat')
    return {name: map_file(folder / f'{name}.npy', remedy) for name in names}


def _sources(parts: Sequence[Path]) -> list[list[Any]]:
    """Returns what tells other shards of the same names."""
    return [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in parts]


def _names(folder: Path, parts: Sequence[Path]) -> list[str] | None:
    """Returns the names of the arrays, or None where there are no whole copies of these shards."""
    try:
        record = json.loads((folder / RECORD).read_text())
        return record['arrays'] if record['shards'] == _sources(parts) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _copy(
    folder: Path,
    parts: Sequence[Path],
    num_bytes: int,
    read: Callable[[Path], Arrays],
    stop: StopRequest,
) -> None:
    (folder / RECORD).unlink(missing_ok=True)
    guards.check_space(folder, num_bytes, 'mapped copies need', 'make room')
    sources, rows, first = _sources(parts), 0, {}
    with contextlib.ExitStack() as stack:
        opened = {}
        for number, part in enumerate(parts):
            if stop():
                raise StoppedError
            print(f'{folder}: {number + 1} of {len(parts)} copied once', end='\r', flush=True)
            arrays = read(part)
            if not opened:
                first = {name: array[:0] for name, array in arrays.items()}
                for name in first:
                    opened[name] = stack.enter_context(files.writing(folder / f'{name}.npy'))
                    _write_header(opened[name], first[name], 0)
            shards.check_alike(part, arrays, parts[0], first)
            rows += len(arrays['actions'])
            shards.check_rows(folder.parent, rows)
            for name, array in arrays.items():
                opened[name].write(memoryview(np.ascontiguousarray(array)).cast('B'))
        for name, file in opened.items():
            _write_header(file, first[name], rows)
    print()
    files.write_json(folder / RECORD, dict(shards=sources, arrays=list(first)))


def _write_header(file: BinaryIO, like: np.ndarray, rows: int) -> None:
    """Writes a header, or exchanges it: NumPy leaves room for a first axis that grows."""
    file.seek(0)
    header = np.lib.format.header_data_from_array_1_0(like) | dict(shape=(rows, *like.shape[1:]))
    np.lib.format.write_array_header_1_0(file, header)
