"""Runs a suite of configs.py as an array of commands: on SLURM, or on this machine.

    python scripts/sweep.py --suite=paper25 --list
    python scripts/sweep.py --suite=paper25 --fetch
    python scripts/sweep.py --suite=paper25 --submit --sbatch_options="--gres=gpu:1 --time=12:00:00"
    python scripts/sweep.py --suite=paper25 --status
    python scripts/sweep.py --suite=quick5 --local=2 -- --eval_episodes=20

What comes after `--` are flags of main.py for every element, and belongs to the suite: give the same
ones to --status. An element is a command that continues where its last checkpoint is, so
submitting or starting a suite again runs what is not done, and only that. Logs are in
SAVE_DIR/sweeps/SUITE/JOINT/INDEX.log. Exit codes of --local: 0 all done, 1 some failed, 75 told to
stop. Populations of other --joint live in other run directories.
"""

import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _path
from absl import flags

import configs
from utils import dataset_files, envs, errors, runs, slurm, supervisor, sweep
from utils.errors import UserError
from utils.sweep import Element, Found, State

FLAGS = flags.FLAGS
BATCH_SCRIPT = _path.ROOT / 'scripts/slurm/array.sbatch'
LOG_TAIL = 65536  # bytes of a log that are searched for an error

flags.DEFINE_string('suite', None, 'Name of a suite of configs.py.', required=True)
flags.DEFINE_enum(
    'joint',
    'none',
    sweep.JOINT,
    'What trains together: nothing, the seeds of a task, or all tasks and seeds of an environment.',
)
flags.DEFINE_string('elements', None, 'Array indices to treat, as 0-3,5; default: all.')
flags.DEFINE_string('save_dir', 'exp', 'As of main.py.')
flags.DEFINE_string('dataset_dir', dataset_files.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', dataset_files.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_bool('list', False, 'Show the command of every element.')
flags.DEFINE_bool('status', False, 'Show how every element is doing.')
flags.DEFINE_bool('fetch', False, 'Fetch the datasets that are missing; the others do it too.')
flags.DEFINE_bool('submit', False, 'Submit what is not done as a SLURM array.')
flags.DEFINE_string('sbatch_options', '', 'Of --submit: options of sbatch, as --time=4:00:00.')
flags.DEFINE_bool('dry_run', False, 'Of --submit: show the sbatch command, and submit nothing.')
flags.DEFINE_integer('local', None, 'Run what is not done here, so many processes at a time.')
flags.DEFINE_integer('element', None, 'Run one element, as the batch script does.')

MODES = ('list', 'status', 'fetch', 'submit', 'local', 'element')


class Array(NamedTuple):
    """A suite as it was asked for.

    Attributes:
        elements: all of them, by their index.
        chosen: the indices to treat.
        flags: of main.py, for every element.
        main_flags: those given after `--`.
        folder: of logs, and of what was submitted.
    """

    elements: list[Element]
    chosen: list[int]
    flags: dict[str, Any]
    main_flags: list[str]
    folder: Path

    @property
    def steps(self) -> int:
        """Updates of every element."""
        return sweep.offline_steps(self.flags)

    def command(self, index: int) -> list[str]:
        """What runs an element."""
        configs_file = _path.ROOT / 'configs.py'
        arguments = sweep.arguments(self.elements[index], configs_file, self.flags)
        return [sys.executable, str(_path.ROOT / 'main.py'), *arguments]

    def log(self, index: int) -> Path:
        """Where an element's output goes."""
        return self.folder / f'{index}.log'


def main(main_flags: list[str], _: list[str]) -> None:
    given = [mode for mode in MODES if FLAGS[mode].value not in (False, None)]
    if len(given) != 1:
        raise UserError(f'give one of {", ".join(f"--{mode}" for mode in MODES)}; got {given}')
    array = _array(main_flags)
    functions = dict(
        list=_list, status=_status, fetch=_fetch, submit=_submit, local=_local, element=_element
    )
    functions[given[0]](array)


def _array(main_flags: list[str]) -> Array:
    suite = configs.get_suite(FLAGS.suite)
    elements = sweep.elements(suite, FLAGS.joint)
    save_dir = _absolute(FLAGS.save_dir)
    own = dict(
        save_dir=save_dir,
        dataset_dir=_absolute(FLAGS.dataset_dir),
        dataset_url=FLAGS.dataset_url,
    )
    chosen = FLAGS.elements if FLAGS.elements is not None else f'0-{len(elements) - 1}'
    array = Array(
        elements,
        sweep.parse_indices(chosen, len(elements)),
        own | dict(suite.flags) | sweep.parse_flags(main_flags),
        main_flags,
        save_dir / 'sweeps' / FLAGS.suite / FLAGS.joint,
    )
    sweep.offline_steps(array.flags)
    return array


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _list(array: Array) -> None:
    for index in array.chosen:
        print(index, shlex.join(array.command(index)))


def _fetch(array: Array) -> None:
    """Makes sure that every dataset is there, so that nodes need no network.

    Raises:
        UserError: one is not, and cannot be fetched.
    """
    errors_by_name = {}
    names = {index: envs.dataset_name(array.elements[index].env_name) for index in array.chosen}
    for name in dict.fromkeys(names.values()):
        try:
            path, _ = dataset_files.locate(name, _absolute(FLAGS.dataset_dir), FLAGS.dataset_url)
            print(f'{name}: {path}')
        except UserError as error:
            errors_by_name[name] = error
    missing = [index for index in array.chosen if names[index] in errors_by_name]
    if missing:
        rest = sweep.format_indices(set(array.chosen) - set(missing))
        without = f'; without it: --elements={rest}' if rest else ''
        raise UserError(f'{next(iter(errors_by_name.values()))}{without}')


def _status(array: Array) -> None:
    try:
        jobs = slurm.jobs(_submitted(array))
    except UserError as error:
        print(f'note: {error}. What follows knows nothing of the queue', file=sys.stderr)
        jobs = {}
    states = {index: _state(array, index, jobs) for index in array.chosen}
    for index, state in states.items():
        print(sweep.row(index, array.elements[index], state, array.steps))
    print(sweep.counts(states.values()))


def _state(array: Array, index: int, jobs: dict[int, slurm.Job]) -> State:
    directories = sweep.directories(array.elements[index], array.flags['save_dir'])
    statuses = [runs.read_status(directory) for directory in directories]
    found = Found(
        statuses,
        any(runs.is_locked(directory) for directory in directories),
        jobs.get(index),
        _last_error(array, index, statuses),
    )
    return sweep.state(found, array.steps)


def _last_error(array: Array, index: int, statuses: list[dict[str, Any] | None]) -> str:
    """The error in the element's log, unless its runs tell of something newer."""
    log = array.log(index)
    if not log.is_file():
        return ''
    newest = max((status['time'] for status in statuses if status), default=0.0)
    if log.stat().st_mtime < newest:
        return ''
    with log.open('rb') as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        return sweep.last_error(file.read().decode(errors='replace'), array.command(index))


def _submitted(array: Array) -> list[str]:
    path = array.folder / 'jobs'
    return path.read_text().split() if path.exists() else []


def _unfinished(array: Array) -> list[int]:
    """The elements to run: those that are neither done nor under way."""
    jobs = slurm.jobs(_submitted(array))
    states = {index: _state(array, index, jobs) for index in array.chosen}
    print(sweep.counts(states.values()))
    return [i for i, of in states.items() if of.name not in ('done', 'running', 'queued')]


def _check_commands(array: Array, indices: list[int]) -> None:
    """Lets main.py read the flags of one element of every agent, which takes seconds.

    Raises:
        UserError: it does not accept them.
    """
    of_agents = {array.elements[index].agent: index for index in indices}
    for index in of_agents.values():
        command = [*array.command(index), '--only_check_args']
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            said = result.stderr.strip().splitlines() or [f'exit code {result.returncode}']
            raise UserError(f'main.py: {said[-1].removeprefix("error: ")}')


def _submit(array: Array) -> None:
    indices = _unfinished(array)
    options = shlex.split(FLAGS.sbatch_options)
    name = f'{FLAGS.suite}-{FLAGS.joint}'
    command = slurm.submit_command(BATCH_SCRIPT, indices, array.folder, name, options)
    own = ('suite', 'joint', 'save_dir', 'dataset_dir', 'dataset_url')
    values = {name: array.flags.get(name, FLAGS[name].value) for name in own}
    command += [sys.executable, str(Path(__file__).absolute())]
    command += [f'--{name}={value}' for name, value in values.items()]
    command += ['--', *array.main_flags]
    if FLAGS.dry_run:
        print(shlex.join(command))
        return
    if not indices:
        print('nothing to submit')
        return
    _fetch(array)
    _check_commands(array, indices)
    array.folder.mkdir(parents=True, exist_ok=True)
    job = slurm.submit(command)
    with (array.folder / 'jobs').open('a') as file:
        file.write(f'{job}\n')
    print(f'submitted job {job}: {len(indices)} elements; logs in {array.folder}')


def _element(array: Array) -> None:
    [index] = sweep.parse_indices(str(FLAGS.element), len(array.elements))
    command = array.command(index)
    print(sweep.announcement(command), flush=True)
    environment = supervisor.share(1, slurm.cpus() or supervisor.cores(), os.environ)
    outcome = supervisor.run(
        lambda _: subprocess.Popen(command, env=environment), [index], 1, lambda *_: False
    )
    code = outcome.codes.get(index, errors.STOPPED)
    # Where SLURM takes the node away, or somebody cancels, it is known already what is to follow.
    cancelled = signal.SIGTERM in outcome.signals
    if code == errors.STOPPED and slurm.is_array_element() and not cancelled:
        print(f'requeued {slurm.requeue()}', flush=True)
    sys.exit(code)


def _local(array: Array) -> None:
    if FLAGS.local < 1:
        raise UserError(f'--local: must be at least 1, not {FLAGS.local}')
    indices = _unfinished(array)
    if indices:
        _fetch(array)
        _check_commands(array, indices)
    array.folder.mkdir(parents=True, exist_ok=True)
    environment = supervisor.share(FLAGS.local, supervisor.cores(), os.environ)
    start = partial(_start, array, environment)
    outcome = supervisor.run(start, indices, FLAGS.local, partial(_ended, array))
    failed = [i for i, code in outcome.codes.items() if code not in (0, errors.STOPPED)]
    states = [_state(array, index, {}) for index in array.chosen]
    print(sweep.counts(states))
    if failed:
        print(f'failed: --elements={sweep.format_indices(failed)}', file=sys.stderr)
        sys.exit(1)
    if outcome.signals:
        print(f'{outcome.signals[-1].name}: all stopped; the same command goes on')
        sys.exit(errors.STOPPED)


def _start(array: Array, environment: dict[str, str], index: int) -> subprocess.Popen:
    command = array.command(index)
    with array.log(index).open('a') as log:
        print(sweep.announcement(command), file=log, flush=True)
        # A session of its own: an interrupt from the keyboard is passed on once, not sent to all.
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _ended(array: Array, index: int, code: int) -> bool:
    """Says how an element is doing, and returns whether it is to go on."""
    state = _state(array, index, {})
    print(f'{sweep.row(index, array.elements[index], state, array.steps)}', flush=True)
    return code == errors.STOPPED


if __name__ == '__main__':
    # absl would take flags of main.py for its own.
    end = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
    main_flags = sys.argv[end + 1 :]
    del sys.argv[end:]
    errors.run(partial(main, main_flags))
