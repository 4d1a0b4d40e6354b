"""Trains and evaluates one population of agents: all seeds and tasks of an environment together.

    python main.py --env_name=cube-single-play-singletask-task1-v0 --agent=configs.py:evor

The same command continues a run that was interrupted, to the same bits. Exit codes: 0 finished, 2 a
mistake to be mended, 3 training diverged, 75 asked to stop: saved, and the same command goes on.
"""

import contextlib
import math
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

import agents
from agents import frozen
from agents.frozen import FrozenPolicy
from utils import (
    dataset_files,
    datasets,
    envs,
    errors,
    evaluation,
    guards,
    joint,
    parallel,
    runs,
    trainer,
    wrappers,
)
from utils.checkpoints import Checkpoints
from utils.errors import UserError
from utils.metrics import RunLog
from utils.stopping import StopRequest
from utils.trainer import Run
from utils.wrappers import Noise

FLAGS = flags.FLAGS
CONFIGS_FILE = Path(__file__).with_name('configs.py')

flags.DEFINE_string(
    'env_name', 'cube-single-play-singletask-task1-v0', 'OGBench singletask environment.'
)
flags.DEFINE_integer('seed', 0, 'Seed of a single run.')
flags.DEFINE_list('seeds', None, 'Seeds trained together, e.g. 0,1,2; overrides --seed.')
flags.DEFINE_list(
    'tasks', None, "Tasks trained together, e.g. 1,2,3; they replace --env_name's own."
)
flags.DEFINE_string('save_dir', 'exp', 'Runs go to SAVE_DIR/ENV/CONFIG/seeds_....')
flags.DEFINE_integer('offline_steps', 1_000_000, 'Number of updates.')
flags.DEFINE_integer('log_interval', 5_000, 'Updates between rows of train.csv; 0: none.')
flags.DEFINE_integer('eval_interval', 100_000, 'Updates between evaluations; 0: none.')
flags.DEFINE_integer('eval_episodes', 50, 'Episodes of an evaluation.')
flags.DEFINE_bool(
    'overlap_evaluation',
    None,
    'Evaluate and save on the host while training goes on; default: if there is a GPU or TPU.',
)
flags.DEFINE_integer('save_interval', 100_000, 'Updates between checkpoints; 0: at the end only.')
flags.DEFINE_float(
    'max_wait',
    10.0,
    'Seconds of updates between two looks at signals: SIGTERM, SIGUSR1 and SIGINT save and end.',
)
flags.DEFINE_float('max_wall_time', 0.0, 'Seconds after which the run saves and ends; 0: none.')
flags.DEFINE_enum(
    'platform', None, ['cpu', 'gpu', 'tpu'], 'Refuse to run on anything else; default: any.'
)
flags.DEFINE_string(
    'base_policy', None, 'Run directory of a bc run, for agents with --agent.next_action=pool.'
)
flags.DEFINE_integer(
    'num_pool', 32, 'Candidates of the base policy that are drawn at every state, once.'
)
flags.DEFINE_integer('eval_envs', evaluation.MAX_ENVS, 'Environments that play at a time, at most.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', dataset_files.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string(
    'dataset_path', None, "Your own .npz in OGBench's format; PATH-val.npz is used if it is there."
)
flags.DEFINE_float(
    'action_noise',
    0.0,
    'Deviation of Gaussian noise on what is executed: in evaluations, and in the data, which '
    'scripts/generate_data.py made with the same flag.',
)
flags.DEFINE_float(
    'sticky_prob', 0.0, 'Likewise: probability that a step repeats the previous action.'
)
flags.DEFINE_bool('wandb', False, 'Also log to Weights & Biases (pip install wandb).')


class Data(NamedTuple):
    """Training and held-out data of every task, in host memory, and where they came from."""

    train: list[datasets.Dataset]
    val: list[datasets.Dataset] | None
    path: Path


def define_agent_flag() -> None:
    """Defines --agent, which reads the config and its overrides from the command line at once."""
    try:
        config_flags.DEFINE_config_file(
            'agent', f'{CONFIGS_FILE}:evor', 'Agent config, as configs.py:NAME.', lock_config=True
        )
    except AttributeError as error:
        raise UserError(f'--agent: no such setting: {error}') from error


def main(_: list[str]) -> None:
    stop = StopRequest(FLAGS.max_wall_time)
    with stop.listening(), guards.memory_errors():
        seeds = _check_flags()
        guards.check_platform(FLAGS.platform)
        config = _agent_config()
        noise = wrappers.make_noise(FLAGS.action_noise, FLAGS.sticky_prob)
        tasks = {name: envs.make_env(name) for name in _env_names()}
        data = _load_data(tasks, config, noise)
        policy = _base_policy(config, data.train[0])
        records = {
            runs.run_dir(FLAGS.save_dir, name, config.config_name, seeds): _record(
                name, config, seeds, data, dataset, policy
            )
            for name, dataset in zip(tasks, data.train, strict=True)
        }
        runs.check_records(records)
        with runs.hold(records):
            runs.check_records(records)  # again: another process may have made one meanwhile
            runs.write_records(records)
            run = _on_device(list(tasks), config, seeds, data, noise, policy)
            finished = _train(run, list(records), stop)
    if not finished:
        print(f'stopped by {stop.reason}: saved; the same command goes on', file=sys.stderr)
        sys.exit(errors.STOPPED)


def _train(run: Run, directories: list[Path], stop: StopRequest) -> bool:
    """Trains from the newest checkpoint on; returns whether the run was finished."""
    schedule = _schedule()
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
            trainer.Output(path, saved, stack.enter_context(_open_log(path, start, task)))
            for task, (path, saved) in enumerate(zip(directories, checkpoints, strict=True))
        ]
        step, finished = trainer.train(run, start, outputs, schedule, stop, status)
        status.tell('finished' if finished else 'stopped', step, stop.reason)
    if finished:
        print(*(f'{path}: done' for path in directories), sep='\n')
    return finished


