"""Flags of learning online, after the offline steps."""

from typing import Any

from absl import flags

from utils.environments.descriptions import NONE, Environment
from utils.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_integer(
    'online_steps',
    0,
    'Updates after the offline ones, each after a step of the environment, which joins the data.',
)
flags.DEFINE_float(
    'online_share',
    0.5,
    'Share of a batch that is collected, once there is enough; 0: every transition is as likely.',
)


def check(environments: list[Environment]) -> None:
    """Checks the flags, and that these environments can be learned in online.

    Raises:
        UserError: they cannot, or a flag is out of range.
    """
    if FLAGS.online_steps < 0:
        raise UserError(f'--online_steps: must be at least 0, not {FLAGS.online_steps}')
    if not 0 <= FLAGS.online_share <= 1:
        raise UserError(f'--online_share: must be from 0 to 1, not {FLAGS.online_share}')
    if not FLAGS.online_steps:
        return
    if len(environments) > 1:
        raise UserError(
            '--online_steps: tasks collect different transitions; train them one by one, without '
            '--tasks'
        )
    if environments == [NONE]:
        raise UserError('--online_steps: there is no environment to play in with --env_name=none')
    if FLAGS.pool and not FLAGS.base_policy:
        raise UserError(
            '--online_steps: new states need candidates, too; give --base_policy=MODULE:FUNCTION '
            'beside --pool'
        )


def share() -> float | None:
    """Returns the collected share of a batch; None: nothing is collected."""
    return FLAGS.online_share if FLAGS.online_steps else None


def describe() -> dict[str, Any]:
    """Returns what the record of a run says of it; nothing of one that stays offline."""
    if not FLAGS.online_steps:
        return {}
    return dict(online=dict(after=FLAGS.offline_steps, share=FLAGS.online_share))
