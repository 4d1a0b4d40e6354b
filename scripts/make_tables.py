"""Tables of runs: scores with intervals, hyperparameters, cost; in Markdown, CSV and LaTeX.

    python scripts/make_tables.py --runs=exp --out=bench/tables

Reads every run at or below the folders, prints the tables and writes each as OUT/TABLE.md, .csv and
.tex, with OUT/TABLE_sources.csv: the run directory, file and lines behind every number. Published
results (results/published) stand beside, in columns that say so. What is missing or unfinished is a
dash and a note, never a zero.
"""

from pathlib import Path

import _path  # noqa: F401
from _aggregate_tables import aggregates_table, profiles_table
from _score_tables import environments_table, tasks_table
from _scores import gather
from _setting_tables import cost_table, hyperparameters_table
from absl import flags

import configs
from utils import errors, published, results, tables
from utils.errors import UserError, did_you_mean

FLAGS = flags.FLAGS
NAMES = ('tasks', 'environments', 'aggregates', 'profiles', 'hyperparameters', 'cost')

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
    out = Path(FLAGS.out)
    tables.check_free(NAMES, out)
    found = results.read([Path(root).expanduser() for root in FLAGS.runs], FLAGS.score)
    known = {result.run.config_name for result in found} | configs.CONFIGS.keys()
    for name in FLAGS.configs:
        if name not in known:
            raise UserError(
                f"--configs: neither --runs nor configs.py has '{name}'.{did_you_mean(name, known)}"
            )
    scores, literature = gather(found, FLAGS.configs), published.read()
    shown = {result.run.directory: result.run for of in scores.results.values() for result in of}
    made = [
        tasks_table(scores, literature),
        environments_table(scores, literature),
        aggregates_table(scores),
        profiles_table(scores),
        hyperparameters_table(scores.configs, shown.values()),
        cost_table(shown.values()),
    ]
    for table in made:
        tables.write(table, out)
    print(*map(tables.markdown, made), sep='\n')


if __name__ == '__main__':
    errors.run(main)
