"""The training of one population: chunks of updates, log lines, evaluations, checkpoints.

It stops after any chunk when asked to, and goes on from a checkpoint to the same bits: parameters,
targets, optimisers, rows. How often it logs, evaluates, saves or is interrupted has no influence.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from utils.data import collected as kept_data
from utils.data.collected import Collected
from utils.errors import UserError
from utils.storage import runs
from utils.storage.checkpoints import KEEP, Checkpoints, DamagedError, Progress
from utils.system import guards
from utils.system.background import Background
from utils.system.stopping import StopRequest
from utils.training import collecting, parallel, populations
from utils.training.collecting import Collector
from utils.training.monitor import Monitor, restore_window
from utils.training.outputs import Output, Outputs
from utils.training.populations import Population
from utils.training.run import Run
from utils.training.schedule import PROGRESS_STEPS, Schedule


class Start(NamedTuple):
    """Where a run begins, or goes on.

    Attributes:
        states: of the members, on their devices.
        step: updates it has had.
        progress: of every task, as its checkpoint has it; [] without one.
        collected: by the members, if they have learned online.
    """

    states: Any
    step: int
    progress: list[Progress]
    collected: Collected | None = None

    def evaluated(self, task: int) -> bool:
        """Returns whether the evaluation of this step is complete, or there is to be none."""
        return not self.progress or self.progress[task]['evaluated']

    def finished(self, total_steps: int) -> bool:
        """Returns whether nothing is left to do."""
        return self.step >= total_steps and all(of_task['evaluated'] for of_task in self.progress)


def find_start(
    run: Run, checkpoints: list[Checkpoints], collected: Checkpoints | None = None
) -> Start:
    """Returns the newest state that is whole for every task, or an untrained one.

    Damaged checkpoints are named on stderr.

    Args:
        run: what is trained.
        checkpoints: of every task.
        collected: beside them, of what was collected.

    Raises:
        UserError: all checkpoints are damaged, or the disk has no room for more.
    """
    shapes = populations.shapes(run.agent.init, run.seeds)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    steps = set.intersection(*(saved.steps() for saved in checkpoints))
    new = len(checkpoints) * max(1, KEEP + 2 - len(steps))
    guards.check_space(checkpoints[0].directory, size * new)
    damaged = set()
    for step in sorted(steps, reverse=True):
        try:
            stored = [saved.restore(step, shapes) for saved in checkpoints]
            own = _restore_collected(run, step, stored[0][1], collected)
        except DamagedError as error:
            print(f'warning: {error}', file=sys.stderr)
            damaged.add(step)
            continue
        of_tasks, progress = zip(*stored, strict=True)
        states = run.lifted.merge(list(of_tasks))
        states = jax.tree.map(lambda leaf: leaf[run.members], states)
        start = Start(states, step, list(progress), own)
        break
    else:
        _check_together(checkpoints, 0, damaged)
        if any(saved.steps() for saved in checkpoints):
            raise UserError(
                f'{checkpoints[0].directory}: no checkpoint is whole; to begin anew, move the run '
                'directory away'
            )
        seeds = parallel.pad(run.seeds, run.mesh)
        start = Start(populations.init_states(run.lifted.init, seeds), 0, [])
    _check_together(checkpoints, start.step, damaged)
    for saved in [*checkpoints, *([collected] if collected else [])]:
        saved.forget_after(start.step)
    return start._replace(states=parallel.place(start.states, run.mesh, parallel.SEEDS))


def _check_together(checkpoints: list[Checkpoints], start: int, damaged: set[int]) -> None:
    """Checks that no task was trained further by itself, which going on together would undo.

    The status of each tells what all that were trained with it had saved: of tasks that were
    trained together the same.
    """
    directories = [saved.directory.parent for saved in checkpoints]
    told = [(runs.read_status(directory) or {}).get('step', 0) for directory in directories]
    for directory, step, saved in zip(directories, told, checkpoints, strict=True):
        if step > max(start, min(told)) and step in saved.steps() - damaged:
            raise UserError(
                f'{directory}: has come to step {step}, the tasks together to {start}; train each '
                'alone to the same step first, or choose another --save_dir'
            )


def _restore_collected(
    run: Run, step: int, progress: Progress, checkpoints: Checkpoints | None
) -> Collected | None:
    if checkpoints is None or not (room := progress.get('collected_rows')):
        return None
    shapes = jax.eval_shape(lambda: collecting.empty(run, room))
    return checkpoints.restore(step, shapes)[0]


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
        UserError: a file could not be written, a process of an environment died, or one that was
            collected in does not come back to where it was.
    """
    status.tell('running', start.step)
    population, monitor, advance = _begin(run, start)
    with Background(schedule.overlaps) as background, stop.at_errors():
        sink = Outputs(run, outputs, schedule, stop, status, background, start.step)
        given_up = [not start.evaluated(task) for task in range(len(outputs))]
        if any(given_up):
            with monitor.paused():
                sink.evaluate_and_save(population, monitor, given_up, saves=True)
        if population.step < schedule.offline_steps:
            population = _loop(population, advance, monitor, sink, schedule, stop)
        if schedule.offline_steps <= population.step < schedule.total_steps and not stop():
            population = _learn_online(run, population, monitor, sink, schedule, stop)
        return sink.finish(population, monitor)


