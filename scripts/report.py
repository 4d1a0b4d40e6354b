"""A report of runs: one HTML page that needs no network, with tables, figures and episodes.

    python scripts/report.py --runs=exp --out=report

Reads every run at or below the folders and writes OUT/index.html, which holds everything it shows,
and beside it what it was made from: OUT/tables (see scripts/make_tables.py), OUT/figures (see
scripts/make_figures.py) and OUT/videos (see scripts/record_episode.py). Every number of a table
carries the file and lines that it comes from. What is missing is told, with the reason.
"""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import _path
from absl import flags
from markupsafe import Markup

from utils import files, statistics
from utils.data import fetching
from utils.errors import UserError
from utils.reporting import (
    all_charts,
    all_tables,
    commands,
    report_tables,
    results,
    tables,
    webpage,
)
from utils.reporting.all_charts import Charts
from utils.reporting.all_tables import Found
from utils.reporting.results import Run
from utils.reporting.scores import seed_scores
from utils.reporting.tables import Table
from utils.rollouts import rendering
from utils.storage.metrics import CsvTable
from utils.system import command, processor

FLAGS = flags.FLAGS

flags.DEFINE_list('runs', None, 'Folders of runs: SAVE_DIR, or below.', required=True)
flags.DEFINE_string('out', 'report', 'Folder of the report; it must not exist yet.')
flags.DEFINE_list(
    'configs', [], 'Configs to show, in this order; others are compared with the first.'
)
flags.DEFINE_enum('score', 'last', ['last', 'final'], 'As in scripts/make_tables.py.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('title', 'Offline reinforcement learning: runs', 'Title of the page.')
flags.DEFINE_bool('videos', True, 'Draw an episode per environment.')

POINT = (
    'Point at a number to see the files and lines that it comes from; TABLE_sources.csv in the '
    'folders tables and figures beside this page has them too.'
)
SCORE_TABLES = ('tasks', 'environments', 'published', 'aggregates', 'profiles')


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    if out.exists():
        raise UserError(f'{out}: exists already; choose another --out')
    found = all_tables.find(FLAGS.runs, FLAGS.configs, FLAGS.score)
    backend, reason = _backend()
    os.environ['MUJOCO_GL'] = 'disable'  # of this process, which only reads data
    made = {table.name: table for table in all_tables.make(found)}
    charts = all_charts.make(found, files.expanded(FLAGS.dataset_dir, 'dataset_dir'))
    for table in made.values():
        tables.write(table, out / 'tables')
    all_charts.write(charts, found.scores.configs, out / 'figures')
    reasons = _record_episodes(found, out / 'videos', backend) if backend else [reason]
    shown = [name for name in SCORE_TABLES if name in made]
    sections = {
        'What is missing': _missing(found, charts, reasons),
        'Success': [webpage.paragraph(POINT), *(_show(made[name]) for name in shown)],
        'Values': [_show(made['start_values'])],
        'Figures': _figures(charts, out / 'figures'),
        'Episodes': _episodes(found, out / 'videos', reasons),
        'Settings and cost': [_show(made['hyperparameters']), _show(made['cost'])],
        'Runs, commands and versions': _origins(found),
    }
    page = out / 'index.html'
    page.write_text(webpage.page(FLAGS.title, sections), encoding='utf-8')
    print(f'{page}: {page.stat().st_size / 2**20:.1f} MiB')


def _backend() -> tuple[str | None, str]:
    """Returns the OpenGL that draws episodes, or None and why nothing does."""
    if not FLAGS.videos:
        return None, '--novideos was given'
    backend, reasons = rendering.find_backend()
    return backend, f'no OpenGL draws here ({reasons}); install libegl1 or libosmesa6'


def _shown(path: Path) -> str:
    """Files of this repository are named from its root, others as they were given."""
    return str(path.relative_to(_path.ROOT) if path.is_relative_to(_path.ROOT) else path)


def _show(table: Table) -> Markup:
    return webpage.table(table, _shown)


def _missing(found: Found, charts: Charts, reasons: list[str]) -> list[Markup]:
    lacking = report_tables.missing_table(found.scores)
    nothing = 'Every seed of every config has its score, on the tasks that there are runs of.'
    figures = [chart.table.title for chart in charts.charts if chart.absent]
    undrawn = [*figures, *(['an episode'] if reasons else [])]
    return [
        _show(lacking) if lacking.rows else webpage.paragraph(nothing),
        *(webpage.absent(f'Not drawn, for reasons given there: {what}.') for what in undrawn),
    ]


def _figures(made: Charts, folder: Path) -> list[Markup]:
    parts = []
    for chart in made.charts:
        if chart.absent:
            parts.append(webpage.absent(f'{chart.table.title}: not drawn, since {chart.absent}.'))
            continue
        parts.append(webpage.figure(chart.table, folder / f'{chart.table.name}.png', _shown))
    return parts + ([_show(made.calibration_scores)] if made.calibration_scores.rows else [])


def _record_episodes(found: Found, folder: Path, backend: str) -> list[str]:
    """Draws an episode of the best config of each environment; returns why others are missing.

    In processes of their own: a graphics driver may end the process that loads it.
    """
    draws = os.environ | dict(MUJOCO_GL=backend)
    reasons = []
    for environment in dict.fromkeys(name for name, _ in found.scores.tasks()):
        why = []
        for run, seed in _candidates(found, environment):
            command = [sys.executable, str(_path.ROOT / 'scripts/record_episode.py')]
            command += [f'--run={run.directory}', f'--seed={seed}', f'--out={folder}']
            result = subprocess.run(command, env=draws, capture_output=True, text=True, check=False)
            if result.returncode == 0:
                break
            said = result.stderr.strip().splitlines()
            why.append(f'{environment}: {said[-1] if said else result.returncode}')
        else:
            reasons += [*why, f'{environment}: no run could be drawn']
    return reasons


def _candidates(found: Found, environment: str) -> list[tuple[Run, int]]:
    """First seeds of the configs on the environment's first task, by their mean score."""
    scores = found.scores
    task = next(task for name, task in scores.tasks() if name == environment)
    seeds = [scores.finished(environment, task, config) for config in scores.configs]
    finished = [of_config for of_config in seeds if of_config]
    finished.sort(key=lambda of: -float(statistics.mean([seed_scores(of)])))
    firsts = [min(of_config, key=lambda result: result.seed) for of_config in finished]
    return [(first.run, first.seed) for first in firsts]


def _episodes(found: Found, folder: Path, reasons: list[str]) -> list[Markup]:
    videos = folder / 'videos.csv'
    parts = [webpage.absent(f'Not drawn: {reason}') for reason in dict.fromkeys(reasons)]
    shown = report_tables.episodes_table(videos, found)
    for row in CsvTable(videos).read():
        name = f'{row["env_name"]}, {row["config"]}, seed {row["seed"]}, episode {row["episode"]}'
        animation = folder / row['file']
        parts.append(webpage.episode(animation, animation.with_suffix('.png'), name))
    return parts + ([_show(shown)] if shown.rows else [])


def _origins(found: Found) -> list[Markup]:
    parts = [
        _show(report_tables.runs_table(found.runs)),
        _show(report_tables.versions_table(found.runs)),
        webpage.heading('Commands and settings'),
    ]
    for number, run in enumerate(found.runs, 1):
        settings = _show(report_tables.settings_table(run, number))
        how = [webpage.code(commands.train_command(run.record, results.online_steps(run)))]
        how += [webpage.paragraph(needed) for needed in commands.files_needed(run.record)]
        parts.append(webpage.details(str(run.directory), [*how, settings]))
    made_by = shlex.join(['python', 'scripts/report.py', *sys.argv[1:]])
    machine = f'{processor.name()}, {os.cpu_count()} cores, Python {platform.python_version()}'
    return [
        *parts,
        webpage.paragraph('This page was made by'),
        webpage.code(made_by),
        webpage.paragraph(
            f'on {machine}; its return distributions, calibration and episodes were computed '
            'there. What the runs were trained on is told with them.'
        ),
    ]


if __name__ == '__main__':
    command.run(main)
