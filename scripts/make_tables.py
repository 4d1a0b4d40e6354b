"""Tables of runs: scores with intervals, hyperparameters, cost; in Markdown, CSV and LaTeX.

    python scripts/make_tables.py --runs=exp --out=bench/tables

Reads every run at or below the folders, prints the tables and writes each as OUT/TABLE.md, .csv and
.tex, with OUT/TABLE_sources.csv: the run directory, file and lines behind every number. Published
results (results/published) stand beside, in columns that say so. What is missing or unfinished is a
dash and a note, never a zero.
"""

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.reporting import all_tables, tables
from utils.system import command

FLAGS = flags.FLAGS

flags.DEFINE_list('runs', None, 'Folders of runs: SAVE_DIR, or below.', required=True)
flags.DEFINE_string('out', None, 'Folder of the tables; they must not exist yet.', required=True)
flags.DEFINE_list(
    'configs', [], 'Configs to show, in this order; others are compared with the first.'
)
flags.DEFINE_enum(
    'score',
    'last',
    ['last', 'final'],
    "'last': mean of the last three evaluations; 'final': the evaluation of most episodes by "
    'scripts/evaluate.py, at the last step and with the settings of the run.',
)


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    tables.check_free(all_tables.NAMES, out)
    found = all_tables.find(FLAGS.runs, FLAGS.configs, FLAGS.score, returns=True)
    made = all_tables.make(found)
    for table in made:
        tables.write(table, out)
    print(*map(tables.markdown, made), sep='\n')


if __name__ == '__main__':
    command.run(main)
