"""Offline to online: what agents collect joins the data, and a run that stops loses none of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents import frozen
from tests import toy_envs
from tests.equality import arrays, assert_equal_runs, rows
from tests.helpers import random_arrays, small_config
from tests.test_trainer import StopAfter
from utils.data import collected, datasets
from utils.data.collected import Own, Step
from utils.environments import descriptions, wrappers
from utils.environments.descriptions import GymEnv, name_of
from utils.errors import UserError
from utils.jobs import assembly, env_flags
from utils.storage import runs
from utils.system.stopping import StopRequest
from utils.training import collecting
from utils.training.schedule import Schedule

MEMBERS, ROOM, OBSERVATION_DIM, ACTION_DIM = 2, 60, 3, 2
ENVIRONMENT = GymEnv('tests.toy_envs:Point-v0', dict(fall=0.9), 'is_success')
SEEDS, OFFLINE, ONLINE = [0, 1], 4, 30


def random_step(rng, num_candidates=0):
    """Every third step ends an episode, half of these by reward."""
    done = rng.random(MEMBERS) < 0.3
    draw = rng.standard_normal
    candidates = [draw((MEMBERS, num_candidates, ACTION_DIM)) if num_candidates else None] * 2
    return Step(
        actions=draw((MEMBERS, ACTION_DIM)),
        rewards=draw(MEMBERS),
        terminated=done & (rng.random(MEMBERS) < 0.5),
        done=done,
        observations=draw((MEMBERS, OBSERVATION_DIM)),
        starts=draw((MEMBERS, OBSERVATION_DIM)),
        candidates=candidates[0],
        start_candidates=candidates[1],
    )


def recording(start, steps, member):
    """What a recorder would have written of a member's steps, row by row, up to now."""
    table, observation = [], start[member]
    blank = dict(actions=np.zeros(ACTION_DIM), rewards=0.0, masks=1.0)
    for step in steps:
        taken = dict(actions=step.actions[member], rewards=step.rewards[member])
        ended = bool(step.terminated[member])
        table.append(
            dict(taken, observations=observation, masks=1.0 - ended, terminals=ended, acted=True)
        )
        if step.done[member] and not ended:
            left = step.observations[member]
            table.append(dict(blank, observations=left, terminals=True, acted=False))
        observation = (step.starts if step.done[member] else step.observations)[member]
    table.append(dict(blank, observations=observation, terminals=True, acted=False))
    return {name: np.array([row[name] for row in table]) for name in table[0]}


def collect(steps, start):
    kept = collected.empty(MEMBERS, ROOM, OBSERVATION_DIM, (1, ACTION_DIM), 0)
    kept = kept._replace(data=collected.write_starts(kept.data, kept.current, start, None))
    for step in steps:
        kept = collected.append(kept, step)
    return kept


@pytest.fixture
def start():
    return np.random.default_rng(1).standard_normal((MEMBERS, OBSERVATION_DIM))


@pytest.mark.parametrize('num_steps', [1, 2, 7, 25])
def test_what_is_collected_is_the_dataset_of_its_recording(num_steps, start):
    rng = np.random.default_rng(num_steps)
    steps = [random_step(rng) for _ in range(num_steps)]
    kept = collect(steps, start)
    for member in range(MEMBERS):
        expected = datasets.build(recording(start, steps, member))
        first, num_rows = member * ROOM, len(expected.observations)
        assert kept.current[member] == first + num_rows - 1
        assert kept.transitions[member] == len(expected.starts) == num_steps
        for name in ('observations', 'actions', 'rewards', 'masks', 'ends', 'lasts', 'acted'):
            offset = first if name in collected.INDICES else 0
            found = getattr(kept.data, name)[first : first + num_rows] - offset
            np.testing.assert_array_equal(found, getattr(expected, name), name)
        np.testing.assert_array_equal(
            kept.data.starts[first : first + num_steps] - first, expected.starts
        )


def test_more_or_less_room_changes_nothing_that_is_in_use(start):
    rng = np.random.default_rng(0)
    kept = collect([random_step(rng) for _ in range(25)], start)
    small = collected.resize(kept, collected.in_use(kept))
    assert small.room == collected.in_use(kept) < ROOM
    again = collected.resize(small, ROOM)
    step = random_step(rng)
    one, other = collected.append(kept, step), collected.append(again, step)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope='module')
def offline():
    return jax.tree.map(jnp.asarray, datasets.build(random_arrays(seed=5)))


OPTIONS = dict(chunk_length=1, n_step=0, discount=0.9, needs_next_actions=False)


