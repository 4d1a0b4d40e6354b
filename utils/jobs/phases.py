"""The phases of a run: a base policy, its candidates at every state, and values learned on them.

A frozen base policy is an artefact of its own, SAVE_DIR/base_policies/DATASET/NAME: a run of `bc`
without evaluations, with its pools beside its checkpoints. It is found again by what it was trained
with and on, so that another task, agent or seed does not train it again. So is a finished run of
`bc` with the same settings under SAVE_DIR.
"""

import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from agents import frozen
from agents.frozen import ForeignPolicy, FrozenPolicy
from utils.data.datasets import Dataset
from utils.data.host_array import HostArray
from utils.environments import action_maps, descriptions, envs, sparse
from utils.environments.descriptions import Environment, name_of
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.jobs import assembly
from utils.jobs.assembly import Data, Pools
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.system import guards, locks
from utils.system.stopping import StoppedError, StopRequest
from utils.training import pool, populations
from utils.training.schedule import Schedule

# How often a base policy logs and saves does not hang on the run that has it trained.
LOG_INTERVAL, SAVE_INTERVAL = 5_000, 20_000
# Folded into the key of a seed's stream of pools, so that no two pools have the same noise.
TRAIN_POOL, VAL_POOL = range(2)
# Share of the free memory that a pool may take.
POOL_SHARE = 0.5


# Phase 1.


def base_policy_record(
    config: ConfigDict,
    steps: int,
    seed: int,
    environment: Environment,
    data: Data,
    noise: Noise,
) -> dict[str, Any]:
    """Returns the record of the run of `bc` that trains a base policy.

    Args:
        config: of `bc`.
        steps, seed: updates and seed.
        environment: of any task; the record names the first.
        data, noise: what it is trained on.
    """
    return runs.describe(
        env_name=envs.task_names(sparse.parse(name_of(environment)).base, [1])[0],
        **descriptions.describe(environment),
        offline_steps=steps,
        log_interval=LOG_INTERVAL,
        save_interval=SAVE_INTERVAL,
        eval_interval=0,
        eval_episodes=1,
        **noise._asdict(),
        seeds=[seed],
        agent=config.to_dict(),
        **assembly.describe_data(data, data.train[0]),
    )


def base_policy_dir(save_dir: Path, record: dict[str, Any], data: Data) -> Path:
    """Returns where a base policy lives, by all that makes it what it is."""
    identity = dict(_identity(record), actions=zlib.crc32(data.train[0].actions))
    identity['steps'] = record['offline_steps']
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f'h{record["agent"]["chunk_length"]}_seed{record["seeds"][0]}_{digest}'
    return save_dir / runs.BASE_POLICIES / data.path.stem / name


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    """What a base policy is trained with and on, but for the number of updates."""
    settings = frozen.settings_of(runs.agent_config(record), frozen.TRAINING_SETTINGS)
    identity = {name: record.get(name) for name in ('dataset', *Noise._fields)}
    return identity | settings | dict(hidden_dims=list(settings['hidden_dims']))


def ensure_base_policy(
    save_dir: Path,
    record: dict[str, Any],
    config: ConfigDict,
    data: Data,
    noise: Noise,
    stop: StopRequest,
    max_wait: float,
) -> FrozenPolicy:
    """Returns the base policy of a record, training what of it is missing.

    Args:
        save_dir: where runs are.
        record: of `base_policy_record`.
        config: of `bc`.
        data, noise: what it is trained on.
        stop: asked after every chunk of updates.
        max_wait: seconds of updates between two looks at signals.

    Raises:
        StoppedError: `stop` said so; what was trained is saved.
        UserError: another run is in its place.
    """
    steps, seeds = record['offline_steps'], record['seeds']
    sizes = record['observation_dim'], record['action_dim']
    directory = base_policy_dir(save_dir, record, data)
    for place in (directory, *_runs_of_bc(save_dir, record)):
        if _is_trained(place, record, data):
            print(f'base policy: {steps} updates, is there: {place}', flush=True)
            return frozen.load(place, config, *sizes, steps)
    print(f'base policy: {steps} updates, goes to: {directory}', flush=True)
    directory.mkdir(parents=True, exist_ok=True)
    with locks.hold_in_turn(directory / locks.LOCK, stop):
        runs.check_records({directory: record})
        runs.write_records({directory: record})
        schedule = Schedule(
            offline_steps=steps,
            log_interval=LOG_INTERVAL,
            eval_interval=0,
            save_interval=SAVE_INTERVAL,
            eval_episodes=1,
            eval_envs=1,
            max_wait=max_wait,
            overlaps=False,
            label='base policy',
        )
        # Any task's data do: no reward is read.
        one = data._replace(train=data.train[:1], val=data.val and data.val[:1])
        run = assembly.make_run(config, [record['env_name']], seeds, one, noise)
        if not assembly.train(run, [directory], schedule, stop):
            raise StoppedError
    return frozen.load(directory, config, *sizes, steps)


