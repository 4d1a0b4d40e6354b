"""What scripts about runs read, and the tables that they make of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import configs
from utils.environments import descriptions
from utils.errors import UserError, did_you_mean
from utils.reporting import published, results
from utils.reporting.aggregate_tables import aggregates_table, profiles_table
from utils.reporting.results import Run
from utils.reporting.return_tables import returns_table
from utils.reporting.score_tables import environments_table, published_table, tasks_table
from utils.reporting.scores import Scores, gather
from utils.reporting.setting_tables import cost_table, hyperparameters_table
from utils.reporting.tables import Table
from utils.reporting.value_tables import start_values_table

NAMES = ('tasks', 'environments', 'published', 'aggregates', 'profiles', 'start_values')
NAMES += ('hyperparameters', 'cost', 'returns')


class Found(NamedTuple):
    """What was found below --runs.

    Attributes:
        scores: of the configs that are shown.
        runs: that these are of, in the order of their paths.
        others: runs on environments that are not OGBench's, of whichever config.
    """

    scores: Scores
    runs: list[Run]
    others: list[Run]


def find(roots: Sequence[str], names: Sequence[str], rule: str, returns: bool = False) -> Found:
    """Reads all runs.

    Args:
        roots: folders of runs.
        names: configs to show; all if there are none.
        rule: of `results.read_run`.
        returns: whether runs without success will do, for the table of returns.

    Raises:
        UserError: a config is unknown, a file is damaged, or there is nothing to show.
    """
    folders = [Path(root).expanduser() for root in roots]
    found = results.read(folders, rule)
    others = [run for run in results.find_runs(folders) if descriptions.KEY in run.record]
    if not found and not (returns and others):
        raise UserError(
            f'--runs: {", ".join(roots)}: success is not defined in any of these runs; '
            'scripts/make_tables.py shows returns, and checks.csv of a run what held-out data say'
        )
    known = {result.run.config_name for result in found} | configs.CONFIGS.keys()
    for name in names:
        if name not in known:
            raise UserError(
                f"--configs: neither --runs nor configs.py has '{name}'.{did_you_mean(name, known)}"
            )
    scores = gather(found, names)
    if not scores.results and not (returns and others):
        there = ', '.join(sorted({result.run.config_name for result in found}))
        raise UserError(
            f'--configs: {", ".join(roots)} has no run of {", ".join(names)}; it has {there}'
        )
    shown = {result.run.directory: result.run for of in scores.results.values() for result in of}
    return Found(scores, [shown[path] for path in sorted(shown)], others)


def make(found: Found) -> list[Table]:
    """Returns the tables of NAMES, in that order; those alone that have something to show."""
    scores, literature = found.scores, published.read()
    returns = [returns_table(found.others)] if found.others else []
    if not scores.results:
        return returns
    of_others = published_table(scores.environments(), literature)
    return [
        tasks_table(scores, literature),
        environments_table(scores),
        *([of_others] if of_others.rows else []),
        aggregates_table(scores),
        profiles_table(scores),
        start_values_table(scores),
        hyperparameters_table(scores.configs, found.runs),
        cost_table(found.runs),
        *returns,
    ]
