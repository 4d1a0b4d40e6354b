"""The report: every number on the page is followed to the lines that it cites, and made again.

The page of other runs is checked in the same way, from the folder that the command was given there:

    REPORT=exp/report python -m pytest tests/test_report.py
"""

import ast
import csv
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import configs
from tests import recompute
from tests.report_checks import CHECKS, NAMES, check_settings
from tests.report_page import ROOT, Page, follow
from tests.report_runs import HOSTILE, HOSTILE_ENV, MAZE, write_held_out, write_runs
from utils.data import dataset_files, datasets, recorded_returns
from utils.environments import envs
from utils.models import calibration
from utils.storage import runs

TAGS = """html head meta title style body header h1 h2 h3 nav ul li a main section p div table thead
    tbody tr th td sup b figure figcaption img details summary pre code"""
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
# Tables whose numbers tests/test_make_tables.py makes again, from their CSV files.
MADE_AGAIN_THERE = {'hyperparameters'}
DISTRIBUTIONS = {'return_distributions', 'calibration', 'calibration_scores'}


class Report(NamedTuple):
    """A report: its folder, its page, and the folder that relative paths start from."""

    folder: Path
    page: Page

    def rows(self, name):
        """Rows of a table, each a dict of cells by column."""
        table = self.page.tables[name]
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    """A report of synthetic runs, made where nothing draws episodes."""
    path = tmp_path_factory.mktemp('report')
    exp = path / 'exp'
    write_runs(exp)
    write_held_out(path / 'some-val.npz')
    arguments = f'--runs={exp}', f'--out={path}/out', f'--dataset_dir={path}'
    result = subprocess.run(
        [sys.executable, 'scripts/report.py', *arguments],
        cwd=ROOT,
        env=os.environ | dict(MUJOCO_GL='nothing'),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return path / 'out'


@pytest.fixture(scope='module', params=['synthetic', 'REPORT'])
def report(request):
    if request.param == 'synthetic':
        folder = request.getfixturevalue('synthetic')
    elif request.param in os.environ:
        folder = Path(os.environ[request.param])
    else:
        pytest.skip('REPORT is not set')
    return Report(folder, Page((folder / 'index.html').read_text(encoding='utf-8')))


@pytest.mark.long
def test_every_number_is_made_again_from_what_it_cites(report):
    """Those of distributions: below. A number that no check has looked at is an error."""
    tables = set(report.page.tables) - DISTRIBUTIONS - MADE_AGAIN_THERE
    assert tables >= {
        'tasks',
        'aggregates',
        'learning_curves',
        'learning_curves_over_time',
        'learning_curves_over_cpu_time',
        'performance_profiles',
        'runs',
        'cost',
    }
    for name in tables:
        check = check_settings if name.startswith('run-') else CHECKS[name]
        for row in report.rows(name):
            checked = check(row)
            for column, cell in row.items():
                if re.search(r'\d', cell.text) and column not in NAMES:
                    assert column in checked, (name, column, cell)


@pytest.mark.long
def test_every_number_cites_lines_that_exist(report):
    """But for the names of rows, and what is counted there: a threshold, seeds of a group."""
    counted = NAMES | {'success', 'seeds', 'seed'}
    for name, table in report.page.tables.items():
        for row in table.rows:
            for column, cell in zip(table.columns, row, strict=True):
                if re.search(r'\d', cell.text) and column not in counted:
                    assert cell.source, (name, column, cell)
                for path, numbers in follow(cell.source).items():
                    assert path.exists()
                    if numbers:
                        assert max(numbers) <= len(path.read_text().splitlines())


@pytest.mark.long
def test_settings_are_those_of_configs_py(report):
    for row in report.rows('hyperparameters'):
        for name, cell in row.items():
            if name in configs.CONFIGS:
                config = configs.get_config(name).to_dict()
                value = config.get(row['setting'].text, '')
                shown = ' x '.join(map(str, value)) if isinstance(value, tuple) else str(value)
                assert cell.text == shown


@pytest.mark.long
@pytest.mark.parametrize('kind', ['tables', 'figures'])
def test_files_beside_the_page_have_the_same_numbers(report, kind):
    paths = (report.folder / kind).glob('*.csv')
    paths = [path for path in paths if not path.stem.endswith('_sources')]
    assert paths
    for path in paths:
        with path.open(newline='', encoding='utf-8') as file:
            header, *rows = csv.reader(file)
        table = report.page.tables[path.stem]
        assert table.columns == header
        assert [[cell.text for cell in row] for row in table.rows] == rows


def arrays_of(path, env_name):
    [arrays] = dataset_files.load(path, {env_name: envs.make_env(env_name)})
    return arrays


def distribution_runs(report, name):
    """Rows of a table by run: {(checkpoint, held-out file, seed): rows}, and the run's config."""
    found = defaultdict(list)
    for row in report.rows(name):
        cells = [cell for column, cell in row.items() if column not in NAMES and cell.source]
        assert len({cell.source for cell in cells}) == 1
        checkpoint, held_out = follow(cells[0].source)
        assert checkpoint.name == row['updates'].text
        found[checkpoint, held_out, int(row['seed'].text)].append(row)
    return found


@pytest.mark.long
def test_every_return_distribution_is_read_again_from_its_checkpoint(report):
    for (checkpoint, held_out, seed), rows in distribution_runs(
        report, 'return_distributions'
    ).items():
        record = runs.read_record(checkpoint.parents[1])
        config = runs.agent_config(record)
        arrays = arrays_of(held_out, record['env_name'])
        places = {int(row['row'].text): int(row['way'].text) for row in rows}
        assert list(places.values()) == [10, 50, 90]
        chosen = np.array(list(places))
        distributions = recompute.flow_distributions(
            checkpoint,
            seed,
            arrays['observations'][chosen],
            recompute.chunks(arrays, chosen, config.chunk_length),
        )
        low = min(arrays['rewards'].min(), 0.0) / (1 - config.discount)
        high = max(arrays['rewards'].max(), 0.0) / (1 - config.discount)
        for place, distribution in zip(chosen, distributions, strict=True):
            of_place = [row for row in rows if int(row['row'].text) == place]
            points = [row for row in of_place if row['kind'].text == 'learned']
            np.testing.assert_allclose(
                [float(row['return'].text) for row in points], distribution, rtol=1e-3, atol=2e-3
            )
            levels = [f'{(index + 1) / 64:.4f}' for index in range(64)]
            assert [row['level'].text for row in points] == levels
            known, missing = recompute.recorded_return(arrays, place, config.discount)
            bounds = {row['kind'].text: float(row['return'].text) for row in of_place[64:]}
            assert bounds['at least'] == pytest.approx(known + missing * low, abs=1e-3)
            assert bounds['at most'] == pytest.approx(known + missing * high, abs=1e-3)


@pytest.mark.long
def test_states_lie_on_the_way_to_the_first_success(synthetic):
    page = Page((synthetic / 'index.html').read_text(encoding='utf-8'))
    rows = Report(synthetic, page).rows('return_distributions')
    assert {(row['way'].text, row['row'].text) for row in rows} == {
        ('10', '30'),
        ('50', '150'),
        ('90', '270'),
    }


@pytest.mark.long
def test_every_calibration_is_measured_again(report):
    histograms = distribution_runs(report, 'calibration')
    scores = distribution_runs(report, 'calibration_scores')
    assert scores.keys() == histograms.keys()
    for key, (printed,) in scores.items():
        checkpoint, held_out, seed = key
        record = runs.read_record(checkpoint.parents[1])
        config = runs.agent_config(record)
        dataset = datasets.build(arrays_of(held_out, record['env_name']))
        mean, _ = recorded_returns.return_scale(dataset, config.discount)
        rng = np.random.default_rng(0)
        data = calibration.held_out(dataset, config.chunk_length, config.discount, mean, rng)
        distributions = recompute.flow_distributions(
            checkpoint, seed, data.observations, data.actions
        )
        # Outcomes and distributions are blurred over a unit to each side.
        blurred = data.outcomes + np.random.default_rng(0).uniform(-1, 1, len(distributions))
        below = np.clip((blurred[:, None] - distributions + 1) / 2, 0, 1)
        pit = below.mean(axis=1)
        pairs = np.abs(distributions[:, :, None] - distributions[:, None]).mean(axis=(1, 2))
        measured = {
            'coverage of the central 80%': (np.abs(pit - 0.5) <= 0.4, 3),
            'CRPS': (np.abs(distributions - data.outcomes[:, None]).mean(axis=1) - pairs / 2, 2),
            'bias': (distributions.mean(axis=1) - data.outcomes, 2),
        }
        assert printed['rows'].text == str(len(distributions))
        assert printed['trajectories'].text == str(len(set(data.trajectories)))
        for name, (of_rows, digits) in measured.items():
            shown = [float(number) for number in re.findall(r'-?[\d.]+', printed[name].text)]
            expected = [of_rows.mean(), *clustered(of_rows, data.trajectories)]
            np.testing.assert_allclose(shown, expected, atol=2 * 10.0**-digits)
        for row in histograms[key]:
            low, high = float(row['from'].text), float(row['to'].text)
            inside = 10.0 * ((pit >= low) & ((pit < high) | (high == 1)))
            shown = [float(row[name].text) for name in ('density', 'low', 'high')]
            expected = [inside.mean(), *clustered(inside, data.trajectories)]
            np.testing.assert_allclose(shown, expected, atol=0.05)


def clustered(of_rows, trajectories):
    """The documented interval: 2,000 resamples of whole trajectories, by seed 0."""
    groups = [of_rows[trajectories == name] for name in np.unique(trajectories)]
    draws = np.random.default_rng(0).integers(0, len(groups), (2000, len(groups)))
    means = [np.concatenate([groups[index] for index in draw]).mean() for draw in draws]
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.long
def test_the_page_needs_no_network_and_runs_nothing(report):
    for tag, attributes in report.page.elements:
        assert tag not in {'script', 'link', 'iframe', 'object', 'embed', 'form', 'base', 'svg'}
        for name, value in attributes.items():
            assert not name.startswith('on')
            if name in ('src', 'href', 'srcset', 'poster', 'action', 'data', 'style'):
                assert re.match(r'data:image/|#', value), value[:80]
    metas = [attributes for tag, attributes in report.page.elements if tag == 'meta']
    (policy,) = [meta['content'] for meta in metas if 'http-equiv' in meta]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    content = (report.folder / 'index.html').read_text(encoding='utf-8')
    style = re.search(r'<style>(.*?)</style>', content, flags=re.DOTALL)[1]
    assert 'url(' not in style
    assert '@import' not in style


@pytest.mark.long
def test_every_link_leads_somewhere_and_no_name_is_there_twice(report):
    names = [attributes['id'] for _, attributes in report.page.elements if 'id' in attributes]
    assert len(names) == len(set(names))
    links = [a['href'][1:] for tag, a in report.page.elements if tag == 'a']
    assert set(links) <= set(names)
    for tag, attributes in report.page.elements:
        if tag == 'img':
            assert attributes['alt']


@pytest.mark.long
def test_names_from_files_are_text(synthetic):
    page = Page((synthetic / 'index.html').read_text(encoding='utf-8'))
    assert {tag for tag, _ in page.elements} <= set(TAGS.split())
    rows = Report(synthetic, page).rows('tasks')
    assert HOSTILE in rows[0]
    assert HOSTILE_ENV.split('-singletask')[0] in {row['environment'].text for row in rows}
    assert f'stopped: {HOSTILE} SIGTERM' in page.text


@pytest.mark.long
def test_what_is_missing_is_told(synthetic):
    report = Report(synthetic, Page((synthetic / 'index.html').read_text(encoding='utf-8')))
    found = {
        tuple(row[name].text for name in ('environment', 'task', 'config', 'seed')): row
        for row in report.rows('missing')
    }
    cube = 'cube-single-play', '1'
    assert (*cube, 'bc_small', '0') not in found
    assert found[(*cube, 'iql_small', '2')]['why'].text == 'no run'
    assert found[(*cube, 'iql_small', '2')]['updates'].text == '—'
    stopped = found[(*cube, 'ifql_small', '0')]
    assert stopped['updates'].text == '100'
    assert 'unfinished, at step 100 of 400' in stopped['why'].text
    task_2 = {key[3] for key in found if key[:3] == ('cube-single-play', '2', 'iql_small')}
    assert task_2 == {'0', '1', '2'}
    first = report.rows('tasks')[1]
    assert (first['task'].text, first['ifql_small'].text) == ('1', '—')
    assert 'Not drawn: no OpenGL draws here (MUJOCO_GL=nothing: ' in report.page.text


@pytest.mark.long
def test_a_sweep_has_everything_else_fixed(synthetic):
    report = Report(synthetic, Page((synthetic / 'index.html').read_text(encoding='utf-8')))
    # Not n_pi=8, played with noise, nor 2, played for the other temperature; 4 was played twice.
    scaling = report.rows('inference_scaling')
    assert [row['n_pi'].text for row in scaling] == ['1', '4', '16']
    assert [row['episodes'].text for row in scaling] == ['40', '40', '40']
    assert [row['tau_q'].text for row in report.rows('tau_q')] == ['0', '0.02', '1', 'inf']
    assert {row['other settings'].text for row in report.rows('tau_r')} == {
        'action_noise 0.0, n_pi 2, tau_q 0.02'
    }


@pytest.mark.long
def test_the_commands_make_the_runs_again(synthetic):
    content = (synthetic / 'index.html').read_text(encoding='utf-8')
    commands = re.findall(r'<pre><code>(.*?)</code></pre>', content, flags=re.DOTALL)
    (command,) = (html.unescape(text) for text in commands if 'evor_small' in text)
    program, script, *flags = shlex.split(command)
    assert (program, script) == ('python', 'main.py')
    given = dict(flag.removeprefix('--').split('=', 1) for flag in flags)
    assert given['env_name'] == MAZE
    assert (given['seeds'], given['offline_steps']) == ('0,1', '400')
    assert given['dataset_path'] == 'some.npz'
    config = configs.get_config(given['agent'].removeprefix('configs.py:'))
    for name, value in given.items():
        if name.startswith('agent.'):
            config[name.removeprefix('agent.')] = ast.literal_eval(value)
    (directory,) = (synthetic.parent / 'exp' / MAZE).glob('*/seeds_*')
    assert config.to_dict() == runs.agent_config(runs.read_record(directory)).to_dict()


PROBE = """<script>
addEventListener('load', () => {
  const colour = name => getComputedStyle(document.body)[name];
  const images = [...document.images];
  document.title = JSON.stringify({
    width: document.documentElement.scrollWidth, window: innerWidth,
    images: images.length, decoded: images.filter(image => image.naturalWidth > 0).length,
    text: colour('color'), ground: colour('backgroundColor'),
  });
});
</script>"""


def contrast(one, other):
    """Of two CSS colours, from 1 to 21 (WCAG 2)."""

    def luminance(colour):
        srgb = np.array([int(part) for part in re.findall(r'\d+', colour)[:3]]) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722] + 0.05

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return bright / dark


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason='no chromium on the path')
@pytest.mark.parametrize('scheme', [0, 1], ids=['dark', 'light'])
def test_a_browser_shows_it_on_a_phone(report, scheme, tmp_path):
    """With a script that the page itself would not run."""
    content = (report.folder / 'index.html').read_text(encoding='utf-8')
    probed = re.sub(r'<meta http-equiv[^>]*>', PROBE, content, count=1)
    (tmp_path / 'page.html').write_text(probed, encoding='utf-8')
    result = subprocess.run(
        [
            CHROMIUM,
            *('--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}/user'),
            *(
                '--window-size=390,800',
                f'--blink-settings=preferredColorScheme={scheme}',
            ),
            *('--dump-dom', f'file://{tmp_path}/page.html'),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    measured = json.loads(re.search(r'<title>(\{.*?\})</title>', result.stdout)[1])
    assert measured['window'] <= 500  # as narrow as this browser makes it
    assert measured['width'] <= measured['window']
    assert measured['decoded'] == measured['images'] > 0
    assert contrast(measured['text'], measured['ground']) > 7
    assert (contrast(measured['ground'], 'rgb(0, 0, 0)') > 10) == bool(scheme)
