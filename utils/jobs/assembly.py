"""From data and a config to a population in training."""

import contextlib
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import agents
from agents.frozen import ForeignPolicy, FrozenPolicy
from utils.data import collected, dataset_files, datasets, shards
from utils.data.datasets import Dataset
from utils.data.host_array import HostArray
from utils.environments import action_maps
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import NONE, Environment
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.jobs import held_out_checks
from utils.storage import runs, wandb_runs
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import RunLog
from utils.system import guards
from utils.system.stopping import StopRequest
from utils.training import multitask, parallel, pool, trainer
from utils.training.outputs import Output
from utils.training.run import Online
from utils.training.schedule import Schedule
from utils.training.trainer import Run


class Pools(NamedTuple):
    """Candidates at the training and at the held-out states.

    (rows, num, h, action_dim) in a file, (rows, num, h * action_dim) where training reads them
    (`phases.place_pools`).
    """

    train: np.ndarray | HostArray
    val: np.ndarray | HostArray | None


class Data(NamedTuple):
    """Training and held-out data of every task, in host memory, and where they came from.

    Attributes:
        train, val: one of every task; without held-out data, `val` is None.
        path: of the file or folder.
        action_map: to the actions that were recorded; None: those of the file are.
        told: whether a record beside every file tells of its actions.
    """

    train: list[Dataset]
    val: list[Dataset] | None
    path: Path
    action_map: ActionMap | None = None
    told: bool = False


def load_data(
    path: Path,
    val_path: Path,
    tasks: dict[str, Any],
    config: ConfigDict,
    stop: StopRequest | None = None,
) -> Data:
    """Reads training data and, where they are there, held-out data.

    Args:
        path, val_path: of both files; or a folder of shards, which holds both.
        tasks: environments by their names; None where there is none.
        config: of the agent, whose chunks must fit.
        stop: asked while shards are copied (`mapped`); None: nobody.

    Raises:
        StoppedError: `stop` said so.
        UserError: see `shards.find`, `dataset_files.load` and `datasets.check_chunks`.
    """

    def load(path: Path, parts: list[Path]) -> list[Dataset]:
        built = [datasets.build(arrays) for arrays in dataset_files.load(path, tasks, parts, stop)]
        needs_next = agents.needs_next_actions(config)
        datasets.check_chunks(built[0], config.chunk_length, config.n_step, needs_next, path)
        return built

    parts, val_parts = shards.find(path, val_path)
    train = load(path, parts)
    if config.get('value_model') == 'categorical' and not all(of.rewards.any() for of in train):
        raise UserError(
            f"{path}: all 'rewards' are 0, between whose bounds agent.value_model=categorical "
            'has no room for atoms; check the rewards, or choose another value model'
        )
    val = load(path if path.is_dir() else val_path, val_parts) if val_parts else None
    # Held-out data must have been given the same map.
    action_map = action_maps.of_files([*parts, *val_parts])
    told = all(map(action_maps.is_told, parts))
    return Data(train, val, path, action_map, told)


def check_actions(policy: FrozenPolicy, data: Data) -> None:
    """Checks that a base policy's actions stand for what those of the data do.

    Raises:
        UserError: it was trained on data whose actions were mapped otherwise.
    """
    trained = action_maps.recorded(policy.record, policy.directory / runs.RECORD)
    if trained != data.action_map:
        raise UserError(
            f'--base_policy: {policy.directory}: trained on actions that were mapped otherwise '
            f'than those of {data.path}; train it on these, or import the data with the '
            '--action_range of the other'
        )