def _runs_of_bc(save_dir: Path, record: dict[str, Any]) -> list[Path]:
    """Directories of runs of the dataset's tasks that may be this policy."""
    names = dict.fromkeys(envs.task_names(record['env_name'], [1, 2, 3, 4, 5]))
    seed = record['seeds'][0]
    found = [path for name in names for path in (save_dir / name).glob(f'*/seeds_{seed}*')]
    return sorted(path for path in found if (path / runs.RECORD).is_file())


def _is_trained(directory: Path, record: dict[str, Any], data: Data) -> bool:
    """Whether a directory holds the base policy of a record and its data, trained to the end."""
    if not (directory / runs.RECORD).is_file():
        return False
    found = runs.read_record(directory)
    same = (
        found['agent'].get('agent_name') == 'bc'
        and found['seeds'][0] == record['seeds'][0]
        # An older version may have done otherwise what its record does not say.
        and found['agent'].keys() >= {*frozen.TRAINING_SETTINGS}
        and _identity(found) == _identity(record)
        and _same_actions(found, directory, data)
        # Updates online are counted on, and imitate what the policy itself did.
        and record['offline_steps'] <= found.get('online', {}).get('after', math.inf)
    )
    if not same or not (directory / 'checkpoints').is_dir():
        return False
    with Checkpoints(directory / 'checkpoints', read_only=True) as checkpoints:
        return record['offline_steps'] in checkpoints.steps()


def _same_actions(found: dict[str, Any], directory: Path, data: Data) -> bool:
    """Whether a run learned from the actions of the data, mapped as these are."""
    if action_maps.recorded(found, directory / runs.RECORD) != data.action_map:
        return False
    # A base policy's own record has no digest of its actions: its directory is called by them.
    actions = zlib.crc32(data.train[0].actions)
    return found.get('contents', {}).get('actions', actions) == actions


# Phase 2.


def make_pools(
    policy: FrozenPolicy | ForeignPolicy,
    directory: Path,
    config: ConfigDict,
    data: Data,
    stop: StopRequest,
) -> Pools:
    """Returns the candidates at the training and at the held-out states, drawn now or before.

    Args:
        policy: the base policy.
        directory: of its pools.
        config: of the agent that reads them.
        data: their states are the same for every task.
        stop: asked between blocks.

    Raises:
        StoppedError, UserError: see `pool.ensure`.
    """
    key = populations.stream(config.policy_seed, populations.POOL_STREAM)
    numbers = config.num_pool, config.flow_steps

    def make(name: str, stream: int, dataset: Dataset) -> np.ndarray:
        provenance = policy.pool_provenance(config.flow_steps) | dict(
            observations=zlib.crc32(dataset.observations), seed=config.policy_seed
        )
        return pool.ensure(
            directory / f'{name}_{policy.pool_name(*numbers)}.npy',
            policy.draw(jax.random.fold_in(key, stream), *numbers),
            dataset.observations,
            (config.num_pool, config.chunk_length, dataset.actions.shape[1]),
            provenance,
            stop,
        )

    train = make('train', TRAIN_POOL, data.train[0])
    return Pools(train, data.val and make('val', VAL_POOL, data.val[0]))


def read_pools(path: Path, config: ConfigDict, data: Data, num_candidates: int) -> Pools:
    """Returns somebody else's pools: PATH, and PATH-val for the held-out states, if it is there.

    Raises:
        UserError: see `pool.read`.
    """

    def read(path: Path, dataset: Dataset) -> np.ndarray:
        shape = config.chunk_length, dataset.actions.shape[1]
        return pool.read(path, len(dataset.observations), num_candidates, shape)

    val_path = path.with_stem(f'{path.stem}-val')
    val = read(val_path, data.val[0]) if data.val and val_path.exists() else None
    return Pools(read(path, data.train[0]), val)


def place_pools(pools: Pools, where: str) -> Pools:
    """Returns pools, with an axis of flat chunks, where training is to read them.

    Args:
        pools: memory maps.
        where: 'device', 'host', or 'auto': on the device if they take at most `POOL_SHARE` of
            what is free there.

    Raises:
        UserError: they are to be on the device, which has less memory free.
    """
    needed = sum(of.nbytes for of in pools if of is not None)
    free = guards.free_memory()
    if where == 'device' and needed > free:
        raise UserError(
            f'--pool_on=device: the pool needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are '
            'free; give --pool_on=host or a lower --agent.num_pool'
        )
    on_device = where == 'device' or (where == 'auto' and needed <= POOL_SHARE * free)
    if not on_device:
        print(f'pool: {needed / 1e6:.0f} MB, read from the file during training', flush=True)

    def place(of: np.ndarray | None) -> np.ndarray | HostArray | None:
        if of is None:
            return None
        return pool.flattened(of) if on_device else HostArray(pool.flattened(of))

    return Pools(*map(place, pools))
