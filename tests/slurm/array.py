"""Runs a suite as an array of a real SLURM, disturbs it in every way, and compares the results.

    python -m tests.slurm.array --out=/tmp/slurm

Six runs, of two tasks and three seeds, are trained on a one-node cluster that this script starts.
On their way

    0  is warned of its time limit by SLURM itself (SIGUSR1): saves, requeues itself
    1  is requeued by the administrator (`scontrol requeue`, SIGTERM)
    2  gets SIGUSR1 by `scancel --signal`: saves, requeues itself
    3  is cancelled while it runs (SIGTERM): saves, ends, and is submitted again
    4  is killed (SIGKILL): is submitted again
    5  is cancelled before it begins: is submitted again

and `scripts/sweep.py --status` must tell so at every stage. Final weights and all rows but their
timing must be those of an undisturbed `--local` run, to the bit. Where SLURM is not installed this
says so and succeeds.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from absl import app, flags

import configs
from tests.equality import assert_equal_runs
from tests.slurm import cluster
from tests.slurm.cluster import wait_for
from utils.generation import generator
from utils.storage import runs
from utils.sweeps import suites

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[2]
DATASET = 'pointmaze-medium-stitch-v0'
# Longer than SLURM takes to notice a time limit, which it looks for every thirty seconds.
flags.DEFINE_integer('steps', 1_000_000, 'Updates of every run.', lower_bound=1)
flags.DEFINE_string('out', None, 'Folder of everything; default: a temporary one.')

# Enough that some reach the goals, or tasks would not differ.
EPISODES = 100
NET = ('--agent.hidden_dims=(8,)', '--agent.batch_size=16', '--agent.flow_steps=2')
PATIENCE = 1200.0  # seconds; nothing here takes that long


class Row(NamedTuple):
    """What `--status` says of an element."""

    state: str
    step: int
    reason: str


class Sweep(NamedTuple):
    """The suite under test, and where its runs go."""

    save_dir: Path
    data_dir: Path
    steps: int

    def call(self, *mode: str) -> str:
        """Calls scripts/sweep.py; returns what it prints."""
        every = self.steps // 20
        command = [
            sys.executable,
            str(ROOT / 'scripts/sweep.py'),
            '--suite=smoke',
            f'--save_dir={self.save_dir}',
            f'--dataset_dir={self.data_dir}',
            *mode,
            '--',
            f'--offline_steps={self.steps}',
            f'--log_interval={every}',
            f'--save_interval={every}',
            f'--eval_interval={self.steps // 2}',
            '--eval_episodes=2',
            '--max_wait=1',
            *NET,
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def submit(self) -> str:
        """Submits what is not done; returns the number of the array job."""
        output = self.call('--submit', '--sbatch_options=--cpus-per-task=1 --mem=0')
        return output.split('submitted job ')[1].split(':')[0]

    def status(self) -> list[Row]:
        """Returns how all elements are doing."""
        rows = []
        for line in self.call('--status').splitlines()[:-1]:
            _, state, progress, _, *reason = line.split(maxsplit=4)
            rows.append(Row(state, int(progress.split('/')[0]), ''.join(reason)))
        return rows

    def directory(self, index: int) -> Path:
        """Returns the run directory of an element."""
        element = suites.elements(configs.get_suite('smoke'), 'none')[index]
        [directory] = suites.directories(element, str(self.save_dir))
        return directory

    def told(self, index: int) -> tuple[str, int]:
        """Returns the state and the step that an element's run tells of itself."""
        status = runs.read_status(self.directory(index)) or dict(state='missing', step=0)
        return status['state'], status['step']

    def log(self, index: int) -> str:
        """Returns an element's log."""
        path = self.save_dir / f'sweeps/smoke/none/{index}.log'
        return path.read_text() if path.exists() else ''


def slurm(*command: str) -> None:
    """Calls a program of SLURM."""
    subprocess.run(command, check=True)


def say(text: str, rows: list[Row]) -> None:
    """Prints a stage and how all elements are doing."""
    told = ', '.join(f'{index} {row.state} {row.step}' for index, row in enumerate(rows))
    print(f'{text}: {told}', flush=True)


def reach(test: Sweep, text: str, reached) -> list[Row]:
    """Waits until the status of all elements fulfils `reached`, and prints it."""
    rows: list[Row] = []

    def there() -> bool:
        rows[:] = test.status()
        return reached(rows)

    try:
        wait_for(there, PATIENCE)
    except TimeoutError as error:
        raise AssertionError(f'never came: {text}; at last {rows}') from error
    say(text, rows)
    return rows


def trains(test: Sweep, index: int) -> None:
    """Waits until an element has saved something and goes on."""
    wait_for(lambda: test.told(index)[0] == 'running' and test.told(index)[1] > 0, PATIENCE)


