"""Learned against true return distributions, on processes where the truth is known in closed form.

    python -m benchmarks.return_distribution

Every value model learns every process, with nets, batches and optimiser alike; `--seeds` members
train together. Writes OUT/return_distribution.csv (every model, process, query, seed and
checkpoint), OUT/return_distribution.md (the tables, which are also printed) and
OUT/return_distribution.png.
"""

import itertools
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
from absl import flags

from agents import evor
from benchmarks import processes, reports, value_training
from benchmarks.models import MODELS
from benchmarks.processes import Process
from benchmarks.value_training import Trained
from utils.errors import UserError
from utils.models.networks import PRECISIONS
from utils.storage.metrics import CsvTable
from utils.system import command
from utils.training import populations

FLAGS = flags.FLAGS
flags.DEFINE_integer('steps', 5000, 'Updates of each value model.', lower_bound=1)
flags.DEFINE_integer('flow_steps', 20, 'Euler steps in the backup.', lower_bound=1)
flags.DEFINE_integer(
    'n_step', 1, 'Steps of the process whose rewards come before the bootstrap.', lower_bound=1
)
flags.DEFINE_integer('seeds', 3, 'Members trained together, with seeds 0, 1, ...', lower_bound=1)
flags.DEFINE_multi_enum(
    'processes', list(processes.ALL)[:9], list(processes.ALL), 'Which processes.'
)
flags.DEFINE_multi_enum('models', list(MODELS), list(MODELS), 'Which value models.')
flags.DEFINE_enum(
    'matmul_precision', 'float32', list(PRECISIONS), 'Of the operands of matrix products.'
)
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')

CHECKPOINTS = 5


def run(process: Process, name: str, steps: int, seeds: int, flow_steps: int) -> list[dict]:
    """Trains one model on one process and returns its rows, with a cost for each."""
    settings = dict(backup_solver='euler', backup_flow_steps=flow_steps)
    settings |= dict(matmul_precision=FLAGS.matmul_precision, n_step=FLAGS.n_step)
    model = value_training.build(process, steps, **settings, **MODELS[name])
    population = populations.init_states(partial(evor.init, model), list(range(seeds)))
    train_chunk = value_training.make_train(model, process, seeds)
    jax.block_until_ready(train_chunk(population, 0, 0))  # compiles
    read = value_training.make_read(model)
    rows, seconds, done = [], 0.0, 0
    for stop in np.unique(np.ceil(np.geomspace(max(steps // 16, 1), steps, CHECKPOINTS))):
        started = time.perf_counter()
        population = jax.block_until_ready(train_chunk(population, done, int(stop) - done))
        seconds, done = seconds + time.perf_counter() - started, int(stop)
        rows += _measure(Trained(model, population, process, read), name, done, seeds)
    price = value_training.cost(model, process)
    price['ms_per_update'] = 1e3 * seconds / steps / seeds
    return [row | price for row in rows]


def _measure(trained: Trained, name: str, updates: int, seeds: int) -> list[dict]:
    rows = []
    for seed, (number, query) in itertools.product(
        range(seeds), enumerate(trained.process.queries)
    ):
        tags = dict(process=trained.process.name, model=name, query=number, n_step=FLAGS.n_step)
        tags |= dict(
            true_mean=query.distribution.mean,
            true_std=query.distribution.std,
            updates=updates,
            seed=seed,
        )
        rows.append(tags | value_training.measure(trained, query, seed))
    return rows


def main(_: list[str]) -> None:
    """Runs everything and writes the reports."""
    out = Path(FLAGS.out)
    csv = out / 'return_distribution.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for process_name in FLAGS.processes:
        process = processes.ALL[process_name]()
        for name in FLAGS.models:
            new = run(process, name, FLAGS.steps, FLAGS.seeds, FLAGS.flow_steps)
            rows += new
            CsvTable(csv).append(new)
            print(f'{process_name}, {name}: W1 {new[-1]["wasserstein"]:.3f}', flush=True)
    settings = f'{FLAGS.steps} updates of {FLAGS.n_step}-step returns, '
    settings += f'{FLAGS.flow_steps} Euler steps in the backup, '
    settings += f'{FLAGS.seeds} seeds, {FLAGS.matmul_precision} products'
    text = reports.return_distribution_tables(rows, settings)
    (out / 'return_distribution.md').write_text(text)
    reports.return_distribution_figure(rows, out / 'return_distribution.png')
    print(text)


if __name__ == '__main__':
    command.run(main)
