"""Plays a trained run at many inference settings, for scripts that compare them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from agents import Agent
from utils import files
from utils.environments import (
    action_maps,
    descriptions,
    env_processes,
    envs,
    gym_envs,
    wrappers,
)
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import NONE, Environment, GymEnv, name_of
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.generation import behaviour_measures
from utils.generation.behaviour_measures import Measure
from utils.jobs import env_id_flags, setting_flags
from utils.jobs.restore import restore
from utils.models.settings import plain
from utils.rollouts import acting, evaluation, outcomes
from utils.rollouts.evaluation import Episodes
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.training import populations

FLAGS = flags.FLAGS
TABLES = 'inference.csv', 'inference_episodes.csv'

flags.DEFINE_string('out', None, 'Folder of the rows; default: the directory of the run.')
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('env_name', None, 'Default: the environment of the run.')
flags.DEFINE_float('action_noise', None, 'Of what is executed; default: as in the run.')
flags.DEFINE_float('sticky_prob', None, 'Of repeating an action; default: as in the run.')
flags.DEFINE_integer('eval_episodes', 50, 'Episodes of each setting and seed.', lower_bound=1)


class Trained(NamedTuple):
    """A trained run and the environment that it is to act in.

    Attributes:
        directory: of the run.
        out: where rows go.
        record: its config.json.
        agent: of the run.
        population: its seeds' states.
        step: of the checkpoint.
        environment, noise, action_map: where it acts.
    """

    directory: Path
    out: Path
    record: dict[str, Any]
    agent: Agent
    population: Any
    step: int
    environment: Environment
    noise: Noise
    action_map: ActionMap | None

    @property
    def agent_name(self) -> str:
        """Name of the agent's module."""
        return self.record['agent']['agent_name']


def load(directory: Path) -> Trained:
    """Loads what the flags ask for.

    Raises:
        UserError: there is no such run or checkpoint, the environment does not fit, or rows cannot
            be written.
    """
    record = runs.read_record(directory)
    own = descriptions.recorded(record, directory / runs.RECORD)
    environment = _environment(directory, own)
    out = files.expanded(FLAGS.out, 'out') if FLAGS.out else directory
    another = isinstance(environment, GymEnv) and environment != own
    if another and out.resolve() == directory.resolve():
        raise UserError(
            f'--env_id: is not what {directory} was trained for, and rows beside it are of that; '
            'give another folder with --out'
        )
    files.check_writable(out, TABLES, 'give another folder with --out')
    noise = wrappers.recorded_noise(record)._asdict()
    given = {name: FLAGS[name].value for name in noise if FLAGS[name].value is not None}
    noise = wrappers.make_noise(**(noise | given))
    agent, population, step = restore(directory, record, environment, FLAGS.step)
    _check_rows(out / TABLES[0], environment, agent)
    action_map = action_maps.recorded(record, directory / runs.RECORD)
    if another:
        _check_fits(environment, record, action_map, told=own != NONE)
    return Trained(directory, out, record, agent, population, step, environment, noise, action_map)


def _environment(directory: Path, own: Environment) -> Environment:
    """Returns where a run is played: what the flags name, or its own environment."""
    other = env_id_flags.described()
    if other is not None:
        env_id_flags.refuse(('env_name',), 'names another environment than --env_id; leave one out')
        return other
    if FLAGS.env_name == NONE:
        raise UserError('--env_name=none: there is nothing to play in; name an environment')
    if FLAGS.env_name is None and own == NONE:
        raise UserError(
            f'--run: {directory} was trained without an environment; name one to play it in by '
            '--env_id or --env_name, or look at held-out data by scripts/check_policy.py and '
            'scripts/check_values.py'
        )
    return FLAGS.env_name or own


