"""Where a run is trained for: OGBench's environments, any of Gymnasium, or none."""

from pathlib import Path
from typing import Any

import gymnasium
from absl import flags

from utils.environments import envs, gym_envs, sparse
from utils.environments.descriptions import NONE, Environment, GymEnv, name_of
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.jobs import env_id_flags
from utils.jobs.assembly import Data, Pools

FLAGS = flags.FLAGS
DEFAULT = 'cube-single-play-singletask-task1-v0'

flags.DEFINE_string(
    'env_name',
    DEFAULT,
    'OGBench singletask environment; or none: train from --dataset_path and check on held-out data '
    'in place of playing.',
)
flags.DEFINE_list(
    'tasks', None, "Tasks trained together, e.g. 1,2,3; they replace --env_name's own."
)
flags.DEFINE_bool(
    'sparse',
    False,
    "Rewards of -1 until the task is solved, then 0, in place of OGBench's count of unsolved "
    'sub-goals; short for a name such as scene-play-sparse-singletask-task1-v0.',
)
OF_OGBENCH = ('env_name', 'tasks', 'sparse')


def chosen() -> list[Environment]:
    """Returns the environments that the flags ask for, one of every task.

    Raises:
        UserError: they contradict each other.
    """
    other = env_id_flags.described()
    if other is not None:
        env_id_flags.refuse(OF_OGBENCH, 'goes with OGBench; leave it out, or leave out --env_id')
        _need_data(f'--env_id={FLAGS.env_id}')
        return [other]
    if FLAGS.env_name == NONE:
        remedy = 'there is no environment whose task it could be; leave it out'
        env_id_flags.refuse(OF_OGBENCH[1:], remedy)
        _need_data('--env_name=none')
        return [NONE]
    env_name = sparse.sparse_name(FLAGS.env_name) if FLAGS.sparse else FLAGS.env_name
    if FLAGS.tasks is None:
        return [env_name]
    return envs.task_names(env_name, whole_numbers('tasks', FLAGS.tasks))


def _need_data(what: str) -> None:
    if not FLAGS.dataset_path:
        raise UserError(f"{what}: has no data of OGBench's; give yours by --dataset_path=FILE.npz")


def whole_numbers(flag: str, items: list[str]) -> list[int]:
    """Returns the integers that a flag lists.

    Raises:
        UserError: one is no integer in [0, 2**32), or is there twice.
    """
    try:
        numbers = [int(item) for item in items]
    except ValueError as error:
        raise UserError(f'--{flag}: expected whole numbers such as 1,2,3 ({error})') from error
    # Keys are made from 32 bits: seeds that are equal in them would train the same agent twice.
    in_range = all(0 <= number < 2**32 for number in numbers)
    if len(set(numbers)) != len(numbers) or not in_range:
        raise UserError(f'--{flag}: must be different and in [0, 2**32), not {numbers}')
    return numbers


def make(environments: list[Environment]) -> dict[str, gymnasium.Env | None]:
    """Returns environments by their names; None for none.

    Raises:
        UserError: one cannot be made, or never tells what success is judged by.
    """
    made: dict[str, Any] = {}
    for environment in environments:
        made[name_of(environment)] = None if environment == NONE else envs.make_env(environment)
        if isinstance(environment, GymEnv):
            gym_envs.check_success(made[environment.name], environment)
    return made


def check_data(
    environment: Environment, env: gymnasium.Env | None, data: Data, noise: Noise, evaluates: bool
) -> None:
    """Checks that a run on an environment can be evaluated, and tells what cannot be known.

    Args:
        environment: of the first task.
        env: that environment.
        data: of all tasks.
        noise: that was asked for.
        evaluates: whether there are evaluations.

    Raises:
        UserError: actions stand for others than the environment's; or there is no environment, and
            either no held-out data or noise for nobody.
    """
    if isinstance(environment, GymEnv):
        gym_envs.check_bounds(env, environment, data.action_map, data.path, data.told)
    if environment != NONE:
        return
    if any(noise):
        raise UserError(f'{noise.label}: nothing is played with --env_name=none; leave it out')
    if not evaluates:
        return
    if data.val is None:
        raise UserError(
            f'{data.path}: has no held-out data {data.path.stem}-val.npz beside it, and without an '
            'environment nothing else can be checked; put some there, or give --eval_interval=0'
        )
    print(
        'no environment: held-out data check the base policy, the values and their calibration; '
        'success cannot be known without playing',
        flush=True,
    )


def check_pools(environment: Environment, pools: Pools, path: Path, evaluates: bool) -> None:
    """Checks that held-out data have candidates where they are all that can be checked.

    Args:
        environment: of the first task.
        pools: that were read.
        path: of the one at the training states.
        evaluates: whether there are evaluations.

    Raises:
        UserError: there is no environment and no pool at the held-out states.
    """
    if environment == NONE and evaluates and pools.val is None:
        raise UserError(
            f'--pool: there is no {path.stem}-val.npy beside {path}, and without an environment '
            'values are checked on it alone; put it there, or give --eval_interval=0'
        )
