"""What tasks that share no training cost a CPU together, as one batch, and one after the other.

    python -m benchmarks.turns

Prints the processor's milliseconds of an update of five tasks on noise of cube-double's sizes, both
ways, in turn with each other: time of the processor is told apart from other programs' better than
that of the clock.
"""

import statistics
import time
from typing import Any

import jax
from absl import flags

import configs
from benchmarks import reports
from utils.jobs import workload
from utils.system import command

FLAGS = flags.FLAGS
CONFIGS = ['evor25', 'evor25_maze', 'qc5_25', 'qc1_25', 'iql_small']
flags.DEFINE_list('agents', CONFIGS, 'Configs that share no training between tasks.')
flags.DEFINE_integer('tasks', 5, 'Trained together.', lower_bound=1)
flags.DEFINE_integer('updates', 10, 'Timed, five times each way.', lower_bound=1)
flags.DEFINE_string('env_name', 'cube-double-play-singletask-task1-v0', 'Its sizes.')


def main(_: list[str]) -> None:
    """Measures and prints a table."""
    sizes = workload.sizes_of(FLAGS.env_name)
    rows = []
    for name in FLAGS.agents:
        config = configs.get_config(name)
        ways = [workload.make(config, sizes, 1, FLAGS.tasks, batch) for batch in (True, False)]
        together, in_turn = _times(ways, FLAGS.updates)
        share = f'{in_turn / together:.2f}'
        rows.append([f'`{name}`', f'{together:.1f}', f'{in_turn:.1f}', share])
    print(reports.table(['agent', 'together, ms', 'in turn, ms', 'share'], rows))


def _times(ways: list[workload.Workload], num_steps: int) -> list[float]:
    """Returns the median milliseconds of the processor that an update takes each way."""
    states = [_train(work, work.states, 1) for work in ways]
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(5):
        for index, work in enumerate(ways):
            started = time.process_time()
            states[index] = _train(work, states[index], num_steps)
            taken[index].append(1e3 * (time.process_time() - started) / num_steps)
    return [statistics.median(times) for times in taken]


def _train(work: workload.Workload, states: Any, num_steps: int) -> Any:
    states, _ = work.train_chunk(states, None, *work.arguments, 0, num_steps)
    return jax.block_until_ready(states)


if __name__ == '__main__':
    command.run(main)
