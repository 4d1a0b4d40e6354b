"""CSV files read line by line, so that a number can be traced, and damage be named."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError


class Source(NamedTuple):
    """Where a number was read.

    Attributes:
        file: its path.
        lines: of the file, from 1, which in a CSV file is the header; none: the file as a whole.
    """

    file: Path
    lines: tuple[int, ...] = ()


class Line(NamedTuple):
    """A row of a CSV file."""

    path: Path
    number: int
    values: dict[str, str]

    def parse(self, column: str, kind: Callable = float) -> Any:
        """Returns a number.

        Raises:
            UserError: it is none.
        """
        try:
            return kind(self.values[column])
        except ValueError as error:
            raise UserError(
                f"{self.path}, line {self.number}: {column} is '{self.values[column]}', not a "
                'number; restore the file from a copy'
            ) from error


def read_lines(path: Path, columns: Sequence[str]) -> list[Line]:
    """Reads a CSV file that has at least these columns; none if there is no file.

    Raises:
        UserError: a column is missing, a line is cut off or too long, or it is no text.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader]
            file.seek(0)
            ends = file.read()[-1:] in ('\n', '')
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: damaged ({error}); restore it from a copy') from error
    if absent := [column for column in columns if column not in header]:
        raise UserError(f'{path}: lacks the column {absent[0]}; restore it from a copy')
    uneven = [number for number, row in rows if len(row) != len(header)]
    if uneven or not ends:
        number = uneven[0] if uneven else rows[-1][0] if rows else 1
        raise UserError(
            f'{path}, line {number}: cut off or joined with another; if the run is still writing, '
            'wait for it, else restore the file from a copy'
        )
    return [Line(path, number, dict(zip(header, row, strict=True))) for number, row in rows]


def spans(lines: Iterable[int]) -> str:
    """Returns line numbers as '2-4 7'."""
    runs: list[list[int]] = []
    for line in sorted(lines):
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    return ' '.join(f'{first}-{last}' if last > first else str(first) for first, last in runs)
