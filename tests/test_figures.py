"""Figures are drawn from their CSV files, and can be read: by anyone, also on paper."""

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from tests.recompute import recorded_return
from tests.run_folders import write_run
from utils.data import datasets
from utils.errors import UserError
from utils.models import calibration
from utils.reporting import all_tables, charts, durations, figures, return_tables, score_charts
from utils.storage.metrics import CsvTable

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ('one', 'two', r'$\frac{three')
PLACE = dict(environment='cube-single-play', task='1')


def success_rows(column, values, lacking=()):
    return [
        PLACE
        | {'config': config, column: value, 'seeds': '2' if value in lacking else '3'}
        | dict(success=str(10 * index + place), low=str(10 * index), high=str(10 * index + 9))
        for index, config in enumerate(CONFIGS)
        for place, value in enumerate(values)
    ]


def distribution_rows():
    learned = [
        PLACE | dict(config=config, way=way, kind='learned', level=level, **{'return': value})
        for config in CONFIGS
        for way in ('10', '90')
        for level, value in (('0.5', '-80.0'), ('1.0', '-20.0'))
    ]
    recorded = [
        PLACE | dict(config='one', way='90', kind=kind, level='', **{'return': value})
        for kind, value in (('at least', '-40.0'), ('at most', '-30.0'))
    ]
    return learned + recorded


def pit_rows():
    return [
        PLACE
        | dict(config=config, density=f'{density}', low='0.1', high='2')
        | {'from': f'{start}', 'to': f'{start + 0.5}'}
        for config in CONFIGS
        for start, density in ((0.0, 1.5), (0.5, 0.5))
    ]


FIGURES = {
    'learning curves': lambda: charts.learning_curves(
        success_rows('updates', ['1000', '2000', '3000'], lacking=['3000']), CONFIGS
    ),
    'learning curves over time': lambda: charts.learning_curves(
        success_rows('minutes', ['0.50', '1.25']), CONFIGS, over='minutes'
    ),
    'inference scaling': lambda: charts.sweep(
        success_rows('n_pi', ['1', '4', '32']), CONFIGS, 'n_pi'
    ),
    'tau_q': lambda: charts.sweep(success_rows('tau_q', ['0', '0.1', 'inf']), CONFIGS, 'tau_q'),
    'profiles': lambda: charts.profiles(
        [
            dict(config=config, threshold=threshold, share=share, low=share, high='1')
            for config in CONFIGS
            for threshold, share in (('0', '1'), ('50', '0.4'), ('100', '0'))
        ],
        CONFIGS,
    ),
    'return distributions': lambda: charts.return_distributions(distribution_rows(), CONFIGS),
    'calibration': lambda: charts.calibration(pit_rows(), CONFIGS),
}


@pytest.fixture(params=list(FIGURES))
def figure(request):
    with figures.styled():
        return FIGURES[request.param]()


def test_figures_have_the_width_of_a_column_or_a_page_and_letters_of_eight_points(figure):
    assert figure.get_size_inches()[0] in (3.4, 7.0)
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert min(sizes) >= 8
    assert max(sizes) <= 9


def test_the_same_numbers_give_the_same_bytes_for_screen_and_print(tmp_path):
    with figures.styled():
        for file in ('a', 'b'):
            paths = [tmp_path / f'{file}{suffix}' for suffix in figures.SUFFIXES]
            figures.write(FIGURES['return distributions'](), paths)
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
    assert (tmp_path / 'a.pdf').read_bytes().startswith(b'%PDF')
    for suffix in figures.SUFFIXES:
        assert (tmp_path / f'a{suffix}').read_bytes() == (tmp_path / f'b{suffix}').read_bytes()


def test_dollar_signs_in_names_are_no_formulas(figure):
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} >= {'one', 'two', r'\$\frac{three'}


def lines_of(axes, label):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_label() == label]


def test_curves_are_the_numbers_of_their_rows():
    (axes,) = FIGURES['learning curves']().axes
    assert lines_of(axes, 'two') == [[[1000, 10], [2000, 11], [3000, 12]]]
    bands = [band.get_paths()[0].vertices for band in axes.collections]
    assert [(band[:, 1].min(), band[:, 1].max()) for band in bands] == [(0, 9), (10, 19), (20, 29)]


def test_points_that_lack_seeds_are_hollow():
    (axes,) = FIGURES['learning curves']().axes
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == 'white']
    assert [line.get_xydata().tolist() for line in hollow] == [[[3000, y]] for y in (2, 12, 22)]


