"""Makes the numbers of a report's tables again, from the rows that each cell cites.

A check takes a row of a table, cells by column, and returns the columns whose numbers it has made.
"""

import json
import re
import statistics as stdlib_statistics
from functools import partial
from pathlib import Path

import numpy as np
from scipy import stats

from tests import recompute
from tests.report_page import follow, rows_of
from utils.storage import runs

# Names of rows: not measured, and so not cited.
NAMES = {'environment', 'task', 'config', 'setting', 'package', 'run', 'device', 'dataset', 'why'}
NAMES |= {'agent', 'source', 'arXiv'}


def values(directories, file, column):
    """Numbers of a column in all cited rows of a file."""
    return [float(row[column]) for files in directories.values() for row in files[file]]


def check_scores(row):
    checked = set()
    for column, cell in row.items():
        if column in NAMES or cell.text == '—':
            continue
        cited = rows_of(cell.source)
        if 'published' in column:
            assert cell.text == as_published(cited)
        else:
            assert cell.text == recompute.success_cell(cited)
        checked.add(column)
    return checked


def as_published(cited):
    (files,) = cited.values()
    ((line,),) = files.values()
    deviation = f' ± {line["std"]}' if line['std'] else ''
    return line['mean'] + deviation + (f' ({line["seeds"]})' if line['seeds'] else '')


def check_published(row):
    names = {'agent', 'source', 'arXiv'}
    numbers = {name for name, cell in row.items() if name not in names and cell.text != '—'}
    assert numbers
    for name in numbers:
        assert row[name].text == as_published(rows_of(row[name].source))
    return names | numbers


def check_aggregates(row):
    config = row['config'].text
    if row['mean'].text == '—':
        return set()
    tasks = recompute.scores_of(rows_of(row['mean'].source))
    assert row['mean'].text == recompute.printed(recompute.mean_of_means, tasks)
    tasks = recompute.scores_of(rows_of(row['interquartile mean'].source))
    assert row['interquartile mean'].text == recompute.printed(recompute.middle_half, tasks)
    scores = recompute.scores_of(rows_of(row['seeds'].source))
    assert row['seeds'].text == recompute.seeds_of(scores)
    for directory in rows_of(row['tasks'].source):
        assert environment_of(directory) in row['tasks'].text
    checked = {'mean', 'interquartile mean', 'seeds', 'tasks'}
    for column in row:
        if row[column].text in ('', '—'):
            continue
        if column.startswith('better than '):
            one, two = sides(row[column], config)
            better = recompute.printed(recompute.better, one, two, scale=1, digits=2)
            assert row[column].text == better
            checked.add(column)
        elif column.endswith(', over seeds'):
            assert row[column].text == over_seeds(*sides(row[column], config))
            checked.add(column)
        elif column.startswith('difference from '):
            found = differences(rows_of(row[column].source), config)
            assert row[column].text == recompute.printed(recompute.mean_of_means, found)
            checked.add(column)
    return checked


def sides(cell, config):
    """Scores per task that a cell cites, of a config and of the other one."""
    mine, theirs = {}, {}
    for directory, cited in rows_of(cell.source).items():
        side = mine if config_of(directory) == config else theirs
        side[directory] = cited
    return recompute.scores_of(mine), recompute.scores_of(theirs)


def over_seeds(one, two):
    """The difference of means, with SciPy's interval of Welch where there is one task."""
    point = 100 * (recompute.mean_of_means(one) - recompute.mean_of_means(two))
    if min(map(len, [*one, *two])) < 2:
        return f'{point:.1f}'
    assert len(one) == 1
    test = stats.ttest_ind(100 * one[0], 100 * two[0], equal_var=False)
    low, high = test.confidence_interval()
    return f'{point:.1f} [{low:.1f}, {high:.1f}]'


def environment_of(directory):
    return runs.read_record(Path(directory))['env_name'].split('-singletask')[0]


def config_of(directory):
    return runs.read_record(Path(directory))['agent']['config_name']


def differences(cited, config):
    """`recompute.differences`, with configs by their records: folders may be called otherwise."""
    renamed = {}
    for number, (directory, files) in enumerate(cited.items()):
        side = config if config_of(directory) == config else 'other'
        environment = Path(directory).parents[1].name
        renamed[f'{environment}/{side}/seeds_{number}'] = files
    return recompute.differences(renamed, config)


