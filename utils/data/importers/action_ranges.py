"""Which range of recorded actions becomes [-1, 1]: told by the file or by a flag."""

import json
from pathlib import Path

import numpy as np

from utils import files
from utils.data import array_checks
from utils.data.importers import libraries
from utils.data.importers.table import Imported
from utils.environments import action_maps
from utils.environments.action_maps import ActionMap
from utils.errors import UserError

DATA = 'data'  # what the data themselves span


def choose(path: Path, imported: Imported, given: str) -> tuple[ActionMap, str]:
    """Returns the map of actions to [-1, 1], and what told it.

    Args:
        path: named in errors.
        imported: actions, and the range that the file tells, if it does.
        given: 'LOW:HIGH', a number each or one for each number of an action, as -2,-1:2,1; DATA;
            the path of a record, whose map is taken, as held-out data needs; '': the file's range
            or, if it tells none, none, where all actions are in [-1, 1].

    Raises:
        UserError: actions lie outside, and nothing tells their range; or the range is none.
    """
    actions = imported.arrays['actions']
    size = actions.shape[1]
    if not actions.size or not np.isfinite(actions).all():
        return action_maps.identity(size), 'nothing'  # the checks of all data tell what is wrong
    low, high = actions.min(axis=0), actions.max(axis=0)
    if given:
        chosen = _given_map(given, actions), f'--action_range={given}'
    elif imported.action_range is not None:
        chosen = action_maps.from_range(*imported.action_range), "the file's action space"
    else:
        chosen = action_maps.identity(size), 'no range told'
    mapped = action_maps.normalise(actions, chosen[0])
    outside = np.abs(mapped).max(axis=0) > 1.0 + array_checks.ACTION_SLACK
    if outside.any():
        number = int(np.argmax(outside))
        raise UserError(
            f"{path}: number {number} of 'actions' goes from {low[number]:.6g} to "
            f'{high[number]:.6g}, beyond [-1, 1] ({chosen[1]}); give the range that they may have, '
            f'e.g. --action_range=-2:2, or --action_range={DATA} for what they span'
        )
    return chosen


def _given_map(given: str, actions: np.ndarray) -> ActionMap:
    size = actions.shape[1]
    if given == DATA:
        return action_maps.from_range(actions.min(axis=0), actions.max(axis=0))
    if given.endswith('.json'):
        return _map_of_record(files.expanded(given, 'action_range'), size)
    try:
        low, high = (
            np.broadcast_to([float(number) for number in part.split(',')], size)
            for part in given.split(':')
        )
    except ValueError as error:
        raise UserError(
            f'--action_range: {given} is no LOW:HIGH of one number or {size} numbers each; give '
            f'e.g. -2:2, {DATA}, or the .json of data imported before'
        ) from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(f'--action_range: {given} must be finite, with each LOW less than its HIGH')
    return action_maps.from_range(low, high)


def _map_of_record(path: Path, size: int) -> ActionMap:
    with libraries.whole(path, 'record of imported data', (OSError, ValueError, RecursionError)):
        record = json.loads(path.read_text())
    found = action_maps.recorded(record, path) if isinstance(record, dict) else None
    if found is None or len(found.offset) != size:
        raise UserError(f'--action_range: {path} has no map of {size} numbers; give another record')
    return found
