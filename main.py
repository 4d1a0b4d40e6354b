"""Trains and evaluates one population of agents: all seeds and tasks of an environment together.

    python main.py --env_name=cube-single-play-singletask-task1-v0 --agent=configs.py:evor

The same command continues a run that was interrupted, to the same bits. Exit codes: 0 finished, 2 a
mistake to be mended, 3 training diverged, 75 asked to stop: saved, and the same command goes on.
"""

import math
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

import agents
import configs
from agents import frozen, policy_file
from agents.frozen import ForeignPolicy, FrozenPolicy
from utils import errors, files
from utils.data import datasets, fetching
from utils.data.importers import formats
from utils.environments import descriptions, envs, wrappers
from utils.environments.descriptions import Environment, name_of
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.jobs import agent_flags, assembly, env_flags, online_flags, phases
from utils.jobs.assembly import Data, Pools
from utils.rollouts import evaluation
from utils.storage import runs
from utils.system import command, compilation, guards, locks
from utils.system.stopping import StoppedError, StopRequest
from utils.training.schedule import Schedule

FLAGS = flags.FLAGS
CONFIGS_FILE = Path(__file__).with_name('configs.py')
# Keys of a record that the phases before training make.
PHASE_KEYS = ('base_policy', 'pool')
INTERVALS = ('log_interval', 'eval_interval', 'save_interval')

