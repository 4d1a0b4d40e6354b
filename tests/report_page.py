"""Reads the HTML page of a report as a browser would: elements, tables, and what cells cite."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Cell(NamedTuple):
    """An entry of a table: its text without the numbers of notes, and its data-source."""

    text: str
    source: str


class HtmlTable(NamedTuple):
    """A table: its columns and its rows of cells."""

    columns: list[str]
    rows: list[list[Cell]]


class Page(HTMLParser):
    """The elements of a page with their attributes, its tables by id, and all its text."""

    def __init__(self, content):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, HtmlTable] = {}
        self.text = ''
        self._row: list[Cell] | None = None
        self._cell: list[str] | None = None
        self._skipped = False
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == 'table':
            self._table = self.tables.setdefault(attributes['id'], HtmlTable([], []))
        elif tag == 'tr':
            self._row = []
        elif tag in ('td', 'th'):
            self._cell, self._source = [], attributes.get('data-source', '')
            self._heads = attributes.get('scope') == 'col'
        elif tag == 'sup':
            self._skipped = True

    def handle_data(self, data):
        self.text += data
        if self._cell is not None and not self._skipped:
            self._cell.append(data)

    def handle_endtag(self, tag):
        if tag == 'sup':
            self._skipped = False
        elif tag in ('td', 'th'):
            text = ''.join(self._cell)
            if self._heads:
                self._table.columns.append(text)
            else:
                self._row.append(Cell(text, self._source))
            self._cell = None
        elif tag == 'tr' and self._row:
            self._table.rows.append(self._row)


def follow(source):
    """Returns what a cell cites: {path: line numbers}, none for a file as a whole."""
    found = {}
    for line in source.splitlines():
        match = re.fullmatch(r'(.+): ([\d -]+)', line)
        file, spans = (match[1], match[2]) if match else (line, '')
        numbers = []
        for span in spans.split():
            first, _, last = span.partition('-')
            numbers += range(int(first), int(last or first) + 1)
        path = Path(file) if Path(file).is_absolute() else ROOT / file
        found.setdefault(path, []).extend(numbers)
    return found


def rows_of(source):
    """Returns the rows of CSV files that a cell cites, {directory: {file: rows}}."""
    found = {}
    for path, numbers in follow(source).items():
        with path.open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        chosen = [rows[number - 2] for number in numbers]
        found.setdefault(str(path.parent), {})[path.name] = chosen
    return found
