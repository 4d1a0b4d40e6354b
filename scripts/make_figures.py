"""Figures of runs: learning curves, inference settings, return distributions, profiles.

    python scripts/make_figures.py --runs=exp --out=bench/figures

Reads every run at or below the folders and writes each figure as OUT/FIGURE.png and .pdf, drawn
from the numbers in OUT/FIGURE.csv, with OUT/FIGURE_sources.csv: the files and lines behind every
number. What cannot be drawn is told with the reason.

Success against inference settings needs runs that scripts/evaluate.py has evaluated at several;
distributions and calibration need checkpoints of EVOR and the held-out data.
"""

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.data import fetching
from utils.reporting import all_charts, all_tables, tables
from utils.system import command

FLAGS = flags.FLAGS

flags.DEFINE_list('runs', None, 'Folders of runs: SAVE_DIR, or below.', required=True)
flags.DEFINE_string('out', None, 'Folder of the figures; they must not exist yet.', required=True)
flags.DEFINE_list('configs', [], 'Configs to show, in this order; default: all.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    tables.check_free(all_charts.NAMES, out, all_charts.SUFFIXES)
    found = all_tables.find(FLAGS.runs, FLAGS.configs, 'last')
    made = all_charts.make(found, files.expanded(FLAGS.dataset_dir, 'dataset_dir'))
    all_charts.write(made, found.scores.configs, out)
    for chart in made.charts:
        name = chart.table.name
        print(f'{name}: {chart.absent}' if chart.absent else out / f'{name}.png')


if __name__ == '__main__':
    command.run(main)