flags.DEFINE_integer('seed', 0, 'Seed of a single run.')
flags.DEFINE_list('seeds', None, 'Seeds trained together, e.g. 0,1,2; overrides --seed.')
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
    'base_policy',
    None,
    'Of agents with frozen_policy: the directory of a bc run, FILE.npz of '
    "scripts/export_base_policy.py, or MODULE:FUNCTION, somebody else's; default: the one under "
    'SAVE_DIR, which is trained if it is not there.',
)
flags.DEFINE_string(
    'pool', None, "An .npy with somebody else's candidates; PATH-val.npy is used if it is there."
)
flags.DEFINE_enum(
    'pool_on',
    'auto',
    ['auto', 'device', 'host'],
    'Where the pool is during training: on the device if it fits, or in its file.',
)
flags.DEFINE_integer('eval_envs', evaluation.MAX_ENVS, 'Environments that play at a time, at most.')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_string(
    'dataset_path',
    None,
    "Your own .npz in OGBench's format; PATH-val.npz is used if it is there. Or a folder of shards "
    'NAME-000.npz, NAME-000-val.npz, ...',
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


def define_agent_flag() -> None:
    """Defines --agent, which reads the config and its overrides from the command line at once."""
    # ml_collections loads configs.py so; it is no error, whatever PYTHONWARNINGS says.
    warnings.filterwarnings('ignore', 'the load_module', DeprecationWarning)
    argv = FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
    agent_flags.check_config(argv, CONFIGS_FILE, configs.CONFIGS)
    try:
        config_flags.DEFINE_config_file(
            'agent', f'{CONFIGS_FILE}:evor', 'Agent config, as configs.py:NAME.', lock_config=True
        )
    except AttributeError as error:
        raise UserError(f'--agent: no such setting: {error}') from error


def main(_: list[str]) -> None:
    stop = StopRequest(FLAGS.max_wall_time)
    with stop.listening():
        try:
            finished = _run_phases(stop)
        except StoppedError:
            finished = False
    if not finished:
        print(f'stopped by {stop.reason}: saved; the same command goes on', file=sys.stderr)
        sys.exit(errors.STOPPED)


def _run_phases(stop: StopRequest) -> bool:
    """Makes what is missing: the base policy, its candidates, the values; says if all is done."""
    seeds = _check_flags()
    guards.check_platform(FLAGS.platform)
    compilation.keep_programs()
    config = _agent_config()
    noise = wrappers.make_noise(FLAGS.action_noise, FLAGS.sticky_prob)
    environments = env_flags.chosen()
    online_flags.check(environments)
    tasks = env_flags.make(environments)
    data = _load_data(tasks, config, noise, stop)
    evaluates = FLAGS.eval_interval > 0
    env_flags.check_data(environments[0], next(iter(tasks.values())), data, noise, evaluates)
    records = {
        runs.run_dir(FLAGS.save_dir, name_of(environment), config.config_name, seeds): _record(
            environment, config, seeds, data, dataset
        )
        for environment, dataset in zip(environments, data.train, strict=True)
    }
    defaults = agents.defaults(config.agent_name)
    policy, pools = None, None
    if agents.freezes_policy(config):
        # Before anything is trained; what the phases before make is not known yet.
        runs.check_records(records, PHASE_KEYS, defaults)
        policy, pools, made = _phases_before(config, data, noise, environments[0], stop)
        records = {directory: record | made for directory, record in records.items()}
    runs.check_records(records, defaults=defaults)
    with locks.hold(records):
        # Again: another process may have made one meanwhile.
        runs.check_records(records, defaults=defaults)
        runs.write_records(records)
        run = assembly.make_run(
            config, environments, seeds, data, noise, policy, pools, online_flags.share()
        )
        wandb = config.to_dict() if FLAGS.wandb else None
        return assembly.train(run, list(records), _schedule(), stop, wandb)


def _phases_before(
    config: ConfigDict, data: Data, noise: Noise, environment: Environment, stop: StopRequest
) -> tuple[FrozenPolicy | ForeignPolicy, Pools | None, dict[str, Any]]:
    """Returns the base policy, its pools and what the record of a run says of them."""
    policy, directory = _base_policy(config, data, noise, environment, stop)
    made, num_candidates = dict(base_policy=policy.provenance), agents.num_candidates(config)
    if not num_candidates:
        return policy, None, made
    if FLAGS.pool:
        pools = phases.read_pools(_path('pool'), config, data, num_candidates)
        env_flags.check_pools(environment, pools, _path('pool'), FLAGS.eval_interval > 0)
        made['pool'] = dict(file=_path('pool').name, checksum=zlib.crc32(pools.train))
    else:
        pools = phases.make_pools(policy, directory / 'pool', config, data, stop)
    return policy, phases.place_pools(pools, FLAGS.pool_on), made


def _base_policy(
    config: ConfigDict, data: Data, noise: Noise, environment: Environment, stop: StopRequest
) -> tuple[FrozenPolicy | ForeignPolicy, Path]:
    """Returns the base policy and its directory: given, found, or trained now."""
    save_dir, given = _path('save_dir'), FLAGS.base_policy or ''
    sizes = data.train[0].observations.shape[1], data.train[0].actions.shape[1]
    chunk_shape = config.chunk_length, sizes[1]
    home = save_dir / runs.BASE_POLICIES / data.path.stem
    if frozen.FUNCTION.fullmatch(given):
        policy = frozen.load_function(given, chunk_shape)
        return policy, home / given.replace(':', '.')
    if given.endswith(policy_file.SUFFIX):
        policy = policy_file.read(_path('base_policy'), config, *sizes)
        assembly.check_actions(policy, data)
        return policy, home / f'{policy.directory.stem}_{policy.digest[:8]}'
    if given:
        policy = frozen.load(_path('base_policy'), config, *sizes)
        assembly.check_actions(policy, data)
    elif FLAGS.pool:
        return frozen.pool_alone(chunk_shape), save_dir
    else:
        base = configs.bc(**frozen.settings_of(config, frozen.TRAINING_SETTINGS))
        base.config_name = 'bc'
        settings = config.policy_steps, config.policy_seed, environment, data, noise
        record = phases.base_policy_record(base, *settings)
        policy = phases.ensure_base_policy(
            save_dir, record, base, data, noise, stop, FLAGS.max_wait
        )
    return policy, policy.directory


def _schedule() -> Schedule:
    overlaps = FLAGS.overlap_evaluation
    names = set(Schedule._fields) - {'overlaps', 'label'}
    return Schedule(
        **{name: FLAGS[name].value for name in names},
        overlaps=jax.default_backend() != 'cpu' if overlaps is None else overlaps,
    )


def _agent_config() -> ConfigDict:
    try:
        agents.check(FLAGS.agent)
    except OSError as error:  # ml_collections puts a failed load off until the config is used
        raise UserError(f'--agent: {error}. Give it as configs.py:NAME') from error
    argv = FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
    agent_flags.check_repeats(argv, FLAGS.agent)
    if not agents.freezes_policy(FLAGS.agent):
        for name in ('base_policy', 'pool'):
            if FLAGS[name].value:
                raise UserError(f'--{name}: is for agents with --agent.frozen_policy=True')
    elif FLAGS.pool and not agents.num_candidates(FLAGS.agent):
        raise UserError('--pool: updates of this agent read no candidates')
    elif FLAGS.pool and not FLAGS.base_policy and FLAGS.eval_interval:
        raise UserError(
            '--pool: an evaluation needs the policy too; give --base_policy=MODULE:FUNCTION, or '
            '--eval_interval=0'
        )
    return FLAGS.agent


def _check_flags() -> list[int]:
    if FLAGS.seeds is None:
        seeds = env_flags.whole_numbers('seed', [str(FLAGS.seed)])
    else:
        seeds = env_flags.whole_numbers('seeds', FLAGS.seeds)
    for name in ('offline_steps', 'eval_episodes', 'eval_envs'):
        if FLAGS[name].value < 1:
            raise UserError(f'--{name}: must be at least 1, not {FLAGS[name].value}')
    for name in (*INTERVALS, 'max_wait', 'max_wall_time'):
        if not 0 <= FLAGS[name].value < math.inf:
            raise UserError(f'--{name}: must be at least 0 and finite, not {FLAGS[name].value}')
    for name in ('save_dir', 'dataset_dir', 'dataset_path', 'base_policy', 'pool'):
        _path(name)
    return seeds


def _path(flag: str) -> Path:
    return files.expanded(FLAGS[flag].value or '', flag)


def _load_data(tasks: dict[str, Any], config: ConfigDict, noise: Noise, stop: StopRequest) -> Data:
    if FLAGS.dataset_path:
        path = _path('dataset_path')
        if not path.name:
            raise UserError(f"--dataset_path: '{path}' has no name; give the file or folder by it")
        formats.check_ours(path)
        val_path = path.with_name(f'{path.stem}-val.npz')
    else:
        path, val_path = fetching.locate(
            envs.dataset_name(next(iter(tasks))),
            _path('dataset_dir'),
            FLAGS.dataset_url,
            noise,
            stop,
        )
    return assembly.load_data(path, val_path, tasks, config, stop)


def _record(
    environment: Environment,
    config: ConfigDict,
    seeds: list[int],
    data: Data,
    dataset: datasets.Dataset,
) -> dict[str, Any]:
    names = ('offline_steps', *INTERVALS, 'eval_episodes', *Noise._fields)
    return runs.describe(
        env_name=name_of(environment),
        **descriptions.describe(environment),
        **{name: FLAGS[name].value for name in names},
        **online_flags.describe(),
        seeds=seeds,
        agent=config.to_dict(),
        **assembly.describe_data(data, dataset),
        contents=assembly.digest_data(dataset),
    )


if __name__ == '__main__':
    command.run(main, define_agent_flag)
