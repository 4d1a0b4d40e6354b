"""Plays one episode by an exported policy and draws it; `make watch` plays a trained one.

    python scripts/watch.py --policy=results/agents/scene --out=watch

The episode starts in the state that evaluations give the episode of this number. Writes
OUT/ENV_EPISODE.webp, an animation, and .png, a strip of six pictures. Drawing needs OpenGL: EGL
(libegl1) or OSMesa (libosmesa6).
"""

import sys
from pathlib import Path

import _path  # noqa: F401
import jax
from absl import flags

from utils import files
from utils.deploy.evaluate import act_of
from utils.deploy.policy import Policy
from utils.environments import action_maps, descriptions, envs, wrappers
from utils.errors import UserError
from utils.rollouts import rendering
from utils.system import command, compilation

FLAGS = flags.FLAGS
flags.DEFINE_string('policy', None, 'Folder of an exported policy.', required=True)
flags.DEFINE_integer('episode', 0, 'Number of the episode.', lower_bound=0)
flags.DEFINE_string('out', 'watch', 'Folder of the pictures.')
flags.DEFINE_float('frames_per_second', 15.0, 'Of the animation.', lower_bound=1.0)
flags.DEFINE_integer('max_frames', 150, 'Frames of the longest episode.', lower_bound=2)


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    files.check_writable(out, (), 'choose another --out')
    compilation.keep_programs()
    try:
        policy = Policy.load(FLAGS.policy)
    except ValueError as error:
        raise UserError(f'--policy: {error}') from error
    told = Path(FLAGS.policy) / 'policy.json'
    environment = descriptions.recorded(policy.record, told)
    noise = wrappers.recorded_noise(policy.record)
    rendering.choose_backend()  # before MuJoCo is imported, as environments are made
    action_map = action_maps.recorded(policy.record, told)
    env = envs.make_env(environment, noise, draws=True, action_map=action_map)
    every = rendering.steps_per_frame(env, FLAGS.max_frames)
    # The policy has a key of its own.
    played = rendering.record(env, act_of(policy), jax.random.key(0), FLAGS.episode, every)
    env.close()
    path = out / f'{descriptions.name_of(environment)}_{FLAGS.episode}.webp'
    print(rendering.write(played, path, FLAGS.frames_per_second))
    viewer = 'open' if sys.platform == 'darwin' else 'xdg-open'
    print(f'look at it: {viewer} {path}')


if __name__ == '__main__':
    command.run(main)
