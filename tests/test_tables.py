"""One table, three renderings, and the origin of every cell."""

import csv
from pathlib import Path

import pytest

from utils.csv_lines import Source
from utils.errors import UserError
from utils.reporting import tables
from utils.reporting.tables import Cell, Table, missing

SMALL = Table(
    'small',
    'A & B in %',
    ('config', 'x_1'),
    (
        (Cell('a|b'), Cell('1.5', (Source(Path('runs/a.csv'), (2, 3)),), bold=True)),
        (Cell('c'), missing('at step 3 of 4')),
        (Cell('d'), Cell('2', (Source(Path('runs/d.csv'), (5,)),), note='at step 3 of 4')),
    ),
    ('All of them.',),
)


def test_a_table_in_markdown():
    assert tables.markdown(SMALL) == (
        '**A & B in %**\n\n'
        '| config | x_1 |\n'
        '| --- | --- |\n'
        '| a\\|b | **1.5** |\n'
        '| c | — [1] |\n'
        '| d | 2 [1] |\n\n'
        '* All of them.\n'
        '* [1] at step 3 of 4\n'
    )


def test_a_table_in_latex():
    assert tables.latex(SMALL).splitlines()[3:] == [
        '\\caption{A \\& B in \\%}',
        '\\label{tab:small}',
        '\\begin{tabular}{ll}',
        '\\toprule',
        'config & x\\_1 \\\\',
        '\\midrule',
        'a|b & \\textbf{1.5} \\\\',
        'c & ---\\textsuperscript{1} \\\\',
        'd & 2\\textsuperscript{1} \\\\',
        '\\bottomrule',
        '\\end{tabular}',
        '\\par\\footnotesize All of them.',
        '\\par\\footnotesize \\textsuperscript{1} at step 3 of 4.',
        '\\end{table}',
    ]


def test_a_table_and_its_sources_in_csv(tmp_path):
    tables.write(SMALL, tmp_path)
    assert read(tmp_path / 'small.csv') == [
        {'config': 'a|b', 'x_1': '1.5'},
        {'config': 'c', 'x_1': '—'},
        {'config': 'd', 'x_1': '2'},
    ]
    assert read(tmp_path / 'small_sources.csv')[0] == {
        'row': '1',
        'column': 'x_1',
        'printed': '1.5',
        'directory': 'runs',
        'file': 'a.csv',
        'lines': '2-3',
    }
    with pytest.raises(UserError, match='exists already'):
        tables.check_free(['other', 'small'], tmp_path)


def read(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))
