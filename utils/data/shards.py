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
    numbers = [int(match['number']) for match in training]
    lacking = sorted({*range(min(numbers), max(numbers))} - {*numbers})
    if lacking:
        raise UserError(
            f'{path}: {len(training)} shards, but number {lacking[0]:03} is not among them; fetch '
            'it, or put the first ones into a folder of their own'
        )
    return [path / match[0] for match in training], [path / match[0] for match in held_out]


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
    first = {name: array.shape[1:] for name, array in parts[0].items()}
    for path, part in zip(paths, parts, strict=True):
        if (own := {name: array.shape[1:] for name, array in part.items()}) != first:
            raise UserError(
                f'{path}: holds {_shown(own)}, but {paths[0].name} {_shown(first)}; expected '
                'shards of one dataset'
            )
    rows = sum(len(part['actions']) for part in parts)
    if rows > np.iinfo(np.int32).max:
        raise UserError(f'{paths[0].parent}: {rows} rows are more than 2**31 - 1; use fewer shards')
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in first}


def _shown(shapes: dict[str, tuple[int, ...]]) -> str:
    return ', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())
