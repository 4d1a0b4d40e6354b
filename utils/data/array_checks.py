"""What arrays of a dataset file must be: checked by their headers first, then by their values."""

from pathlib import Path

import numpy as np

from utils import errors
from utils.data import layouts, npz
from utils.data.npz import Header
from utils.errors import UserError

# Official actions are clipped to [-1, 1]; float32 rounding may leave them a hair outside.
ACTION_SLACK = 1e-5
# Number of axes of every array that is read; what else a file holds is left alone.
OWN_AXES = dict(observations=2, actions=2, terminals=1, rewards=1, masks=1)
OWN_AXES |= dict(next_observations=2, valids=1, **dict.fromkeys(layouts.CUTS, 1))
# Of what rewards are derived from, where the file has none.
STATE_AXES = dict(qpos=2, button_states=2)
AXES = OWN_AXES | STATE_AXES
FLOATS = ('observations', 'actions', 'next_observations', 'qpos')
KEPT_AS_FLOAT32 = ('observations', 'actions', 'next_observations', 'rewards', 'masks')
TRUTHS = ('terminals', 'masks', 'valids', *layouts.CUTS)


def check_headers(path: Path, headers: dict[str, Header]) -> None:
    """Checks keys, shapes and types, before memory is taken for any array.

    Raises:
        UserError: one is not in the format.
    """
    for name in ('observations', 'actions', 'terminals'):
        if name not in headers:
            raise UserError(
                f"{path}: key '{name}' is missing; OGBench's format needs it{_hint(path, name)}"
            )
    if ('rewards' in headers) != ('masks' in headers):
        raise UserError(
            f"{path}: 'rewards' and 'masks' come together; one is missing (masks are 0 where the "
            'episode ends by reward, else 1)'
        )
    rows = headers['observations'].shape[0] if headers['observations'].shape else 0
    for name, header in headers.items():
        shape = header.shape
        if len(shape) != AXES[name] or shape[0] != rows or 0 in shape:
            raise UserError(
                f"{path}: '{name}' has shape {shape}; expected {AXES[name]} axes, none empty, and "
                f"as many rows as 'observations' ({rows}){_reshaped(name, shape)}"
            )
        if name == 'next_observations' and shape != headers['observations'].shape:
            raise UserError(f"{path}: '{name}' has shape {shape}; expected that of 'observations'")
        if name in FLOATS and header.dtype.kind != 'f':
            raise UserError(f"{path}: '{name}' has dtype {header.dtype}; expected floating point")
    if rows > np.iinfo(np.int32).max:
        raise UserError(f'{path}: {rows} rows are more than 2**31 - 1; split the file')


def _hint(path: Path, name: str) -> str:
    """Returns which key of the file may be the one that is missing."""
    keys = npz.keys(path)
    cuts = [key for key in layouts.CUTS if key in keys]
    if name == 'terminals' and cuts:
        return f"; if '{cuts[0]}' is 1 at the last row of every trajectory, save it under that name"
    nearest = errors.nearest(name, [key.rsplit('/', 1)[-1] for key in keys])
    found = next((key for key in keys if nearest and key.endswith(nearest)), '')
    return f"; is it '{npz.shown(found)}'? Save it under that name" if found else ''


def _reshaped(name: str, shape: tuple[int, ...]) -> str:
    """Returns how to save an array that has an axis too few or too many."""
    if AXES[name] == 2 and len(shape) == 1:
        return f'; of one number a row, save {name}[:, None]'
    if AXES[name] == 1 and len(shape) == 2 and shape[1] == 1:
        return f'; save {name}[:, 0]'
    return ''


def check_values(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Checks that numbers are finite and within their range.

    Raises:
        UserError: one is not; the first such row is named.
    """
    for name, array in arrays.items():
        if array.dtype.kind == 'f' and not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
            raise UserError(
                f"{path}: '{name}' is not finite in row {row}, as float32; repair or drop it"
            )
    largest = float(np.abs(arrays['actions']).max())
    if largest > 1.0 + ACTION_SLACK:
        raise UserError(
            f"{path}: 'actions' reach {largest:.4g}; expected [-1, 1]: rescale them to the "
            "environment's normalised range"
        )
    for name in TRUTHS:
        if name in arrays and not ((arrays[name] == 0) | (arrays[name] == 1)).all():
            raise UserError(f"{path}: '{name}' holds values other than 0 and 1")
