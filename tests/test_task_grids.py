"""The table of many tasks: an agent in a row as it was trained, whatever was run so far."""

import re
from pathlib import Path

import pytest

from tests.commands import run_here
from tests.run_folders import write_run
from utils.errors import UserError
from utils.reporting import durations, results, task_grids
from utils.storage.metrics import CsvTable

PAGE = Path(__file__).resolve().parents[1] / 'docs/results/25-tasks.md'
README = PAGE.parents[2] / 'README.md'
TASK = 'scene-play-singletask-task{}-v0'


def grid(folder):
    return task_grids.task_grid(results.find_runs([folder]))


def shown(table):
    return [
        dict(zip(table.columns, (cell.text for cell in row), strict=True)) for row in table.rows
    ]


def test_an_agent_has_a_row_and_a_task_a_column(tmp_path):
    taken = []
    for task, chance in ((1, 1.0), (2, 0.0)):
        made = dict(seeds=(0,), chance=chance, episodes=50, draw=task)
        directory = write_run(tmp_path, TASK.format(task), **made)
        lines = CsvTable(directory / 'train.csv').read()
        taken.append(sum(100 * float(line['cpu_seconds_per_update']) for line in lines) / 60)
    [row] = shown(grid(tmp_path))
    assert row == {
        'environment': 'scene-play',
        'agent': '`bc_small`',
        'value nets': '1 x 8',
        'candidates': '',
        'transitions': '1,000',
        'device': 'cpu',
        'updates': '400',
        'seeds': '1',
        'task 1': '100 [93, 100]',
        'task 2': '0 [0, 7]',
        **{f'task {task}': '—' for task in (3, 4, 5)},
        'mean': '—',
        'CPU min': f'{sum(taken) / 2:.2f}',
    }


def test_the_mean_is_over_tasks_however_many_seeds_each_has(tmp_path):
    for task in range(1, 6):
        seeds = (0, 1, 2) if task == 1 else (0,)
        write_run(tmp_path, TASK.format(task), 'qc5_small', seeds=seeds, chance=float(task == 1))
    [row] = shown(grid(tmp_path))
    assert row['mean'] == '20.0'
    assert row['seeds'] == '1-3'
    assert row['candidates'] == '16 x 4'
    low = 100 * 30 / (30 + 1.96**2)  # Wilson's of 30 of 30: the spread of the seeds is none
    assert row['task 1'] == f'100 [{low:.0f}, 100]'


def test_what_stopped_earlier_has_a_row_of_its_own_and_cites_its_lines(tmp_path):
    write_run(tmp_path, TASK.format(1), seeds=(0,))
    write_run(tmp_path, TASK.format(2), seeds=(0,), evaluated=(100, 200))
    table = grid(tmp_path)
    assert [row['updates'] for row in shown(table)] == ['400', '200']
    [source] = table.rows[1][table.columns.index('task 2')].sources
    assert (source.file.parents[2].name, source.lines) == (TASK.format(2), (3,))


def test_what_an_earlier_version_did_not_record_is_a_dash(tmp_path):
    directory = write_run(tmp_path, TASK.format(1), seeds=(0,))
    lines = CsvTable(directory / 'train.csv').read()
    (directory / 'train.csv').unlink()
    older = [{k: v for k, v in line.items() if k != durations.CPU} for line in lines]
    CsvTable(directory / 'train.csv').append(older)
    [row] = shown(grid(tmp_path))
    assert row['CPU min'] == '—'


def test_one_seed_is_there_once(tmp_path):
    for folder in 'ab':
        write_run(tmp_path / folder, seeds=(0,))
    with pytest.raises(UserError, match='are runs of one agent, task and seed'):
        grid(tmp_path)


def test_runs_of_a_row_differ_in_task_and_seed_alone(tmp_path):
    write_run(tmp_path, TASK.format(1), seeds=(0,), lr=0.1)
    write_run(tmp_path, TASK.format(2), seeds=(0,), lr=0.2)
    with pytest.raises(UserError, match=r'have one name, but lr is 0.1 there and 0.2 here'):
        grid(tmp_path)


def test_widths_that_differ_are_all_told(tmp_path):
    write_run(tmp_path, TASK.format(1), hidden_dims=(8, 4))
    write_run(tmp_path, 'scene-play-singletask-v0')  # the default task, which has no column
    [row] = shown(grid(tmp_path))
    assert row['value nets'] == '8, 4'


def test_the_page_shows_what_the_command_prints():
    printed = run_here('benchmarks/tasks25.py').stdout
    assert printed.startswith('**Mean success over five tasks**')
    assert PAGE.read_text(encoding='utf-8').endswith(printed), (
        'put what `python -m benchmarks.tasks25` prints at the end of docs/results/25-tasks.md'
    )
    first, _, _ = printed.partition('**Success per task**')
    shown = [line for line in first.splitlines() if line.startswith(('| ', '* ['))]
    assert {*shown} <= {*README.read_text(encoding='utf-8').splitlines()}
    [count] = re.findall(r'(\d+) of the 75 cells of these', printed)
    for text in (PAGE.read_text(encoding='utf-8'), README.read_text(encoding='utf-8')):
        assert {*re.findall(r'(\d+) of (?:the )?75 cells', text)} == {count}
