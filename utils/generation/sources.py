"""The datasets that can be made: which environment plays, for how long, and who acts."""

from collections.abc import Callable
from typing import NamedTuple

from utils.generation import behaviours


class Source(NamedTuple):
    """How a dataset is recorded.

    Attributes:
        env_id: the OGBench environment, without task or dataset type.
        steps: rows per episode, one more than its transitions.
        episodes: the official number of training episodes.
        make_env, record: from `behaviours`.
    """

    env_id: str
    steps: int
    episodes: int
    make_env: Callable
    record: Callable


def _play(scene: str, episodes: int = 1000) -> Source:
    return Source(f'{scene}-v0', 1001, episodes, behaviours.make_play_env, behaviours.record_play)


def _navigate(maze: str, steps: int = 1001, episodes: int = 1000) -> Source:
    return Source(
        f'{maze}-v0', steps, episodes, behaviours.make_maze_env, behaviours.record_navigate
    )


def _stitch(maze: str) -> Source:
    return Source(f'{maze}-v0', 201, 5000, behaviours.make_maze_env, behaviours.record_stitch)


SOURCES = {
    'cube-single-play-v0': _play('cube-single'),
    'cube-double-play-v0': _play('cube-double'),
    'cube-triple-play-v0': _play('cube-triple', episodes=3000),
    'cube-quadruple-play-v0': _play('cube-quadruple', episodes=5000),
    'scene-play-v0': _play('scene'),
    'puzzle-3x3-play-v0': _play('puzzle-3x3'),
    'puzzle-4x4-play-v0': _play('puzzle-4x4'),
    'puzzle-4x5-play-v0': _play('puzzle-4x5', episodes=3000),
    'puzzle-4x6-play-v0': _play('puzzle-4x6', episodes=5000),
    'pointmaze-medium-navigate-v0': _navigate('pointmaze-medium'),
    'pointmaze-large-navigate-v0': _navigate('pointmaze-large'),
    'pointmaze-giant-navigate-v0': _navigate('pointmaze-giant', steps=2001, episodes=500),
    'pointmaze-teleport-navigate-v0': _navigate('pointmaze-teleport'),
    'pointmaze-medium-stitch-v0': _stitch('pointmaze-medium'),
    'pointmaze-large-stitch-v0': _stitch('pointmaze-large'),
    'pointmaze-giant-stitch-v0': _stitch('pointmaze-giant'),
    'pointmaze-teleport-stitch-v0': _stitch('pointmaze-teleport'),
    'antmaze-medium-navigate-v0': _navigate('antmaze-medium'),
    'antmaze-large-navigate-v0': _navigate('antmaze-large'),
    'antmaze-giant-navigate-v0': _navigate('antmaze-giant', steps=2001, episodes=500),
    'antmaze-teleport-navigate-v0': _navigate('antmaze-teleport'),
    'antmaze-medium-stitch-v0': _stitch('antmaze-medium'),
    'antmaze-large-stitch-v0': _stitch('antmaze-large'),
    'antmaze-giant-stitch-v0': _stitch('antmaze-giant'),
    'antmaze-teleport-stitch-v0': _stitch('antmaze-teleport'),
}
