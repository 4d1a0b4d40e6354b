"""Trains the walker that antmaze datasets are made with: SAC on OGBench's ant, online.

    python scripts/train_expert.py --out=exp/ant_expert

The expert of the repository (results/experts/ant) was trained with a learning rate of 3e-4 and an
unscaled last layer. `sac.ogbench_config` has OGBench's own settings. They made a slower walker: its
record and a comparison are in results/experts/official_settings. The same command continues an
interrupted run, to the same bits. About an hour and three quarters on one busy core.
"""

import math
import os
import sys
import time
from pathlib import Path

import _path  # noqa: F401
import gymnasium
import jax
from absl import flags
from ml_collections import ConfigDict

from utils import errors, files
from utils.errors import UserError
from utils.generation import experts, online, sac
from utils.generation.online import Learning
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import CsvTable
from utils.system import command, locks
from utils.system.stopping import StopRequest

FLAGS = flags.FLAGS
flags.DEFINE_string('out', 'exp/ant_expert', 'Folder of the run and its result.')
flags.DEFINE_integer('steps', 400_000, 'Steps of the environment, one update each.')
flags.DEFINE_integer('seed', 0, 'Fixes everything.')
flags.DEFINE_integer('save_interval', 50_000, 'Steps between checkpoints.', lower_bound=1)
flags.DEFINE_integer('speed_episodes', 20, 'Of the final measurement.', lower_bound=2)

NAME, ENV_ID = 'ant', 'online-ant-v0'


def main(_: list[str]) -> None:
    config, out = sac.ogbench_config(), files.expanded(FLAGS.out, 'out')
    if FLAGS.steps <= config.random_steps or not 0 <= FLAGS.seed < 2**32:
        raise UserError(
            f'--steps: must be more than the {config.random_steps} random ones, and --seed in '
            f'[0, 2**32), not {FLAGS.steps} and {FLAGS.seed}'
        )
    os.environ['MUJOCO_GL'] = 'disable'
    stop, finished = StopRequest(), False
    with stop.listening():
        record = runs.describe(
            env=ENV_ID, steps=FLAGS.steps, seed=FLAGS.seed, config=config.to_dict()
        )
        runs.check_records({out: record})
        with locks.hold([out]):
            runs.write_records({out: record})
            env = experts.make_direction_env(ENV_ID)
            learning = _train(config, env, out, stop)
            if not stop.reason:
                _finish(learning, env, out, record)
                finished = True
    if not finished:
        print(f'stopped by {stop.reason}: saved; the same command goes on', file=sys.stderr)
        sys.exit(errors.STOPPED)


def _train(config: ConfigDict, env: gymnasium.Env, out: Path, stop: StopRequest) -> Learning:
    learner = sac.create(config, env.observation_space.shape[0], env.action_space.shape[0])
    play_episode = online.make_play_episode(learner, config, env, FLAGS.seed)
    table = CsvTable(out / 'train.csv')
    with Checkpoints(out / 'checkpoints') as checkpoints:
        learning = online.start(learner.init, env, FLAGS.steps, FLAGS.seed)
        learning = online.restore(learning, checkpoints)
        saved, window, began = learning.step, [], time.monotonic()
        table.forget_after(learning.step)
        while learning.step < FLAGS.steps and not stop():
            learning, metrics = play_episode(learning)
            if not all(map(math.isfinite, metrics.values())):
                raise errors.DivergedError(f'{out}: not finite at step {learning.step}: {metrics}')
            if learning.step > config.random_steps:  # before, there is nothing of learning
                window.append(dict(step=learning.step, seed=FLAGS.seed) | metrics)
            if learning.step - saved >= FLAGS.save_interval or learning.step >= FLAGS.steps:
                saved = _save(learning, window, table, checkpoints)
                window = []
                print(f'{learning.step} steps, {time.monotonic() - began:.0f} s: {metrics}')
        if learning.step > saved:
            _save(learning, window, table, checkpoints)
    return learning


def _save(learning: Learning, window: list, table: CsvTable, checkpoints: Checkpoints) -> int:
    if window:
        table.append(window)
    online.save(learning, checkpoints)
    return learning.step


def _finish(learning: Learning, env: gymnasium.Env, out: Path, record: dict) -> None:
    """Writes the actor and how well it does what it is for."""
    expert = experts.from_params(jax.device_get(learning.state.actor.params))
    speeds = experts.measure_speed(expert.action, env, FLAGS.speed_episodes, FLAGS.seed)
    half_width = 1.96 * speeds.std(ddof=1) / math.sqrt(len(speeds))
    measured = dict(
        metres_per_second=float(speeds.mean()),
        half_width_95=float(half_width),
        episodes=len(speeds),
        resample_interval=experts.RESAMPLE_INTERVAL,
    )
    experts.save(expert, out / NAME, dict(measured, **record))
    print(f'{out / NAME}.npz: {speeds.mean():.2f} +- {half_width:.2f} m/s, {len(speeds)} episodes')


if __name__ == '__main__':
    command.run(main)