def _schedule() -> trainer.Schedule:
    overlaps = FLAGS.overlap_evaluation
    return trainer.Schedule(
        offline_steps=FLAGS.offline_steps,
        log_interval=FLAGS.log_interval,
        eval_interval=FLAGS.eval_interval,
        save_interval=FLAGS.save_interval,
        eval_episodes=FLAGS.eval_episodes,
        eval_envs=FLAGS.eval_envs,
        max_wait=FLAGS.max_wait,
        overlaps=jax.default_backend() != 'cpu' if overlaps is None else overlaps,
    )


def _open_log(directory: Path, start: trainer.Start, task: int) -> RunLog:
    settings = dict(
        project='evor',
        name=str(directory),
        id=f'{zlib.crc32(str(directory.resolve()).encode()):08x}',
        resume='allow',
        config=dict(FLAGS.agent),
    )
    return RunLog(directory, start.step, settings if FLAGS.wandb else None, start.evaluated(task))


def _env_names() -> list[str]:
    if FLAGS.tasks is None:
        return [FLAGS.env_name]
    return envs.task_names(FLAGS.env_name, _whole_numbers('tasks', FLAGS.tasks))


def _agent_config() -> ConfigDict:
    try:
        agents.check(FLAGS.agent)
    except OSError as error:  # ml_collections puts a failed load off until the config is used
        raise UserError(f'--agent: {error}. Give it as configs.py:NAME') from error
    return FLAGS.agent


def _whole_numbers(flag: str, items: list[str]) -> list[int]:
    try:
        numbers = [int(item) for item in items]
    except ValueError as error:
        raise UserError(f'--{flag}: expected whole numbers such as 0,1,2 ({error})') from error
    # Keys are made from 32 bits: seeds that are equal in them would train the same agent twice.
    in_range = numbers and all(0 <= number < 2**32 for number in numbers)
    if len(set(numbers)) != len(numbers) or not in_range:
        raise UserError(f'--{flag}: must be different and in [0, 2**32), not {numbers}')
    return numbers


def _check_flags() -> list[int]:
    seeds = _whole_numbers('seeds', FLAGS.seeds or [str(FLAGS.seed)])
    for name in ('offline_steps', 'eval_episodes', 'eval_envs', 'num_pool'):
        if FLAGS[name].value < 1:
            raise UserError(f'--{name}: must be at least 1, not {FLAGS[name].value}')
    for name in ('log_interval', 'eval_interval', 'save_interval', 'max_wait', 'max_wall_time'):
        if not 0 <= FLAGS[name].value < math.inf:
            raise UserError(f'--{name}: must be at least 0 and finite, not {FLAGS[name].value}')
    for name in ('save_dir', 'dataset_dir', 'dataset_path'):
        _path(name)
    return seeds