@pytest.mark.parametrize(
    ('name', 'ticks', 'places'),
    [
        ('inference scaling', ['1', '4', '32'], [0, 2, 5]),
        ('tau_q', ['0', '0.1', '$\\infty$'], [0, 1, 2]),
    ],
)
def test_settings_stand_at_their_logarithm_or_evenly(name, ticks, places):
    (axes,) = FIGURES[name]().axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ticks
    np.testing.assert_allclose(axes.get_xticks(), places)
    # The second of three configs stands in the middle, the others as far to its sides.
    one, two, three = (
        np.array(lines_of(axes, label)[0])[:, 0] for label in ('one', 'two', r'\$\frac{three')
    )
    np.testing.assert_allclose(two, places)
    np.testing.assert_allclose(one + three, 2 * np.array(places))
    assert (np.abs(one - two) < 0.5).all()


def test_distributions_and_what_was_recorded():
    left, right = FIGURES['return distributions']().axes
    assert lines_of(left, 'one') == [[[-80.0, 0.5], [-20.0, 1.0]]]
    assert not [line for line in left.lines if line.get_label() == 'recorded']
    at = [line.get_xdata()[0] for line in right.lines if len(set(line.get_xdata())) == 1]
    assert at == [-40.0, -30.0]


def test_bins_of_the_calibration():
    (axes,) = FIGURES['calibration']().axes
    values, edges, _ = axes.patches[0].get_data()
    assert (values.tolist(), edges.tolist()) == ([1.5, 0.5], [0.0, 0.5, 1.0])


