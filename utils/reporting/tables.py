"""Tables made once and written as Markdown, CSV and LaTeX, with the origin of every cell."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from utils.csv_lines import Source, spans
from utils.errors import UserError

MISSING = '—'
SUFFIXES = ('.md', '.csv', '.tex', '_sources.csv')
# Columns of NAME_sources.csv; `row` counts from 1, below the header.
SOURCES = ('row', 'column', 'printed', 'directory', 'file', 'lines')


class Cell(NamedTuple):
    """One entry of a table.

    Attributes:
        text: as it is shown.
        sources: where its numbers come from.
        note: what a reader must know of it, printed below the table; '' for nothing.
        bold: whether it stands out.
    """

    text: str
    sources: tuple[Source, ...] = ()
    note: str = ''
    bold: bool = False


class Table(NamedTuple):
    """What all renderers show.

    Attributes:
        name: of its files.
        title: what it shows, and in which units.
        columns: their headers.
        rows: as many cells each as there are columns; the first ones are the row's name.
        remarks: sentences about the whole table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    remarks: tuple[str, ...] = ()


def missing(reason: str) -> Cell:
    """A cell without a number, and why: nothing missing is ever shown as zero."""
    return Cell(MISSING, note=reason)


def markdown(table: Table) -> str:
    """Returns a table for GitHub: title, grid, notes."""

    def show(cell: Cell) -> str:
        text = f'**{cell.text}**' if cell.bold and cell.text else cell.text
        return f'{text} [{numbers[cell.note]}]' if cell.note else text

    numbers = note_numbers(table)
    grid = [table.columns, ['---'] * len(table.columns)]
    grid += [[show(cell) for cell in row] for row in table.rows]
    lines = [f'| {" | ".join(text.replace("|", chr(92) + "|") for text in row)} |' for row in grid]
    notes = [f'[{number}] {note}' for note, number in numbers.items()]
    below = [f'* {text}' for text in (*table.remarks, *notes)]
    return '\n'.join([f'**{table.title}**', '', *lines, '', *below]) + '\n'


def latex(table: Table) -> str:
    """Returns a floating table of the booktabs package: caption, grid, notes."""

    def show(cell: Cell) -> str:
        text = _escape(cell.text)
        text = f'\\textbf{{{text}}}' if cell.bold and cell.text else text
        return f'{text}\\textsuperscript{{{numbers[cell.note]}}}' if cell.note else text

    def line(cells: Iterable[str]) -> str:
        return f'{" & ".join(cells)} \\\\'

    numbers = note_numbers(table)
    notes = [f'\\textsuperscript{{{number}}} {_escape(note)}.' for note, number in numbers.items()]
    below = [*map(_escape, table.remarks), *notes]
    return (
        '\n'.join(
            [
                '% \\usepackage{booktabs}',
                '\\begin{table}',
                '\\centering',
                f'\\caption{{{_escape(table.title)}}}',
                f'\\label{{tab:{table.name}}}',
                f'\\begin{{tabular}}{{{"l" * len(table.columns)}}}',
                '\\toprule',
                line(map(_escape, table.columns)),
                '\\midrule',
                *(line(map(show, row)) for row in table.rows),
                '\\bottomrule',
                '\\end{tabular}',
                *(f'\\par\\footnotesize {text}' for text in below),
                '\\end{table}',
            ]
        )
        + '\n'
    )


def check_free(names: Iterable[str], folder: Path, suffixes: Iterable[str] = SUFFIXES) -> None:
    """Makes sure that nothing is overwritten.

    Raises:
        UserError: a file of one of these tables exists.
    """
    paths = [folder / f'{name}{suffix}' for name in names for suffix in suffixes]
    for path in paths:
        if path.exists():
            raise UserError(f'{path}: exists already; choose another --out')


def write(table: Table, folder: Path) -> None:
    """Writes NAME.md, NAME.csv, NAME.tex, and NAME_sources.csv: every cell's files and lines."""
    write_numbers(table, folder)
    (folder / f'{table.name}.md').write_text(markdown(table), encoding='utf-8')
    (folder / f'{table.name}.tex').write_text(latex(table), encoding='utf-8')


def write_numbers(table: Table, folder: Path) -> None:
    """Writes NAME.csv and NAME_sources.csv alone."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = [[cell.text for cell in row] for row in table.rows]
    _write_csv(folder / f'{table.name}.csv', [table.columns, *grid])
    _write_csv(folder / f'{table.name}_sources.csv', [SOURCES, *_origins(table)])


def _origins(table: Table) -> Iterable[tuple[object, ...]]:
    for number, row in enumerate(table.rows, 1):
        for column, cell in zip(table.columns, row, strict=True):
            for file, lines in cell.sources:
                yield number, column, cell.text, file.parent, file.name, spans(lines)


def _write_csv(path: Path, lines: Iterable[Iterable[object]]) -> None:
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(lines)


def note_numbers(table: Table) -> dict[str, int]:
    """Returns the notes of a table's cells, numbered from 1 in their order."""
    notes = dict.fromkeys(cell.note for row in table.rows for cell in row if cell.note)
    return {note: number for number, note in enumerate(notes, 1)}


_LATEX = {
    '\\': '\\textbackslash{}',
    MISSING: '---',
    '~': '\\textasciitilde{}',
    '^': '\\textasciicircum{}',
    '<': '\\textless{}',
    '>': '\\textgreater{}',
    **{letter: f'\\{letter}' for letter in '&%$#_{}'},
}


def _escape(text: str) -> str:
    return re.sub('|'.join(map(re.escape, _LATEX)), lambda match: _LATEX[match.group()], text)
