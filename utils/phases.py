"""The phases of a run: a base policy, its candidates at every state, and values learned on them.

A frozen base policy is an artefact of its own, SAVE_DIR/base_policies/DATASET/NAME: a run of `bc`
without evaluations, with its pools beside its checkpoints. It is found again by what it was trained
with and on, so that another task, agent or seed does not train it again. So is a finished run of
`bc` with the same settings under SAVE_DIR.
"""

import contextlib
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

import agents
from agents import frozen
from agents.frozen import ForeignPolicy, FrozenPolicy
from utils import (
    datasets,
    envs,
    guards,
    joint,
    locks,
    parallel,
    pool,
    runs,
    sparse,
    trainer,
    training,
)
from utils.checkpoints import Checkpoints
from utils.datasets import Dataset
from utils.errors import UserError
from utils.host_array import HostArray
from utils.metrics import RunLog
from utils.stopping import StoppedError, StopRequest
from utils.trainer import Run, Schedule
from utils.wrappers import Noise

BASE_POLICIES = 'base_policies'
# How often a base policy logs and saves does not hang on the run that has it trained.
LOG_INTERVAL, SAVE_INTERVAL = 5_000, 20_000
# Folded into the key of a seed's stream of pools, so that no two pools have the same noise.
TRAIN_POOL, VAL_POOL = range(2)
# Share of the free memory that a pool may take.
POOL_SHARE = 0.5


class Data(NamedTuple):
    """Training and held-out data of every task, in host memory, and where they came from."""

    train: list[Dataset]
    val: list[Dataset] | None
    path: Path


def make_run(
    config: ConfigDict,
    env_names: list[str],
    seeds: list[int],
    data: Data,
    noise: Noise,
    policy: FrozenPolicy | ForeignPolicy | None = None,
    pools: list[Any] | None = None,
) -> Run:
    """Puts data on the devices and binds agents to it.

    Args:
        config: of the agents.
        env_names: of every task.
        seeds: trained for every task.
        data: of every task.
        noise: of the environments.
        policy: the frozen base policy, if there is one.
        pools: its candidates at the training and at the held-out states, if updates read any.
    """
    train, val = (of and joint.stack(of) for of in (data.train, data.val))
    task_agents = [
        agents.create(config, agents.spec_of(dataset, config.discount)) for dataset in data.train
    ]
    if policy is not None:
        task_agents = [policy.give_to(agent) for agent in task_agents]
    if pools is not None:
        train = train.replace(candidates=pools[TRAIN_POOL])
        # Without candidates there, nothing can be said of held-out values.
        val = val and pools[VAL_POOL] is not None and val.replace(candidates=pools[VAL_POOL])
    agent, mesh = task_agents[0], parallel.make_mesh(len(seeds))

    def sample(dataset: Dataset, key: jax.Array, batch_size: int = config.batch_size):
        return datasets.sample(
            dataset,
            key,
            batch_size,
            config.chunk_length,
            config.n_step,
            config.discount,
            agent.needs_next_actions,
            agent.num_candidates,
        )

    return Run(
        agents=task_agents,
        env_names=env_names,
        seeds=seeds,
        mesh=mesh,
        train=parallel.place(train, mesh, parallel.EVERYWHERE),
        val=jax.device_put(val) if val else None,
        sample=joint.sample(sample),
        noise=noise,
    )


def train(
    run: Run,
    directories: list[Path],
    schedule: Schedule,
    stop: StopRequest,
    wandb: dict[str, Any] | None = None,
) -> bool:
    """Trains from the newest checkpoint on; returns whether the run was finished.

    Args:
        run: what is trained.
        directories: of every task; held, with their records.
        schedule: of the training.
        stop: asked after every chunk of updates.
        wandb: config to log to Weights & Biases; None: do not.
    """
    with contextlib.ExitStack() as stack:
        status = stack.enter_context(runs.Status(directories, schedule.offline_steps))
        checkpoints = [
            stack.enter_context(Checkpoints(path / 'checkpoints')) for path in directories
        ]
        start = trainer.find_start(run, checkpoints)
        if start.finished(schedule.offline_steps):
            status.tell('finished', start.step)
            print(
                *(f'{path}: finished already, {start.step} updates' for path in directories),
                sep='\n',
            )
            return True
        outputs = [
            trainer.Output(path, saved, stack.enter_context(_open_log(path, start, task, wandb)))
            for task, (path, saved) in enumerate(zip(directories, checkpoints, strict=True))
        ]
        step, finished = trainer.train(run, start, outputs, schedule, stop, status)
        status.tell('finished' if finished else 'stopped', step, stop.reason)
    if finished:
        print(*(f'{path}: done' for path in directories), sep='\n')
    return finished


def _open_log(
    directory: Path, start: trainer.Start, task: int, wandb: dict[str, Any] | None
) -> RunLog:
    settings = wandb and dict(
        project='evor',
        name=str(directory),
        id=f'{zlib.crc32(str(directory.resolve()).encode()):08x}',
        resume='allow',
        config=wandb,
    )
    return RunLog(directory, start.step, settings, start.evaluated(task))


# Phase 1.


