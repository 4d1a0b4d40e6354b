"""One table of trained agents: success with intervals, and the cost of an update.

    python -m benchmarks.comparison --runs=exp/cube-single-play-singletask-task1-v0

Reads the last evaluation of every seed of every config under RUNS, times each agent's update here,
and writes OUT/comparison.csv and OUT/comparison.md, which it prints. Success is the mean over seeds
with a 95% t interval over them (of one seed: Wilson, of this agent); the seeds' own rates stand
beside it.
"""

from pathlib import Path

from absl import flags

from agents import records
from benchmarks import reports, scores
from utils.errors import UserError
from utils.jobs import workload
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('runs', None, 'Folder SAVE_DIR/ENV of runs.', required=True)
flags.DEFINE_integer('timed_steps', 200, 'Updates that are timed, three times.', lower_bound=1)
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')


def main(_: list[str]) -> None:
    """Reads, measures and writes."""
    out = Path(FLAGS.out)
    csv = out / 'comparison.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    root = Path(FLAGS.runs).expanduser()
    names = sorted(path.name for path in root.glob('*') if any(path.glob('seeds_*/eval.csv')))
    if not names:
        raise UserError(f'--runs: {root} holds no evaluated run; give SAVE_DIR/ENV')
    rows = [scores.success(root / name) | cost(root / name) for name in names]
    rows.sort(key=lambda row: -row['success'])
    out.mkdir(parents=True, exist_ok=True)
    CsvTable(csv).append(rows)
    text = reports.comparison_table(rows)
    (out / 'comparison.md').write_text(text)
    print(text)


def cost(folder: Path) -> dict[str, float]:
    """Parameters, operations and milliseconds of an update of one member, on this machine."""
    directory = next(iter(sorted(folder.glob('seeds_*'))))
    record = runs.read_record(directory)
    sizes = record['observation_dim'], record['action_dim']
    work = workload.make(records.config_of(record, directory), sizes, num_seeds=1, num_tasks=1)
    return dict(
        parameters=work.parameters,
        gflop_per_update=work.gflop_per_update,
        ms_per_update=workload.time_updates(work, FLAGS.timed_steps)[1],
    )


if __name__ == '__main__':
    command.run(main)
