"""Trains and evaluates one population of agents: all seeds and tasks of an environment together.

python main.py --env_name=cube-single-play-singletask-task1-v0 --agent=configs.py:evor --seeds=0,1,2
"""

import contextlib
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

import agents
from agents import Agent
from utils import dataset_files, datasets, envs, errors, evaluation, joint, parallel, runs, training
from utils.background import Background, on_host
from utils.checkpoints import Checkpoints
from utils.errors import UserError
from utils.metrics import RunLog
from utils.monitor import Monitor

FLAGS = flags.FLAGS
CONFIGS_FILE = Path(__file__).with_name('configs.py')
# The progress bar moves this often; chunks may be cut anywhere without changing the result.
PROGRESS_STEPS = 500

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
flags.DEFINE_bool('resume', False, 'Continue from the newest checkpoint, if there is one.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', dataset_files.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string(
    'dataset_path', None, "Your own .npz in OGBench's format; PATH-val.npz is used if it is there."
)
flags.DEFINE_bool('wandb', False, 'Also log to Weights & Biases (pip install wandb).')


class Data(NamedTuple):
    """Training and held-out data of every task, in host memory, and where they came from."""

    train: list[datasets.Dataset]
    val: list[datasets.Dataset] | None
    path: Path


class Run(NamedTuple):
    """What the training loop needs besides the states.

    Attributes:
        agents: of every task; they differ in the scale of returns that they start with.
        env_names: of every task.
        seeds: trained for every task.
        mesh: the devices that the seeds are split over.
        train, val: joint datasets on the devices.
        sample: (dataset, key, batch_size) -> a joint batch.
    """

    agents: list[Agent]
    env_names: list[str]
    seeds: list[int]
    mesh: Mesh
    train: datasets.Dataset
    val: datasets.Dataset | None
    sample: Callable

    @property
    def agent(self) -> Agent:
        """The agent whose functions serve every task."""
        return self.agents[0]


class Output(NamedTuple):
    """Where the numbers of a task go."""

    directory: Path
    checkpoints: Checkpoints
    log: RunLog


def define_agent_flag() -> None:
    """Defines --agent, which reads the config and its overrides from the command line at once."""
    try:
        config_flags.DEFINE_config_file(
            'agent', f'{CONFIGS_FILE}:evor', 'Agent config, as configs.py:NAME.', lock_config=True
        )
    except AttributeError as error:
        raise UserError(f'--agent: no such setting: {error}') from error


def main(_: list[str]) -> None:
    seeds = _check_flags()
    config = _agent_config()
    tasks = {name: envs.make_env(name) for name in _env_names()}
    data = _load_data(tasks, config)
    task_agents = [
        agents.create(config, agents.spec_of(dataset, config.discount)) for dataset in data.train
    ]
    directories = {
        runs.run_dir(FLAGS.save_dir, name, config.config_name, seeds): _record(
            name, config, seeds, data, dataset
        )
        for name, dataset in zip(tasks, data.train, strict=True)
    }
    runs.open_runs(directories, FLAGS.resume)
    run = _on_device(task_agents, list(tasks), config, seeds, data)
    with contextlib.ExitStack() as stack:
        checkpoints = [
            stack.enter_context(Checkpoints(path / 'checkpoints')) for path in directories
        ]
        population, step = _start(run, checkpoints)
        if step >= FLAGS.offline_steps:
            print(*(f'{path}: finished already, {step} updates' for path in directories), sep='\n')
            return
        outputs = [
            Output(path, saved, stack.enter_context(_open_log(path, config, step)))
            for path, saved in zip(directories, checkpoints, strict=True)
        ]
        _train(run, population, step, outputs)
    print(*(f'{path}: done' for path in directories), sep='\n')


def _open_log(directory: Path, config: ConfigDict, step: int) -> RunLog:
    settings = dict(project='evor', name=str(directory), config=dict(config))
    return RunLog(directory, step, settings if FLAGS.wandb else None)


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
    if len(set(numbers)) != len(numbers) or min(numbers, default=-1) < 0:
        raise UserError(f'--{flag}: must be different and not negative, not {numbers}')
    return numbers


def _check_flags() -> list[int]:
    seeds = _whole_numbers('seeds', FLAGS.seeds or [str(FLAGS.seed)])
    for name in ('offline_steps', 'eval_episodes'):
        if FLAGS[name].value < 1:
            raise UserError(f'--{name}: must be at least 1, not {FLAGS[name].value}')
    for name in ('log_interval', 'eval_interval', 'save_interval'):
        if FLAGS[name].value < 0:
            raise UserError(f'--{name}: must be at least 0, not {FLAGS[name].value}')
    return seeds


def _load_data(tasks: dict[str, Any], config: ConfigDict) -> Data:
    if FLAGS.dataset_path:
        path = Path(FLAGS.dataset_path).expanduser()
        val_path = path.with_name(f'{path.stem}-val.npz')
    else:
        path, val_path = dataset_files.locate(
            envs.dataset_name(next(iter(tasks))),
            Path(FLAGS.dataset_dir).expanduser(),
            FLAGS.dataset_url,
        )

    def load(path: Path) -> list[datasets.Dataset]:
        built = [datasets.build(arrays) for arrays in dataset_files.load(path, tasks)]
        datasets.check_chunks(built[0], config.chunk_length, path)
        return built

    return Data(load(path), load(val_path) if val_path.exists() else None, path)


def _record(
    env_name: str, config: ConfigDict, seeds: list[int], data: Data, dataset: datasets.Dataset
) -> dict[str, Any]:
    names = ('offline_steps', 'log_interval', 'eval_interval', 'eval_episodes', 'save_interval')
    return runs.describe(
        env_name=env_name,
        **{name: FLAGS[name].value for name in names},
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
    task_agents: list[Agent], env_names: list[str], config: ConfigDict, seeds: list[int], data: Data
) -> Run:
    agent, mesh = task_agents[0], parallel.make_mesh(len(seeds))

    def sample(dataset: datasets.Dataset, key: jax.Array, batch_size: int = config.batch_size):
        return datasets.sample(
            dataset, key, batch_size, config.chunk_length, config.discount, agent.needs_next_actions
        )

    return Run(
        agents=task_agents,
        env_names=env_names,
        seeds=seeds,
        mesh=mesh,
        train=parallel.place(joint.stack(data.train), mesh, parallel.EVERYWHERE),
        val=None if data.val is None else jax.device_put(joint.stack(data.val)),
        sample=joint.sample(sample),
    )


def _start(run: Run, checkpoints: list[Checkpoints]) -> tuple[Any, int]:
    """Returns the population on its devices and the newest step that every task has saved."""
    step = max(set.intersection(*(saved.steps() for saved in checkpoints)), default=0)
    if step:
        population = joint.merge(_restore(run, checkpoints, step), run.agent.shared)
        spread = jnp.array([run.seeds.index(seed) for seed in parallel.pad(run.seeds, run.mesh)])
        population = jax.tree.map(lambda leaf: leaf[spread], population)
    else:
        init = joint.init([agent.init for agent in run.agents], run.agent.shared)
        population = training.init_population(init, parallel.pad(run.seeds, run.mesh))
    for saved in checkpoints:
        saved.forget_after(step)
    return parallel.place(population, run.mesh, parallel.SEEDS), step


def _restore(run: Run, checkpoints: list[Checkpoints], step: int) -> list[Any]:
    shapes = jax.eval_shape(partial(training.init_population, run.agent.init, run.seeds))
    return [saved.restore(step, shapes) for saved in checkpoints]


def _train(run: Run, population: Any, step: int, outputs: list[Output]) -> None:
    update = joint.update(run.agent.update, run.agent.shared)
    train_chunk = training.make_train_chunk(update, run.sample, run.mesh)
    keys = training.streams(parallel.pad(run.seeds, run.mesh), training.TRAIN_STREAM)
    keys = parallel.place(keys, run.mesh, parallel.SEEDS)
    # A chunk of no steps compiles the program, so that the first rate is that of updates.
    population, _ = train_chunk(population, keys, run.train, step, 0)
    diagnose = joint.diagnose(run.agent.diagnose, run.agent.shared)
    monitor = Monitor(diagnose, run.sample, run.val, run.seeds)
    last = FLAGS.offline_steps
    bar = tqdm.tqdm(total=last, initial=step, desc=FLAGS.agent.config_name, unit='update')
    overlaps = FLAGS.overlap_evaluation
    overlaps = jax.default_backend() != 'cpu' if overlaps is None else overlaps
    with bar, Background(overlaps) as background:
        while step < last:
            stop = min(_next_stop(step), last)
            population, sums = train_chunk(population, keys, run.train, step, stop - step)
            monitor.add(sums, stop - step)
            bar.update(stop - step)
            step = stop
            if _is_due(step, FLAGS.log_interval):
                rows = monitor.close_window(
                    parallel.gather(population, run.mesh, len(run.seeds)), step
                )
                for output, task_rows in zip(outputs, rows, strict=True):
                    output.log.write('train', task_rows)
                bar.set_postfix(_shown(rows[0]))
            if job := _evaluate_and_save(run, population, step, outputs, overlaps):
                with monitor.paused():
                    background.run(job)


def _evaluate_and_save(
    run: Run, population: Any, step: int, outputs: list[Output], overlaps: bool
) -> Callable[[], None] | None:
    """Returns what is due, if anything: each task is treated as if it had been trained alone.

    A checkpoint is written after the evaluation of its step, so that a run that goes on from it
    lacks no row.
    """
    last = step == FLAGS.offline_steps
    evaluates = FLAGS.eval_interval and (_is_due(step, FLAGS.eval_interval) or last)
    saves = _is_due(step, FLAGS.save_interval) or last
    if not (evaluates or saves):
        return None
    population = parallel.gather(population, run.mesh, len(run.seeds))
    population = on_host(population) if overlaps else population
    populations = joint.split(population, run.agent.shared, len(outputs))

    def job() -> None:
        for env_name, of_task, output in zip(run.env_names, populations, outputs, strict=True):
            if evaluates:
                _evaluate(run, env_name, of_task, step, output.log)
            if saves:
                output.checkpoints.save(step, of_task)

    return job


def _evaluate(run: Run, env_name: str, population: Any, step: int, log: RunLog) -> None:
    num_envs = min(FLAGS.eval_episodes, evaluation.MAX_ENVS)
    with envs.VectorEnv(env_name, num_envs) as vector_env:
        for index, seed in enumerate(run.seeds):
            # The stream is the evaluation's own, and the same whenever the evaluation takes place.
            key = training.stream(seed, training.EVAL_STREAM)
            state = training.member(population, index)
            act = evaluation.bind(run.agent.act, state, run.agent.settings)
            episodes = evaluation.evaluate(act, vector_env, FLAGS.eval_episodes, key)
            tags = dict(step=step, seed=seed)
            log.write('eval', [tags | evaluation.summary(episodes)])
            log.write('episodes', evaluation.rows(episodes, tags))


def _next_stop(step: int) -> int:
    intervals = (PROGRESS_STEPS, FLAGS.log_interval, FLAGS.eval_interval, FLAGS.save_interval)
    return min((step // interval + 1) * interval for interval in intervals if interval)


def _is_due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _shown(rows: list[dict[str, Any]]) -> dict[str, str]:
    names = [name for name in ('policy_loss', 'value_loss') if name in rows[0]]
    means = {name: np.mean([row[name] for row in rows]) for name in names}
    return {name: f'{mean:.4f}' for name, mean in means.items()}


if __name__ == '__main__':
    errors.run(main, define_agent_flag)
