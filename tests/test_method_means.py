"""Means of methods over five tasks: of whole rows alone, beside the highest published ones."""

import shutil

import pytest

from tests.run_folders import write_run
from utils.csv_lines import Source
from utils.reporting import method_means, published, results, tables

METHODS = {'EVOR': 'evor_small', 'QC': 'qc5_small'}
NAMES = 'scene-play', 'cube-single-play'


def write_tasks(folder, environment, config, rates, **made):
    """Runs on tasks 1 to 5 whose episodes all end as their rate says, 0 or 1."""
    for task, rate in enumerate(rates, 1):
        name = f'{environment}-singletask-task{task}-v0'
        write_run(folder, name, config, seeds=(0,), chance=float(rate), **made)


def cited(environment, agent, mean, task=published.ALL_TASKS):
    numbers = dict(mean=mean, std='', seeds='', episodes='', note='')
    origin = Source(published.FOLDER / 'some.csv', (2,))
    return published.Published('some', '1', '', environment, task, agent, **numbers, origin=origin)


def shown(folder, literature=()):
    runs = results.find_runs([folder])
    table = method_means.means_table(runs, METHODS, literature, NAMES)
    return {
        row[0].text: dict(zip(table.columns[1:], (cell.text for cell in row[1:]), strict=True))
        for row in table.rows
    }


@pytest.fixture
def folder(tmp_path):
    """EVOR on both environments, QC on four tasks of the one and on all of the other."""
    write_tasks(tmp_path, NAMES[0], 'evor_small', [1, 1, 1, 0, 0])
    write_tasks(tmp_path, NAMES[1], 'evor_small', [1, 1, 1, 1, 1])
    write_tasks(tmp_path, NAMES[0], 'qc5_small', [1, 1, 1, 1])
    write_tasks(tmp_path, NAMES[1], 'qc5_small', [0, 0, 0, 0, 1])
    return tmp_path


def test_a_mean_is_over_all_five_tasks_or_a_dash(folder):
    found = shown(folder)
    assert found[NAMES[0]]['EVOR'].startswith('60.0 [')
    assert found[NAMES[0]]['EVOR'].endswith('] (400)')
    assert found[NAMES[0]]['QC'] == tables.MISSING
    assert found[NAMES[1]]['QC'].startswith('20.0 [')


def test_tasks_that_have_a_number_are_counted(folder):
    table = method_means.means_table(results.find_runs([folder]), METHODS, [], NAMES)
    assert '19 of the 20 cells' in table.remarks[-1]


def test_the_last_row_is_the_mean_over_environments_that_are_all_there(folder):
    last = shown(folder)['mean of five']
    assert (last['EVOR'], last['QC']) == ('80.0', tables.MISSING)


def test_the_first_method_is_compared_with_the_highest_published_mean(folder):
    literature = [
        cited(NAMES[0], 'low', '9.5'),
        cited(NAMES[0], 'high', '71.5'),
        cited(NAMES[0], 'of one task', '99', task='1'),
    ]
    found = shown(folder, literature)
    assert found[NAMES[0]]['highest published'] == 'high: 71.5'
    assert found[NAMES[0]]['behind'] == '11.5'
    assert found[NAMES[1]]['behind'] == tables.MISSING


def test_of_rows_with_all_tasks_that_with_the_most_updates_counts(folder):
    write_tasks(folder / 'less', NAMES[0], 'evor_small', [1] * 5, evaluated=(100, 200))
    assert shown(folder)[NAMES[0]]['EVOR'].startswith('60.0 [')
    write_tasks(folder / 'more', NAMES[0], 'evor_small', [0] * 5, evaluated=(100, 800))
    assert shown(folder)[NAMES[0]]['EVOR'].startswith('0.0 [')


def test_a_task_that_the_row_lacks_may_be_of_another_one_and_is_named(tmp_path):
    """After as many updates; rows differ in how many candidates are weighed."""
    write_tasks(tmp_path / 'one', NAMES[0], 'evor_small', [1, 1, 1, 0])
    write_tasks(tmp_path / 'other', NAMES[0], 'evor_small', [0, 0, 0, 0, 1], n_pi=3)
    write_run(tmp_path / 'other', f'{NAMES[0]}-singletask-task1-v0', 'qc5_small', (0,), chance=1.0)
    assert shown(tmp_path)[NAMES[0]]['EVOR'].startswith('20.0 [')  # a whole row comes first
    for task in (1, 2):
        name = f'{NAMES[0]}-singletask-task{task}-v0'
        shutil.rmtree(tmp_path / 'other' / name / 'evor_small')
    table = method_means.means_table(results.find_runs([tmp_path]), METHODS, [], NAMES)
    cell = table.rows[0][1]
    assert cell.text.startswith('80.0 [')
    assert cell.note.startswith('task 5 is of another row')


def test_a_mean_cites_the_lines_of_all_its_evaluations(folder):
    runs = results.find_runs([folder])
    table = method_means.means_table(runs, METHODS, [], NAMES)
    cell = next(row[1] for row in table.rows if row[0].text == NAMES[1])
    tasks = {source.file.parents[2].name for source in cell.sources}
    assert tasks == {f'{NAMES[1]}-singletask-task{task}-v0' for task in range(1, 6)}


def test_an_environment_may_have_a_config_of_its_own_which_its_cell_names(folder):
    """As published tables have it, whose settings differ between mazes and manipulation."""
    write_tasks(folder, NAMES[0], 'evor_c51_small', [1, 1, 1, 1, 0])
    runs, own = results.find_runs([folder]), {(NAMES[0], 'EVOR'): 'evor_c51_small'}
    table = method_means.means_table(runs, METHODS, [], NAMES, own)
    cells = {row[0].text: row[1] for row in table.rows}
    assert cells[NAMES[0]].text.startswith('80.0 [')
    assert cells[NAMES[0]].note == '`evor_c51_small`'
    assert cells[NAMES[1]].text.startswith('100.0 [')
    assert cells[NAMES[1]].note == ''
    assert cells['mean of five'].text == '90.0'
    assert '19 of the 20 cells' in table.remarks[-1]