def check_start_values(row):
    if row['obtained'].text == '—':
        return set()
    checked = {'seeds', 'obtained'}
    lines = [
        line for files in rows_of(row['obtained'].source).values() for line in files['eval.csv']
    ]
    assert row['seeds'].text == str(len(lines))
    obtained, promised = (
        [float(line[name]) for line in lines] for name in ('start_return', 'start_value')
    )
    assert row['obtained'].text == f'{np.mean(obtained):.1f}'
    if row['promised'].text != '—':
        errors = [np.array(promised) - np.array(obtained)]
        assert row['promised'].text == f'{np.mean(promised):.1f}'
        shown = recompute.printed(recompute.mean_of_means, errors, scale=1)
        if len(lines) == 1:
            low, high = (float(lines[0][f'start_value_error_{bound}']) for bound in ('low', 'high'))
            shown += f' [{low:.1f}, {high:.1f}]'
        assert row['promised - obtained'].text == shown
        checked |= {'promised', 'promised - obtained'}
    return checked


def check_shares(row):
    threshold = int(re.fullmatch(r'above (\d+)%', row['success'].text)[1])
    checked = {'success'}
    for column, cell in row.items():
        if column != 'success' and cell.text != '—':
            scores = np.concatenate(recompute.scores_of(rows_of(cell.source)))
            assert cell.text == f'{np.mean(100 * scores > threshold + 1e-9):.2f}'
            checked.add(column)
    return checked


def check_curve(row):
    cited = rows_of(row['success'].source)
    assert set(values(cited, 'eval.csv', 'step')) == {float(row['updates'].text)}
    return {'updates'} | check_success(row, cited)


def check_success(row, cited):
    seeds = {(d, line['seed']) for d, files in cited.items() for line in files['eval.csv']}
    assert row['seeds'].text == str(len(seeds))
    rates = [np.array(values(cited, 'eval.csv', 'success'))]
    assert row['success'].text == f'{100 * np.mean(rates):.2f}'
    return {'seeds', 'success'} | check_bounds(row, recompute.mean_of_means, rates, 100.0, 2)


def check_curve_over_time(row, unit='minutes'):
    cited, lines = rows_of(row['success'].source), rows_of(row[unit].source)
    (reached,) = set(values(cited, 'eval.csv', 'step'))
    for files in lines.values():
        assert float(files['train.csv'][-1]['step']) == reached
    assert lines.keys() == cited.keys()
    assert row[unit].text == f'{minutes_of(lines, unit):.2f}'
    return {unit} | check_success(row, cited)


def minutes_of(cited, unit='minutes'):
    """Median over directories of what the updates of the cited lines of train.csv took."""
    taken = []
    for files in cited.values():
        steps = [0, *(int(line['step']) for line in files['train.csv'])]
        of_clock = [1 / float(line['updates_per_second']) for line in files['train.csv']]
        of_cpu = [float(line.get('cpu_seconds_per_update', 'nan')) for line in files['train.csv']]
        seconds = of_clock if unit == 'minutes' else of_cpu
        taken.append(sum(np.diff(steps) * seconds) / 60)
    return stdlib_statistics.median(taken)


def check_bounds(row, statistic, tasks, scale, digits):
    if row['low'].text == '':
        assert min(map(len, tasks)) == 1
        return set()
    low, high = scale * recompute.bootstrapped(statistic, tasks)
    assert row['low'].text == f'{low:.{digits}f}'
    assert row['high'].text == f'{high:.{digits}f}'
    return {'low', 'high'}


def check_profile(row):
    tasks = recompute.scores_of(rows_of(row['share'].source))
    printed = float(row['threshold'].text)
    (exact,) = {
        x for x in (0, *(100 * np.concatenate(tasks)), 100) if f'{x:.2f}' == f'{printed:.2f}'
    }

    def share(tasks):
        scores = np.concatenate(tasks)
        return sum(100 * score > exact for score in scores) / len(scores)

    assert row['share'].text == f'{share(tasks):.4f}'
    return {'threshold', 'share'} | check_bounds(row, share, tasks, 1.0, 4)