def _path(flag: str) -> Path:
    try:
        return Path(FLAGS[flag].value or '').expanduser()
    except RuntimeError as error:  # of '~somebody', who has no home here
        raise UserError(f"--{flag}: '{FLAGS[flag].value}': {error}") from error


def _load_data(tasks: dict[str, Any], config: ConfigDict, noise: Noise) -> Data:
    if FLAGS.dataset_path:
        path = _path('dataset_path')
        if not path.name:
            raise UserError(f"--dataset_path: '{path}' is a folder; give the .npz file itself")
        val_path = path.with_name(f'{path.stem}-val.npz')
    else:
        path, val_path = dataset_files.locate(
            envs.dataset_name(next(iter(tasks))),
            Path(FLAGS.dataset_dir).expanduser(),
            FLAGS.dataset_url,
            noise,
        )

    def load(path: Path) -> list[datasets.Dataset]:
        built = [datasets.build(arrays) for arrays in dataset_files.load(path, tasks)]
        datasets.check_chunks(built[0], config.chunk_length, config.n_step, path)
        return built

    return Data(load(path), load(val_path) if val_path.exists() else None, path)


def _base_policy(config: ConfigDict, dataset: datasets.Dataset) -> FrozenPolicy | None:
    if agents.needs_base_policy(config) != bool(FLAGS.base_policy):
        raise UserError(
            '--base_policy: give the directory of a bc run where --agent.next_action=pool, and '
            'only there'
        )
    if not FLAGS.base_policy:
        return None
    if config.backup_candidates > FLAGS.num_pool:
        raise UserError(
            f'--num_pool: must be at least agent.backup_candidates={config.backup_candidates}, '
            f'not {FLAGS.num_pool}'
        )
    sizes = dataset.observations.shape[1], dataset.actions.shape[1]
    return frozen.load(_path('base_policy'), config, *sizes)


def _record(
    env_name: str,
    config: ConfigDict,
    seeds: list[int],
    data: Data,
    dataset: datasets.Dataset,
    policy: FrozenPolicy | None,
) -> dict[str, Any]:
    names = ('offline_steps', 'log_interval', 'eval_interval', 'eval_episodes', 'save_interval')
    names += Noise._fields
    phases = {} if policy is None else dict(base_policy=policy.provenance, num_pool=FLAGS.num_pool)
    return runs.describe(
        env_name=env_name,
        **{name: FLAGS[name].value for name in names},
        **phases,
        seeds=seeds,
        agent=config.to_dict(),
        dataset=dict(
            file=data.path.name,
            transitions=len(dataset.starts),
            checksum=zlib.crc32(dataset.observations),
        ),
        observation_dim=dataset.observations.shape[1],
        action_dim=dataset.actions.shape[1],
    )


def _on_device(
    env_names: list[str],
    config: ConfigDict,
    seeds: list[int],
    data: Data,
    noise: Noise,
    policy: FrozenPolicy | None,
) -> Run:
    train, val = (of and joint.stack(of) for of in (data.train, data.val))
    task_agents = [
        agents.create(config, agents.spec_of(dataset, config.discount)) for dataset in data.train
    ]
    if policy is not None:
        task_agents = [frozen.freeze(agent, policy) for agent in task_agents]
        train = _with_candidates(train, policy, frozen.TRAIN_POOL)
        val = val and _with_candidates(val, policy, frozen.VAL_POOL)
    agent, mesh = task_agents[0], parallel.make_mesh(len(seeds))

    def sample(dataset: datasets.Dataset, key: jax.Array, batch_size: int = config.batch_size):
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
        val=val and jax.device_put(val),
        sample=joint.sample(sample),
        noise=noise,
    )


def _with_candidates(
    dataset: datasets.Dataset, policy: FrozenPolicy, stream: int
) -> datasets.Dataset:
    checksum = zlib.crc32(dataset.observations)
    return frozen.with_candidates(dataset, policy, FLAGS.num_pool, checksum, stream)


if __name__ == '__main__':
    errors.run(main, define_agent_flag)
