"""Columns of numbers, one per row: zeros and ones, and numbers of trajectories."""

from pathlib import Path

import numpy as np

from utils.errors import UserError


def vector(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Returns (rows,) or (rows, 1) numbers as (rows,).

    Raises:
        UserError: they are of another shape.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise UserError(f"{path}: '{name}' has shape {values.shape}; expected one number per row")
    return values


def truths(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """Returns a column of zeros and ones as (rows,) bool.

    Raises:
        UserError: it holds other values.
    """
    values = vector(path, name, values)
    if not ((values == 0) | (values == 1)).all():
        raise UserError(f"{path}: '{name}' holds values other than 0 and 1, which say nothing here")
    return values.astype(bool)


def ends_of_index(path: Path, name: str, index: np.ndarray) -> np.ndarray:
    """Returns where the numbers of trajectories change, (rows,) bool; true at the last row.

    Raises:
        UserError: rows of a trajectory are not together.
    """
    index = vector(path, name, index)
    changes = np.append(index[1:] != index[:-1], True)
    if changes.sum() != len(np.unique(index)):
        raise UserError(
            f"{path}: '{name}' comes back to an earlier trajectory; sort rows by it, then by time"
        )
    return changes