def batch_of(offline, kept, member, share, key, batch_size=64):
    own = Own(kept.offsets[member], kept.transitions[member])
    return collected.sample(offline, kept.data, own, share, key, batch_size, **OPTIONS)


def is_collected(batch, kept, member):
    """Which rows of a batch are a member's own; by their observations, which are all different."""
    block = kept.data.observations[member * ROOM : (member + 1) * ROOM]
    return (batch.observations[:, None] == block[None]).all(axis=-1).any(axis=-1)


@pytest.mark.parametrize(('num_steps', 'share', 'expected'), [(25, 0.25, 16), (3, 0.5, 3)])
def test_a_batch_has_its_share_of_the_members_own(offline, start, key, num_steps, share, expected):
    """Never more rows than there are transitions, so that none counts for many."""
    rng = np.random.default_rng(0)
    kept = collect([random_step(rng) for _ in range(num_steps)], start)
    for member in range(MEMBERS):
        batch = batch_of(offline, kept, member, share, key)
        assert is_collected(batch, kept, member).sum() == expected
        assert not is_collected(batch, kept, 1 - member).any()


def test_the_first_rows_of_a_batch_are_of_both_kinds(offline, start, key):
    """Flow values learn the mean return on them alone."""
    rng = np.random.default_rng(0)
    kept = collect([random_step(rng) for _ in range(40)], start)
    first = is_collected(batch_of(offline, kept, 0, 0.5, key), kept, 0)[:16]
    assert 0 < first.sum() < 16


