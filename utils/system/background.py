"""Work beside training: one job at a time; its errors are raised by the next call."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


class Background:
    """Runs jobs in order, either at once or beside the caller; use as a context manager."""

    def __init__(self, overlaps: bool):
        """Takes jobs.

        Args:
            overlaps: whether `run` returns before the job has ended.
        """
        self._executor = ThreadPoolExecutor(1) if overlaps else None
        self._pending: Future | None = None

    def __enter__(self) -> 'Background':
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._executor is not None:
                self._executor.shutdown()

    def run(self, job: Callable[[], None]) -> None:
        """Runs a job after the one before; raises what that one raised."""
        self.wait()
        if self._executor is None:
            job()
        else:
            self._pending = self._executor.submit(job)

    def wait(self) -> None:
        """Waits for the last job and raises what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def on_host(tree: Any) -> Any:
    """Copies arrays to the host's own device, so that work on them leaves the others alone.

    These are copies: training donates its own buffers.
    """
    [host, *_] = jax.devices('cpu')
    return jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), host), tree)
