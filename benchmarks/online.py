"""What agents gain by going on online: success before and after, from the rows of runs.

    python -m benchmarks.online --runs=results/online
    python -m benchmarks.online --runs=results/online/ENV --control=results/online_control/ENV

Prints a Markdown table with a line for every run: success when it began to collect, at its end and,
of the run of the same name below --control, after as many updates on the offline data alone.
"""

from pathlib import Path

from absl import flags

from benchmarks import reports
from utils import statistics
from utils.errors import UserError
from utils.reporting import online_gains, results
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('runs', 'results/online', 'Folder of runs with --online_steps.')
flags.DEFINE_string('control', None, 'Folder of the same runs without; default: no such column.')


def main(_: list[str]) -> None:
    """Prints the table."""
    root, control = Path(FLAGS.runs), FLAGS.control and Path(FLAGS.control)
    runs = [run for run in results.find_runs([root]) if run.online_after is not None]
    if not runs:
        raise UserError(f'--runs: {root} holds no run with --online_steps')
    header = online_gains.HEADER + online_gains.OF_CONTROL * bool(control)
    rows = [
        online_gains.row(run, control and control / run.directory.relative_to(root)) for run in runs
    ]
    print(reports.table(header, rows))
    print(statistics.OVER_SEEDS)
    print('Gains have t intervals over seeds, which are paired.')


if __name__ == '__main__':
    command.run(main)
