"""Checks the values of a run: do they tell the candidates of a state apart, and do they agree?

    python scripts/check_values.py --run=exp/ENV/CONFIG/seeds_0_1

On held-out states, by quarters from the least to the most valuable: the spread of the values over
a state's candidates, in the unit of `tau_q`; how many of them the pick is spread over; and whether
the next seed's value model (with one seed, that of the checkpoint before) ranks them alike, by
Spearman's correlation. Values that would be ranked otherwise if trained again are noise. Rows are
appended to values.csv in the run's directory.
"""

from pathlib import Path
from typing import Any

import _path  # noqa: F401
import jax
import numpy as np
from absl import flags

from agents import Agent
from utils.data import datasets, fetching
from utils.errors import UserError
from utils.jobs import run_flag
from utils.jobs.restore import held_out, restore
from utils.models import candidates, extraction
from utils.rollouts import acting
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_integer('samples', 1024, 'Held-out states.', lower_bound=4)


def main(_: list[str]) -> None:
    directory = run_flag.directory()
    record = runs.read_record(directory)
    agent, population, step = restore(directory, record, record['env_name'], FLAGS.step)
    if not {'n_pi', 'returns'} <= {*vars(agent.settings), *vars(population)}:
        name = record['agent']['agent_name']
        raise UserError(f'--run: {name} values no candidates; choose a run of another')
    agent = agent._replace(act=jax.jit(agent.act))  # once for all seeds
    others = _others(directory, record, population, step)
    val = held_out(record, Path(FLAGS.dataset_dir).expanduser(), FLAGS.dataset_url)
    for index, seed in enumerate(record['seeds']):
        state = populations.member(population, index)
        rows = quarters(agent, state, populations.member(others, index), val, seed)
        rows = [dict(step=step, seed=seed) | row for row in rows]
        CsvTable(directory / 'values.csv').append(rows)
        for row in rows:
            print('  '.join(f'{name} {value:.4g}' for name, value in row.items()), flush=True)


def _others(directory: Path, record: dict[str, Any], population: Any, step: int) -> Any:
    """Whose values are compared: those of the next seeds, or of one seed's checkpoint before.

    Raises:
        UserError: there are neither.
    """
    if len(record['seeds']) > 1:
        return jax.tree.map(lambda leaf: np.roll(leaf, -1, axis=0), population)
    with Checkpoints(directory / 'checkpoints', read_only=True) as checkpoints:
        before = max((other for other in checkpoints.steps() if other < step), default=None)
    if before is None:
        raise UserError(
            f'{directory}: has one seed and no checkpoint before {step}, so there are no values to '
            'compare; train more seeds, or save more often'
        )
    return restore(directory, record, record['env_name'], before)[1]


def quarters(
    agent: Agent, state: Any, other: Any, val: datasets.Dataset, seed: int
) -> list[dict[str, float]]:
    """Returns a row for each quarter of the states, from the least to the most valuable.

    Args:
        agent: of the run, its `act` compiled.
        state: of one seed.
        other: the state whose values are compared, of the same candidates.
        val: held-out data.
        seed: of the random stream.
    """
    key, act_key = jax.random.split(populations.stream(seed, populations.DIAGNOSE_STREAM))
    observations = datasets.sample(val, key, FLAGS.samples, 1, 0, 1.0, False).observations
    # The same policy and keys give the same candidates, which the other value model values.
    policy = {name: getattr(state, name) for name in agent.shared}
    given = acting.sampled(agent.sampler, np.asarray(observations), act_key, agent.settings)
    given = () if given is None else (given,)
    values, other_values = (
        np.asarray(agent.act(who, observations, act_key, agent.settings, *given).values)
        for who in (state, other.replace(**policy))
    )
    std = float(state.returns.std)
    logits = extraction.pick_logits(values / std, getattr(agent.settings, 'tau_q', 0.0))
    columns = dict(
        value=values.mean(axis=1),
        spread=values.std(axis=1) / std,
        effective_candidates=candidates.effective_number(np.asarray(logits)),
        agreement=candidates.rank_agreement(values, other_values),
    )
    parts = np.array_split(np.argsort(columns['value']), 4)
    return [
        dict(quarter=number)
        | {name: float(np.nanmean(column[part])) for name, column in columns.items()}
        for number, part in enumerate(parts, start=1)
    ]


if __name__ == '__main__':
    command.run(main)
