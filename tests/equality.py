"""Whether two runs left the same, to the bit."""

import csv
from pathlib import Path

TIMED = ('updates_per_second', 'cpu_seconds_per_update')


def arrays(directory: Path, step: int, kind: str = 'checkpoints') -> dict[str, bytes]:
    """Returns the bytes of every array of a checkpoint, as they are on the disk."""
    folder = directory / kind / str(step) / 'default'
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.parent != folder and path.parent.name != 'array_metadatas'
    }


def rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table without their timing."""
    with path.open(newline='') as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


def assert_equal_runs(
    one: Path, other: Path, step: int, tables: tuple[str, ...] = ('train', 'eval', 'episodes')
) -> str:
    """Compares the final weights and all rows of two runs to the bit; returns what was compared.

    Raises:
        AssertionError: they differ.
    """
    weights = arrays(one, step), arrays(other, step)
    assert weights[0], f'{one}: holds no weights'
    assert weights[0].keys() == weights[1].keys()
    differing = [name for name in weights[0] if weights[0][name] != weights[1][name]]
    assert not differing, f'{other}: weights differ: {differing}'
    compared = []
    for name in tables:
        pair = rows(one / f'{name}.csv'), rows(other / f'{name}.csv')
        assert pair[0], f'{one}: {name}.csv is empty'
        assert pair[0] == pair[1], f'{other}: {name}.csv differs'
        compared.append(f'{len(pair[0])} rows of {name}.csv')
    return f'{len(weights[0])} files of arrays, {", ".join(compared)}: equal to the bit'
