"""Draws one evaluation episode of a run's agent.

    python scripts/record_episode.py --run=exp/ENV/CONFIG/seeds_0 --out=bench/videos

The episode starts in the state, and its agent draws with the keys, that evaluations give the
episode of this number. Writes OUT/ENV_CONFIG_SEED_EPISODE.webp, an animation, and .png, a strip of
six pictures, and appends what happened to OUT/videos.csv. Drawing needs OpenGL: EGL (libegl1) or
OSMesa (libosmesa6).
"""

import re

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.environments import action_maps, descriptions, envs, wrappers
from utils.environments.descriptions import NONE
from utils.errors import UserError
from utils.jobs import run_flag
from utils.jobs.restore import restore
from utils.rollouts import acting, rendering
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_integer('seed', None, "Member of the run; default: the run's first seed.")
flags.DEFINE_integer('episode', 0, 'Number of the episode.', lower_bound=0)
flags.DEFINE_string('out', 'bench/videos', 'Folder of the pictures.')
flags.DEFINE_float('frames_per_second', 15.0, 'Of the animation.', lower_bound=1.0)
flags.DEFINE_integer('max_frames', 100, 'Frames of the longest episode.', lower_bound=2)

VIDEOS = 'videos.csv'


def main(_: list[str]) -> None:
    directory, out = run_flag.directory(), files.expanded(FLAGS.out, 'out')
    record = runs.read_record(directory)
    seed = runs.seed_of(record, directory, FLAGS.seed)
    noise = wrappers.recorded_noise(record)
    action_map = action_maps.recorded(record, directory / runs.RECORD)
    environment = descriptions.recorded(record, directory / runs.RECORD)
    if environment == NONE:
        raise UserError(
            f'--run: {directory} was trained without an environment, so there is nothing to draw'
        )
    place, config_name = noise.of(record['env_name']), record['agent']['config_name']
    name = f'{place}_{config_name}_{seed}_{FLAGS.episode}'
    path = out / f'{re.sub(r"[^A-Za-z0-9_.-]", "_", name)}.webp'
    if path.exists():
        raise UserError(f'{path}: exists already; choose another --out')
    files.check_writable(out, (VIDEOS,), 'choose another --out')
    backend = rendering.choose_backend()  # before MuJoCo is imported, as environments are made
    agent, population, step = restore(directory, record, environment, FLAGS.step, draws=True)
    state = populations.member(population, record['seeds'].index(seed))
    act = acting.bind(agent.act, state, agent.settings, agent.sampler)
    env = envs.make_env(environment, noise, draws=True, action_map=action_map)
    every = rendering.steps_per_frame(env, FLAGS.max_frames)
    key = populations.stream(seed, populations.EVAL_STREAM)
    recording = rendering.record(env, act, key, FLAGS.episode, every)
    env.close()
    said = rendering.write(recording, path, FLAGS.frames_per_second)
    row = dict(file=path.name, directory=directory, env_name=place, config=config_name)
    row |= dict(step=step, seed=seed, episode=FLAGS.episode, success=int(recording.success))
    row |= dict(episode_length=recording.steps, steps_per_frame=every, mujoco_gl=backend)
    CsvTable(out / VIDEOS).append([row])
    print(said)


if __name__ == '__main__':
    command.run(main)