def test_without_a_share_every_transition_is_as_likely(offline, start, key):
    rng = np.random.default_rng(0)
    kept = collect([random_step(rng) for _ in range(25)], start)
    batch = batch_of(offline, kept, 1, 0.0, key, batch_size=20_000)
    expected = 25 / (25 + len(offline.starts))
    found = is_collected(batch, kept, 1).mean()
    assert abs(found - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5


def test_new_states_get_as_many_candidates_as_the_pool_of_the_data_has(tmp_path):
    """Somebody else's pool need not have `num_pool`."""
    toy_envs.write_imported(tmp_path / 'mine.npz')
    config = small_config('qc1_25', num_pool=32, backup_candidates=2)
    made = env_flags.make([ENVIRONMENT])
    data = assembly.load_data(tmp_path / 'mine.npz', tmp_path / 'none.npz', made, config)

    def policy(observations, key, num):
        return jax.random.uniform(key, (len(observations), num, 1, 1))

    foreign = frozen.ForeignPolicy('mine:policy', policy, '', (1, 1))
    rows = len(data.train[0].observations)
    pools = assembly.Pools(np.zeros((rows, 5, 1), np.float16), None)
    run = assembly.make_run(
        config, [ENVIRONMENT], SEEDS, data, wrappers.NO_NOISE, foreign, pools, online_share=0.5
    )
    drawn = run.online.draw(jax.random.key(0))(np.zeros((1, 2)), np.array([0]))
    assert drawn.shape[1] == collecting.empty(run, 10).data.candidates.shape[1] == 5


# Whole runs.

SCHEDULE = Schedule(
    offline_steps=OFFLINE,
    log_interval=10,
    eval_interval=17,
    save_interval=10,
    eval_episodes=2,
    eval_envs=2,
    max_wait=60.0,
    overlaps=False,
    online_steps=ONLINE,
)
TABLES = ('train', 'eval', 'episodes', 'collected')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('mine')
    toy_envs.write_imported(path / 'mine.npz')
    return path


def train(folder, out, seeds=SEEDS, stop=None, share=0.5, name='evor_small', **changes):
    """Trains as main.py does; returns the run's directory, and whether it finished."""
    config = small_config(name, hidden_dims=(8,))
    config.config_name = name
    made = env_flags.make([ENVIRONMENT])
    data = assembly.load_data(folder / 'mine.npz', folder / 'none.npz', made, config)
    directory = runs.run_dir(str(out), name_of(ENVIRONMENT), name, seeds)
    record = runs.describe(
        env_name=name_of(ENVIRONMENT),
        **descriptions.describe(ENVIRONMENT),
        seeds=seeds,
        agent=config.to_dict(),
        **assembly.describe_data(data, data.train[0]),
    )
    directory.mkdir(parents=True, exist_ok=True)
    runs.write_records({directory: record})
    run = assembly.make_run(
        config, [ENVIRONMENT], seeds, data, wrappers.NO_NOISE, online_share=share
    )
    schedule = SCHEDULE._replace(**changes)
    return directory, assembly.train(run, [directory], schedule, stop or StopRequest())


@pytest.fixture(scope='module')
def whole(folder, tmp_path_factory):
    directory, finished = train(folder, tmp_path_factory.mktemp('whole'))
    assert finished
    return directory


def assert_equal(one, other, tables=TABLES):
    last = OFFLINE + ONLINE
    assert_equal_runs(one, other, last, tables)
    assert arrays(one, last, 'collected') == arrays(other, last, 'collected')


@pytest.mark.long
def test_a_run_goes_on_past_its_offline_steps(whole):
    """It is evaluated at the end of each part, and tells of every episode that it collected."""
    steps = [int(row['step']) for row in rows(whole / 'eval.csv')]
    assert sorted(set(steps)) == [OFFLINE, 17, OFFLINE + ONLINE]
    ended = rows(whole / 'collected.csv')
    lengths = {
        seed: sum(int(r['episode_length']) for r in ended if r['seed'] == seed) for seed in '01'
    }
    for seed, length in lengths.items():
        assert ONLINE - 20 < length <= ONLINE, seed
        of_seed = [int(row['episode']) for row in ended if row['seed'] == seed]
        assert of_seed == list(range(len(of_seed)))


@pytest.mark.long
def test_only_an_episode_that_ends_by_reward_has_nothing_after_it(folder, tmp_path, monkeypatch):
    """Those of 20 steps were cut by the clock."""
    steps, append = [], collected.append

    def watched(kept, step):
        steps.append(step)
        return append(kept, step)

    monkeypatch.setattr(collected, 'append', watched)
    directory, _ = train(folder, tmp_path, online_steps=60, eval_interval=0)
    ended = rows(directory / 'collected.csv')
    for member, seed in enumerate('01'):
        found = [bool(step.terminated[member]) for step in steps if step.done[member]]
        lengths = [int(row['episode_length']) for row in ended if row['seed'] == seed]
        assert found == [length < 20 for length in lengths]
    assert {int(row['episode_length']) < 20 for row in ended} == {False, True}


@pytest.mark.long
def test_a_run_that_stops_again_and_again_equals_one_that_does_not(folder, whole, tmp_path):
    changes, parts = dict(max_wait=0.0, eval_interval=0), [False]
    while not parts[-1]:
        directory, finished = train(folder, tmp_path, stop=StopAfter(9), **changes)
        parts.append(finished)
    assert 3 < len(parts) < 10
    assert_equal(whole, directory, ('train', 'collected'))


@pytest.mark.long
@pytest.mark.parametrize(
    'changes', [dict(overlaps=True), dict(save_interval=7, max_wait=0.0)], ids=str
)
def test_how_it_is_watched_changes_nothing(folder, whole, tmp_path, changes):
    directory, _ = train(folder, tmp_path, **changes)
    assert_equal(whole, directory)


@pytest.mark.long
def test_a_seed_collects_what_it_would_alone(folder, whole, tmp_path):
    """But for the rounding of other programs."""
    directory, _ = train(folder, tmp_path, seeds=[1], eval_interval=0)
    for name in ('train', 'collected'):
        of_seed = [row for row in rows(whole / f'{name}.csv') if row['seed'] == '1']
        for row, expected in zip(rows(directory / f'{name}.csv'), of_seed, strict=True):
            numbers = {column: float(value) for column, value in expected.items()}
            found = {column: float(value) for column, value in row.items()}
            assert found == pytest.approx(numbers, rel=1e-4), name


@pytest.mark.long
def test_more_online_steps_go_on_from_the_same_data(folder, whole, tmp_path):
    changes = dict(eval_interval=0)
    directory, finished = train(folder, tmp_path, online_steps=11, **changes)
    assert finished
    train(folder, tmp_path, **changes)
    assert_equal(whole, directory, ('train', 'collected'))


@pytest.mark.long
def test_offline_updates_come_first(folder, tmp_path):
    offline = dict(eval_interval=0, log_interval=0)
    train(folder, tmp_path, share=None, online_steps=0, offline_steps=2, **offline)
    with pytest.raises(UserError, match='has 2 offline updates already'):
        train(folder, tmp_path, offline_steps=1, **offline)
    directory, finished = train(folder, tmp_path, offline_steps=2, online_steps=1, **offline)
    assert finished
    assert runs.read_record(directory)['online'] == dict(after=2, share=0.5)


@pytest.mark.long
def test_an_environment_that_does_not_come_back_is_told(folder, tmp_path, monkeypatch):
    changes = dict(eval_interval=0, log_interval=0, online_steps=6)
    train(folder, tmp_path, stop=StopAfter(8), max_wait=0.0, **changes)
    monkeypatch.setattr(collecting, 'episode_number', lambda seed, episode: 7)
    with pytest.raises(UserError, match='does not come to the same state by the same actions'):
        train(folder, tmp_path, **changes)
