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
from utils.rollouts import outcomes
from utils.rollouts.evaluation import Episodes
from utils.system import command

FLAGS = flags.FLAGS

BY_START = 'a bootstrap over start states: of these agents, not of training them again'
DIFFERENCE = 'minus trained: the difference on the same start states, with a 95% interval of'
CAPTIONS = dict(
    success=f'{statistics.OVER_SEEDS} {DIFFERENCE} {BY_START}.',
    returns=f'Mean returns. Intervals: {BY_START}; {DIFFERENCE} the same kind.',
)
HEADER = ('95% interval', 'mean length', 'minus trained', '95% interval')


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
    outcome = 'success' if outcomes.defines_success(trained.environment) else 'returns'
    print(CAPTIONS[outcome])
    for name in curves:
        curve = _distinct([*curves[name], agent.settings])
        _print_curve(name, curve, distinct, played, outcome)


def _distinct(settings: Sequence[Any]) -> list[Any]:
    """Returns the settings without repetitions, in the order of their first ones."""
    found: dict[tuple, Any] = {}
    for one in settings:
        found.setdefault(tuple(plain(one).values()), one)
    return list(found.values())


def _print_curve(
    name: str,
    curve: Sequence[Any],
    distinct: Sequence[Any],
    played: list[list[Episodes]],
    outcome: str,
) -> None:
    """Prints a Markdown table with a row for each value of one setting, all seeds together.

    Args:
        name: of the setting.
        curve: the settings of its rows.
        distinct: all settings that were played, the trained one first.
        played: for each seed, what came of each of these.
        outcome: 'success', or 'returns' where success is not defined.
    """
    reference = [seed[0] for seed in played]
    trained, *_ = names = [plain(one) for one in distinct]
    print(f'\n| {" | ".join((name, outcome, *HEADER))} |\n|{"---|" * (len(HEADER) + 2)}')
    for one in map(plain, curve):
        own = [seed[names.index(one)] for seed in played]
        mark = ' (trained)' if one == trained else ''
        obtained = _obtained(own, outcome)
        length = np.mean([seed.lengths for seed in own])
        cells = [*_cells(obtained, outcome), f'{length:.0f}']
        cells += ['', ''] if mark else _difference(obtained, _obtained(reference, outcome))
        print(f'| {one[name]}{mark} | {" | ".join(cells)} |')


def _obtained(seeds: Sequence[Episodes], outcome: str) -> np.ndarray:
    """(seeds, episodes); every seed plays as many."""
    return np.stack([getattr(seed, outcome) for seed in seeds])


def _cells(obtained: np.ndarray, outcome: str) -> list[str]:
    """The mean with its interval: of success over seeds, of returns over start states."""
    seeds, episodes = obtained.shape
    if outcome == 'success':
        rates = obtained.mean(axis=1)
        low, high = statistics.success_interval_over_seeds(rates, [episodes] * seeds)
    else:
        low, high = _interval([obtained.mean(axis=0)])
    return [f'{np.mean(obtained):.2f}', f'[{low:.2f}, {high:.2f}]']


def _difference(one: np.ndarray, other: np.ndarray) -> list[str]:
    """Mean difference on shared start states, with its bootstrap interval over these."""
    differences = statistics.differences_by_start([one], [other])
    low, high = _interval(differences)
    return [f'{statistics.mean(differences):+.2f}', f'[{low:+.2f}, {high:+.2f}]']


def _interval(by_start: list[np.ndarray]) -> tuple[float, float]:
    return statistics.stratified_interval(statistics.mean, by_start) or (np.nan, np.nan)


if __name__ == '__main__':
    command.run(main)
