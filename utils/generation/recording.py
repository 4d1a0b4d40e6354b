"""Episodes of a behaviour, recorded in shards, a file each, and merged."""

import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import files
from utils.data import npz
from utils.environments import wrappers
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.generation import behaviours
from utils.generation.sources import SOURCES, Source

MAX_ATTEMPTS = 100
SPLITS = ('train', 'val')


class Shard(NamedTuple):
    """A run of consecutive episodes of one split, recorded by one worker into one file."""

    dataset: str
    seed: int
    split: str
    first: int
    last: int
    path: str
    noise: Noise = wrappers.NO_NOISE


def record_shard(shard: Shard) -> int:
    """Records and writes one shard, in a worker process; returns its number of episodes."""
    os.environ['MUJOCO_GL'] = 'disable'
    warnings.filterwarnings('ignore', message='.*precision lowered by casting.*')
    import ogbench  # noqa: F401  (registers the environments)

    source = SOURCES[shard.dataset]
    env = wrappers.wrap(source.make_env(source.env_id, source.steps), shard.noise)
    recordings = [
        record_episode(source, env, shard.seed, shard.split, episode)
        for episode in range(shard.first, shard.last)
    ]
    env.close()
    arrays = _concatenate([recording.episode for recording in recordings])
    arrays['counts'] = np.array([[r.plans, r.successes] for r in recordings]).sum(axis=0)
    with files.writing(Path(shard.path)) as file:
        np.savez(file, **arrays)
    return len(recordings)


def record_episode(
    source: Source, env: object, seed: int, split: str, episode: int
) -> behaviours.Recording:
    """Records one episode; attempts that the behaviour rejects are repeated with a fresh seed."""
    for attempt in range(MAX_ATTEMPTS):
        seeds = np.random.SeedSequence((seed, SPLITS.index(split), episode, attempt))
        recording = source.record(env, source.env_id, seeds)
        if recording.episode is not None:
            return recording
    raise UserError(f'{split} episode {episode}: rejected {MAX_ATTEMPTS} times; try another --seed')


def _concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_shard(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Returns arrays of a shard; all without `names`.

    Raises:
        UserError: it is damaged.
    """
    try:
        return {name: npz.read(path, header) for name, header in npz.headers(path, names).items()}
    except UserError as error:
        raise UserError(f'{error}: remove it and repeat the command') from error


def merge(shards: list[Path], path: Path) -> dict:
    """Writes the episodes of many shards as one file; returns its digest and size.

    One array at a time, so that no more than the largest is in memory, twice while it is joined.

    Raises:
        UserError: a shard is damaged.
    """
    names = [name for name in read_shard(shards[0]) if name != 'counts']
    with files.writing(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            joined = np.concatenate([read_shard(shard, [name])[name] for shard in shards])
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
                np.lib.format.write_array(member, joined, allow_pickle=False)
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return dict(sha256=digest, bytes=path.stat().st_size, rows=len(joined))
