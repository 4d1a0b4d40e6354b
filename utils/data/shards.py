"""Datasets in many files, as OGBench's of a hundred million transitions: NAME-000.npz and so on."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import UserError

NAME = re.compile(r'(?P<stem>[^.].*)-(?P<number>\d+)(?P<held_out>-val)?\.npz')

Arrays = dict[str, np.ndarray]


def find(path: Path, val_path: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files of training and of held-out data, in their order.

    Args:
        path: a file, or a folder of numbered ones.
        val_path: of held-out data, where `path` is a file; it need not exist.

    Raises:
        UserError: the folder holds no shards, those of several datasets, or lacks one of them.
    """
    if not path.is_dir():
        return [path], [val_path] if val_path.exists() else []
    found = [match for match in map(NAME.fullmatch, _names(path)) if match]
    training = [match for match in found if not match['held_out']]
    held_out = [match for match in found if match['held_out']]
    if not training:
        raise UserError(
            f'{path}: a folder without files NAME-000.npz, NAME-001.npz, ...; give the .npz itself'
        )
    if len(stems := {match['stem'] for match in found}) > 1:
        raise UserError(
            f'{path}: holds shards of several datasets ({", ".join(sorted(stems)[:3])}); put those '
            'of one into a folder of their own'
        )
    _check_numbers(path, training)
    _check_numbers(path, held_out)
    return [path / match[0] for match in training], [path / match[0] for match in held_out]


def _check_numbers(path: Path, found: Sequence[re.Match]) -> None:
    """Checks that each number from the first to the last has one shard."""
    numbers = [int(match['number']) for match in found]
    if len({*numbers}) < len(numbers):
        raise UserError(
            f'{path}: a number stands for two shards, as 7 and 007 do; put those of one dataset '
            'into a folder of their own'
        )
    lacking = sorted({*range(min(numbers, default=0), max(numbers, default=0))} - {*numbers})
    if lacking:
        kind = found[0]['held_out'] or ''
        raise UserError(
            f'{path}: {len(found)} shards, but number {lacking[0]:03}{kind} is not among them; '
            'fetch it, or put the first ones into a folder of their own'
        )


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_file())


def join(paths: Sequence[Path], parts: list[Arrays]) -> Arrays:
    """Returns the arrays of many files as those of one; `parts` are emptied on the way.

    Args:
        paths: of the files, named in errors.
        parts: what was read of each, (rows, ...) with rows of its own.

    Raises:
        UserError: they have different keys or sizes, or together too many rows.
    """
    for path, part in zip(paths, parts, strict=True):
        check_alike(path, part, paths[0], parts[0])
    check_rows(paths[0].parent, sum(len(part['actions']) for part in parts))
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def check_alike(path: Path, part: Arrays, first_path: Path, first: Arrays) -> None:
    """Checks that a shard has the keys and sizes of the first one.

    Raises:
        UserError: it has others.
    """
    own, expected = _sizes(part), _sizes(first)
    if own != expected:
        raise UserError(
            f'{path}: holds {_shown(own)}, but {first_path.name} {_shown(expected)}; expected '
            'shards of one dataset'
        )


def check_rows(folder: Path, rows: int) -> None:
    """Checks that rows can be counted in 32 bits.

    Raises:
        UserError: they are too many.
    """
    if rows > np.iinfo(np.int32).max:
        raise UserError(f'{folder}: {rows} rows are more than 2**31 - 1; use fewer shards')


def _sizes(part: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in part.items()}


def _shown(shapes: dict[str, tuple[int, ...]]) -> str:
    return ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())
