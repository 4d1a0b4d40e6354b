"""What is watched during training: averaged metrics, held-out losses and the speed of updates."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from utils import training
from utils.datasets import Dataset

# Held-out transitions that the losses are also reported on.
DIAGNOSE_BATCH = 1024


class Monitor:
    """Averages metrics from one log line to the next, for every seed and task of a population."""

    def __init__(self, diagnose: Callable, sample: Callable, val: Dataset | None, seeds: list[int]):
        """Watches a population.

        Args:
            diagnose: (state, batch, key) -> metrics (tasks,) of one seed.
            sample: (dataset, key, batch_size) -> batch.
            val: held-out data on the device, or None.
            seeds: of the members; a population may be padded with more.
        """
        self._val, self._seeds = val, seeds

        def diagnose_member(state: Any, key: jax.Array, dataset: Dataset) -> dict[str, jax.Array]:
            batch_key, key = jax.random.split(key)
            return diagnose(state, sample(dataset, batch_key, batch_size=DIAGNOSE_BATCH), key)

        self._diagnose = jax.jit(jax.vmap(diagnose_member, (0, 0, None)))
        self._open_window()

    def _open_window(self) -> None:
        self._sums, self._steps, self._start = None, 0, time.perf_counter()

    def add(self, sums: dict[str, jax.Array], steps: int) -> None:
        """Adds the summed metrics of a chunk, once the device has finished it."""
        jax.block_until_ready(sums)
        self._sums = sums if self._sums is None else jax.tree.map(np.add, self._sums, sums)
        self._steps += steps

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within does not count as training time."""
        entered = time.perf_counter()
        yield
        self._start += time.perf_counter() - entered

    def close_window(self, population: Any, step: int) -> list[dict[str, Any]]:
        """Averages since the last call and starts afresh.

        Args:
            population: of the seeds, on one device.
            step: the rows' step.

        Returns:
            For every task a row per seed.
        """
        rate = self._steps / (time.perf_counter() - self._start)
        metrics = {name: np.asarray(total) / self._steps for name, total in self._sums.items()}
        if self._val is not None:
            # The same held-out batch and noise every time, so that only the states differ.
            keys = training.streams(self._seeds, training.DIAGNOSE_STREAM)
            held_out = self._diagnose(population, keys, self._val)
            metrics |= {f'val_{name}': np.asarray(value) for name, value in held_out.items()}
        num_tasks = next(iter(metrics.values())).shape[1]
        rows = [
            [
                dict(step=step, seed=seed)
                | {name: float(values[index, task]) for name, values in metrics.items()}
                | dict(updates_per_second=rate)
                for index, seed in enumerate(self._seeds)
            ]
            for task in range(num_tasks)
        ]
        self._open_window()
        return rows
