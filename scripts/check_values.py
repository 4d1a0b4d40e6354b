"""Checks the values of a run: do they tell the candidates of a state apart, and do they agree?

    python scripts/check_values.py --run=exp/ENV/CONFIG/seeds_0_1
    python scripts/check_values.py --run=exp/ENV/CONFIG/seeds_0 --other=exp/ENV/ANOTHER/seeds_1

On held-out states, by quarters from the least to the most valuable: the spread of the values over
a state's candidates, in the unit of `tau_q`; how many of them the pick is spread over; and whether
the value model of the run that --other names ranks them alike, by Spearman's correlation; without
it the next seed's, or, with one seed, that of the checkpoint before. Values that would be ranked
otherwise if trained again are noise. Rows are appended to values.csv in the run's directory.
"""

from pathlib import Path
from typing import Any

import _path  # noqa: F401
import jax
import numpy as np
from absl import flags

from agents import Agent
from utils import files
from utils.data import fetching
from utils.environments import descriptions
from utils.environments.descriptions import Environment
from utils.errors import UserError
from utils.jobs import run_flag, value_checks
from utils.jobs.restore import held_out, restore
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_string('other', None, 'Another run, of one seed, whose values are compared.')
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_integer('samples', 1024, 'Held-out states.', lower_bound=4)

TABLE = 'values.csv'


def main(_: list[str]) -> None:
    directory = run_flag.directory()
    files.check_writable(directory, (TABLE,), 'copy the run to a folder of your own')
    record, environment, agent, population, step = _restored(directory, FLAGS.step, 'run')
    told = dict(other='', other_step='')
    if FLAGS.other is None:
        other_agent, others = agent, _others(directory, record, environment, population, step)
    else:
        other_agent, others, other_step = _other_run(record)
        told = dict(other=FLAGS.other, other_step=other_step)
    val, _ = held_out(record, files.expanded(FLAGS.dataset_dir, 'dataset_dir'), FLAGS.dataset_url)
    val = jax.device_put(val)
    for index, seed in enumerate(record['seeds']):
        state = populations.member(population, index)
        other = populations.member(others, index if FLAGS.other is None else 0)
        rows = value_checks.quarters(agent, state, other_agent, other, val, seed, FLAGS.samples)
        rows = [dict(step=step, seed=seed) | told | row for row in rows]
        CsvTable(directory / TABLE, widens=True).append(rows)
        for row in rows:
            shown = {name: value for name, value in row.items() if name not in told}
            print('  '.join(f'{name} {value:.4g}' for name, value in shown.items()), flush=True)


def _restored(
    directory: Path, step: int | None, flag: str
) -> tuple[dict[str, Any], Environment, Agent, Any, int]:
    """Returns a run's record, environment, agent, population and step of the checkpoint.

    Raises:
        UserError: it values no candidates, or cannot be restored.
    """
    record = runs.read_record(directory)
    environment = descriptions.recorded(record, directory / runs.RECORD)
    agent, population, step = restore(directory, record, environment, step)
    if not value_checks.values_candidates(agent, population):
        name = record['agent']['agent_name']
        raise UserError(f'--{flag}: {name} values no candidates; choose a run of another')
    # Compiled once for all seeds.
    return record, environment, agent._replace(act=jax.jit(agent.act)), population, step


def _other_run(record: dict[str, Any]) -> tuple[Agent, Any, int]:
    """Returns agent, population and step of the run that --other names.

    Raises:
        UserError: it has several seeds, other data, or chunks of another length.
    """
    directory = files.expanded(FLAGS.other, 'other')
    other, _, agent, population, step = _restored(directory, None, 'other')
    if len(other['seeds']) > 1:
        raise UserError(f'--other: {directory} has {len(other["seeds"])} seeds; expected one')
    weighs, own = _weighs(other), _weighs(record)
    if weighs != own:
        differing = ', '.join(f'{name} {weighs[name]}, not {own[name]}' for name in own)
        raise UserError(f'--other: {directory} values other candidates ({differing})')
    return agent, population, step


def _weighs(record: dict[str, Any]) -> dict[str, Any]:
    return dict(data=record['dataset']['file'], chunk_length=record['agent']['chunk_length'])


def _others(
    directory: Path,
    record: dict[str, Any],
    environment: Environment,
    population: Any,
    step: int,
) -> Any:
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
    return restore(directory, record, environment, before)[1]


if __name__ == '__main__':
    command.run(main)
