"""Makes OGBench datasets without a network: shards recorded in parallel, then merged.

The bytes of the result depend on the dataset's name, the number of episodes, the seed, the noise,
the kind of processor, whose products round in their own way, and, where one walks, the expert;
never on the number of workers or on interruptions.
"""

import contextlib
import importlib.metadata
import json
import multiprocessing
import shutil
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import tqdm

from utils import files
from utils.data import fetching
from utils.environments import wrappers
from utils.environments.wrappers import Noise
from utils.errors import UserError, did_you_mean
from utils.generation import behaviours, experts, recording
from utils.generation.recording import Shard
from utils.generation.sources import SOURCES, Source
from utils.system import locks, spawning, stopping
from utils.system.stopping import StoppedError, StopRequest

SHARD_EPISODES = 10
POLL_SECONDS = 1.0  # between looks at whether to stop
VERSIONED = ('ogbench', 'mujoco', 'gymnasium', 'numpy')
REMEDY = 'move it and the files that it tells of away, then repeat the command'


def generate(
    dataset: str,
    dataset_dir: Path,
    episodes: int | None,
    workers: int,
    seed: int,
    noise: Noise = wrappers.NO_NOISE,
    stop: StopRequest | None = None,
) -> dict:
    """Makes `dataset` and its validation set (a tenth as many episodes) in `dataset_dir`.

    Interrupted work is taken up where it stopped. A finished set made with the same parameters is
    left as it is.

    Args:
        dataset: a key of `SOURCES`.
        dataset_dir: folder for DATASET.npz, DATASET-val.npz and DATASET.json.
        episodes: number of training episodes; None for the official number.
        workers: number of processes.
        seed: fixes the bytes on one kind of processor.
        noise: of the environment. What is recorded is the action that the behaviour chose, not what
            became of it: noise is the environment's own, as it is where an agent is evaluated.
        stop: asks to stop; finished shards are kept.

    Returns:
        The provenance record, as written to DATASET.json.

    Raises:
        UserError: unknown dataset, the folder holds a set or shards made otherwise (an ant's set
            whose record tells of no expert is one) or cannot be written to, a worker died, or it
            was told to stop.
    """
    check_name(dataset)
    source = SOURCES[dataset]
    episodes = source.episodes if episodes is None else episodes
    parameters = dict(dataset=dataset, episodes=episodes, seed=seed)
    if min(parameters['episodes'], workers) < 1 or seed < 0:
        raise UserError('--episodes and --workers must be at least 1, --seed at least 0')
    parameters['versions'] = {name: importlib.metadata.version(name) for name in VERSIONED}
    if any(noise):
        parameters['noise'] = noise._asdict()
    expert = behaviours.expert_name(source.env_id)
    if expert is not None:
        parameters['expert'] = dict(name=expert, sha256=experts.digest(expert))
    try:
        # A finished set may lie in a folder that nobody can write to, hence nobody can lock.
        finished = _finished(dataset_dir, dataset, parameters)
        if finished:
            _discard(_shard_dir(dataset_dir, dataset))
            return finished
        dataset_dir.mkdir(parents=True, exist_ok=True)
        stop = stop or StopRequest()
        with locks.hold_in_turn(dataset_dir / f'.{dataset}.lock', stop):
            return _generate(dataset_dir, source, parameters, workers, stop)
    except StoppedError as error:
        raise stop.error() from error
    except OSError as error:
        raise UserError(
            f'{dataset_dir}: {dataset} not made ({error}); finished shards are kept, repeat the '
            'command when this is mended'
        ) from error


def _generate(
    dataset_dir: Path, source: Source, parameters: dict, workers: int, stop: StopRequest
) -> dict:
    dataset = parameters['dataset']
    finished = _finished(dataset_dir, dataset, parameters)
    if finished:
        return finished
    shard_dir = _shard_dir(dataset_dir, dataset)
    shards = _plan_shards(shard_dir, parameters)
    counts = _record_all(shards, workers, stop)
    record = dict(
        parameters,
        steps_per_episode=source.steps,
        plans={split: counts[split][0] for split in recording.SPLITS},
        plan_successes={split: counts[split][1] for split in recording.SPLITS},
        files={},
    )
    _check_free(dataset_dir, dataset)  # somebody may have put files there meanwhile
    (shard_dir / fetching.MERGING).touch()
    for split in recording.SPLITS:
        path = _split_path(dataset_dir, dataset, split)
        merged = [Path(shard.path) for shard in shards if shard.split == split]
        record['files'][path.name] = recording.merge(merged, path)
    files.write_json(dataset_dir / f'{dataset}.json', record)
    _discard(shard_dir)
    return record


def _shard_dir(dataset_dir: Path, dataset: str) -> Path:
    return dataset_dir / f'.{dataset}.shards'


def _discard(shard_dir: Path) -> None:
    """Removes the shards of a finished set, where that is allowed.

    They first get a name that nothing reads: a part of them would be taken for work to go on from.
    """
    gone = shard_dir.with_suffix('.done')
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(OSError):
        shard_dir.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def check_name(dataset: str) -> None:
    """Checks that a dataset can be made.

    Raises:
        UserError: it cannot.
    """
    if dataset not in SOURCES:
        hint = did_you_mean(dataset, SOURCES)
        raise UserError(
            f"--dataset: cannot generate '{dataset}'.{hint} Known: {', '.join(SOURCES)}"
        )


