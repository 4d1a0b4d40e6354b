"""Learned return distributions of runs, from their checkpoints: at states, and as a whole."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import agents
from utils.csv_lines import Source
from utils.data import recorded_returns
from utils.data.datasets import Dataset
from utils.environments import descriptions
from utils.errors import UserError
from utils.jobs import restore
from utils.models import calibration, value_models
from utils.reporting import charts
from utils.reporting.all_tables import Found
from utils.reporting.results import Result
from utils.reporting.score_charts import Chart
from utils.reporting.tables import Cell, Table
from utils.storage import runs
from utils.training import populations

SEED = 0  # of the choice of states, and of the noise of the calibration
WAYS = (10, 50, 90)  # percent of a trajectory's way, where distributions are shown
WIDTH = 1.0  # resolution of the calibration, in units of reward
# Agents that learn a distribution; the others learn its mean, or no value at all.
WITH_DISTRIBUTIONS = ('evor',)


class DistributionCharts(NamedTuple):
    """What is drawn and told of learned distributions."""

    distributions: Chart
    calibration: Chart
    scores: Table


class _Reader(NamedTuple):
    """A trained value model, ready to be read, and the held-out data it is read on."""

    names: tuple[str, ...]
    config: Any
    value_model: value_models.ValueModel
    state: Any
    val: Dataset
    sources: tuple[Source, ...]

    def row(self, texts: Iterable[str]) -> tuple[Cell, ...]:
        """Returns a row of a table: what was read, and numbers from there."""
        *names, seed, step = self.names
        cited = (Cell(text, self.sources) for text in (seed, step, *texts))
        return (*map(Cell, names), *cited)

    def distributions(
        self, observations: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns points and probabilities of the first net; see `read_distributions`."""
        params = jax.tree.map(lambda leaf: leaf[0], self.state.value.params)
        return calibration.read_distributions(
            self.value_model, params, self.state.returns, observations, actions
        )


def distribution_charts(found: Found, dataset_dir: Path) -> DistributionCharts:
    """Reads the distributions of the first finished seed of every config on every task.

    Args:
        found: what there is.
        dataset_dir: folder of the held-out files, NAME-val.npz.
    """
    readers, reasons = _readers(found, dataset_dir)
    distributions, bins, scores = [], [], []
    for reader in readers:
        distributions += _distributions_at_states(reader)
        try:
            of_config, histogram = _calibration(reader)
        except UserError as error:
            reasons.append(f'{reader.names[2]} on {reader.names[0]} {reader.names[1]}: {error}')
            continue
        scores.append(of_config)
        bins += histogram
    lacking = tuple(f'Not read: {reason}.' for reason in dict.fromkeys(reasons))
    absent = (
        '; '.join(dict.fromkeys(reasons)) or 'no finished run of an agent that learns distributions'
    )
    return DistributionCharts(
        Chart(
            _distributions_table(distributions, lacking),
            charts.return_distributions,
            '' if distributions else absent,
        ),
        Chart(_bins_table(bins, lacking), charts.calibration, '' if bins else absent),
        _scores_table(scores, lacking),
    )


def _readers(found: Found, dataset_dir: Path) -> tuple[list[_Reader], list[str]]:
    """Returns what can be read, and why the rest cannot."""
    readers, reasons = [], []
    for place in found.scores.tasks():
        for config in found.scores.configs:
            finished = found.scores.finished(*place, config)
            if (
                not finished
                or finished[0].run.record['agent'].get('agent_name') not in WITH_DISTRIBUTIONS
            ):
                continue
            first = min(finished, key=lambda result: result.seed)
            try:
                readers.append(_open(first, (*place, config), dataset_dir))
            except UserError as error:
                reasons.append(str(error))
    return readers, reasons


def _open(result: Result, names: tuple[str, ...], dataset_dir: Path) -> _Reader:
    """Restores a run.

    Raises:
        UserError: the held-out file is missing or not the run's, or the checkpoint cannot be read.
    """
    directory, record = result.run.directory, result.run.record
    val, path = restore.held_out(record, dataset_dir)
    environment = descriptions.recorded(record, directory / runs.RECORD)
    _, population, step = restore.restore(directory, record, environment, None)
    config, _ = agents.complete(runs.agent_config(record))  # which `restore` has told
    chunk_dim = config.chunk_length * record['action_dim']
    return _Reader(
        (*names, str(result.seed), str(step)),
        config,
        value_models.create(config, record['observation_dim'], chunk_dim),
        populations.member(population, result.run.seeds.index(result.seed)),
        val,
        (Source(directory / 'checkpoints' / str(step)), Source(path)),
    )


def _distributions_at_states(reader: _Reader) -> Iterable[tuple[Cell, ...]]:
    rows = _states(reader.val)
    discount = reader.config.discount
    actions = calibration.chunks_at(reader.val, rows, reader.config.chunk_length)
    points, weights = reader.distributions(reader.val.observations[rows], actions)
    bounds = _bounds(reader.val, rows, discount)
    for index, way in enumerate(WAYS):
        levels = np.cumsum(weights[index])
        learned = zip(levels, points[index], strict=True)
        shown = [('learned', f'{level:.4f}', z) for level, z in learned]
        recorded = zip(('at least', 'at most'), bounds[index], strict=True)
        shown += [(kind, '', z) for kind, z in recorded if np.isfinite(z)]
        for kind, level, z in shown:
            yield reader.row((str(way), str(rows[index]), kind, level, f'{z:.3f}'))


