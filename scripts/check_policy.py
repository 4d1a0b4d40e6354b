"""Checks the base policy of a run: does it imitate the data?

    python scripts/check_policy.py --run=exp/ENV/CONFIG/seeds_0

For every seed, on the held-out file: the matching loss, and the sliced Wasserstein distance between
sampled and recorded actions, alone and joined to the standardised observations they were taken at.
Beside it the same distance between two disjoint halves of the recorded actions, which is what a
perfect policy would show, and the success rate of the policy alone, `n_pi = 1`, if the run has an
environment. A row per seed is appended to base_policy.csv in the run's directory.

Of the same episodes, what the family's tasks ask for, beside the same of the held-out file, both
looked at wherever the policy decides and with half a 95% interval over episodes:

* mazes: metres per 5 s of simulated time (50 steps), as the straight distance between where one is
  5 s apart; and what the task needs, the way from start to goal in the time there is;
* cubes and scene: how often a cube is lifted above 0.12 m, per 200 steps.
"""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _path  # noqa: F401
import jax
import numpy as np
from absl import flags

from agents import Agent
from utils import files
from utils.data import datasets, fetching
from utils.environments import action_maps, descriptions, env_processes, wrappers
from utils.environments.descriptions import NONE, Environment, name_of
from utils.errors import UserError
from utils.generation import behaviour_measures
from utils.jobs import policy_checks, run_flag
from utils.jobs.restore import held_out, restore
from utils.rollouts import acting, evaluation, outcomes
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_integer('eval_episodes', 50, 'Episodes.', lower_bound=1)
flags.DEFINE_list('flow_steps', None, 'Numbers of Euler steps to compare; default: as trained.')
flags.DEFINE_integer('samples', 4096, 'Held-out states.', lower_bound=4)

TABLE = 'base_policy.csv'


def main(_: list[str]) -> None:
    directory = run_flag.directory()
    files.check_writable(directory, (TABLE,), 'copy the run to a folder of your own')
    record = runs.read_record(directory)
    environment = descriptions.recorded(record, directory / runs.RECORD)
    agent, population, step = restore(directory, record, environment, FLAGS.step)
    grid = [_alone(agent, record, steps) for steps in _flow_steps(record)]
    val, _ = held_out(record, files.expanded(FLAGS.dataset_dir, 'dataset_dir'), FLAGS.dataset_url)
    val = jax.device_put(val)
    table = CsvTable(directory / TABLE)
    with contextlib.ExitStack() as stack:
        play = _player(directory, record, environment, agent, val, stack)
        for settings, (index, seed) in itertools.product(grid, enumerate(record['seeds'])):
            state = populations.member(population, index)
            row = dict(step=step, seed=seed, flow_steps=settings.flow_steps)
            row |= policy_checks.distances(
                agent, state, settings, val, record['agent'], seed, FLAGS.samples
            )
            row |= play(state, settings, seed)
            table.append([row])
            print('  '.join(f'{name} {value:.4g}' for name, value in row.items()), flush=True)


def _player(
    directory: Path,
    record: dict[str, Any],
    environment: Environment,
    agent: Agent,
    val: datasets.Dataset,
    stack: contextlib.ExitStack,
) -> Callable[[Any, Any, int], dict[str, float]]:
    """Returns (state, settings, seed) -> what comes of playing; nothing without an environment."""
    if environment == NONE:
        print('no environment: the success of the policy cannot be known without playing')
        return lambda state, settings, seed: {}
    noise = wrappers.recorded_noise(record)
    action_map = action_maps.recorded(record, directory / runs.RECORD)
    measure, stride = _measure(environment), record['agent']['chunk_length']
    recorded = behaviour_measures.recorded(val, stride)
    num_envs = min(FLAGS.eval_episodes, evaluation.MAX_ENVS)
    vector_env = stack.enter_context(
        env_processes.VectorEnv(environment, num_envs, noise, action_map)
    )

    def play(state: Any, settings: Any, seed: int) -> dict[str, float]:
        played = {}
        bound = behaviour_measures.watched(acting.bind(agent.act, state, settings), played)
        key = populations.stream(seed, populations.EVAL_STREAM)
        episodes = evaluation.evaluate(
            bound, vector_env, FLAGS.eval_episodes, key, discount=agent.discount
        )
        row = outcomes.summary(episodes, environment)
        if measure is not None:
            seen = [np.stack(observations) for observations in played.values()]
            row |= behaviour_measures.columns(measure, seen, recorded, stride)
        return row

    return play


def _measure(environment: Environment) -> behaviour_measures.Measure | None:
    measure = behaviour_measures.of(environment)
    if measure is None:
        name = name_of(environment)
        print(f'{name}: its task is neither to walk nor to lift, so that is not measured')
    return measure


def _flow_steps(record: dict[str, Any]) -> list[int]:
    if FLAGS.flow_steps is None:
        return [record['agent'].get('flow_steps', 1)]
    if not all(text.isdigit() and int(text) for text in FLAGS.flow_steps):
        raise UserError(
            f'--flow_steps: expected whole numbers of at least 1, not {",".join(FLAGS.flow_steps)}'
        )
    return [int(text) for text in FLAGS.flow_steps]


def _alone(agent: Agent, record: dict[str, Any], flow_steps: int) -> Any:
    """The settings with which an agent plays its base policy.

    Raises:
        UserError: it never does.
    """
    if record['agent'].get('frozen_policy'):
        raise UserError(
            '--run: its base policy was trained by a run of bc; give the directory of that'
        )
    if (alone := policy_checks.alone(agent, flow_steps)) is not None:
        return alone
    name = record['agent']['agent_name']
    raise UserError(f'--run: {name} does not act by a base policy; choose a run of another')


if __name__ == '__main__':
    command.run(main)
