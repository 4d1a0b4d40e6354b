"""Figures of runs: learning curves, inference settings, return laws, calibration, profiles.

    python scripts/make_figures.py --runs=exp --out=bench/figures

Reads every run at or below the folders and writes each figure as OUT/FIGURE.png and .pdf, drawn
from the numbers in OUT/FIGURE.csv, with OUT/FIGURE_sources.csv: the files and lines behind every
number. What cannot be drawn is told with the reason.

Success against inference settings needs runs that scripts/evaluate.py has evaluated at several;
laws and calibration need checkpoints of EVOR and the held-out data.
"""

from pathlib import Path

import _all_charts
import _all_tables
import _path  # noqa: F401
from absl import flags

from utils import dataset_files, errors, tables

FLAGS = flags.FLAGS

flags.DEFINE_list('runs', None, 'Folders of runs: SAVE_DIR, or below.', required=True)
flags.DEFINE_string('out', None, 'Folder of the figures; they must not exist yet.', required=True)
flags.DEFINE_list('configs', [], 'Configs to show, in this order; default: all.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')


def main(_: list[str]) -> None:
    out = Path(FLAGS.out)
    tables.check_free(_all_charts.NAMES, out, _all_charts.SUFFIXES)
    found = _all_tables.find(FLAGS.runs, FLAGS.configs, 'last')
    made = _all_charts.make(found, Path(FLAGS.dataset_dir).expanduser())
    _all_charts.write(made, found.scores.configs, out)
    for chart in made.charts:
        name = chart.table.name
        print(f'{name}: {chart.absent}' if chart.absent else out / f'{name}.png')


if __name__ == '__main__':
    errors.run(main)
