"""Functions of many independent rows, computed block by block.

A layer's output for a hundred thousand rows is read and written in main memory, once for every
product, activation and normalisation; that of a block stays in the cache. It also bounds the memory
of `act` on many observations, whatever the numbers of candidates and samples. What maps `act` over
observations by itself, as evaluations do (`utils/rollouts/acting.py`), is bounded by its own batch.
"""

from collections.abc import Callable
from typing import Any

import jax

# Rows that a net is evaluated on at a time. A CPU's are what its cache holds at a width of 512
# (docs/results/speed.md); elsewhere, where launches count, they only bound the memory.
CPU_ROWS = 2048
ACCELERATOR_ROWS = 65536


def map_rows(function: Callable[..., Any], *arrays: jax.Array, evaluations: int = 1) -> Any:
    """Applies a function of one row to every row of arrays with a common leading axis.

    Args:
        function: of a row of each array; returns a pytree of arrays.
        arrays: (n, ...).
        evaluations: rows that nets are evaluated on for each of the n.

    Returns:
        What the function returns, with a leading axis of n. The block's size changes it by no more
        than the rounding of a product's sums.
    """
    rows = CPU_ROWS if jax.default_backend() == 'cpu' else ACCELERATOR_ROWS
    block = max(1, rows // evaluations)
    if arrays[0].shape[0] <= block:
        return jax.vmap(function)(*arrays)
    return jax.lax.map(lambda row: function(*row), arrays, batch_size=block)
