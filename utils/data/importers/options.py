"""What the flags of scripts/import_data.py tell of a file."""

from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError

# Instead of a column's name: 1 at the last row of each trajectory and 0 before; 0 everywhere.
LAST, NONE = 'last', 'none'


class Options(NamedTuple):
    """What the flags of scripts/import_data.py tell; each is named as its flag.

    Attributes:
        observations: columns that are put side by side in this order.
        actions: column.
        rewards: column, LAST or NONE.
        ends_by_reward: column that is 1 where the episode ended by reward, LAST or NONE.
        ends: columns that are 1 at the last row of a trajectory.
        episode_index: column with the number of each row's trajectory.
        next_observations: columns, as `observations`; (NONE,): leave the file's own out.
        episode_steps: steps after which an episode is cut by time; 0: never.
        filter: name of a list of trajectories in the file.
    """

    observations: tuple[str, ...] = ()
    actions: str = ''
    rewards: str = ''
    ends_by_reward: str = ''
    ends: tuple[str, ...] = ()
    episode_index: str = ''
    next_observations: tuple[str, ...] = ()
    episode_steps: int | None = None
    filter: str = ''


def takes_successors(path: Path, options: Options) -> bool:
    """Returns whether the successors of a format that says where they are should be read.

    Raises:
        UserError: a flag names others.
    """
    if options.next_observations not in ((), (NONE,)):
        raise UserError(
            f'--next_observations: {path} says itself where they are; leave the flag out, or leave '
            f'them out by --next_observations={NONE}'
        )
    return not options.next_observations


def check_uses(options: Options, uses: set[str], name: str) -> None:
    """Checks that no flag was given that a format has no use for.

    Args:
        options: given.
        uses: fields that the format reads.
        name: of the format.

    Raises:
        UserError: one was.
    """
    for field, default in Options._field_defaults.items():
        if getattr(options, field) != default and field not in uses:
            raise UserError(f'--{field}: {name} files have no use for it; leave it out')
