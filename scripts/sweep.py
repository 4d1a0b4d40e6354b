"""Runs a suite of configs.py as an array of commands: on SLURM, or on this machine.

    python scripts/sweep.py --suite=paper25 --list
    python scripts/sweep.py --suite=paper25 --submit --sbatch_options="--gres=gpu:1 --time=12:00:00"
    python scripts/sweep.py --suite=paper25 --status
    python scripts/sweep.py --suite=quick5 --local=2 -- --eval_episodes=20

What comes after `--` are flags of main.py for every element; give --status the same ones. A command
continues where its last checkpoint is, so submitting or starting a suite again runs what is not
done, and only that. Logs are in SAVE_DIR/sweeps/SUITE/JOINT/INDEX.log. A suite keeps to
one --joint: tasks that were trained alone go on together only from a step that all have.

Exit codes of --local: 0 all done or under way elsewhere, 1 some failed, 75 told to stop, the same
command goes on.
"""

import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import _path
from absl import flags

import configs
from utils import errors
from utils.data import fetching
from utils.environments import envs, wrappers
from utils.errors import UserError
from utils.sweeps import slurm, suites, supervisor
from utils.sweeps.arrays import Array
from utils.system import command

FLAGS = flags.FLAGS
BATCH_SCRIPT = _path.ROOT / 'scripts/slurm/array.sbatch'

flags.DEFINE_string('suite', None, 'Name of a suite of configs.py.', required=True)
flags.DEFINE_enum(
    'joint',
    'none',
    suites.JOINT,
    'What trains together: nothing, the seeds of a task, or all tasks and seeds of an environment.',
)
flags.DEFINE_string('elements', None, 'Array indices to treat, as 0-3,5; default: all.')
flags.DEFINE_string('save_dir', 'exp', 'Runs go to SAVE_DIR/ENV/CONFIG/seeds_....')
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Folder of OGBench datasets.')
flags.DEFINE_string('dataset_url', fetching.DATASET_URL, 'Where missing datasets come from.')
flags.DEFINE_bool('list', False, 'Show the command of every element.')
flags.DEFINE_bool('status', False, 'Show how every element is doing.')
flags.DEFINE_bool('fetch', False, 'Fetch missing datasets; --submit and --local do it too.')
flags.DEFINE_bool('submit', False, 'Submit what is not done as a SLURM array.')
flags.DEFINE_string('sbatch_options', '', 'Of --submit: options of sbatch, as "--time=4:00:00".')
flags.DEFINE_bool('dry_run', False, 'Of --submit: show the sbatch command, and submit nothing.')
flags.DEFINE_integer('local', None, 'Run what is not done here, so many processes at a time.')
flags.DEFINE_integer('element', None, 'Run one element, as the batch script does.')


def main(main_flags: list[str], _: list[str]) -> None:
    modes = dict(
        list=_list,
        status=_status,
        fetch=_fetch,
        submit=partial(_submit, main_flags),
        local=_local,
        element=_element,
    )
    # Not by truth: 0 is an element.
    given = [mode for mode in modes if FLAGS[mode].value is not FLAGS[mode].default]
    if len(given) != 1:
        raise UserError(
            f'expected one of {", ".join(f"--{mode}" for mode in modes)}, '
            f'got {" ".join(f"--{mode}" for mode in given) or "none"}'
        )
    of_submit = [name for name in ('sbatch_options', 'dry_run') if FLAGS[name].present]
    if of_submit and given != ['submit']:
        raise UserError(f'--{of_submit[0]}: goes with --submit alone; leave it out')
    modes[given[0]](_array(main_flags))


def _array(main_flags: list[str]) -> Array:
    suite = configs.get_suite(FLAGS.suite)
    elements = suites.elements(suite, FLAGS.joint)
    save_dir = _absolute(FLAGS.save_dir)
    own = dict(
        save_dir=save_dir,
        dataset_dir=_absolute(FLAGS.dataset_dir),
        dataset_url=FLAGS.dataset_url,
    )
    all_flags = own | dict(suite.flags) | suites.parse_flags(main_flags)
    chosen = range(len(elements))
    if FLAGS.elements is not None:
        chosen = suites.parse_indices('elements', FLAGS.elements, len(elements))
    folder = save_dir / 'sweeps' / FLAGS.suite / FLAGS.joint
    return Array(elements, list(chosen), all_flags, suites.total_steps(all_flags), folder)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _list(array: Array) -> None:
    for index in array.chosen:
        print(index, shlex.join(array.command(index)))


def _status(array: Array) -> None:
    jobs = _known_jobs(array)
    states = {index: array.state(index, jobs.get(index)) for index in array.chosen}
    for index, state in states.items():
        print(array.row(index, state))
    print(suites.counts(states.values()))


def _known_jobs(array: Array) -> dict[int, slurm.Job]:
    """What SLURM says, or nothing and a note where it cannot be asked."""
    try:
        return slurm.jobs(array.submitted())
    except UserError as error:
        print(f'note: {error}. What follows knows nothing of the queue', file=sys.stderr)
        return {}


def _unfinished(array: Array, jobs: dict[int, slurm.Job]) -> list[int]:
    """The elements to run: those that are neither done nor under way."""
    states = {index: array.state(index, jobs.get(index)) for index in array.chosen}
    print(suites.counts(states.values()), flush=True)
    return [i for i, state in states.items() if state.name not in ('done', 'running', 'queued')]