def check_sweep(setting):
    def check(row):
        cited = rows_of(row['success'].source)
        lines = [line for files in cited.values() for line in files['inference.csv']]
        assert {float(line[setting]) for line in lines} == {float(row[setting].text)}
        assert {line['step'] for line in lines} == {row['updates'].text}
        assert row['seeds'].text == str(len(lines))
        for told in row['other settings'].text.split(', '):
            name, value = told.rsplit(' ', 1)
            assert {line[name] for line in lines} == {value}
        totals = [int(line['episodes']) for line in lines]
        wins = [round(float(line['success']) * int(line['episodes'])) for line in lines]
        assert row['episodes'].text == str(sum(totals))
        expected = recompute.over_seeds(wins, totals)
        shown = [row[name].text for name in ('success', 'low', 'high')]
        assert shown == [f'{100 * number:.2f}' for number in expected]
        return {setting, 'updates', 'seeds', 'other settings', 'episodes', 'success', 'low', 'high'}

    return check


def check_settings(row):
    assert row['value'].text == str(cited_json(row['value'].source, row['setting'].text))
    return {'value'}


def cited_json(source, name):
    ((path, _),) = follow(source).items()
    value = json.loads(path.read_text())
    for part in name.split('.'):
        value = value[part]
    return value


def check_run(row):
    checked = {'updates asked for', 'seeds', 'transitions'}
    assert row['updates asked for'].text == str(cited_json(row['seeds'].source, 'offline_steps'))
    seeds = cited_json(row['seeds'].source, 'seeds')
    assert row['seeds'].text == ', '.join(map(str, seeds))
    transitions = cited_json(row['transitions'].source, 'dataset.transitions')
    assert row['transitions'].text == str(transitions)
    if row['state'].text != '—':
        state, step = (cited_json(row['state'].source, name) for name in ('state', 'step'))
        assert row['state'].text == f'{state} at {step}'
        checked.add('state')
    return checked


def check_versions(row):
    name = row['package'].text
    for column, cell in row.items():
        if column != 'package' and cell.text != '—':
            for path in follow(cell.source):
                record = json.loads(path.read_text())
                assert cell.text == (
                    record['python'] if name == 'python' else record['versions'][name]
                )
    return set(row) - {'package'}


def check_missing(row):
    if row['updates'].text != '—':
        (files,) = rows_of(row['updates'].source).values()
        ((line,),) = files.values()
        assert line['step'] == row['updates'].text
    return {'updates', 'seed'}


def check_cost(row):
    cited = rows_of(row['updates/s'].source)
    rates = values(cited, 'train.csv', 'updates_per_second')
    assert row['updates/s'].text == f'{stdlib_statistics.median(rates):.1f}'
    checked = {'updates/s', 'seeds'}
    if row['training, min'].text != '—':
        shown = minutes_of(rows_of(row['training, min'].source))
        assert row['training, min'].text == f'{shown:.1f}'
        checked.add('training, min')
    return checked | check_size(row)


def check_size(row):
    """Operations are counted by hand in tests/test_make_tables.py, for one agent."""
    if row['parameters'].text == '—':
        return set()
    ((path, _),) = follow(row['parameters'].source).items()
    record = json.loads(path.read_text())
    sizes = record['observation_dim'], record['action_dim']
    total = recompute.parameters(runs.agent_config(record), sizes)
    assert row['parameters'].text == f'{total:,}'
    return {'parameters', 'GFLOP per update'}


def check_episode(row):
    (files,) = rows_of(row['success'].source).values()
    (line,) = files['videos.csv']
    columns = dict(seed='seed', updates='step', episode='episode', success='success')
    columns |= {'steps': 'episode_length', 'steps per frame': 'steps_per_frame'}
    for column, name in columns.items():
        assert row[column].text == line[name]
    for column, name in EVALUATED.items():
        if row[column].text != '—':
            (files,) = rows_of(row[column].source).values()
            (played,) = files['episodes.csv']
            assert row[column].text == played[name]
            assert all(played[tag] == line[tag] for tag in ('step', 'seed', 'episode'))
    return {*columns, *EVALUATED}


EVALUATED = {'success, evaluated': 'success', 'steps, evaluated': 'episode_length'}
CHECKS = {
    'tasks': check_scores,
    'environments': check_scores,
    'published': check_published,
    'aggregates': check_aggregates,
    'profiles': check_shares,
    'start_values': check_start_values,
    'learning_curves': check_curve,
    'learning_curves_over_time': check_curve_over_time,
    'learning_curves_over_cpu_time': partial(check_curve_over_time, unit='CPU minutes'),
    'performance_profiles': check_profile,
    'inference_scaling': check_sweep('n_pi'),
    'tau_q': check_sweep('tau_q'),
    'tau_r': check_sweep('tau_r'),
    'missing': check_missing,
    'runs': check_run,
    'versions': check_versions,
    'cost': check_cost,
    'episodes_shown': check_episode,
}
