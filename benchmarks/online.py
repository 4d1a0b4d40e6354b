"""What agents gain by going on online: success before and after, from the rows of runs.

    python -m benchmarks.online --runs=results/online/collected --control=results/online/offline

Prints a Markdown table with a line for every run: success when it began to collect, at its end and,
of the run of the same name below --control, after as many updates on the offline data alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy
from absl import flags

from benchmarks import reports
from utils import statistics
from utils.errors import UserError
from utils.reporting import evaluations, results
from utils.reporting.results import Run
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('runs', None, 'Folder of runs with --online_steps.', required=True)
flags.DEFINE_string('control', None, 'Folder of the same runs without; default: no such column.')


def main(_: list[str]) -> None:
    """Prints the table."""
    root = Path(FLAGS.runs)
    runs = [run for run in results.find_runs([root]) if run.online_after is not None]
    if not runs:
        raise UserError(f'--runs: {root} holds no run with --online_steps')
    header = ['run', 'offline updates', 'before', 'online steps', 'after', 'gain']
    header += ['offline alone', 'gain over it'] if FLAGS.control else []
    print(reports.table(header, [row(run, root) for run in runs]))
    print(statistics.OVER_SEEDS)
    print('Gains have t intervals over seeds, which are paired.')


def row(run: Run, root: Path) -> list[str]:
    """Returns a line of the table."""
    after = run.online_after
    last = max(one.step for one in evaluations.read(run.directory, evaluations.IN_TRAINING))
    before, end = rates(run.directory, run.seeds, after), rates(run.directory, run.seeds, last)
    name = f'{run.record["env_name"]}, `{run.config_name}`, seeds {", ".join(map(str, run.seeds))}'
    cells = [name, f'{after:,}', mean(before), f'{last - after:,}', mean(end), gain(end, before)]
    if not FLAGS.control:
        return cells
    control = rates(Path(FLAGS.control) / run.directory.relative_to(root), run.seeds, last)
    return [*cells, mean(control), gain(end, control)]


def rates(directory: Path, seeds: Sequence[int], step: int) -> list[evaluations.Evaluation]:
    """Returns the evaluation of each seed at a step.

    Raises:
        UserError: there is none.
    """
    found = evaluations.read(directory, evaluations.IN_TRAINING)
    of_step = {one.seed: one for one in found if one.step == step}
    if missing := [seed for seed in seeds if seed not in of_step]:
        raise UserError(f'{directory}: seed {missing[0]} was not evaluated at step {step}')
    return [of_step[seed] for seed in seeds]


def mean(of_seeds: list[evaluations.Evaluation]) -> str:
    """Returns the mean of the seeds' rates with its interval, in percent."""
    success = [one.success for one in of_seeds]
    interval = statistics.success_interval_over_seeds(success, [one.episodes for one in of_seeds])
    low, high = (f'{100 * bound:.0f}' for bound in interval)
    return f'{100 * np.mean(success):.0f} [{low}, {high}]'


def gain(one: list[evaluations.Evaluation], other: list[evaluations.Evaluation]) -> str:
    """Returns the mean difference of the same seeds with its t interval, in percent."""
    pairs = zip(one, other, strict=True)
    differences = [100 * (mine.success - theirs.success) for mine, theirs in pairs]
    if len(differences) == 1:
        return f'{differences[0]:+.0f}'
    half = scipy.stats.t.ppf(0.975, len(differences) - 1) * scipy.stats.sem(differences)
    return f'{np.mean(differences):+.0f} +- {half:.0f}'


if __name__ == '__main__':
    command.run(main)
