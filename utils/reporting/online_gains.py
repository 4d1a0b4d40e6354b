"""What agents gained by going on online: a line of a table for every run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy

from utils import statistics
from utils.errors import UserError
from utils.reporting import evaluations
from utils.reporting.results import Run

HEADER = ('run', 'offline updates', 'before', 'online steps', 'after', 'gain')
OF_CONTROL = ('offline alone', 'gain over it')


def row(run: Run, control: Path | None = None) -> list[str]:
    """Returns a line of the table.

    Args:
        run: that collected.
        control: the same run without, as many updates later; None: no such columns.
    """
    after = run.online_after
    last = max(one.step for one in evaluations.read(run.directory, evaluations.IN_TRAINING))
    before, end = rates(run.directory, run.seeds, after), rates(run.directory, run.seeds, last)
    name = f'{run.record["env_name"]}, `{run.config_name}`, seeds {", ".join(map(str, run.seeds))}'
    cells = [name, f'{after:,}', mean(before), f'{last - after:,}', mean(end), gain(end, before)]
    if control is None:
        return cells
    alone = rates(control, run.seeds, last)
    return [*cells, mean(alone), gain(end, alone)]


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
