"""Kills a training run with SIGKILL again and again, and compares what is left at the end.

    python -m tests.kill --kills=25 --steps=3000 --out=exp/kill

Two tasks and two seeds are trained together, once undisturbed and once killed at random moments and
at chosen ones: while a checkpoint is written, while an evaluation runs, after a log line. Final
weights and all rows but their timing must be equal to the bit. With --phases the base policy is
frozen: it and its pool are made first, are killed as well, and must be equal too.
"""

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

from tests.equality import assert_equal_runs
from utils.generation import generator

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[1]
ENV = 'pointmaze-medium-stitch-singletask-task{}-v0'
DATASET = 'pointmaze-medium-stitch-v0'
TASKS = (1, 2)
MOMENTS = ('any', 'checkpoint', 'evaluation', 'log', 'any')
# Before these: a checkpoint of the base policy, and a pool that has begun.
FIRST_MOMENTS = ('checkpoint', 'pool')
POLICY_STEPS = 300
PHASES = (
    '--agent.frozen_policy=True',
    '--agent.num_pool=4',
    f'--agent.policy_steps={POLICY_STEPS}',
)


def command(data_dir: Path, save_dir: Path, steps: int) -> list[str]:
    """Returns the training command: it logs, evaluates and saves all the time."""
    return [
        sys.executable,
        str(ROOT / 'main.py'),
        f'--env_name={ENV.format(1)}',
        '--tasks=' + ','.join(map(str, TASKS)),
        '--seeds=0,1',
        f'--dataset_dir={data_dir}',
        f'--save_dir={save_dir}',
        f'--offline_steps={steps}',
        '--log_interval=7',
        f'--eval_interval={steps // 3}',
        '--eval_episodes=2',
        '--save_interval=10',
        '--agent.hidden_dims=(8,)',
        '--agent.batch_size=16',
        '--agent.flow_steps=2',
        '--agent.backup_flow_steps=2',
        '--agent.return_flow_steps=2',
        '--agent.n_pi=2',
    ]


def run_dir(save_dir: Path, task: int) -> Path:
    """Returns the directory of a task's run."""
    return save_dir / ENV.format(task) / 'evor' / 'seeds_0_1'


def wait_for(moment: str, process: subprocess.Popen, save_dir: Path, delay: float) -> None:
    """Returns at a moment of a kind, `delay` seconds into it, or when the process has ended."""
    started = time.monotonic()
    rows = _log_size(save_dir)

    def reached() -> bool:
        if moment == 'checkpoint':
            return any(save_dir.glob('*/*/*/checkpoints/*.orbax-checkpoint-tmp*'))
        if moment == 'pool':
            return any(save_dir.glob('base_policies/*/*/pool/*.npy'))
        if moment == 'evaluation':
            return _evaluates(process.pid)
        if moment == 'log':
            return _log_size(save_dir) != rows
        return time.monotonic() - started > delay

    # Looked at from outside: a run that told of its moments would not be the one that users have.
    while process.poll() is None and not reached():
        # A checkpoint is written in some tens of milliseconds.
        _wait(process, 0.001)
    # Where within the moment the signal falls is what is tried.
    if moment == 'evaluation':
        _wait(process, min(delay, 5.0))
    elif moment in ('checkpoint', 'pool'):
        _wait(process, delay % 0.05)


def _wait(process: subprocess.Popen, seconds: float) -> None:
    """Lets time pass, but no more of it once the process has ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _log_size(save_dir: Path) -> int:
    return sum(path.stat().st_size for path in save_dir.glob('*/*/*/train.csv'))


def _evaluates(pid: int) -> bool:
    """Returns whether a process has started the processes of environments."""
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
        lines = [Path(f'/proc/{child}/cmdline').read_bytes() for child in children]
    except OSError:  # one of them has just ended
        return False
    return any(b'spawn_main' in line for line in lines)


def kill_again_and_again(
    arguments: list[str], save_dir: Path, kills: int, seed: int, first: tuple[str, ...] = ()
) -> None:
    """Runs a command until it has been killed `kills` times, then to its end.

    Raises:
        AssertionError: it ended otherwise.
    """
    rng = random.Random(seed)
    done = 0
    while done < kills:
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        moment = first[done] if done < len(first) else MOMENTS[done % len(MOMENTS)]
        wait_for(moment, process, save_dir, rng.uniform(0.0, 30.0))
        if process.poll() is not None:
            error = process.communicate()[1]
            assert process.returncode == 0, error[-2000:]
            print(f'finished after {done} kills; raise --steps for more', flush=True)
            return
        left = sorted(path.name for path in save_dir.glob('*/*/*/checkpoints/*'))
        process.kill()
        process.communicate()
        done += 1
        print(f'kill {done} ({moment}); checkpoints: {" ".join(left) or "none"}', flush=True)
    result = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def main(_: list[str]) -> None:
    out = Path(FLAGS.out).resolve()
    generator.generate(DATASET, out / 'data', episodes=4, workers=1, seed=0)
    extra = PHASES if FLAGS.phases else ()
    whole = [*command(out / 'data', out / 'whole', FLAGS.steps), *extra]
    subprocess.run(whole, stderr=subprocess.PIPE, check=True)
    killed = [*command(out / 'data', out / 'killed', FLAGS.steps), *extra]
    first = FIRST_MOMENTS if FLAGS.phases else ()
    kill_again_and_again(killed, out / 'killed', FLAGS.kills, FLAGS.seed, first)
    for task in TASKS:
        pair = (run_dir(out / name, task) for name in ('whole', 'killed'))
        print(f'task {task}:', assert_equal_runs(*pair, FLAGS.steps))
    if FLAGS.phases:
        print('base policy:', _assert_equal_policies(out))


def _assert_equal_policies(out: Path) -> str:
    one, other = (next((out / name).glob('base_policies/*/*')) for name in ('whole', 'killed'))
    for pool in (one / 'pool').glob('*.npy'):
        assert pool.read_bytes() == (other / 'pool' / pool.name).read_bytes(), pool.name
    return assert_equal_runs(one, other, POLICY_STEPS, ()) + ', and pools'


if __name__ == '__main__':
    # Not on import, by tests that also import main.py: both have a --seed.
    flags.DEFINE_integer('kills', 25, 'How often the run is killed.', lower_bound=1)
    flags.DEFINE_bool('phases', False, 'Whether the base policy is trained first and frozen.')
    flags.DEFINE_integer('steps', 120, 'Updates of the run.', lower_bound=1)
    flags.DEFINE_integer('seed', 0, 'Of the moments.')
    flags.DEFINE_string('out', None, 'Folder of the data and both runs.', required=True)
    app.run(main)
