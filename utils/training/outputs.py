"""What leaves the device during training: log lines, evaluations and checkpoints of every task.

Each task is treated as if it was trained alone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from utils.data import collected as kept_data
from utils.data.collected import Collected
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints, Progress
from utils.storage.metrics import RunLog
from utils.system.background import Background, on_host
from utils.system.stopping import StopRequest
from utils.training import parallel, populations, run
from utils.training.monitor import Monitor
from utils.training.populations import Population
from utils.training.run import Run
from utils.training.schedule import Schedule

Rows = list[dict[str, Any]]


class Output(NamedTuple):
    """Where the numbers of a task go, and what it has collected."""

    directory: Path
    checkpoints: Checkpoints
    log: RunLog
    collected: Checkpoints | None = None


class Outputs:
    """Writes what a schedule asks for, in place of training or beside it.

    A checkpoint is written after the evaluation of its step, so that a run that goes on from it
    lacks no row; or the evaluation was given up, and the checkpoint says so.
    """

    def __init__(
        self,
        trained: Run,
        outputs: list[Output],
        schedule: Schedule,
        stop: StopRequest,
        status: runs.Status,
        background: Background,
        step: int,
    ):
        """Goes on after `step`.

        Args:
            trained: what is trained.
            outputs: of every task.
            schedule: when there is something to do.
            stop: asked during evaluations.
            status: told of every checkpoint.
            background: what does it.
            step: of the checkpoint that training begins with.
        """
        self._run, self._outputs, self._schedule = trained, outputs, schedule
        self._stop, self._status, self._background = stop, status, background
        self._saved_step, self._given_up = step, False

    @property
    def name(self) -> str:
        """Of the config."""
        return self._outputs[0].directory.parent.name

    def log(self, population: Population, monitor: Monitor) -> tuple[Population, Rows]:
        """Writes a log line; returns the population with a new window, and the first task's."""
        rows = monitor.close_window(self._gather(population), population.step)
        for output, of_task in zip(self._outputs, rows, strict=True):
            output.log.write('train', of_task)
        # Placed as the first one was: an array placed otherwise compiles the program again.
        window = populations.zeros_like(population.window)
        window = parallel.place(window, self._run.mesh, parallel.SEEDS)
        return population._replace(window=window), rows[0]

    def log_collected(self, episodes: Rows, step: int) -> None:
        """Writes episodes that ended while the one task learned online."""
        if episodes:
            self._outputs[0].log.write('collected', [dict(step=step) | row for row in episodes])

    def follow_schedule(self, population: Population, monitor: Monitor) -> None:
        """Evaluates and saves if this step is one for it."""
        step = population.step
        evaluates, saves = self._schedule.evaluates(step), self._schedule.saves(step)
        if evaluates or saves:
            with monitor.paused():
                everything = [evaluates] * len(self._outputs)
                self.evaluate_and_save(population, monitor, everything, saves)

    def evaluate_and_save(
        self, population: Population, monitor: Monitor, evaluates: list[bool], saves: bool
    ) -> None:
        """Evaluates the tasks that `evaluates` names; saves, also if it is to stop."""
        self._background.run(self._job(population, monitor, evaluates, saves))

    def finish(self, population: Population, monitor: Monitor) -> tuple[int, bool]:
        """Saves what is not saved; returns the last step that is, and whether nothing is left."""
        self._background.wait()
        # Where an evaluation was given up, its own step was saved, and later updates go.
        if self._saved_step < population.step and not self._given_up:
            self._job(population, monitor, [False] * len(self._outputs), saves=True)()
        done = self._saved_step >= self._schedule.total_steps
        return self._saved_step, done and not self._given_up

    def _gather(self, population: Population) -> Any:
        return parallel.gather(population.states, self._run.mesh, len(self._run.seeds))

    def _job(
        self, population: Population, monitor: Monitor, evaluates: list[bool], saves: bool
    ) -> Callable[[], None]:
        """Returns the work that is due at this step; it holds copies of what it needs."""
        step, tasks = population.step, range(len(self._outputs))
        progress = [monitor.progress(task) for task in tasks]
        states = self._gather(population)
        collected = population.collected
        if self._schedule.overlaps:
            states, collected = on_host((states, collected))
        of_tasks = self._run.lifted.split(states)

        def job() -> None:
            if self._given_up:
                return  # a later checkpoint would say that nothing is missing
            evaluated = [
                not evaluates[task] or self._evaluate(task, of_tasks[task], step) for task in tasks
            ]
            self._given_up = not all(evaluated)
            if saves or self._stop():
                for task in tasks:
                    state = progress[task] | dict(evaluated=evaluated[task])
                    self._save(self._outputs[task], step, of_tasks[task], state, collected)
                self._saved_step = step
                self._status.tell('running', step)

        return job

    def _evaluate(self, task: int, states: Any, step: int) -> bool:
        log = self._outputs[task].log
        return run.evaluate(self._run, task, states, step, self._schedule, log, self._stop)

    def _save(
        self,
        output: Output,
        step: int,
        states: Any,
        progress: Progress,
        collected: Collected | None,
    ) -> None:
        output.log.sync()
        best = {output.log.best_step(output.checkpoints.steps() | {step})} - {None}
        if collected is not None:  # before the checkpoint that cannot do without it
            rows = kept_data.in_use(collected)
            output.collected.save(step, kept_data.resize(collected, rows), {}, best)
            progress = progress | dict(collected_rows=rows)
        output.checkpoints.save(step, states, progress, best)