def _begin(run: Run, start: Start) -> tuple[Population, Monitor, Callable]:
    """Returns the population, what watches it, and what trains it for a number of updates."""
    lifted = run.lifted
    train_chunk = populations.make_train_chunk(lifted.update, run.sample, run.mesh)
    keys = populations.streams(parallel.pad(run.seeds, run.mesh), populations.TRAIN_STREAM)
    arguments = parallel.place(keys, run.mesh, parallel.SEEDS), run.train
    window, window_steps = populations.empty_window(train_chunk, start.states, *arguments), 0
    if start.progress:
        window = restore_window(window, start.progress, run.members)
        window_steps = start.progress[0]['window_steps']
    window = parallel.place(window, run.mesh, parallel.SEEDS)
    monitor = Monitor(lifted.diagnose, run.sample, run.val, run.seeds, window_steps)
    monitor.add(window, 0)

    def advance(population: Population, num_steps: int) -> tuple[Population, float]:
        """Makes updates; returns how many seconds they took, too."""
        started = time.perf_counter()
        states, window = train_chunk(
            population.states, population.window, *arguments, population.step, num_steps
        )
        monitor.add(window, num_steps)
        seconds = time.perf_counter() - started
        return Population(states, window, population.step + num_steps), seconds

    return Population(start.states, window, start.step, start.collected), monitor, advance


def _learn_online(
    run: Run,
    population: Population,
    monitor: Monitor,
    sink: Outputs,
    schedule: Schedule,
    stop: StopRequest,
) -> Population:
    """Goes on with a step of an environment before each update."""
    room = kept_data.room(schedule.online_steps)
    if population.collected is None:
        collected = collecting.empty(run, room)
    else:
        collected = kept_data.resize(population.collected, room)
    train_chunk = populations.make_train_chunk(run.lifted.update, run.online.sample, run.mesh)
    keys = populations.streams(run.seeds, populations.TRAIN_STREAM)
    keys = parallel.place(keys, run.mesh, parallel.SEEDS)

    def train_on(population: Population, collector: Collector, num_steps: int) -> Population:
        collected = collector.collected
        data = run.train, collected.data
        states, window, step, _ = population
        states, window = train_chunk(states, window, keys, data, step, num_steps, collector.own)
        monitor.add(window, num_steps)
        return Population(states, window, step + num_steps, collected)

    with collecting.opened(run, collected) as collector:

        def advance(population: Population, num_steps: int) -> tuple[Population, float]:
            started = time.perf_counter()
            if not num_steps:
                population = train_on(population, collector, 0)
            for _ in range(num_steps):
                ended = collector.step(population.states)
                population = train_on(population, collector, 1)
                sink.log_collected(ended, population.step)
            return population, time.perf_counter() - started

        return _loop(population, advance, monitor, sink, schedule, stop)


def _loop(
    population: Population,
    advance: Callable,
    monitor: Monitor,
    sink: Outputs,
    schedule: Schedule,
    stop: StopRequest,
) -> Population:
    """Trains to the end of the schedule's part, or until `stop` says so."""
    total = schedule.end_after(population.step)
    # A chunk of no steps compiles the program, so that the first rate is that of updates.
    with monitor.paused():
        population, _ = advance(population, 0)
    num_steps = 1  # until it is known how long one takes
    name = schedule.label or sink.name
    with tqdm.tqdm(total=total, initial=population.step, desc=name, unit='update') as bar:
        while population.step < total and not stop():
            num_steps = min(num_steps, schedule.next_stop(population.step) - population.step)
            population, seconds = advance(population, num_steps)
            bar.update(num_steps)
            if schedule.logs(population.step):
                population, rows = sink.log(population, monitor)
                bar.set_postfix(_shown(rows))
            sink.follow_schedule(population, monitor)
            affordable = num_steps * schedule.max_wait / seconds
            num_steps = max(1, int(min(affordable, PROGRESS_STEPS)))
    return population


def _shown(rows: list[dict[str, Any]]) -> dict[str, str]:
    names = [name for name in ('policy_loss', 'value_loss') if name in rows[0]]
    means = {name: np.mean([row[name] for row in rows]) for name in names}
    return {name: f'{mean:.4f}' for name, mean in means.items()}