def _states(val: Dataset) -> np.ndarray:
    """Rows at WAYS of a trajectory that ends by reward, or of any where none does."""
    ends = np.unique(val.ends)
    firsts = np.concatenate([[0], ends[:-1] + 1])
    solved = np.flatnonzero(val.masks == 0)
    # The first row of each trajectory at which the task is solved, or beyond its end.
    goals = np.append(solved, len(val.ends))[np.searchsorted(solved, firsts)]
    lasts = np.where(goals <= ends, goals, -1)
    usable = np.flatnonzero(lasts - firsts >= len(WAYS))
    if not len(usable):
        lasts = np.append(val.lasts, 0)[firsts]
        usable = np.flatnonzero(lasts >= firsts)
    chosen = np.random.default_rng(SEED).choice(usable)
    way = (lasts[chosen] - firsts[chosen]) * np.array(WAYS)
    return firsts[chosen] + way // 100


def _bounds(val: Dataset, rows: np.ndarray, discount: float) -> np.ndarray:
    """What the return of recorded rows is at least and at most, (rows, 2).

    They differ where the recording was cut before the episode ended by reward.
    """
    known = recorded_returns.rewards_to_go(val, discount)[rows]
    missing = recorded_returns.missing_weights(val, discount)[rows]
    low, high = recorded_returns.return_bounds(val, discount)
    return np.stack([known + missing * low, known + missing * high], axis=1)


def _calibration(reader: _Reader) -> tuple[tuple[Cell, ...], list[tuple[Cell, ...]]]:
    """A row of scores, and a row for each bin of the histogram."""
    config, val = reader.config, reader.val
    mean_return, _ = recorded_returns.return_scale(val, config.discount)
    data = calibration.held_out(
        val, config.chunk_length, config.discount, mean_return, np.random.default_rng(SEED)
    )
    distributions = reader.distributions(data.observations, data.actions)
    scores, pit = calibration.score(*distributions, data, WIDTH, SEED)
    counts = len(data.outcomes), len(np.unique(data.trajectories))
    texts = [str(count) for count in counts]
    for name, digits in (('coverage', 3), ('crps', 2), ('bias', 2)):
        value, low, high = (scores[f'{name}{bound}'] for bound in ('', '_low', '_high'))
        texts.append(f'{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]')
    edges = np.linspace(0.0, 1.0, calibration.PIT_BINS + 1)
    histogram = []
    for low, high in itertools.pairwise(edges):
        inside = (pit >= low) & ((pit < high) | (high == 1.0))
        density = calibration.PIT_BINS * np.float64(inside)
        interval = calibration.clustered_interval(density, data.trajectories, SEED)
        numbers = (low, high, density.mean(), *interval)
        histogram.append(reader.row(f'{number:.4g}' for number in numbers))
    return reader.row(texts), histogram


NAMES = ('environment', 'task', 'config', 'seed', 'updates')
READ = (
    'Read from the newest checkpoint of the first finished seed, at states and actions of the '
    f'held-out file, a flow in {calibration.READING_STEPS} steps; in units of reward.'
)


def _distributions_table(rows: list, lacking: tuple[str, ...]) -> Table:
    remarks = (
        READ,
        f'The states lie at {", ".join(map(str, WAYS))} percent of the way to the first success of '
        f'a held-out trajectory drawn by seed {SEED} among those that have one (of any trajectory '
        'where none has).',
        'recorded: the discounted return from there; a band where the recording was cut before its '
        'end.',
        *lacking,
    )
    columns = (*NAMES, 'way', 'row', 'kind', 'level', 'return')
    title = 'Distribution functions of learned return distributions'
    return Table('return_distributions', title, columns, tuple(rows), remarks)


PIT = (
    'level of a return: the probability that its learned distribution gives to less (probability '
    f'integral transform, at a resolution of {WIDTH:g}); calibrated distributions have uniform '
    'levels. 95% intervals of a bootstrap over trajectories. A distribution learned from other '
    "next actions than the data's (next_action, backup_candidates) is not that of the data, and "
    'need not agree.'
)


def _bins_table(rows: list, lacking: tuple[str, ...]) -> Table:
    columns = (*NAMES, 'from', 'to', 'density', 'low', 'high')
    title = 'Calibration: levels of held-out returns in their learned distributions'
    return Table('calibration', title, columns, tuple(rows), (READ, PIT, *lacking))


def _scores_table(rows: list, lacking: tuple[str, ...]) -> Table:
    columns = (*NAMES, 'rows', 'trajectories', 'coverage of the central 80%', 'CRPS', 'bias')
    remarks = (
        READ,
        'coverage: share of held-out returns in the middle 80% of their distributions; CRPS: '
        'continuous ranked probability score; bias: learned mean minus return '
        '[95% interval of a bootstrap over trajectories].',
        *lacking,
    )
    title = 'Learned distributions against held-out returns'
    return Table('calibration_scores', title, columns, tuple(rows), remarks)
