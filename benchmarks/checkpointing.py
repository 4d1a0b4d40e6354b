"""What checkpoints cost: seconds to write and to read one, and their share of the training time.

    python -m benchmarks.checkpointing --agents=evor,qc1 --populations=1x1,5x5

Arrays are written, synced to the disk, digested and committed as in a run; SEEDSxTASKS are trained
on noise for the time of an update. The share is that of a checkpoint every --save_interval updates.
"""

import statistics
import time
from pathlib import Path

import jax
from absl import flags

import configs
from benchmarks import reports
from utils.errors import UserError
from utils.jobs import workload
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import multitask

FLAGS = flags.FLAGS
OBSERVATION_DIM, ACTION_DIM = 40, 5  # of cube-double

flags.DEFINE_list('agents', ['evor', 'qc1'], 'Names in configs.py.')
flags.DEFINE_list('populations', ['1x1', '5x5'], 'Seeds x tasks.')
flags.DEFINE_integer('save_interval', 100_000, "Updates between checkpoints; main.py's default.")
flags.DEFINE_integer('timed_steps', 20, 'Updates that are timed, three times.', lower_bound=1)
flags.DEFINE_string('out', 'bench/checkpointing', 'Folder of the results; it must not exist yet.')


def main(_: list[str]) -> None:
    """Measures and writes."""
    out = Path(FLAGS.out)
    if out.exists():
        raise UserError(f'{out}: exists already; choose another --out')
    rows = []
    for name in FLAGS.agents:
        for population in FLAGS.populations:
            num_seeds, num_tasks = workload.parse_population(population)
            folder = out / 'checkpoints' / name / population
            rows.append(dict(agent=name, population=population))
            rows[-1] |= measure(name, num_seeds, num_tasks, folder)
            print(rows[-1], flush=True)
    CsvTable(out / 'checkpointing.csv').append(rows)
    text = reports.checkpoint_table(rows)
    (out / 'checkpointing.md').write_text(text)
    print(text)


def measure(name: str, num_seeds: int, num_tasks: int, folder: Path) -> dict[str, float]:
    """Times updates, writes and reads of one population; a task's checkpoint is a folder."""
    work = workload.make(
        configs.get_config(name), (OBSERVATION_DIM, ACTION_DIM), num_seeds, num_tasks
    )
    states, ms_per_update = workload.time_updates(work, FLAGS.timed_steps)
    parts = multitask.lift([work.agent] * num_tasks).split(states)
    shapes = jax.eval_shape(lambda: parts)
    writes, reads = [], []
    for step in range(3):
        started = time.perf_counter()
        for task, part in enumerate(parts):
            with Checkpoints(folder / str(task)) as checkpoints:
                checkpoints.save(step, part, {})
        written = time.perf_counter()
        for task, shape in enumerate(shapes):
            with Checkpoints(folder / str(task), read_only=True) as checkpoints:
                checkpoints.restore(step, shape)
        writes.append(written - started)
        reads.append(time.perf_counter() - written)
    size = sum(path.stat().st_size for path in folder.glob(f'*/{step}/**/*') if path.is_file())
    seconds = statistics.median(writes)
    return dict(
        mib=size / 2**20,
        write_seconds=seconds,
        read_seconds=statistics.median(reads),
        ms_per_update=ms_per_update,
        share=seconds / (1e-3 * ms_per_update * FLAGS.save_interval),
    )


if __name__ == '__main__':
    command.run(main)
