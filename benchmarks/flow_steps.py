"""How many steps of which solver a reward-to-go needs: in its backup, and when it is read.

    python -m benchmarks.flow_steps

Trains the `coupled` target (lam 0) on processes of known distribution. First the backup is fine
and the reading varies; then the backup varies and the reading is fine. `steered_walk` is the
deterministic twin of `noisy_walk`. Writes OUT/flow_steps.csv and OUT/flow_steps.md, which it
prints.
"""

from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import processes, reports, value_training
from benchmarks.value_training import Trained
from utils.errors import UserError
from utils.storage.metrics import CsvTable
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_integer('steps', 5000, 'Updates.', lower_bound=1)
flags.DEFINE_integer('seeds', 2, 'Members trained together.', lower_bound=1)
flags.DEFINE_list(
    'processes', ['uniform', 'tied_actions', 'noisy_walk', 'steered_walk'], 'Which processes.'
)
flags.DEFINE_enum('value_net', 'mlp', ['mlp', 'trunk'], 'Which net.')
flags.DEFINE_list(
    'solvers',
    '1 euler,2 euler,4 euler,10 euler,20 euler,1 midpoint,2 midpoint,5 midpoint,10 midpoint,'
    '2 heun,5 heun',
    'Compared, as "STEPS SOLVER".',
)
flags.DEFINE_string('fine', '20 euler', 'The backup while the reading varies.')
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')

READING = f'{value_training.READING_STEPS} euler'


def main(_: list[str]) -> None:
    """Trains, reads and writes."""
    out = Path(FLAGS.out)
    csv = out / 'flow_steps.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in FLAGS.processes:
        fine = train(name, FLAGS.fine)
        readings = [*FLAGS.solvers, READING]
        new = [row for reading in readings for row in read(fine, FLAGS.fine, reading, 'reading')]
        for backup in FLAGS.solvers:
            trained = fine if backup == FLAGS.fine else train(name, backup)
            new += read(trained, backup, READING, 'backup')
        CsvTable(csv).append(new)
        rows += new
    settings = f'{FLAGS.steps} updates, {FLAGS.seeds} seeds, value_net={FLAGS.value_net}'
    text = reports.flow_steps_tables(rows, settings)
    (out / 'flow_steps.md').write_text(text)
    print(text)


def train(process: str, backup: str) -> Trained:
    """Trains with some steps of some solver in the backup."""
    steps, solver = parse(backup)
    print(f'{process}: {backup}', flush=True)
    return value_training.train(
        processes.ALL[process](),
        FLAGS.steps,
        FLAGS.seeds,
        td_target='coupled',
        lam=0.0,
        value_net=FLAGS.value_net,
        backup_flow_steps=steps,
        backup_solver=solver,
    )


def read(trained: Trained, backup: str, reading: str, varies: str) -> list[dict[str, Any]]:
    """Measures every query and seed, read with some steps of some solver."""
    steps, solver = parse(reading)
    reader = value_training.with_solver(trained, solver)
    tags = dict(process=trained.process.name, backup=backup, reading=reading, varies=varies)
    return [
        tags | dict(query=number, seed=seed) | value_training.measure(reader, query, seed, steps)
        for number, query in enumerate(trained.process.queries)
        for seed in range(FLAGS.seeds)
    ]


def parse(text: str) -> tuple[int, str]:
    """Returns the steps and the solver of "STEPS SOLVER".

    Raises:
        UserError: it is not of this form.
    """
    steps, _, solver = text.partition(' ')
    if not steps.isdigit() or not int(steps) or not solver:
        raise UserError(f"--solvers, --fine: expected such as '4 euler', not '{text}'")
    return int(steps), solver


if __name__ == '__main__':
    command.run(main)
