"""Trains and evaluates one population of agents.

python main.py --env_name=cube-single-play-singletask-task1-v0 --agent=configs.py:evor --seeds=0,1,2
"""

import contextlib
import zlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm
from absl import flags
from ml_collections import ConfigDict, config_flags

import agents
from utils import dataset_files, datasets, envs, errors, evaluation, runs, training
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
flags.DEFINE_string('save_dir', 'exp', 'Runs go to SAVE_DIR/ENV/CONFIG/seeds_....')
flags.DEFINE_integer('offline_steps', 1_000_000, 'Number of updates.')
flags.DEFINE_integer('log_interval', 5_000, 'Updates between rows of train.csv; 0: none.')
flags.DEFINE_integer('eval_interval', 100_000, 'Updates between evaluations; 0: none.')
flags.DEFINE_integer('eval_episodes', 50, 'Episodes of an evaluation.')
flags.DEFINE_integer('save_interval', 100_000, 'Updates between checkpoints; 0: at the end only.')
flags.DEFINE_bool('resume', False, 'Continue from the newest checkpoint, if there is one.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', dataset_files.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string(
    'dataset_path', None, "Your own .npz in OGBench's format; PATH-val.npz is used if it is there."
)
flags.DEFINE_bool('wandb', False, 'Also log to Weights & Biases (pip install wandb).')


class Data(NamedTuple):
    """Training and held-out data of a run, in host memory, and where they came from."""

    train: datasets.Dataset
    val: datasets.Dataset | None
    path: Path


class Run(NamedTuple):
    """What the training loop needs besides the states."""

    agent: agents.Agent
    seeds: list[int]
    train: datasets.Dataset
    val: datasets.Dataset | None
    sample: Any
    act: Any


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
    env = envs.make_env(FLAGS.env_name)
    data = _load_data(env, config)
    agent = _create_agent(config, data.train)
    directory = runs.run_dir(FLAGS.save_dir, FLAGS.env_name, config.config_name, seeds)
    runs.open_run(directory, _record(config, seeds, data), FLAGS.resume)
    run = _on_device(agent, config, seeds, data)
    with Checkpoints(directory / 'checkpoints') as checkpoints:
        population, step = _start(run, checkpoints)
        if step >= FLAGS.offline_steps:
            print(f'{directory}: finished already, {step} updates')
            return
        settings = dict(project='evor', name=str(directory), config=dict(config))
        with RunLog(directory, step, settings if FLAGS.wandb else None) as log:
            _train(run, population, step, checkpoints, log)
    print(f'{directory}: done')


def _agent_config() -> ConfigDict:
    try:
        agents.check(FLAGS.agent)
    except OSError as error:  # ml_collections puts a failed load off until the config is used
        raise UserError(f'--agent: {error}. Give it as configs.py:NAME') from error
    return FLAGS.agent


def _check_flags() -> list[int]:
    try:
        seeds = [int(seed) for seed in FLAGS.seeds] if FLAGS.seeds else [FLAGS.seed]
    except ValueError as error:
        raise UserError(f'--seeds: expected whole numbers such as 0,1,2 ({error})') from error
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UserError(f'--seeds: must be different and not negative, not {seeds}')
    for name in ('offline_steps', 'eval_episodes'):
        if FLAGS[name].value < 1:
            raise UserError(f'--{name}: must be at least 1, not {FLAGS[name].value}')
    for name in ('log_interval', 'eval_interval', 'save_interval'):
        if FLAGS[name].value < 0:
            raise UserError(f'--{name}: must be at least 0, not {FLAGS[name].value}')
    return seeds


def _load_data(env: Any, config: ConfigDict) -> Data:
    if FLAGS.dataset_path:
        path = Path(FLAGS.dataset_path).expanduser()
        val_path = path.with_name(f'{path.stem}-val.npz')
    else:
        path, val_path = dataset_files.locate(
            envs.dataset_name(FLAGS.env_name),
            Path(FLAGS.dataset_dir).expanduser(),
            FLAGS.dataset_url,
        )

    def load(path: Path) -> datasets.Dataset:
        dataset = datasets.build(dataset_files.load(path, FLAGS.env_name, env))
        datasets.check_chunks(dataset, config.chunk_length, path)
        return dataset

    return Data(load(path), load(val_path) if val_path.exists() else None, path)


def _create_agent(config: ConfigDict, dataset: datasets.Dataset) -> agents.Agent:
    return agents.create(config, agents.spec_of(dataset, config.discount))


def _record(config: ConfigDict, seeds: list[int], data: Data) -> dict[str, Any]:
    names = ('env_name', 'offline_steps', 'log_interval', 'eval_interval', 'eval_episodes')
    names += ('save_interval',)
    return runs.describe(
        **{name: FLAGS[name].value for name in names},
        seeds=seeds,
        agent=config.to_dict(),
        dataset=dict(
            file=data.path.name,
            transitions=len(data.train.starts),
            checksum=zlib.crc32(data.train.observations),
        ),
        observation_dim=data.train.observations.shape[1],
        action_dim=data.train.actions.shape[1],
    )


def _on_device(agent: agents.Agent, config: ConfigDict, seeds: list[int], data: Data) -> Run:
    def sample(dataset: datasets.Dataset, key: jax.Array, batch_size: int = config.batch_size):
        return datasets.sample(
            dataset, key, batch_size, config.chunk_length, config.discount, agent.needs_next_actions
        )

    return Run(
        agent,
        seeds,
        jax.device_put(data.train),
        jax.device_put(data.val),
        sample,
        jax.jit(agent.act),
    )


def _start(run: Run, checkpoints: Checkpoints) -> tuple[Any, int]:
    step = checkpoints.latest_step()
    if step is None:
        return training.init_population(run.agent.init, run.seeds), 0
    shapes = jax.eval_shape(partial(training.init_population, run.agent.init, run.seeds))
    return checkpoints.restore(step, shapes), step


def _train(run: Run, population: Any, step: int, checkpoints: Checkpoints, log: RunLog) -> None:
    train_chunk = training.make_train_chunk(run.agent.update, run.sample)
    keys = training.streams(run.seeds, training.TRAIN_STREAM)
    # A chunk of no steps compiles the program, so that the first rate is that of updates.
    population, _ = train_chunk(population, keys, run.train, step, 0)
    monitor = Monitor(run.agent.diagnose, run.sample, run.val, run.seeds)
    last = FLAGS.offline_steps
    bar = tqdm.tqdm(total=last, initial=step, desc=FLAGS.agent.config_name, unit='update')
    with bar, contextlib.ExitStack() as stack:
        vector_env = _open_envs(stack)
        while step < last:
            stop = min(_next_stop(step), last)
            population, sums = train_chunk(population, keys, run.train, step, stop - step)
            monitor.add(sums, stop - step)
            bar.update(stop - step)
            step = stop
            if _is_due(step, FLAGS.log_interval):
                rows = monitor.close_window(population, step)
                log.write('train', rows)
                bar.set_postfix(_shown(rows))
            if vector_env and (_is_due(step, FLAGS.eval_interval) or step == last):
                with monitor.paused():
                    _evaluate(run, population, step, vector_env, log)
            if _is_due(step, FLAGS.save_interval) or step == last:
                with monitor.paused():
                    checkpoints.save(step, population)


def _open_envs(stack: contextlib.ExitStack) -> envs.VectorEnv | None:
    if not FLAGS.eval_interval:
        return None
    num_envs = min(FLAGS.eval_episodes, evaluation.MAX_ENVS)
    return stack.enter_context(envs.VectorEnv(FLAGS.env_name, num_envs))


def _evaluate(
    run: Run, population: Any, step: int, vector_env: envs.VectorEnv, log: RunLog
) -> None:
    settings = run.agent.settings
    for index, seed in enumerate(run.seeds):
        # The stream is the evaluation's own, and the same whenever the evaluation takes place.
        key = training.stream(seed, training.EVAL_STREAM)
        act = evaluation.bind(run.act, training.member(population, index), settings)
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
