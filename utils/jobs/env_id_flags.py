"""An environment of Gymnasium by flags: where a run is trained for, or where one is played."""

from absl import flags

from utils.environments import descriptions
from utils.environments.descriptions import GymEnv
from utils.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    'env_id',
    None,
    'Instead of --env_name: a registered Gymnasium environment, as Pendulum-v1 or MODULE:NAME-v0.',
)
flags.DEFINE_string(
    'env_kwargs', None, 'Of --env_id: what it is made with, a JSON object as {"g": 9.81}.'
)
flags.DEFINE_string(
    'success',
    None,
    "Of --env_id: what a success is told by: a key of the last step's info, as is_success; "
    'return:X, a return of at least X; or none (default): tables show returns.',
)
flags.DEFINE_list(
    'reference_returns',
    None,
    'Of --env_id: LOW,HIGH, the returns that are 0 and 100 in the column normalised_return.',
)


def described() -> GymEnv | None:
    """Returns the environment that --env_id describes; None: it was not given.

    Raises:
        UserError: a flag cannot be read, or one says something of an --env_id that is not there.
    """
    if FLAGS.env_id is None:
        remedy = 'goes with --env_id; name an environment by it, or leave this out'
        refuse(('env_kwargs', 'success', 'reference_returns'), remedy)
        return None
    kwargs, success = FLAGS.env_kwargs or '', FLAGS.success or ''
    return descriptions.describe_env(FLAGS.env_id, kwargs, success, FLAGS.reference_returns)


def refuse(names: tuple[str, ...], remedy: str) -> None:
    """Refuses flags that do not go with others.

    Raises:
        UserError: one of them was given.
    """
    for name in names:
        if FLAGS[name].present and FLAGS[name].value not in (None, False):
            raise UserError(f'--{name}: {remedy}')
