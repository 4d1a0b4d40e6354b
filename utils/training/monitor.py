"""What is watched during training: averaged metrics, held-out losses, speed, and infinities."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from utils.data.datasets import Dataset
from utils.errors import DivergedError, UserError
from utils.training import populations
from utils.training.populations import Window

# Held-out transitions that the losses are also reported on.
DIAGNOSE_BATCH = 1024

Progress = dict[str, Any]


class Monitor:
    """Averages metrics from one log line to the next, for every seed and task of a population."""

    def __init__(
        self,
        diagnose: Callable,
        sample: Callable,
        val: Dataset | None,
        seeds: list[int],
        window_steps: int = 0,
    ):
        """Watches a population.

        Args:
            diagnose: (state, batch, key) -> metrics (tasks,) of one seed.
            sample: (dataset, key, batch_size) -> batch.
            val: held-out data on the device, or None.
            seeds: of the members; a population may be padded with more.
            window_steps: updates that the window of a resumed run already holds.
        """
        self._val, self._seeds = val, seeds

        def diagnose_member(state: Any, key: jax.Array, dataset: Dataset) -> dict[str, jax.Array]:
            batch_key, key = jax.random.split(key)
            return diagnose(state, sample(dataset, batch_key, batch_size=DIAGNOSE_BATCH), key)

        self._diagnose = jax.jit(jax.vmap(diagnose_member, (0, 0, None)))
        self._open_window(window_steps)

    def _open_window(self, steps: int = 0) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._steps, self._timed_steps, self._start = steps, 0, _clocks()

    def add(self, window: Window, steps: int) -> None:
        """Takes note of a chunk of `steps` updates, once the device has finished it.

        Args:
            window: as the chunk left it; leading axes (seeds, tasks).
            steps: of the chunk.

        Raises:
            DivergedError: something is not finite.
        """
        window = jax.tree.map(lambda leaf: np.asarray(leaf)[: len(self._seeds)], window)
        self._sums = window.sums
        self._steps += steps
        self._timed_steps += steps
        self._check_finite(window)

    def _check_finite(self, window: Window) -> None:
        if window.bad_update.any():
            seed, task = np.argwhere(window.bad_update)[0]
            when = f'in update {window.bad_update[seed, task]}'
            where = f', task number {task + 1} of the run'
        elif window.bad_state.any():
            seed, task = np.argmax(window.bad_state), 0  # which task is not told
            when, where = 'in the state after the last update', ''
        else:
            return
        means = [f'{name} {v[seed, task] / self._steps:.4g}' for name, v in self._sums.items()]
        raise DivergedError(
            f'seed {self._seeds[seed]}{where}: not finite {when} '
            f'(means since the last log line: {", ".join(means)}); the last checkpoint is whole. '
            'Lower --agent.lr, or check the data'
        )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within does not count as training time."""
        entered = _clocks()
        yield
        self._start += _clocks() - entered

    def progress(self, task: int) -> Progress:
        """Returns the open window of a task as JSON."""
        sums = {name: total[:, task].tolist() for name, total in self._sums.items()}
        return dict(window_steps=self._steps, sums=sums if self._steps else {})

    def close_window(self, population: Any, step: int) -> list[dict[str, Any]]:
        """Averages since the last call and starts afresh.

        Args:
            population: of the seeds, on one device.
            step: the rows' step.

        Returns:
            For every task a row per seed.
        """
        taken, cpu_seconds = _clocks() - self._start
        speed = dict(
            updates_per_second=self._timed_steps / taken,
            cpu_seconds_per_update=cpu_seconds / self._timed_steps,
        )
        metrics = {name: total / self._steps for name, total in self._sums.items()}
        if self._val is not None:
            # The same held-out batch and noise every time, so that only the states differ.
            keys = populations.streams(self._seeds, populations.DIAGNOSE_STREAM)
            held_out = self._diagnose(population, keys, self._val)
            metrics |= {f'val_{name}': np.asarray(value) for name, value in held_out.items()}
        num_tasks = next(iter(metrics.values())).shape[1]
        rows = [
            [
                dict(step=step, seed=seed)
                | {name: float(values[index, task]) for name, values in metrics.items()}
                | speed
                for index, seed in enumerate(self._seeds)
            ]
            for task in range(num_tasks)
        ]
        self._open_window()
        return rows


def _clocks() -> np.ndarray:
    """Seconds of the clock, and of all processors in this process."""
    return np.array([time.perf_counter(), time.process_time()])


def restore_window(empty: Window, progress: list[Progress], members: np.ndarray) -> Window:
    """Returns the window that `Monitor.progress` saved of every task.

    Args:
        empty: window of no updates.
        progress: of every task.
        members: for every member of the population, which saved seed it is.

    Raises:
        UserError: other metrics were saved.
    """
    if not progress[0]['window_steps']:
        return empty
    for of_task in progress:
        if of_task['sums'].keys() != empty.sums.keys():
            raise UserError(
                'the checkpoint was made by another version, which logged other metrics; train '
                'again with another --save_dir, or go on with that version'
            )
    sums = {
        name: jnp.asarray(
            np.array([of_task['sums'][name] for of_task in progress]).T[members], like.dtype
        )
        for name, like in empty.sums.items()
    }
    return empty.replace(sums=sums)