def disturb(test: Sweep, node: str) -> None:
    """Trains all elements on the cluster, whatever happens to them."""
    job = submit_to_a_busy_cluster(test, node)
    slurm('scancel', f'{job}_5')
    slurm('scontrol', 'update', f'NodeName={node}', 'State=RESUME')
    requeue_two(test, job)
    signal_one(test, job)
    end_two(test, job)

    rows = reach(test, '0-2 done', lambda rows: {row.state for row in rows[:3]} == {'done'})
    assert [row.state for row in rows[3:]] == ['stopped', 'killed', 'missing'], rows
    test.submit()
    reach(test, 'submitted again', lambda rows: {row.state for row in rows} == {'done'})
    for index in range(6):
        attempts = test.log(index).count('$ ')
        assert attempts == (1 if index == 5 else 2), f'{index}: {attempts} attempts'


def submit_to_a_busy_cluster(test: Sweep, node: str) -> str:
    """Submits all elements while the node takes none; returns the number of the array job."""
    states = [row.state for row in test.status()]
    assert states == ['missing'] * 6, states
    slurm('scontrol', 'update', f'NodeName={node}', 'State=DRAIN', 'Reason=test')
    job = test.submit()
    rows = test.status()
    assert [row.state for row in rows] == ['queued'] * 6, rows
    assert test.call('--submit').splitlines()[-1] == 'nothing to submit'
    say('submitted', rows)
    return job


def requeue_two(test: Sweep, job: str) -> None:
    """Element 1 goes back into the queue by order, 0 at its time limit."""
    trains(test, 0)
    trains(test, 1)
    rows = test.status()
    say('two run', rows)
    states = [row.state for row in rows]
    assert states == ['running'] * 2 + ['queued'] * 3 + ['missing'], rows
    # Whole minutes since it began; it is warned within half a minute.
    minutes = elapsed(job, 0) // 60 + 2
    slurm('scontrol', 'update', f'JobId={job}_0', f'TimeLimit={minutes}')
    slurm('scontrol', 'requeue', f'{job}_1')
    reach(test, '1 requeued', lambda rows: rows[1].state == 'queued' and rows[1].step > 0)
    assert test.told(1)[0] == 'stopped', test.told(1)
    wait_for(lambda: 'requeueing at' in test.log(0), PATIENCE)
    slurm('scontrol', 'update', f'JobId={job}_0', 'TimeLimit=UNLIMITED')
    reach(test, '0 at its time limit', lambda rows: rows[0].state in ('queued', 'running'))


def signal_one(test: Sweep, job: str) -> None:
    """Element 2 gets the signal that SLURM sends before a time limit."""
    trains(test, 2)
    # By the job's own number: by JOB_INDEX this SLURM repeats the signal until the job has ended.
    slurm('scancel', '--signal=USR1', '--batch', number(job, 2))
    wait_for(lambda: 'requeueing at' in test.log(2), PATIENCE)
    reach(test, '2 signalled', lambda rows: rows[2].state in ('queued', 'running'))


def end_two(test: Sweep, job: str) -> None:
    """Element 3 is cancelled, and 4 killed."""
    trains(test, 3)
    slurm('scancel', f'{job}_3')
    rows = reach(test, '3 cancelled', lambda rows: rows[3].state == 'stopped')
    assert rows[3].reason == 'SIGTERM', rows
    trains(test, 4)
    os.kill(runs.read_status(test.directory(4))['pid'], signal.SIGKILL)
    reach(test, '4 killed', lambda rows: rows[4].state == 'killed')


def asked(job: str, index: int, field: str) -> str:
    """Returns a field of the queue, of an element."""
    command = ['squeue', '--noheader', '--array', f'--jobs={job}_{index}', f'--format={field}']
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def number(job: str, index: int) -> str:
    """Returns the number of an element's own job."""
    own = asked(job, index, '%A')
    assert own != job, f'{own} means the whole array'
    return own


def elapsed(job: str, index: int) -> int:
    """Returns how many seconds an element has run since it was last started."""
    parts = [int(part) for part in asked(job, index, '%M').split(':')]
    return sum(part * 60**place for place, part in enumerate(reversed(parts)))


def compare(disturbed: Sweep, undisturbed: Sweep) -> None:
    """Compares what is left of every element."""
    for index in range(6):
        folders = undisturbed.directory(index), disturbed.directory(index)
        print(f'{index}: {assert_equal_runs(*folders, disturbed.steps)}')


def main(_: list[str]) -> None:
    """Does what the docstring above says."""
    if absent := cluster.missing():
        print(f'skipped: SLURM is not installed here: no {", ".join(absent)}')
        return
    out = Path(FLAGS.out or tempfile.mkdtemp(prefix='slurm-')).absolute()
    print(f'everything is in {out}')
    generator.generate(DATASET, out / 'data', episodes=EPISODES, workers=1, seed=0)
    disturbed = Sweep(out / 'slurm', out / 'data', FLAGS.steps)
    undisturbed = Sweep(out / 'local', out / 'data', FLAGS.steps)
    with cluster.started(out / 'cluster') as node:
        disturb(disturbed, node)
    undisturbed.call('--local=2')
    compare(disturbed, undisturbed)


if __name__ == '__main__':
    app.run(main)