def make_run(
    config: ConfigDict,
    environments: list[Environment],
    seeds: list[int],
    data: Data,
    noise: Noise,
    policy: FrozenPolicy | ForeignPolicy | None = None,
    pools: Pools | None = None,
    online_share: float | None = None,
) -> Run:
    """Puts data on the devices and binds agents to it.

    Args:
        config: of the agents.
        environments: of every task.
        seeds: trained for every task.
        data: of every task.
        noise: of the environments.
        policy: the frozen base policy, if there is one.
        pools: its candidates at the training and at the held-out states, if updates read any.
        online_share: of a batch that is collected (`collected.sample`); None: nothing is.
    """
    train, val = (of and multitask.stack(of) for of in (data.train, data.val))
    task_agents = [
        agents.create(config, agents.spec_of(dataset, config.discount)) for dataset in data.train
    ]
    if policy is not None:
        task_agents = [policy.give_to(agent) for agent in task_agents]
    if pools is not None:
        train = train.replace(candidates=pools.train)
        # Without candidates there, nothing can be said of held-out values.
        val = None if pools.val is None else val.replace(candidates=pools.val)
    guards.check_device_memory(
        data.path, sum(leaf.nbytes for leaf in jax.tree.leaves((train, val)))
    )
    # Each seed's own environment and data are on one device.
    num_devices = None if online_share is None else 1
    agent, mesh = task_agents[0], parallel.make_mesh(len(seeds), num_devices)

    what = agents.sampling(agent, config)

    def sample(dataset: Dataset, key: jax.Array, batch_size: int = config.batch_size):
        return datasets.sample(dataset, key, batch_size, **what)

    check = None
    if environments == [NONE] and val is not None:
        own = data.val[0].replace(candidates=None if pools is None else pools.val)
        check = held_out_checks.make(agent, config, seeds, own)
    return Run(
        agents=task_agents,
        environments=environments,
        seeds=seeds,
        mesh=mesh,
        train=parallel.place(train, mesh, parallel.EVERYWHERE),
        val=val and jax.device_put(val),
        sample=multitask.sample(sample),
        noise=noise,
        action_map=data.action_map,
        check=check,
        online=None
        if online_share is None
        else _online(config, policy, what, online_share, pools.train.shape[1] if pools else 0),
    )


def _online(
    config: ConfigDict,
    policy: FrozenPolicy | ForeignPolicy | None,
    what: dict[str, Any],
    share: float,
    num_pool: int,
) -> Online:
    """Returns how agents learn online.

    Args:
        config: of the agents.
        policy: the frozen base policy, if there is one.
        what: of `datasets.sample`.
        share: of a batch that is collected.
        num_pool: candidates of a state in the offline data's pool.
    """

    def sample(data: tuple[Dataset, Dataset], key: jax.Array, own: collected.Own):
        offline, new = data

        def of_task(offline: Dataset, key: jax.Array):
            return collected.sample(offline, new, own, share, key, config.batch_size, **what)

        return multitask.sample(of_task)(offline, key)

    def draw(key: jax.Array) -> pool.Draw:
        return policy.draw(key, num_pool, config.flow_steps)

    return Online(sample, draw if what['num_candidates'] else None, share)


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
        status = stack.enter_context(runs.Status(directories, schedule.total_steps))
        checkpoints = [
            stack.enter_context(Checkpoints(path / 'checkpoints')) for path in directories
        ]
        kept = None
        if schedule.online_steps:
            kept = stack.enter_context(Checkpoints(directories[0] / 'collected'))
        start = trainer.find_start(run, checkpoints, kept)
        if schedule.online_steps and not start.collected and start.step > schedule.offline_steps:
            raise UserError(
                f'{directories[0]}: has {start.step} offline updates already; online ones come '
                f'after them with --offline_steps={start.step}'
            )
        if schedule.online_steps:
            # Not before it is known to be possible: the record cannot be taken back.
            runs.record_online(directories, schedule.offline_steps, run.online.share)
        if start.finished(schedule.total_steps):
            status.tell('finished', start.step)
            print(
                *(f'{path}: finished already, {start.step} updates' for path in directories),
                sep='\n',
            )
            return True
        outputs = []
        for task, (path, saved) in enumerate(zip(directories, checkpoints, strict=True)):
            own = None
            if wandb is not None:
                own = stack.enter_context(wandb_runs.opened(path, run.seeds, wandb))
            log = stack.enter_context(RunLog(path, start.step, own, start.evaluated(task)))
            outputs.append(Output(path, saved, log, kept))
        step, finished = trainer.train(run, start, outputs, schedule, stop, status)
        status.tell('finished' if finished else 'stopped', step, stop.reason)
    if finished:
        print(*(f'{path}: done' for path in directories), sep='\n')
    return finished


def describe_data(data: Data, dataset: Dataset) -> dict[str, Any]:
    """Returns what a record says of a dataset; of a map of actions only where there is one."""
    action_map = data.action_map and {action_maps.KEY: data.action_map._asdict()}
    return (action_map or {}) | dict(
        dataset=dict(
            file=data.path.name,
            transitions=len(dataset.starts),
            checksum=zlib.crc32(dataset.observations),
        ),
        observation_dim=dataset.observations.shape[1],
        action_dim=dataset.actions.shape[1],
    )


def digest_data(dataset: Dataset) -> dict[str, int]:
    """Returns checksums of what a run learns from beside observations.

    Files of one name may differ in their rewards alone, as after somebody has corrected them.
    """
    names = ('actions', 'rewards', 'masks', 'ends')
    return {name: zlib.crc32(getattr(dataset, name)) for name in names}
