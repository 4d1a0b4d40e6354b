"""The table of the 25 tasks, from the rows of runs: what docs/results/25-tasks.md shows.

    python -m benchmarks.tasks25

Prints the means of EVOR, QC-5 and QC-1, success per task with an agent in a row, and the published
means over the five tasks of the same environments, as Markdown.
"""

from pathlib import Path

from absl import flags

from utils import files
from utils.reporting import method_means, published, results, tables, task_grids
from utils.reporting.score_tables import published_table
from utils.system import command

FLAGS = flags.FLAGS
ROWS = (
    'antmaze_inference',
    'atoms/antmaze-large-navigate-singletask-task1-v0/at1000',
    'atoms/pointmaze-medium-navigate-singletask-task1-v0/at1000',
    'cube_double_parts/cube-double-play-singletask-task1-v0/c51_b3',
    'cube_double_parts/cube-double-play-singletask-task1-v0/qc5_b3',
    'tasks25',
    'tasks25_gpu',
    'tasks25_small',
)
METHODS = {'EVOR': 'evor25', 'QC-5': 'qc5_25', 'QC-1': 'qc1_25'}
# Chosen on its task 1, seed 0 (docs/results/antmaze.md).
OWN = {('antmaze-large-navigate', 'EVOR'): 'evor25_log'}
# Of scene's two rewards, the sparse one.
TOGETHER = (
    'pointmaze-medium-navigate',
    'antmaze-large-navigate',
    'cube-single-play',
    'cube-double-play',
    'scene-play-sparse',
)
flags.DEFINE_list('runs', [str(files.ROOT / 'results' / name) for name in ROWS], 'Folders of runs.')


def main(_: list[str]) -> None:
    """Prints the three tables."""
    runs = results.find_runs([Path(root) for root in FLAGS.runs])
    environments = list(dict.fromkeys(run.environment for run in runs))
    literature = published.read()
    means = method_means.means_table(runs, METHODS, literature, TOGETHER, OWN)
    print(tables.markdown(means))
    print(tables.markdown(task_grids.task_grid(runs)))
    print(tables.markdown(published_table(environments, literature)), end='')


if __name__ == '__main__':
    command.run(main)