def _split_path(dataset_dir: Path, dataset: str, split: str) -> Path:
    return dataset_dir / (f'{dataset}.npz' if split == 'train' else f'{dataset}-val.npz')


def _finished(dataset_dir: Path, dataset: str, parameters: dict) -> dict | None:
    """Returns the provenance of an equal, finished set; None if there is no set yet."""
    paths = [_split_path(dataset_dir, dataset, split) for split in recording.SPLITS]
    provenance = dataset_dir / f'{dataset}.json'
    if not provenance.exists():
        try:
            _check_free(dataset_dir, dataset)
            return None
        except UserError:
            if not provenance.exists():  # else another process has finished it meanwhile
                raise
    record = read_record(dataset_dir, dataset)
    # Only the records of noisy sets tell of noise, only those of walked ones of an expert.
    names = parameters | dict(noise=None, expert=None)
    differing = [name for name in names if record.get(name) != parameters.get(name)]
    if differing:
        raise UserError(
            f'{dataset_dir} already holds {dataset} made with other {", ".join(differing)}; '
            'choose another --dataset_dir or move it away'
        )
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f'{provenance} is there but {missing[0]} is not; move what there is of {dataset} away, '
            'then repeat the command'
        )
    return record


def _check_free(dataset_dir: Path, dataset: str) -> None:
    """Checks that files without provenance, if there are any, are ours: of a merge that broke off.

    Raises:
        UserError: they are somebody's own.
    """
    paths = [_split_path(dataset_dir, dataset, split) for split in recording.SPLITS]
    ours = (_shard_dir(dataset_dir, dataset) / fetching.MERGING).exists()
    if any(path.exists() for path in paths) and not ours:
        raise UserError(
            f'{dataset_dir} already holds {dataset} from elsewhere; '
            'choose another --dataset_dir or move it away'
        )


def read_record(dataset_dir: Path, dataset: str) -> dict:
    """Reads how a finished set was made.

    Raises:
        UserError: there is no such set of ours, or its record is damaged.
    """
    path = dataset_dir / f'{dataset}.json'
    if not path.exists():
        raise UserError(f'{path}: not found; make the set by scripts/generate_data.py')
    record = _read_json(path)
    absent = {'files', 'plans', 'plan_successes'} - record.keys()
    if absent:
        raise UserError(f'{path}: damaged, lacks {min(absent)}; {REMEDY}')
    return record


def _plan_shards(shard_dir: Path, parameters: dict) -> list[Shard]:
    marker = shard_dir / 'parameters.json'
    if marker.exists() and _read_json(marker, f'remove {shard_dir}') != parameters:
        raise UserError(
            f'{shard_dir} holds shards of other parameters; remove it or choose another '
            '--dataset_dir'
        )
    if not marker.exists() and any(shard_dir.glob('*.npz')):
        raise UserError(f'{shard_dir} holds shards of which nothing is known; remove it')
    shard_dir.mkdir(parents=True, exist_ok=True)
    files.write_json(marker, parameters)
    shards, noise = [], Noise(**parameters.get('noise', {}))
    for split in recording.SPLITS:
        total = parameters['episodes']
        total = total if split == 'train' else max(1, total // 10)
        for first in range(0, total, SHARD_EPISODES):
            last = min(first + SHARD_EPISODES, total)
            path = shard_dir / f'{split}-{first:06d}.npz'
            dataset, seed = parameters['dataset'], parameters['seed']
            shards.append(Shard(dataset, seed, split, first, last, str(path), noise))
    return shards


def _record_all(shards: list[Shard], workers: int, stop: StopRequest) -> dict[str, np.ndarray]:
    """Records the shards that are missing; returns per split (plans, successful plans)."""
    missing = [shard for shard in shards if not Path(shard.path).exists()]
    episodes = sum(shard.last - shard.first for shard in shards)
    left = sum(shard.last - shard.first for shard in missing)
    name = shards[0].dataset
    # Spawned, not forked: a forked MuJoCo or JAX process can hang.
    context = multiprocessing.get_context('spawn')
    with (
        tqdm.tqdm(total=episodes, initial=episodes - left, desc=name, unit='episode') as bar,
        ProcessPoolExecutor(min(workers, max(1, len(missing))), mp_context=context) as pool,
    ):
        try:
            with spawning.without_main(), stopping.deaf_children():
                running = {pool.submit(recording.record_shard, shard) for shard in missing}
            while running:
                if stop():
                    raise stop.error()
                done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    bar.update(future.result())
        except BrokenProcessPool as error:
            raise UserError(
                'a data generation worker died (out of memory?); finished shards are kept: '
                'repeat the command, with fewer --workers if memory is short'
            ) from error
        except BaseException:
            # Workers that go on would write shards beside those of a repetition.
            for worker in multiprocessing.active_children():
                worker.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    counts = {split: np.zeros(2, np.int64) for split in recording.SPLITS}
    for shard in shards:
        counts[shard.split] += recording.read_shard(Path(shard.path), ['counts'])['counts']
    return {split: [int(count) for count in counts[split]] for split in recording.SPLITS}


def _read_json(path: Path, remedy: str = REMEDY) -> dict:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: damaged ({error}); {remedy}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: damaged, no record of a dataset; {remedy}')
    return content
