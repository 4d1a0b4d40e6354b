"""Tables of runs: every number is computed again from the lines that it cites."""

import ast
import csv
import re
import statistics as stdlib_statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import configs
from tests.commands import ROOT, run_here
from tests.recompute import (
    better,
    differences,
    mean_of_means,
    middle_half,
    parameters,
    printed,
    scores_of,
    seeds_of,
    success_cell,
)
from tests.run_folders import write_run
from utils.reporting import all_tables, score_tables
from utils.storage import runs

SCRIPT = 'scripts/make_tables.py'
TASK = 'cube-single-play-singletask-task{}-v0'
NAMES = ('tasks', 'environments', 'published', 'aggregates', 'profiles', 'start_values')
NAMES += ('hyperparameters', 'cost')
SHOWN = ['bc_small', 'iql_small', 'ifql_small', 'fql_small']
PUBLISHED = 'FQL, published (FQL paper)'


def read(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def make_tables(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Tables of two configs on five tasks; a third was stopped on some, a fourth never run."""
    path = tmp_path_factory.mktemp('tables')
    for task in range(1, 6):
        name = TASK.format(task)
        promise = np.nan if task < 3 else None
        write_run(path / 'exp', name, 'bc_small', chance=0.2, draw=task, promise=promise)
        settings = dict(chance=0.1 * task, draw=10 + task, promise=-50 if task == 1 else None)
        write_run(path / 'exp', name, 'iql_small', seeds=(0, 1), **settings)
    write_run(path / 'exp', TASK.format(1), 'ifql_small', seeds=(0,), chance=0.9, promise=-20)
    write_run(path / 'exp', TASK.format(1), 'ifql_small', seeds=(1,), evaluated=(100,))
    write_run(path / 'exp', TASK.format(2), 'ifql_small', seeds=(0,), evaluated=(100, 200))
    result = make_tables(f'--runs={path}/exp', f'--out={path}/out', f'--configs={",".join(SHOWN)}')
    assert result.returncode == 0, result.stderr[-3000:]
    return path / 'out', result.stdout


def grid(folder, name):
    """The Markdown table: header and rows of texts, without bold and the numbers of notes."""
    text = (folder / f'{name}.md').read_text()
    lines = [line[2:-2].split(' | ') for line in text.splitlines() if line.startswith('| ')]
    rows = [[re.sub(r' \[\d+\]$', '', t).strip('*') for t in line] for line in lines]
    return [text.strip() for text in rows[0]], [[t.strip() for t in row] for row in rows[2:]]


def cited(folder, name):
    """Per (row, column): {run directory: {file: rows of that file}}, in the order of citation."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for item in read(folder / f'{name}_sources.csv'):
        path = Path(item['directory']) / item['file']
        path = path if path.is_absolute() else ROOT / path
        chosen = found[int(item['row']) - 1, item['column']][str(path.parent)][path.name]
        if item['lines']:
            rows = read(path)
            for span in item['lines'].split():
                first, last = span.split('-') if '-' in span else (span, span)
                chosen += rows[int(first) - 2 : int(last) - 1]
    return found


@pytest.mark.long
@pytest.mark.parametrize('name', ['tasks', 'environments', 'published'])
def test_every_success_is_recomputed_from_the_lines_it_cites(made, name):
    folder, _ = made
    header, rows = grid(folder, name)
    sources, checked = cited(folder, name), 0
    for index, row in enumerate(rows):
        for column, text in zip(header, row, strict=True):
            if is_published(name, column) and text != '—':
                ((_, files),) = sources[index, column].items()
                (((_, (line,)),)) = files.items()
                assert text == line['mean'] + (f' ({line["seeds"]})' if line['seeds'] else '')
            elif column in configs.CONFIGS and text != '—':
                tasks = scores_of(sources[index, column])
                assert text == success_cell(sources[index, column])
                assert len(tasks) == (5 if name == 'environments' else 1)
            else:
                assert text == '—' or column in ('environment', 'task', 'agent', 'source', 'arXiv')
                continue
            checked += 1
    assert checked == {'tasks': 2 * 5 + 1 + 5, 'environments': 2, 'published': 6}[name]


def is_published(table, column):
    return 'published' in column or (table, column) == ('published', 'cube-single-play')


@pytest.mark.long
def test_every_aggregate_is_recomputed_from_the_lines_it_cites(made):
    folder, _ = made
    header, rows = grid(folder, 'aggregates')
    sources = cited(folder, 'aggregates')
    for index, row in enumerate(rows[:3]):
        cells = dict(zip(header, row, strict=True))
        of_row = {column: sources[index, column] for column in header}
        tasks = scores_of(of_row['mean'])
        assert cells['mean'] == printed(mean_of_means, tasks)
        assert cells['interquartile mean'] == printed(middle_half, scores_of(of_row['mean']))
        assert cells['seeds'] == seeds_of(tasks)
        if index:
            one, other = (
                scores_of({k: v for k, v in of_row['better than bc_small'].items() if config in k})
                for config in (cells['config'], 'bc_small')
            )
            assert cells['better than bc_small'] == printed(better, one, other, scale=1, digits=2)
            over_seeds = cells['difference from bc_small, over seeds']
            assert (
                over_seeds.split()[0] == f'{100 * (mean_of_means(one) - mean_of_means(other)):.1f}'
            )
            found = differences(of_row['difference from bc_small'], cells['config'])
            assert cells['difference from bc_small'] == printed(mean_of_means, found)
    assert [row[1] for row in rows] == ['cube-single-play 1-5'] * 2 + ['cube-single-play 1', '—']
    assert rows[3][1:] == ['—'] * 7


@pytest.mark.long
def test_every_share_of_a_profile_is_recomputed(made):
    folder, _ = made
    header, rows = grid(folder, 'profiles')
    sources = cited(folder, 'profiles')
    for index, row in enumerate(rows):
        threshold = int(re.fullmatch(r'above (\d+)%', row[0])[1])
        for column, text in list(zip(header, row, strict=True))[1:4]:
            scores = [s for task in scores_of(sources[index, column]) for s in task]
            share = sum(100 * score > threshold + 1e-9 for score in scores) / len(scores)
            assert text == f'{share:.2f}'
        assert row[4] == '—'


@pytest.mark.long
def test_what_was_promised_and_got_is_recomputed_from_the_last_evaluations(made):
    folder, _ = made
    header, rows = grid(folder, 'start_values')
    sources = cited(folder, 'start_values')
    shown = {}
    for index, row in enumerate(rows):
        cells = dict(zip(header, row, strict=True))
        if cells['obtained'] != '—':
            of_row = sources[index, 'obtained'].values()
            lines = [line for files in of_row for line in files['eval.csv']]
            assert {line['step'] for line in lines} == {'400'}
            obtained = np.array([float(line['start_return']) for line in lines])
            assert cells['obtained'] == f'{obtained.mean():.1f}'
            assert cells['seeds'] == str(len(lines))
        if cells['promised'] != '—':
            promised = np.array([float(line['start_value']) for line in lines])
            assert cells['promised'] == f'{promised.mean():.1f}'
            error = printed(mean_of_means, [promised - obtained], scale=1)
            if len(lines) == 1:  # over its episodes: as the evaluation has it
                low, high = (float(lines[0][f'start_value_error_{b}']) for b in ('low', 'high'))
                error += f' [{low:.1f}, {high:.1f}]'
            assert cells['promised - obtained'] == error
        shown[cells['config'], cells['task']] = cells['seeds'], cells['promised'] != '—'
    assert shown == {
        **{('bc_small', task): ('3', False) for task in '12'},
        **{('bc_small', task): ('—', False) for task in '345'},
        **{('iql_small', task): ('—', False) for task in '2345'},
        ('iql_small', '1'): ('2', True),
        ('ifql_small', '1'): ('1', True),
        ('ifql_small', '2'): ('—', False),
    }


def test_where_nothing_was_promised_the_reason_is_told(made):
    text = (made[0] / 'start_values.md').read_text()
    assert 'bc_small weighs nothing when it acts, and so promises nothing' in text
    assert 'eval.csv: evaluated by a version that did not record start values' in text
    assert 'unfinished, at step 200 of 400' in text


def test_every_setting_is_that_of_configs_py(made):
    folder, _ = made
    header, rows = grid(folder, 'hyperparameters')
    settings = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    for name in header[1:]:
        config = configs.get_config(name).to_dict()
        config.pop('config_name')
        for setting, cells in settings.items():
            if setting not in config:
                assert cells[name] == ''
            elif isinstance(config[setting], tuple):
                numbers = cells[name].replace(' x ', ',')
                assert ast.literal_eval(f'({numbers},)' if numbers else '()') == config[setting]
            else:
                assert cells[name] == str(config[setting])
        assert set(config) <= set(settings)


def test_settings_that_differ_are_bold_and_overrides_are_noted(made):
    text = (made[0] / 'hyperparameters.md').read_text()
    assert '| return_map | none | **affine** | **affine** | **affine** |' in text
    assert '| discount | 0.99 | 0.99 | 0.99 | 0.99 |' in text
    assert re.search(r'\[\d+\] 8 in 5 of 5 runs, such as \S*/bc_small/seeds_0_1_2', text)


def test_operations_are_those_of_the_products(made):
    """Behaviour cloning by a net (28 + 5 + 1) x 8 x 5 on batches of 16.

    The loss takes one product a layer, its gradient one for each layer's weights and one for the
    hidden activations.
    """
    header, rows = grid(made[0], 'cost')
    products = 2 * (34 * 8) + 3 * (8 * 5)
    assert rows[0][header.index('GFLOP per update')] == f'{2 * 16 * products / 1e9:.3g}'


def test_every_cost_is_recomputed(made):
    folder, _ = made
    header, rows = grid(folder, 'cost')
    sources = cited(folder, 'cost')
    assert [row[1:3] for row in rows] == [
        ['bc_small', '3'],
        ['ifql_small', '1'],
        ['iql_small', '2'],
    ]
    for index, row in enumerate(rows):
        cells = dict(zip(header, row, strict=True))
        lines = {d: files['train.csv'] for d, files in sources[index, 'updates/s'].items()}
        rates = [float(line['updates_per_second']) for of in lines.values() for line in of]
        assert cells['updates/s'] == f'{stdlib_statistics.median(rates):.1f}'
        (directory,) = sources[index, 'parameters']
        record = runs.read_record(Path(directory))
        assert cells['parameters'] == f'{parameters(runs.agent_config(record)):,}'
        assert cells['memory'] == '—'
        if cells['config'] == 'ifql_small':
            assert cells['training, min'] == '—'  # one of its runs stopped early
        else:
            minutes = [
                sum(100 / float(line['updates_per_second']) for line in of) / 60
                for of in lines.values()
            ]
            assert cells['training, min'] == f'{stdlib_statistics.median(minutes):.1f}'


def test_what_is_missing_is_a_dash_with_a_reason(made):
    folder, _ = made
    header, rows = grid(folder, 'tasks')
    column = header.index('ifql_small')
    assert [row[column] for row in rows[1:]] == ['—'] * 4
    text = (folder / 'tasks.md').read_text()
    assert 'unfinished, at step 200 of 400' in text
    assert '] no run on cube-single-play 3' in text
    # One of two seeds is not finished: the mean is of the other, and says so.
    assert re.search(r'\| \d+\.\d \[\d+\.\d, \d+\.\d\] \(1 seed\) \[\d+\] \|', text)
    assert 'seeds_1: unfinished, at step 100 of 400' in text
    text = (folder / 'environments.md').read_text()
    assert re.search(r'no run on cube-single-play 3-5; \S*seeds_1: unfinished', text)


def test_where_nothing_is_finished_nothing_is_shown(tmp_path):
    write_run(tmp_path / 'exp', evaluated=(100, 200))
    result = run_here(SCRIPT, f'--runs={tmp_path}/exp', f'--out={tmp_path}/out')
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ('tasks', 'environments', 'profiles', 'aggregates'):
        header, rows = grid(tmp_path / 'out', name)
        first = header.index('bc_small') if 'bc_small' in header else 1
        assert {text for row in rows for text in row[first : first + 1]} == {'—'}
        assert 'bc_small' not in {
            row['column'] for row in read(tmp_path / f'out/{name}_sources.csv')
        }


def test_a_mean_of_tasks_of_one_seed_has_an_interval_over_their_episodes(tmp_path):
    for task, chance in enumerate((0.0, 1.0, 1.0, 1.0, 1.0), 1):
        name = f'cube-single-play-singletask-task{task}-v0'
        write_run(tmp_path, name, seeds=(0,), chance=chance)  # 10 episodes each
    [row] = score_tables.environments_table(all_tables.find([tmp_path], [], 'last').scores).rows
    assert row[1].text == '80.0 [67.0, 88.8] (1 seed)'


def test_all_renderings_show_the_same(made):
    folder, output = made
    for name in NAMES:
        header, rows = grid(folder, name)
        plain = read(folder / f'{name}.csv')
        assert [list(row.values()) for row in plain] == rows
        assert list(plain[0]) == header
        assert (folder / f'{name}.md').read_text() in output
        latex = (folder / f'{name}.tex').read_text()
        body = latex.split('\\midrule\n')[1].split('\\bottomrule')[0]
        body = re.sub(r'\\textsuperscript\{\d+\}|\\textbf\{([^}]*)\}', r'\1', body)
        body = body.replace('---', '—').replace('\\_', '_').replace('\\%', '%')
        lines = [line.removesuffix(' \\\\').split(' & ') for line in body.strip().splitlines()]
        assert lines == rows


def test_published_numbers_are_kept_apart(made):
    header, rows = grid(made[0], 'tasks')
    assert header == ['environment', 'task', *SHOWN, PUBLISHED]
    text = (made[0] / 'tasks.md').read_text()
    assert f'* {PUBLISHED}: arXiv 2502.02538; tables 2-3; 1M updates.' in text
    assert rows[0][-1] == '97 (8)'


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['--runs=RUNS', '--out=OUT', '--configs=bc_smal'], "Did you mean 'bc_small'"),
        (
            ['--runs=RUNS', '--out=OUT', '--configs=qc1_small'],
            'no run of qc1_small; it has bc_small',
        ),
        (['--runs=RUNS', '--out=RUNS'], 'exists already'),
    ],
)
def test_bad_input_gets_one_line(tmp_path, arguments, expected):
    write_run(tmp_path, seeds=(0,))
    (tmp_path / 'cost.md').write_text('mine')
    places = dict(RUNS=str(tmp_path), OUT=str(tmp_path / 'o'))
    for name, place in places.items():
        arguments = [text.replace(name, place) for text in arguments]
    result = run_here(SCRIPT, *arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / 'o').exists()
    assert (tmp_path / 'cost.md').read_text() == 'mine'


@pytest.mark.long
def test_the_page_of_quick5_is_what_the_committed_runs_make(tmp_path):
    out = tmp_path / 'out'
    shown = 'evor_small,evor_paper_small,qc5_small,qc1_small,bc_small'
    result = make_tables('--runs=results/quick5', f'--out={out}', f'--configs={shown}')
    assert result.returncode == 0, result.stderr[-3000:]
    page = (ROOT / 'docs/results/before-the-audit.md').read_text()
    _, rows = grid(out, 'tasks')
    assert len(rows) == 5
    for row in rows:
        cells = ' | '.join(cell.removesuffix(' (1 seed)') for cell in row[2:7])
        assert f'| {row[0]} | {cells} |' in page
