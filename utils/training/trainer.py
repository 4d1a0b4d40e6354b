"""The training of one population: chunks of updates, log lines, evaluations, checkpoints.

It stops after any chunk when asked to, and goes on from a checkpoint to the same bits: parameters,
targets, optimisers, rows. How often it logs, evaluates, saves or is interrupted has no influence.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from utils.errors import UserError
from utils.storage import runs
from utils.storage.checkpoints import KEEP, Checkpoints, DamagedError, Progress
from utils.storage.metrics import RunLog
from utils.system import guards
from utils.system.background import Background, on_host
from utils.system.stopping import StopRequest
from utils.training import joint, parallel, populations
from utils.training.monitor import Monitor, restore_window
from utils.training.run import Run, evaluate
from utils.training.schedule import PROGRESS_STEPS, Schedule


class Start(NamedTuple):
    """Where a run begins, or goes on.

    Attributes:
        population: on its devices.
        step: updates it has had.
        progress: of every task, as its checkpoint has it; [] without one.
    """

    population: Any
    step: int
    progress: list[Progress]

    def evaluated(self, task: int) -> bool:
        """Returns whether no evaluation was given up at this step."""
        return not self.progress or self.progress[task]['evaluated']

    def finished(self, offline_steps: int) -> bool:
        """Returns whether nothing is left to do."""
        return self.step >= offline_steps and all(of_task['evaluated'] for of_task in self.progress)


class Output(NamedTuple):
    """Where the numbers of a task go."""

    directory: Path
    checkpoints: Checkpoints
    log: RunLog


def find_start(run: Run, checkpoints: list[Checkpoints]) -> Start:
    """Returns the newest state that is whole for every task, or an untrained one.

    Damaged checkpoints are named on stderr.

    Raises:
        UserError: all checkpoints are damaged, or the disk has no room for more.
    """
    init = partial(populations.init_population, run.agent.init, run.seeds)
    shapes = jax.eval_shape(init)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    steps = set.intersection(*(saved.steps() for saved in checkpoints))
    for saved in checkpoints:
        guards.check_space(saved.directory, size * max(1, KEEP + 2 - len(steps)))
    for step in sorted(steps, reverse=True):
        try:
            stored = [saved.restore(step, shapes) for saved in checkpoints]
        except DamagedError as error:
            print(f'warning: {error}', file=sys.stderr)
            continue
        of_tasks, progress = zip(*stored, strict=True)
        population = joint.merge(list(of_tasks), run.agent.shared)
        population = jax.tree.map(lambda leaf: leaf[run.members], population)
        start = Start(population, step, list(progress))
        break
    else:
        if any(saved.steps() for saved in checkpoints):
            raise UserError(
                f'{checkpoints[0].directory}: no checkpoint is whole; to begin anew, move the run '
                'directory away'
            )
        joint_init = joint.init([agent.init for agent in run.agents], run.agent.shared)
        seeds = parallel.pad(run.seeds, run.mesh)
        start = Start(populations.init_population(joint_init, seeds), 0, [])
    for saved in checkpoints:
        saved.forget_after(start.step)
    return start._replace(population=parallel.place(start.population, run.mesh, parallel.SEEDS))


def train(
    run: Run,
    start: Start,
    outputs: list[Output],
    schedule: Schedule,
    stop: StopRequest,
    status: runs.Status,
) -> tuple[int, bool]:
    """Trains until the schedule ends or `stop` says so.

    Returns:
        The last step that was saved, and whether nothing is left to do.

    Raises:
        DivergedError: something is not finite.
        UserError: a file could not be written, or an evaluation process died.
    """
    status.tell('running', start.step)
    with Background(schedule.overlaps) as background, stop.at_errors():
        return _Training(run, start, outputs, schedule, stop, status, background).train()


class _Training:
    """The loop's moving parts."""

    def __init__(self, run, start, outputs, schedule, stop, status, background):
        self._run, self._outputs, self._schedule = run, outputs, schedule
        self._stop, self._status, self._background = stop, status, background
        self._start = start
        self._step = self._saved_step = start.step
        self._given_up = False
        update = joint.update(run.agent.update, run.agent.shared)
        self._train_chunk = populations.make_train_chunk(update, run.sample, run.mesh)
        keys = populations.streams(parallel.pad(run.seeds, run.mesh), populations.TRAIN_STREAM)
        self._arguments = parallel.place(keys, run.mesh, parallel.SEEDS), run.train
        self._population = start.population
        self._window = populations.empty_window(
            self._train_chunk, start.population, *self._arguments
        )
        window_steps = 0
        if start.progress:
            self._window = restore_window(self._window, start.progress, run.members)
            window_steps = start.progress[0]['window_steps']
        self._window = parallel.place(self._window, run.mesh, parallel.SEEDS)
        diagnose = joint.diagnose(run.agent.diagnose, run.agent.shared)
        self._monitor = Monitor(diagnose, run.sample, run.val, run.seeds, window_steps)
        self._monitor.add(self._window, 0)

    def train(self) -> tuple[int, bool]:
        schedule, stop = self._schedule, self._stop
        given_up = [not self._start.evaluated(task) for task in range(len(self._outputs))]
        if any(given_up):
            self._background.run(self._job(given_up, saves=True))
        # A chunk of no steps compiles the program, so that the first rate is that of updates.
        self._advance(0)
        num_steps = 1  # until it is known how long one takes
        name = schedule.label or self._outputs[0].directory.parent.name
        total = schedule.offline_steps
        with tqdm.tqdm(total=total, initial=self._step, desc=name, unit='update') as bar:
            while self._step < total and not stop():
                num_steps = min(num_steps, schedule.next_stop(self._step) - self._step)
                seconds = self._advance(num_steps)
                bar.update(num_steps)
                if schedule.logs(self._step):
                    bar.set_postfix(_shown(self._log()))
                self._evaluate_and_save()
                affordable = num_steps * schedule.max_wait / seconds
                num_steps = max(1, int(min(affordable, PROGRESS_STEPS)))
        self._background.wait()
        # Where an evaluation was given up, its own step was saved, and later updates go.
        if self._saved_step < self._step and not self._given_up:
            self._job([False] * len(self._outputs), saves=True)()
        return self._saved_step, self._saved_step >= total and not self._given_up

    def _advance(self, num_steps: int) -> float:
        """Makes updates; returns how many seconds they took."""
        started = time.perf_counter()
        self._population, self._window = self._train_chunk(
            self._population, self._window, *self._arguments, self._step, num_steps
        )
        self._step += num_steps
        self._monitor.add(self._window, num_steps)
        return time.perf_counter() - started

    def _gathered(self) -> Any:
        return parallel.gather(self._population, self._run.mesh, len(self._run.seeds))

    def _log(self) -> list[dict[str, Any]]:
        rows = self._monitor.close_window(self._gathered(), self._step)
        # Placed as the first one was: an array placed otherwise compiles the program again.
        window = populations.zeros_like(self._window)
        self._window = parallel.place(window, self._run.mesh, parallel.SEEDS)
        for output, task_rows in zip(self._outputs, rows, strict=True):
            output.log.write('train', task_rows)
        return rows[0]

    def _evaluate_and_save(self) -> None:
        evaluates, saves = self._schedule.evaluates(self._step), self._schedule.saves(self._step)
        if evaluates or saves:
            with self._monitor.paused():
                self._background.run(self._job([evaluates] * len(self._outputs), saves))

    def _job(self, evaluates: list[bool], saves: bool) -> Callable[[], None]:
        """Returns the work that is due at this step: each task is treated as if trained alone.

        A checkpoint is written after the evaluation of its step, so that a run that goes on from
        it lacks no row; or the evaluation was given up, and the checkpoint says so.
        """
        step, tasks = self._step, range(len(self._outputs))
        progress = [self._monitor.progress(task) for task in tasks]
        population = self._gathered()
        population = on_host(population) if self._schedule.overlaps else population
        of_tasks = joint.split(population, self._run.agent.shared, len(tasks))

        def job() -> None:
            evaluated = [
                not evaluates[task] or self._evaluate(task, of_tasks[task], step) for task in tasks
            ]
            self._given_up = not all(evaluated)
            if saves or self._stop():
                for task in tasks:
                    state = progress[task] | dict(evaluated=evaluated[task])
                    self._save(self._outputs[task], step, of_tasks[task], state)
                self._saved_step = step
                self._status.tell('running', step)

        return job

    def _evaluate(self, task: int, population: Any, step: int) -> bool:
        log = self._outputs[task].log
        return evaluate(self._run, task, population, step, self._schedule, log, self._stop)

    def _save(self, output: Output, step: int, population: Any, progress: Progress) -> None:
        output.log.sync()
        best = output.log.best_step()
        output.checkpoints.save(step, population, progress, {best} - {None})


def _shown(rows: list[dict[str, Any]]) -> dict[str, str]:
    names = [name for name in ('policy_loss', 'value_loss') if name in rows[0]]
    means = {name: np.mean([row[name] for row in rows]) for name in names}
    return {name: f'{mean:.4f}' for name, mean in means.items()}
