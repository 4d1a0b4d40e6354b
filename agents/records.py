"""The config of a run's record, also of one that an older version made."""

import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import agents
from utils.errors import UserError, printable
from utils.storage import runs


def config_of(record: dict[str, Any], place: Path) -> ConfigDict:
    """Returns the config of a run, whose agent may have got more settings since.

    Those take their defaults, which a line on stderr tells.

    Args:
        record: its `config.json`.
        place: of the record, for what is told.

    Raises:
        UserError: unknown agent, or one without a setting that the record has.
    """
    try:
        config, added = agents.complete(runs.agent_config(record))
    except UserError as error:
        raise UserError(
            f'{place}: {error} Another version made it; use that one, or train it again'
        ) from error
    if added:
        told = ', '.join(f'{name}={value}' for name, value in sorted(added.items()))
        note = f'note: {place}: an older version made it; these take their defaults: {told}'
        print(printable(note), file=sys.stderr)
    return config