def base_policy_record(
    config: ConfigDict, steps: int, seed: int, env_name: str, data: Data, noise: Noise
) -> dict[str, Any]:
    """Returns the record of the run of `bc` that trains a base policy.

    Args:
        config: of `bc`.
        steps, seed: updates and seed.
        env_name: of any task; the record names the first.
        data, noise: what it is trained on.
    """
    return runs.describe(
        env_name=envs.task_names(sparse.parse(env_name).base, [1])[0],
        offline_steps=steps,
        log_interval=LOG_INTERVAL,
        save_interval=SAVE_INTERVAL,
        eval_interval=0,
        eval_episodes=1,
        **noise._asdict(),
        seeds=[seed],
        agent=config.to_dict(),
        **describe_data(data.path, data.train[0]),
    )


def describe_data(path: Path, dataset: Dataset) -> dict[str, Any]:
    """Returns what a record says of a dataset."""
    return dict(
        dataset=dict(
            file=path.name,
            transitions=len(dataset.starts),
            checksum=zlib.crc32(dataset.observations),
        ),
        observation_dim=dataset.observations.shape[1],
        action_dim=dataset.actions.shape[1],
    )


def base_policy_dir(save_dir: Path, record: dict[str, Any], data: Data) -> Path:
    """Returns where a base policy lives, by all that makes it what it is."""
    agent, seed = record['agent'], record['seeds'][0]
    settings = {
        name: agent[name]
        for name in ('hidden_dims', *frozen.POLICY_SETTINGS, *frozen.TRAINING_SETTINGS)
    }
    identity = settings | {name: record[name] for name in ('dataset', *Noise._fields)}
    identity |= dict(actions=zlib.crc32(data.train[0].actions), steps=record['offline_steps'])
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    name = f'h{agent["chunk_length"]}_seed{seed}_{digest}'
    return save_dir / BASE_POLICIES / data.path.stem / name


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
        if _is_trained(place, record):
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
        one = Data(data.train[:1], data.val and data.val[:1], data.path)
        run = make_run(config, [record['env_name']], seeds, one, noise)
        if not train(run, [directory], schedule, stop):
            raise StoppedError
    return frozen.load(directory, config, *sizes, steps)


def _runs_of_bc(save_dir: Path, record: dict[str, Any]) -> list[Path]:
    """Directories of runs of the dataset's tasks that may be this policy."""
    names = envs.task_names(record['env_name'], [1, 2, 3, 4, 5])
    seed = record['seeds'][0]
    found = [path for name in names for path in (save_dir / name).glob(f'*/seeds_{seed}*')]
    return sorted(path for path in found if (path / runs.RECORD).is_file())


def _is_trained(directory: Path, record: dict[str, Any]) -> bool:
    """Whether a directory holds the base policy of a record, trained to the end."""
    if not (directory / runs.RECORD).is_file():
        return False
    found, wanted = runs.read_record(directory), record
    names = ('hidden_dims', *frozen.POLICY_SETTINGS, *frozen.TRAINING_SETTINGS)
    same = (
        found['agent'].get('agent_name') == 'bc'
        and found['seeds'][0] == wanted['seeds'][0]
        and all(found.get(name) == wanted[name] for name in ('dataset', *Noise._fields))
        and all(found['agent'].get(name) == wanted['agent'][name] for name in names)
    )
    if not same or not (directory / 'checkpoints').is_dir():
        return False
    with Checkpoints(directory / 'checkpoints', read_only=True) as checkpoints:
        return wanted['offline_steps'] in checkpoints.steps()


# Phase 2.


def make_pools(
    policy: FrozenPolicy | ForeignPolicy,
    directory: Path,
    config: ConfigDict,
    data: Data,
    stop: StopRequest,
) -> list[Any]:
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
    key = training.stream(config.policy_seed, training.POOL_STREAM)
    pools = []
    for stream, name in ((TRAIN_POOL, 'train'), (VAL_POOL, 'val')):
        of_tasks = data.train if stream == TRAIN_POOL else data.val
        if not of_tasks:
            pools.append(None)
            continue
        dataset = of_tasks[0]
        provenance = policy.provenance | dict(observations=zlib.crc32(dataset.observations))
        provenance |= dict(seed=config.policy_seed, flow_steps=config.flow_steps)
        candidates = pool.ensure(
            directory / f'{name}_{config.num_pool}.npy',
            policy.draw(jax.random.fold_in(key, stream), config.num_pool),
            dataset.observations,
            (config.num_pool, config.chunk_length, dataset.actions.shape[1]),
            provenance,
            stop,
        )
        pools.append(candidates)
    return pools


def read_pools(path: Path, config: ConfigDict, data: Data, num_candidates: int) -> list[Any]:
    """Returns somebody else's pools: PATH, and PATH-val for the held-out states, if it is there.

    Raises:
        UserError: see `pool.read`.
    """
    pools = []
    for of_tasks, file in ((data.train, path), (data.val, path.with_stem(f'{path.stem}-val'))):
        if not of_tasks or (file != path and not file.exists()):
            pools.append(None)
            continue
        rows, action_dim = len(of_tasks[0].observations), of_tasks[0].actions.shape[1]
        shape = config.chunk_length, action_dim
        pools.append(pool.read(file, rows, num_candidates, shape))
    return pools


def place_pools(pools: list[Any], where: str) -> list[Any]:
    """Returns pools, with an axis of flat chunks, where training is to read them.

    Args:
        pools: memory maps, or None.
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
    flat = [of if of is None else pool.flattened(of) for of in pools]
    return [of if of is None or on_device else HostArray(of) for of in flat]
