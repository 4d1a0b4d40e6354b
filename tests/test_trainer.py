"""The training loop: stopped anywhere, damaged, or astray, it loses nothing and says so."""

import contextlib
import functools
import json
import shutil
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from tests.equality import arrays, assert_equal_runs
from tests.helpers import random_arrays, small_agent
from utils.data import datasets
from utils.environments import env_processes, wrappers
from utils.errors import DivergedError, UserError
from utils.rollouts import acting, evaluation, outcomes
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.storage.metrics import RunLog
from utils.system import guards
from utils.system.stopping import StopRequest
from utils.training import multitask, parallel, populations, trainer
from utils.training.outputs import Output, Outputs
from utils.training.schedule import Schedule

SEEDS, STEPS = [0, 1], 24
SCHEDULE = Schedule(
    offline_steps=STEPS,
    log_interval=5,
    eval_interval=0,
    save_interval=8,
    eval_episodes=1,
    eval_envs=50,
    max_wait=60.0,
    overlaps=False,
)


class StopAfter(StopRequest):
    """Asks to stop the n-th time that it is looked at."""

    def __init__(self, looks):
        super().__init__()
        self._left = looks

    def __call__(self):
        self._left -= 1
        if self._left < 0:
            self.reason = 'the test'
        return super().__call__()


MAKE_PROGRAM = populations.make_train_chunk


@pytest.fixture(scope='module')
def run():
    """Two tasks and two seeds of a tiny agent on random data; every start runs one program."""
    agents = [
        small_agent('evor_scalar', hidden_dims=(8,), return_mean=-float(task)) for task in range(2)
    ]
    shards = [datasets.build(random_arrays())] * 2

    def sample(dataset, key, batch_size=16):
        return datasets.sample(dataset, key, batch_size, 1, 0, 0.9, True)

    mesh = parallel.make_mesh(len(SEEDS))
    dataset = parallel.place(multitask.stack(shards), mesh, parallel.EVERYWHERE)
    run = trainer.Run(
        agents, ['one', 'two'], SEEDS, mesh, dataset, dataset, multitask.sample(sample)
    )
    program = MAKE_PROGRAM(run.lifted.update, run.sample, mesh)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(populations, 'make_train_chunk', lambda *_: program)
        yield run


def train(run, folder, stop=None, **changes):
    """Starts or goes on as main.py does; returns (saved step, finished)."""
    schedule, folders = SCHEDULE._replace(**changes), [folder / 'one', folder / 'two']
    for path in folders:
        path.mkdir(parents=True, exist_ok=True)
    with (
        Checkpoints(folders[0] / 'checkpoints') as one,
        Checkpoints(folders[1] / 'checkpoints') as two,
        runs.Status(folders, STEPS) as status,
    ):
        start = trainer.find_start(run, [one, two])
        logs = [RunLog(path, start.step, None, start.evaluated(0)) for path in folders]
        outputs = [Output(*parts) for parts in zip(folders, [one, two], logs, strict=True)]
        done = trainer.train(run, start, outputs, schedule, stop or StopRequest(), status)
        for log in logs:
            log.__exit__()
        return done


@pytest.fixture(scope='module')
def whole(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    assert train(run, folder) == (STEPS, True)
    return folder


def assert_equal(whole, folder):
    for name in ('one', 'two'):
        assert_equal_runs(whole / name, folder / name, STEPS, ('train',))


def test_the_program_is_compiled_once(run, tmp_path, caplog, monkeypatch):
    """However often a run logs: the window of a new log interval is where the last one was."""
    monkeypatch.setattr(populations, 'make_train_chunk', MAKE_PROGRAM)
    with jax.log_compiles():
        train(run, tmp_path)
    told = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith('Compiling jit(train_chunk)') for text in told) == 1