def _fetch(array: Array) -> None:
    """Makes sure that every dataset is there, so that nodes need no network.

    Raises:
        UserError: one is not, and cannot be fetched.
    """
    if 'dataset_path' in array.flags:
        return  # main.py says whether it is there
    names = {index: envs.dataset_name(array.elements[index].env_name) for index in array.chosen}
    noise = wrappers.given_noise(array.flags)
    missing: dict[str, UserError] = {}
    for name in dict.fromkeys(names.values()):
        try:
            path, _ = fetching.locate(
                name, Path(array.flags['dataset_dir']), array.flags['dataset_url'], noise
            )
            print(f'{name}: {path}')
        except UserError as error:
            missing[name] = error
    if missing:
        rest = suites.format_indices(index for index, name in names.items() if name not in missing)
        others = f'; --elements={rest} runs those whose data is there' if rest else ''
        raise UserError(f'{next(iter(missing.values()))}{others}')


def _submit(main_flags: list[str], array: Array) -> None:
    indices = _unfinished(array, slurm.jobs(array.submitted()))
    if not indices:
        print('nothing to submit')
        return
    command = slurm.submit_command(
        BATCH_SCRIPT,
        indices,
        array.folder,
        f'{FLAGS.suite}-{FLAGS.joint}',
        shlex.split(FLAGS.sbatch_options),
    )
    own = dict(suite=FLAGS.suite, joint=FLAGS.joint)
    own |= {name: array.flags[name] for name in suites.OWN}
    command += [sys.executable, str(Path(__file__).absolute())]
    command += [*(f'--{name}={value}' for name, value in own.items()), '--', *main_flags]
    if FLAGS.dry_run:
        print(shlex.join(command))
        return
    _fetch(array._replace(chosen=indices))
    array.check_commands(indices)
    array.folder.mkdir(parents=True, exist_ok=True)
    job = slurm.submit(command)
    with (array.folder / 'jobs').open('a') as file:
        file.write(f'{job}\n')
    print(f'submitted job {job}: {len(indices)} elements; logs in {array.folder}')


def _element(array: Array) -> None:
    [index] = suites.parse_indices('element', str(FLAGS.element), len(array.elements))
    print(array.announcement(index), flush=True)
    environment = supervisor.share(1, slurm.cpus() or supervisor.cores(), os.environ)
    outcome = supervisor.run(
        lambda _: subprocess.Popen(array.command(index), env=environment),
        [index],
        at_once=1,
        again=lambda *_: False,
    )
    code = outcome.codes.get(index, errors.STOPPED)
    # Where SLURM takes the node away, or somebody cancels, it is known already what is to follow.
    ends_for_good = signal.SIGTERM in outcome.signals or not slurm.is_array_element()
    if code == errors.STOPPED and not ends_for_good:
        # Said first: SLURM ends this process as soon as it has been asked.
        print(f'requeueing at {array.state(index).step} updates', flush=True)
        slurm.requeue(array.attempts_without_gain(index, slurm.is_first_attempt()))
    sys.exit(code)


def _local(array: Array) -> None:
    if FLAGS.local < 1:
        raise UserError(f'--local: must be at least 1, not {FLAGS.local}')
    indices = _unfinished(array, _known_jobs(array))
    if indices:
        _fetch(array._replace(chosen=indices))
    array.check_commands(indices or array.chosen)
    array.folder.mkdir(parents=True, exist_ok=True)
    local = _Local(array, supervisor.share(FLAGS.local, supervisor.cores(), os.environ))
    outcome = supervisor.run(local.start, indices, FLAGS.local, local.again)
    print(suites.counts(array.state(index) for index in array.chosen))
    failed = [index for index, code in outcome.codes.items() if code not in (0, errors.STOPPED)]
    failed = sorted({*failed, *local.fruitless})
    if failed:
        logs = f'{array.folder}/INDEX.log'
        print(f'failed: --elements={suites.format_indices(failed)}; see {logs}', file=sys.stderr)
        sys.exit(1)
    if outcome.signals:
        print(f'{outcome.signals[0].name}: all have stopped; the same command goes on')
        sys.exit(errors.STOPPED)


class _Local:
    """Elements as processes of this machine.

    Attributes:
        fruitless: elements that stopped by themselves before they had come further.
    """

    def __init__(self, array: Array, environment: dict[str, str]):
        self.fruitless: set[int] = set()
        self._array, self._environment = array, environment
        self._reached: dict[int, tuple[int, ...]] = {}

    def start(self, index: int) -> subprocess.Popen:
        self._reached[index] = self._array.reached(index)
        with self._array.log(index).open('a') as log:
            print(self._array.announcement(index), file=log, flush=True)
            # A session of its own: an interrupt from the keyboard comes by way of the supervisor.
            return subprocess.Popen(
                self._array.command(index),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def again(self, index: int, code: int, signalled: bool) -> bool:
        """Says how an element is doing, and returns whether it is to go on."""
        state = self._array.state(index)
        print(self._array.row(index, state), flush=True)
        if code != errors.STOPPED or signalled:
            return False
        if self._array.reached(index) <= self._reached[index]:
            self.fruitless.add(index)
            return False
        return True


if __name__ == '__main__':
    # absl would take flags of main.py for flags of this script.
    end = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
    main_flags = sys.argv[end + 1 :]
    del sys.argv[end:]
    command.run(partial(main, main_flags))
