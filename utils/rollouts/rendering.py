"""Pictures of environments: which OpenGL works here, and animations of them.

MuJoCo chooses its OpenGL by MUJOCO_GL when it is imported, once for a process, and a wrong choice
may end the process: so each is tried in a process of its own. Training draws nothing.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from PIL import Image

from utils.environments import envs
from utils.errors import UserError
from utils.rollouts.acting import Act

BACKENDS = ('egl', 'osmesa')
PROBE_TIMEOUT = 120.0  # seconds
PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 2"/><geom size="1"/></worldbody></mujoco>'
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
assert renderer.render().max() > 0, 'drew a black picture'
renderer.close()
"""
QUALITY = 75  # of lossy frames, of 100
STRIP = 6  # pictures


class Recording(NamedTuple):
    """An episode with pictures of it.

    Attributes:
        frames: (height, width, 3) uint8, at the start, every so many steps and at the end.
        success: whether the last step was a success.
        steps: that it took.
    """

    frames: list[np.ndarray]
    success: bool
    steps: int


def find_backend() -> tuple[str | None, str]:
    """Returns a value of MUJOCO_GL that draws on this machine, and why the others do not.

    One that is set in the environment (but 'disable', by which nothing is drawn) is the only one
    that is tried.
    """
    chosen = os.environ.get('MUJOCO_GL', 'disable')
    reasons = []
    for backend in BACKENDS if chosen == 'disable' else (chosen,):
        reason = _try(backend)
        if not reason:
            return backend, '; '.join(reasons)
        reasons.append(f'MUJOCO_GL={backend}: {reason}')
    return None, '; '.join(reasons)


def choose_backend() -> str:
    """Makes MuJoCo, which must not be imported yet, draw by what works here; returns that.

    Raises:
        UserError: nothing does.
    """
    backend, reasons = find_backend()
    if backend is None:
        raise UserError(
            f'no OpenGL draws here ({reasons}); install libegl1 or libosmesa6, then repeat'
        )
    os.environ['MUJOCO_GL'] = backend
    return backend


def steps_per_frame(env: gymnasium.Env, max_frames: int) -> int:
    """Returns after how many steps to draw, so that the longest episode has `max_frames`."""
    return -(-(env.spec.max_episode_steps or max_frames) // max_frames)


def _try(backend: str) -> str:
    """Returns why a backend does not work, or ''."""
    try:
        result = subprocess.run(
            [sys.executable, '-c', PROBE],
            env=os.environ | dict(MUJOCO_GL=backend),
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f'no picture within {PROBE_TIMEOUT:g} s'
    if result.returncode == 0:
        return ''
    said = result.stderr.strip().splitlines()
    return said[-1] if said else f'the process ended with code {result.returncode}'


def record(env: gymnasium.Env, act: Act, key: jax.Array, episode: int, every: int) -> Recording:
    """Plays an episode as `evaluation.evaluate` does, and draws it.

    Args:
        env: draws by `env.render()`.
        act: of `acting.bind`.
        key: the evaluation's.
        episode: its number, by which its start state and the agent's random numbers are fixed.
        every: steps from picture to picture.
    """
    observation: Any = envs.reset(env, episode)
    frames, steps, chunk, done = [env.render()], 0, 0, False
    while not done:
        numbers = (np.array([number]) for number in (episode, chunk))
        for action in np.array(act(np.float32(observation)[None], key, *numbers).actions)[0]:
            observation, _, terminated, truncated, info = env.step(action)
            steps += 1
            done = terminated or truncated
            if done or steps % every == 0:
                frames.append(env.render())
            if done:
                break
        chunk += 1
    return Recording(frames, bool(info['success']), steps)


def write(recording: Recording, path: Path, frames_per_second: float) -> str:
    """Writes an animation, and beside it a strip .png; returns a line that says what it shows.

    Args:
        recording: of an episode.
        path: of the animation, .webp; its folder is made.
        frames_per_second: of the animation.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_animation(recording.frames, path, frames_per_second)
    write_strip(recording.frames, path.with_suffix('.png'))
    said = 'solved' if recording.success else 'not solved'
    return f'{path}: {said} in {recording.steps} steps, {len(recording.frames)} frames'


def write_animation(frames: Sequence[np.ndarray], path: Path, frames_per_second: float) -> None:
    """Writes frames (height, width, 3) uint8 as an endless animated WebP file."""
    first, *others = map(Image.fromarray, frames)
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=round(1000 / frames_per_second),
        loop=0,
        quality=QUALITY,
        method=4,
    )


def write_strip(frames: Sequence[np.ndarray], path: Path) -> None:
    """Writes a few frames side by side, from the first to the last, as a PNG file."""
    chosen = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
    Image.fromarray(np.concatenate([frames[index] for index in chosen], axis=1)).save(path)