def _check_rows(path: Path, environment: Environment, agent: Agent) -> None:
    """Checks that a file of rows, if there is one, has the columns that new ones will have."""
    if not path.exists():
        return
    with path.open(encoding='utf-8') as file:
        columns = file.readline().strip().split(',')
    others = sorted((setting_flags.SETTINGS.keys() & {*columns}) - plain(agent.settings).keys())
    if others:
        raise UserError(
            f'{path}: its rows are of another agent, with settings that this one lacks '
            f'({", ".join(others)}); give another folder with --out'
        )
    tells = 'success' in columns
    if tells != outcomes.defines_success(environment):
        raise UserError(
            f'{path}: its rows {"tell" if tells else "do not tell"} success, unlike those of '
            f'{name_of(environment)} by these flags; give another folder with --out'
        )


def _check_fits(
    environment: GymEnv, record: dict[str, Any], action_map: ActionMap | None, told: bool
) -> None:
    """Checks actions and rule of success of what a run was not trained for."""
    env = envs.make_env(environment)
    gym_envs.check_bounds(env, environment, action_map, Path(record['dataset']['file']), told)
    gym_envs.check_success(env, environment)
    env.close()


def play(trained: Trained, settings: Sequence[Any]) -> list[list[Episodes]]:
    """Plays the same episodes with each of different settings, all in one set of environments.

    Tells of each when it is there: a line, a row of inference.csv where rows go, and a row per
    episode of inference_episodes.csv. Where tasks ask to walk or to lift, the row tells how much
    of that was done.

    Returns:
        For each seed of the run, what came of each setting.
    """
    name, num_episodes = trained.record['agent']['config_name'], FLAGS.eval_episodes
    print(f'{trained.noise.of(name_of(trained.environment))}, {name} after {trained.step} updates')
    if outcomes.defines_success(trained.environment):
        print("95% Wilson intervals: of each seed's own agent, not of training it again")
    played, measure = [], behaviour_measures.of(trained.environment)
    num_envs = min(len(settings) * num_episodes, evaluation.MAX_ENVS)
    what = trained.environment, num_envs, trained.noise, trained.action_map
    with env_processes.VectorEnv(*what) as vector_env:
        for index, seed in enumerate(trained.record['seeds']):
            state = populations.member(trained.population, index)
            act = acting.bind_each(
                trained.agent.act, state, settings, num_episodes, trained.agent.sampler
            )
            key, seen = populations.stream(seed, populations.EVAL_STREAM), {}
            if measure is not None:
                act = behaviour_measures.watched(act, seen)
            swept = evaluation.sweep(
                act, vector_env, len(settings), num_episodes, key, discount=trained.agent.discount
            )
            played.append([])
            for number, (one, episodes) in enumerate(zip(settings, swept, strict=True)):
                rollouts = range(number * num_episodes, (number + 1) * num_episodes)
                rate = _rate(trained, measure, [seen.pop(rollout, []) for rollout in rollouts])
                _report(trained, seed, one, episodes, rate)
                played[-1].append(episodes)
    return played


def _rate(
    trained: Trained, measure: Measure | None, seen: Sequence[Sequence[np.ndarray]]
) -> dict[str, float]:
    if measure is None:
        return {}
    played = [np.stack(observations) for observations in seen]
    return behaviour_measures.rates(measure, played, trained.record['agent']['chunk_length'])


def _report(
    trained: Trained, seed: int, settings: Any, episodes: Episodes, rate: dict[str, float]
) -> None:
    tags = dict(step=trained.step, seed=seed)
    tags |= outcomes.conditions(trained.environment, trained.noise, settings)
    summary = outcomes.summary(episodes, trained.environment)
    # Rows of all families have all columns, so that they can share a file.
    measured = dict.fromkeys(outcomes.MEASURED, '') | rate
    rows = [tags | summary | measured], outcomes.rows(episodes, tags, trained.environment)
    for name, own in zip(TABLES, rows, strict=True):
        CsvTable(trained.out / name, widens=True).append(own)
    shown = ''.join(f'{name} {value}  ' for name, value in plain(settings).items())
    done = ''.join(f'  {name} {value:.2f}' for name, value in rate.items())
    print(f'seed {seed}  {shown}{outcomes.in_words(summary)}{done}', flush=True)
