"""Sweeps inference settings of a trained run, one at a time, without retraining: curves.

    python scripts/sweep_inference.py --run=exp/ENV/CONFIG/seeds_0 --n_pi=1,4,16,64 --tau_q=0,0.1

Each list is a curve: that setting varies, the others stay as trained. All are played in one set of
environments, from the same start states and with the same random numbers: the candidates of
`n_pi=4` are the first four of `n_pi=64`, and every setting meets the same noise in the same chunk
of an episode. Rows are appended to inference.csv and inference_episodes.csv in the run's directory,
or in --out. For all combinations of the lists see scripts/evaluate.py.
"""

from collections.abc import Sequence
from typing import Any

import _path  # noqa: F401
import numpy as np
from absl import flags

from utils import statistics
from utils.errors import UserError
from utils.jobs import inference_flags, run_flag, setting_flags
from utils.models.settings import plain
from utils.rollouts.evaluation import Episodes
from utils.system import command

FLAGS = flags.FLAGS

CAPTION = (
    f'{statistics.OVER_SEEDS} minus trained: the difference on the same start states, with a 95% '
    'interval of a bootstrap over these: of these agents, not of training them again.'
)
HEADER = ('success', '95% interval', 'mean length', 'minus trained', '95% interval')


def main(_: list[str]) -> None:
    trained = inference_flags.load(run_flag.directory())
    lists = setting_flags.given_lists(trained.agent, trained.agent_name)
    if not lists:
        raise UserError('nothing to sweep: give at least one list, such as --n_pi=1,4,16')
    agent = trained.agent
    curves = {
        name: [agent.configure(**{name: value}) for value in values]
        for name, values in lists.items()
    }
    distinct = _distinct([agent.settings, *(one for curve in curves.values() for one in curve)])
    played = inference_flags.play(trained, distinct)
    print(CAPTION)
    for name in curves:
        _print_curve(name, _distinct([*curves[name], agent.settings]), distinct, played)


def _distinct(settings: Sequence[Any]) -> list[Any]:
    """Returns the settings without repetitions, in the order of their first ones."""
    found: dict[tuple, Any] = {}
    for one in settings:
        found.setdefault(tuple(plain(one).values()), one)
    return list(found.values())


def _print_curve(
    name: str, curve: Sequence[Any], distinct: Sequence[Any], played: list[list[Episodes]]
) -> None:
    """Prints a Markdown table with a row for each value of one setting, all seeds together.

    Args:
        name: of the setting.
        curve: the settings of its rows.
        distinct: all settings that were played, the trained one first.
        played: for each seed, what came of each of these.
    """
    reference = [seed[0] for seed in played]
    trained, *_ = names = [plain(one) for one in distinct]
    print(f'\n| {" | ".join((name, *HEADER))} |\n|{"---|" * (len(HEADER) + 1)}')
    for one in map(plain, curve):
        own = [seed[names.index(one)] for seed in played]
        mark = ' (trained)' if one == trained else ''
        difference = ['', ''] if mark else _difference(own, reference)
        print(f'| {one[name]}{mark} | {" | ".join(_cells(own) + difference)} |')


def _cells(seeds: Sequence[Episodes]) -> list[str]:
    """Success with its interval over seeds, and mean length; every seed plays as many episodes."""
    rates = [seed.success.mean() for seed in seeds]
    low, high = statistics.success_interval_over_seeds(rates, [len(seed.success) for seed in seeds])
    length = np.mean([seed.lengths for seed in seeds])
    return [f'{np.mean(rates):.2f}', f'[{low:.2f}, {high:.2f}]', f'{length:.0f}']


def _difference(seeds: Sequence[Episodes], reference: Sequence[Episodes]) -> list[str]:
    """Mean difference of success on shared start states, with its bootstrap interval over these."""
    one, other = (np.stack([seed.success for seed in side]) for side in (seeds, reference))
    differences = statistics.differences_by_start([one], [other])
    low, high = statistics.stratified_interval(statistics.mean, differences) or (np.nan, np.nan)
    return [f'{statistics.mean(differences):+.2f}', f'[{low:+.2f}, {high:+.2f}]']


if __name__ == '__main__':
    command.run(main)