# Machado, Oliveira and Fernandes 2009: what linear RGB becomes without one kind of cone.
DEFICIENCIES = {
    'none': np.eye(3),
    'protanopia': [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    'deuteranopia': [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    'tritanopia': [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen(colour, deficiency):
    """A colour in CIELAB, as someone with a deficiency sees it."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(DEFICIENCIES[deficiency] @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize('deficiency', DEFICIENCIES)
def test_colours_are_told_apart_by_everyone(deficiency):
    """2.3 is just noticeable; thin lines need several times that."""
    for one, other in itertools.combinations(figures.COLOURS, 2):
        assert np.linalg.norm(seen(one, deficiency) - seen(other, deficiency)) > 15


def test_lines_are_told_apart_without_colours():
    looks = list(figures.styles(f'config {number}' for number in range(35)).values())
    assert len({(str(look.dashes), look.marker) for look in looks}) == 35
    for one, other in itertools.pairwise(looks):
        assert one.dashes != other.dashes
        assert one.marker != other.marker


def arrays_with_cuts():
    """A trajectory that ends by reward at its row 300, and one that is cut after 600 rows."""
    rng = np.random.default_rng(0)
    terminals = np.zeros(1000, bool)
    terminals[[399, 999]] = True
    masks = np.ones(1000, np.float32)
    masks[300] = 0
    return dict(
        observations=rng.normal(size=(1000, 2)),
        actions=rng.uniform(-1, 1, (1000, 2)),
        terminals=terminals,
        masks=masks,
        rewards=masks - 1,
    )


def test_held_out_rows_have_nearly_all_of_their_return():
    arrays = arrays_with_cuts()
    arrays['rewards'] = -np.ones(1000)
    dataset = datasets.build(arrays)
    rng = np.random.default_rng(0)
    data = calibration.held_out(dataset, 2, 0.99, -70.0, rng, rows_each=9)
    # 0.99 ** 459 is the first power below a hundredth: only the longer trajectory has that much.
    assert set(data.trajectories) == {999}
    assert len(data.outcomes) == 9
    for observation, action, outcome in zip(*data[:3], strict=True):
        row = int(np.flatnonzero((dataset.observations == observation).all(axis=1))[0])
        assert row + 459 <= 999
        known, missing = recorded_return(arrays, row, 0.99)
        assert missing <= 0.01
        assert outcome == pytest.approx(known - 70.0 * missing)
        np.testing.assert_array_equal(action, dataset.actions[row : row + 2].ravel())


def test_without_discount_the_sum_up_to_the_cut_is_all_there_is():
    arrays = arrays_with_cuts()
    arrays['rewards'] = np.ones(1000)
    data = calibration.held_out_at(datasets.build(arrays), np.array([998, 500]), 1, 1.0, 5.0)
    np.testing.assert_array_equal(data.outcomes, [1.0, 499.0])


@pytest.mark.parametrize(('discount', 'message'), [(0.999, 'no held-out'), (1.0, 'discount')])
def test_returns_that_are_never_complete_are_refused(discount, message):
    dataset = datasets.build(arrays_with_cuts())
    with pytest.raises(UserError, match=message):
        calibration.held_out(dataset, 1, discount, 0.0, np.random.default_rng(0))


def test_a_curve_over_time_never_goes_back(tmp_path):
    """The median over the runs that went on could be an earlier minute than that over all."""
    write_run(tmp_path, seeds=(0,), evaluated=(200, 400))
    write_run(tmp_path, seeds=(1,), evaluated=(200,), draw=1)
    found, taken = all_tables.find([str(tmp_path)], [], 'last'), []
    for number in (0, 1):
        (directory,) = tmp_path.glob(f'*/*/seeds_{number}')
        lines = CsvTable(directory / 'train.csv').read()[:2]
        taken.append(sum(100 / float(line['updates_per_second']) for line in lines) / 60)
    # These runs are as busy with one and a half processors.
    for make, unit, busy in (
        (score_charts.curves_over_time, 'minutes', 1.0),
        (score_charts.curves_over_cpu_time, 'CPU minutes', 1.5),
    ):
        chart = make(found)
        [row] = chart.table.rows
        shown = dict(zip(chart.table.columns, (cell.text for cell in row), strict=True))
        assert shown[unit] == f'{busy * np.median(taken):.2f}'
        assert shown['seeds'] == '2'


def test_a_curve_over_time_has_the_points_of_all_runs(tmp_path):
    """A seed that was evaluated earlier, too, does not take the place of all."""
    write_run(tmp_path, seeds=(0,), evaluated=(200, 400))
    write_run(tmp_path, seeds=(1,), evaluated=(400,), draw=1)
    chart = score_charts.curves_over_time(all_tables.find([str(tmp_path)], [], 'last'))
    [row] = chart.table.rows
    assert row[chart.table.columns.index('seeds')].text == '2'


def test_curves_and_durations_end_where_online_learning_begins(tmp_path):
    directory = write_run(tmp_path, seeds=(0,), evaluated=(200, 400), offline_steps=200)
    record = json.loads((directory / 'config.json').read_text())
    record['online'] = dict(after=200, share=0.5)
    (directory / 'config.json').write_text(json.dumps(record))
    found = all_tables.find([str(tmp_path)], [], 'last')
    [row] = score_charts.learning_curves(found).table.rows
    assert row[3].text == '200'
    lines = durations.lines_of(found.runs[0])
    assert [line.values['step'] for line in lines] == ['100', '200']
    [row] = return_tables.returns_table(found.runs).rows
    assert row[3].text == '200'


def test_a_learning_curve_is_of_the_losses_there_are(tmp_path):
    """A frozen base policy has none."""
    directory = write_run(tmp_path, seeds=(0,))
    (directory / 'train.csv').unlink()
    CsvTable(directory / 'train.csv').append([dict(step=1, seed=0, value_loss=0.5)])
    figures.learning_curve(directory, tmp_path / 'curve.png')
    assert (tmp_path / 'curve.png').stat().st_size


def test_runs_that_did_not_record_cpu_time_have_no_curve_over_it(tmp_path):
    """Of earlier versions: whole, or up to where a later one went on."""
    for seed, kept in ((0, 0), (1, 200)):
        directory = write_run(tmp_path, seeds=(seed,), evaluated=(200, 400))
        lines = CsvTable(directory / 'train.csv').read()
        for line in lines:
            if int(line['step']) <= 400 - kept:
                line['cpu_seconds_per_update'] = ''
        (directory / 'train.csv').unlink()
        CsvTable(directory / 'train.csv').append(lines)
    found = all_tables.find([str(tmp_path)], [], 'last')
    assert score_charts.curves_over_cpu_time(found).absent.endswith('tells CPU minutes')
    assert not score_charts.curves_over_time(found).absent


@pytest.mark.long
def test_a_figure_is_a_picture_its_numbers_and_their_lines(tmp_path):
    """What else is in them: tests/test_report.py, whose page shows the same figures."""
    directory = write_run(tmp_path / 'exp', evaluated=(100, 200, 400))
    out = tmp_path / 'out'
    arguments = f'--runs={tmp_path}/exp', f'--out={out}', f'--dataset_dir={tmp_path}'
    result = subprocess.run(
        [sys.executable, 'scripts/make_figures.py', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    curves = {f'learning_curves{over}' for over in ('', '_over_time', '_over_cpu_time')}
    made = curves | {'performance_profiles'}
    suffixes = ('.csv', '.pdf', '.png', '_sources.csv')
    assert {path.name for path in out.iterdir()} == {n + s for n in made for s in suffixes}
    assert 'tau_q: no run was evaluated at several tau_q' in result.stdout
    assert (
        'return_distributions: no finished run of an agent that learns distributions'
        in result.stdout
    )
    with (out / 'learning_curves_sources.csv').open(newline='') as file:
        sources = list(csv.DictReader(file))
    # Three seeds at the third of three evaluations: lines 8 to 10, below the header.
    found = {row['lines'] for row in sources if (row['row'], row['column']) == ('3', 'success')}
    assert found == {'8-10'}
    assert {Path(row['directory']) for row in sources} == {directory}
