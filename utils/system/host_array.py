"""Arrays that stay in host memory, or in a file mapped to it, and are read by compiled programs."""

import jax
import numpy as np


@jax.tree_util.register_static
class HostArray:
    """An array that is no part of the device's memory; a pytree without leaves.

    Programs that read it call back to the host. They see the numbers that they would see on the
    device.
    """

    def __init__(self, array: np.ndarray):
        """Wraps an array, which may be a memory map."""
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self._array.shape

    def take(self, rows: jax.Array, columns: jax.Array) -> jax.Array:
        """Returns `array[rows, columns]` inside jit.

        Args:
            rows, columns: int, broadcastable to one shape s.

        Returns:
            (*s, ...) of the array's type.
        """

        def read(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            return self._array[np.asarray(rows), np.asarray(columns)]

        shape = np.broadcast_shapes(rows.shape, columns.shape) + self._array.shape[2:]
        result = jax.ShapeDtypeStruct(shape, self._array.dtype)
        return jax.pure_callback(read, result, rows, columns, vmap_method='broadcast_all')
