"""Runs of Weights & Biases: one for every task and seed, whose files are in the run directory."""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from utils import files
from utils.errors import UserError
from utils.system.guards import one_line

PROJECT = 'evor'
IDS = 'wandb.json'
# The first in which several runs may be open in one process.
OLDEST = (0, 20)


@contextlib.contextmanager
def opened(
    directory: Path, seeds: Iterable[int], config: dict[str, Any]
) -> Iterator[dict[int, Any]]:
    """Opens a run for every seed; runs that go on continue theirs.

    Which run of W&B a seed has is kept in the directory, not made from its name, which a run on
    another machine may have too.

    Args:
        directory: of the run of one task.
        seeds: of its members.
        config: that W&B is to show.

    Yields:
        The runs by their seeds.

    Raises:
        UserError: wandb is not installed or too old, or W&B does not let us in.
    """
    wandb, seeds = _module(), list(seeds)
    ids = _ids(directory / IDS, seeds)
    with contextlib.ExitStack() as stack:
        runs = {}
        for seed in seeds:
            try:
                runs[seed] = wandb.init(
                    project=PROJECT,
                    name=f'{directory}/seed_{seed}',
                    group=str(directory),
                    dir=str(directory),
                    id=ids[seed],
                    resume='allow',
                    reinit='create_new',
                    config=config | dict(seed=seed),
                )
            except wandb.Error as error:
                raise UserError(
                    f'--wandb: W&B does not let us in ({one_line(error)}); log in (wandb login), '
                    'or set WANDB_MODE=offline and upload later (wandb sync), then repeat the '
                    'command: nothing is lost'
                ) from error
            stack.callback(runs[seed].finish)
        yield runs


def _module() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            '--wandb: not installed; pip install wandb, or leave the flag out'
        ) from error
    if tuple(map(int, wandb.__version__.split('.')[:2])) < OLDEST:
        raise UserError(
            f'--wandb: wandb {wandb.__version__} is too old; pip install --upgrade wandb'
        )
    return wandb


def _ids(path: Path, seeds: list[int]) -> dict[int, str]:
    """Returns the runs of W&B that seeds have, drawn now or before."""
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        ids = {str(seed): known.get(str(seed)) or secrets.token_hex(4) for seed in seeds}
    except (ValueError, AttributeError) as error:
        raise UserError(f'{path}: damaged ({error}); move it away to begin new W&B runs') from error
    if ids != known:
        files.write_json(path, ids)
    return {seed: ids[str(seed)] for seed in seeds}
