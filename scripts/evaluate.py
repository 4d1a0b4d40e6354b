"""Evaluates a trained run at other inference settings, without retraining.

    python scripts/evaluate.py --checkpoint=exp/ENV/CONFIG/seeds_0 --n_pi=1,4,16,32 --tau_q=0,0.1

Every combination of the lists is played on the same start states. Rows are appended to
inference.csv and inference_episodes.csv in the run's directory.
"""

import itertools
from pathlib import Path
from typing import Any

import _path  # noqa: F401
import jax
from _restore import restore
from absl import flags

from agents import Agent
from utils import envs, errors, evaluation, runs, training
from utils.errors import UserError
from utils.metrics import CsvTable

FLAGS = flags.FLAGS
SETTINGS = {
    'n_pi': (int, 'Numbers of candidates.'),
    'tau_q': (float, 'Softmax temperatures over candidates.'),
    'tau_r': (float, 'Log-sum-exp temperatures over reward-to-go samples.'),
    'num_return_samples': (int, 'Numbers of reward-to-go samples.'),
    'flow_steps': (int, 'Euler steps of the base policy.'),
    'return_flow_steps': (int, 'Euler steps of the reward-to-go.'),
    'return_noise': (str, "'random' or 'quadrature'."),
}

flags.DEFINE_string('checkpoint', None, 'Run directory.', required=True)
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('env_name', None, 'Default: the environment of the run.')
flags.DEFINE_integer('eval_episodes', 50, 'Episodes of each evaluation.', lower_bound=1)
for _name, (_, _help) in SETTINGS.items():
    flags.DEFINE_list(_name, None, f'{_help} Default: as trained.')


def main(_: list[str]) -> None:
    directory = Path(FLAGS.checkpoint).expanduser()
    record = runs.read_record(directory)
    env_name = FLAGS.env_name or record['env_name']
    agent, population, step = restore(directory, record, env_name, FLAGS.step)
    grid = [agent.configure(**changes) for changes in _combinations(agent, record)]
    print(f'{env_name}, {record["agent"]["config_name"]} after {step} updates')
    num_envs = min(FLAGS.eval_episodes, evaluation.MAX_ENVS)
    with envs.VectorEnv(env_name, num_envs) as vector_env:
        for settings, (index, seed) in itertools.product(grid, enumerate(record['seeds'])):
            bound = evaluation.bind(agent.act, training.member(population, index), settings)
            key = training.stream(seed, training.EVAL_STREAM)
            episodes = evaluation.evaluate(bound, vector_env, FLAGS.eval_episodes, key)
            tags = dict(step=step, seed=seed, env_name=env_name)
            _report(directory, tags, _plain(settings), episodes)


def _combinations(agent: Agent, record: dict[str, Any]) -> list[dict[str, Any]]:
    known = agent.settings.__dataclass_fields__
    given = {}
    for name, (kind, _) in SETTINGS.items():
        if FLAGS[name].value is None:
            continue
        if name not in known:
            raise UserError(
                f'--{name}: {record["agent"]["agent_name"]} has no such inference setting; '
                f'it has {", ".join(known) or "none"}'
            )
        try:
            given[name] = [kind(item) for item in FLAGS[name].value]
        except ValueError as error:
            raise UserError(f'--{name}: expected a list of {kind.__name__} ({error})') from error
    return [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]


def _plain(settings: Any) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    # float32 temperatures in their shortest spelling: 0.1, not 0.10000000149.
    return {
        name: float(str(value)) if isinstance(value, jax.Array) else value
        for name, value in values.items()
    }


def _report(
    directory: Path, tags: dict[str, Any], plain: dict[str, Any], episodes: evaluation.Episodes
) -> None:
    summary = evaluation.summary(episodes)
    CsvTable(directory / 'inference.csv').append([tags | plain | summary])
    CsvTable(directory / 'inference_episodes.csv').append(evaluation.rows(episodes, tags | plain))
    shown = ''.join(f'{name} {value}  ' for name, value in plain.items())
    print(
        f'seed {tags["seed"]}  {shown}success {summary["success"]:.2f} '
        f'[{summary["success_low"]:.2f}, {summary["success_high"]:.2f}]',
        flush=True,
    )


if __name__ == '__main__':
    errors.run(main)