@pytest.mark.long
def test_a_run_stopped_again_and_again_equals_one_that_was_not(run, whole, tmp_path):
    """Chunks of one update, so that it stops between log lines and between checkpoints."""
    step, parts = 0, 0
    while step < STEPS:
        last, (step, finished) = step, train(run, tmp_path, StopAfter(3), max_wait=0.0)
        assert step > last
        parts += 1
    assert finished
    assert parts > 4
    assert_equal(whole, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize('changes', [dict(max_wait=0.0), dict(overlaps=True)])
def test_how_it_is_watched_changes_nothing(run, whole, tmp_path, changes):
    assert train(run, tmp_path, **changes) == (STEPS, True)
    assert_equal(whole, tmp_path)


def test_a_checkpoint_remembers_how_far_the_window_had_come(run, tmp_path):
    train(run, tmp_path, StopAfter(7), max_wait=0.0)
    with Checkpoints(tmp_path / 'two' / 'checkpoints', read_only=True) as saved:
        init = functools.partial(populations.init_states, run.agent.init, SEEDS)
        _, progress = saved.restore(7, jax.eval_shape(init))
    assert (progress['window_steps'], progress['evaluated']) == (2, True)
    assert {len(sums) for sums in progress['sums'].values()} == {len(SEEDS)}


def progress(folder, name, step):
    return json.loads((folder / name / f'checkpoints/{step}/commit.json').read_text())['progress']


def test_each_seed_of_each_task_is_played_in_its_own_environment(run, tmp_path, monkeypatch):
    """The scale of returns tells tasks apart, weights and the stream of evaluation tell seeds."""
    made, played = [], []

    @contextlib.contextmanager
    def vector_env(environment, num_envs, *actions):
        made.append((environment, num_envs, *actions))
        yield environment

    def evaluate(state, environment, num_episodes, key, **_):
        played.append((environment, state, key))

    monkeypatch.setattr(env_processes, 'VectorEnv', vector_env)
    monkeypatch.setattr(acting, 'bind', lambda _, state, *settings: state)
    monkeypatch.setattr(evaluation, 'evaluate', evaluate)
    monkeypatch.setattr(outcomes, 'summary', lambda *_: dict(success=0.0))
    monkeypatch.setattr(outcomes, 'conditions', lambda *_: {})
    monkeypatch.setattr(outcomes, 'rows', lambda _, tags, *rest: [tags])
    noise, action_map = wrappers.Noise(0.2), 'a map'
    noisy = run._replace(noise=noise, action_map=action_map)
    train(noisy, tmp_path, eval_interval=STEPS, eval_episodes=3, eval_envs=2)
    assert made == [(name, 2, noise, action_map) for name in ('one', 'two')]
    assert [environment for environment, *_ in played] == ['one', 'one', 'two', 'two']
    assert [float(state.returns.mean) for _, state, _ in played] == [0.0, 0.0, -1.0, -1.0]
    kernels = {jax.tree.leaves(state.value.params)[-1].tobytes() for _, state, _ in played}
    assert len(kernels) == 4
    for (_, _, key), seed in zip(played, SEEDS * 2, strict=True):
        assert key == populations.stream(seed, populations.EVAL_STREAM)


@pytest.mark.long
def test_an_evaluation_that_was_given_up_is_made_up_for(run, whole, tmp_path, monkeypatch):
    """It is asked to stop in that of the second task; the next start does what is missing."""
    asked, stop = [], StopRequest()

    def evaluate(self, task, population, step):
        asked.append((task, step))
        if asked == [(0, 12), (1, 12)]:
            stop.reason = 'the test'
            return False
        return True

    monkeypatch.setattr(Outputs, '_evaluate', evaluate)
    assert train(run, tmp_path, stop, eval_interval=12) == (12, False)
    before = progress(tmp_path, 'two', 12)
    assert progress(tmp_path, 'one', 12)['evaluated']
    assert not before['evaluated']
    assert train(run, tmp_path, StopAfter(0), eval_interval=12) == (12, False)
    assert progress(tmp_path, 'two', 12) == before | dict(evaluated=True)
    assert asked == [(0, 12), (1, 12), (1, 12)]
    assert train(run, tmp_path, eval_interval=12) == (STEPS, True)
    assert asked[3:] == [(0, STEPS), (1, STEPS)]
    assert_equal(whole, tmp_path)


def test_what_is_saved_beside_training_does_not_hide_an_evaluation_given_up(
    run, tmp_path, monkeypatch
):
    """Training waits at the checkpoint of update 16 when that of update 12 is asked to stop."""
    waits, stop = threading.Event(), StopRequest()
    begin = Outputs.evaluate_and_save

    def evaluate_and_save(self, population, *arguments, **named):
        if population.step == 16:
            waits.set()
        begin(self, population, *arguments, **named)

    def evaluate(self, task, population, step):
        assert waits.wait(60)
        stop.reason = 'the test'
        return False

    monkeypatch.setattr(Outputs, 'evaluate_and_save', evaluate_and_save)
    monkeypatch.setattr(Outputs, '_evaluate', evaluate)
    assert train(run, tmp_path, stop, eval_interval=12, overlaps=True) == (12, False)
    assert not progress(tmp_path, 'one', 12)['evaluated']


@pytest.mark.parametrize('name', ['policy.params', 'commit.json'])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(run, whole, tmp_path, capfd, name):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / 'two' / 'checkpoints' / str(STEPS)
    path = newest / name if name == 'commit.json' else array_file(newest, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert train(run, tmp_path) == (STEPS, True)
    assert f'warning: {newest}: damaged' in capfd.readouterr().err
    assert (newest.parent / f'damaged-{STEPS}').is_dir()
    assert_equal(whole, tmp_path)


def array_file(folder, name):
    return next(path for path in sorted(folder.rglob('*.kernel/*')) if name in str(path))


def test_no_whole_checkpoint_stops_the_run(run, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob('.zarray'):
        path.write_text('{}')
    with pytest.raises(UserError, match='no checkpoint is whole; to begin anew'):
        train(run, tmp_path)
    assert arrays(tmp_path / 'one', STEPS).keys() == arrays(whole / 'one', STEPS).keys()


def test_the_rest_of_an_interrupted_write_is_no_checkpoint(run, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / 'one' / 'checkpoints'
    (folder / str(STEPS) / 'commit.json').unlink()
    (folder / '30.orbax-checkpoint-tmp').mkdir()
    with (tmp_path / 'one' / 'train.csv').open('ab') as file:
        file.write(b'25,0,0.1')  # cut short, too
    assert train(run, tmp_path) == (STEPS, True)
    assert_equal(whole, tmp_path)
    assert not (folder / '30.orbax-checkpoint-tmp').exists()


def test_infinities_stop_the_run_and_keep_the_last_checkpoint(run, tmp_path):
    """The rewards of the second task are spoilt while the first is fine."""
    rewards = run.train.rewards.at[1].set(jnp.nan)
    spoilt = run._replace(train=run.train.replace(rewards=rewards))
    assert train(run, tmp_path, StopAfter(9), max_wait=0.0) == (9, False)
    before = {name: arrays(tmp_path / name, 9) for name in ('one', 'two')}
    with pytest.raises(DivergedError, match=r'seed 0, task number 2 .* in update 10 '):
        train(spoilt, tmp_path)
    for name, content in before.items():
        assert arrays(tmp_path / name, 9) == content
        status = runs.read_status(tmp_path / name)
        assert (status['state'], status['step']) == ('failed', 9)
        assert 'not finite in update 10' in status['reason']


def test_the_clock_stops_a_run(run, tmp_path):
    step, finished = train(run, tmp_path, StopRequest(max_wall_time=1e-9))
    assert (step, finished) == (0, False)


def test_stops_are_where_something_is_due():
    schedule = SCHEDULE._replace(offline_steps=23, eval_interval=12)
    stops = [0]
    while stops[-1] < 23:
        stops.append(schedule.next_stop(stops[-1]))
    assert stops == [0, 5, 8, 10, 12, 15, 16, 20, 23]
    assert [step for step in stops[1:] if schedule.saves(step)] == [8, 16, 23]
    assert [step for step in stops[1:] if schedule.evaluates(step)] == [12, 23]


def test_a_full_disk_is_noticed_before_it_is_needed(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r'checkpoints need .* MB and 0 MB are free'):
        train(run, tmp_path)


def test_room_is_asked_for_the_checkpoints_of_all_tasks(run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(guards, 'check_space', lambda _, num_bytes: asked.append(num_bytes))
    saved = [SimpleNamespace(directory=tmp_path, steps=set, forget_after=abs) for _ in range(2)]
    trainer.find_start(run, saved[:1])
    trainer.find_start(run, saved)
    assert asked[1] == 2 * asked[0] > 0


def test_a_disk_that_does_not_know_its_size_is_written_to(tmp_path, monkeypatch):
    """As storage of the cloud behind FUSE, which says 0 of everything."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(total=0, used=0, free=0))
    guards.check_space(tmp_path, 1000)


@pytest.mark.parametrize('behind', [20, 0])
def test_a_task_that_was_trained_further_alone_is_not_undone(tmp_path, behind):
    saved = []
    for name, steps in (('one', {10, 20, 30}), ('two', {10, 20} if behind else set())):
        directory = tmp_path / name / 'checkpoints'
        directory.mkdir(parents=True)
        runs.Status([directory.parent], 40).tell('finished', max(steps, default=0))
        saved.append(SimpleNamespace(directory=directory, steps=lambda own=steps: own))
    with pytest.raises(
        UserError, match=rf'one: has come to step 30, the tasks together to {behind}'
    ):
        trainer._check_together(saved, behind, set())
    trainer._check_together(saved, behind, damaged={30})
    runs.Status([tmp_path / 'one'], 40).tell('running', behind)  # as where saving was cut short
    trainer._check_together(saved, behind, set())
