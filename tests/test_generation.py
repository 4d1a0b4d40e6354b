import hashlib
import json
from pathlib import Path
from unittest import mock

import numpy as np
import ogbench
import pytest

from tests.helpers import random_arrays
from utils.data import dataset_files, datasets, fetching
from utils.environments import envs
from utils.environments.wrappers import Noise
from utils.errors import UserError
from utils.generation import behaviours, experts, generator, recording

MAZE = 'pointmaze-medium-stitch-v0'  # its episodes are the shortest
CUBE = 'cube-single-play-v0'
ANT = 'antmaze-medium-navigate-v0'
RECORDS = Path(__file__).resolve().parents[1] / 'results/data'


def digests(folder, dataset):
    return [
        hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (f'{dataset}.npz', f'{dataset}-val.npz')
    ]


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(generator, 'SHARD_EPISODES', 2)


@pytest.fixture(scope='module')
def cube_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cube')
    generator.generate(CUBE, folder, episodes=1, workers=1, seed=0)
    return folder


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, small_shards):
    for workers in (1, 2):
        generator.generate(MAZE, tmp_path / str(workers), episodes=6, workers=workers, seed=3)
    assert digests(tmp_path / '1', MAZE) == digests(tmp_path / '2', MAZE)


@pytest.mark.long
def test_the_bytes_of_manipulation_sets_neither(tmp_path, monkeypatch):
    """Other shards, in other processes, after other episodes: the same two episodes."""
    for workers in (1, 2):
        generator.generate(CUBE, tmp_path / str(workers), episodes=2, workers=workers, seed=0)
        monkeypatch.setattr(generator, 'SHARD_EPISODES', 1)
    assert digests(tmp_path / '1', CUBE) == digests(tmp_path / '2', CUBE)


def test_seeds_differ(tmp_path):
    for seed in (0, 1):
        generator.generate(MAZE, tmp_path / str(seed), episodes=1, workers=1, seed=seed)
    assert digests(tmp_path / '0', MAZE) != digests(tmp_path / '1', MAZE)


def test_interrupted_work_is_taken_up_and_ends_the_same(tmp_path, small_shards):
    generator.generate(MAZE, tmp_path / 'whole', episodes=4, workers=1, seed=0)
    parameters = json.loads((tmp_path / 'whole' / f'{MAZE}.json').read_text())
    parameters = {k: parameters[k] for k in ('dataset', 'episodes', 'seed', 'versions')}
    folder = tmp_path / 'resumed' / f'.{MAZE}.shards'
    first, *_ = generator._plan_shards(folder, parameters)
    recording.record_shard(first)
    stamp = (folder / 'train-000000.npz').stat().st_mtime_ns
    seen = []
    original = recording.merge

    def merge(shards, path):
        seen.extend(shard.stat().st_mtime_ns for shard in shards)
        return original(shards, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, 'merge', merge)
        generator.generate(MAZE, tmp_path / 'resumed', episodes=4, workers=1, seed=0)
    assert seen[0] == stamp  # not recorded again
    assert digests(tmp_path / 'whole', MAZE) == digests(tmp_path / 'resumed', MAZE)
    assert not folder.exists()


def test_a_finished_set_is_left_alone(tmp_path):
    first = generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    stamp = (tmp_path / f'{MAZE}.npz').stat().st_mtime_ns
    assert generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0) == first
    assert (tmp_path / f'{MAZE}.npz').stat().st_mtime_ns == stamp


def test_a_set_made_otherwise_is_not_overwritten(tmp_path):
    generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    with pytest.raises(UserError, match='made with other seed'):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=1)


def test_a_noisy_set_records_what_was_chosen_not_what_became_of_it(tmp_path):
    """The same walker in the same start state: it chooses the same, and ends elsewhere."""
    sets = {}
    for name, noise in (('clean', Noise()), ('noisy', Noise(0.3))):
        record = generator.generate(MAZE, tmp_path / name, 1, 1, 0, noise)
        assert record.get('noise') == (noise._asdict() if any(noise) else None)
        with np.load(tmp_path / name / f'{MAZE}.npz') as file:
            sets[name] = {key: file[key] for key in file.files}
    clean, noisy = sets['clean'], sets['noisy']
    np.testing.assert_array_equal(clean['actions'][0], noisy['actions'][0])
    np.testing.assert_array_equal(clean['observations'][0], noisy['observations'][0])
    assert np.abs(clean['observations'][1] - noisy['observations'][1]).max() > 0
    for folder, noise in (('clean', Noise(0.3)), ('noisy', Noise()), ('noisy', Noise(0.2))):
        with pytest.raises(UserError, match='made with other noise'):
            generator.generate(MAZE, tmp_path / folder, 1, 1, 0, noise)


def test_a_set_from_elsewhere_is_not_overwritten(tmp_path):
    np.savez(tmp_path / f'{MAZE}.npz', **random_arrays())
    with pytest.raises(UserError, match='from elsewhere'):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)


def test_a_merged_file_is_what_numpy_would_write_at_once(tmp_path):
    parts = [random_arrays((4, 3), seed=seed) for seed in range(3)]
    for number, part in enumerate(parts):
        np.savez(tmp_path / f'{number}.npz', **part, counts=np.array([1, 1]))
    record = recording.merge([tmp_path / f'{n}.npz' for n in range(3)], tmp_path / 'merged.npz')
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez_compressed(tmp_path / 'whole.npz', **whole)
    assert (tmp_path / 'merged.npz').read_bytes() == (tmp_path / 'whole.npz').read_bytes()
    assert record['rows'] == 21


def test_a_set_that_came_while_shards_were_recorded_is_not_overwritten(tmp_path):
    parameters = dict(dataset=MAZE, episodes=1, seed=0)
    generator._plan_shards(tmp_path / f'.{MAZE}.shards', parameters)
    np.savez(tmp_path / f'{MAZE}.npz', **random_arrays())
    before = (tmp_path / f'{MAZE}.npz').read_bytes()
    with pytest.raises(UserError, match='from elsewhere'):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    assert (tmp_path / f'{MAZE}.npz').read_bytes() == before


def test_a_merge_that_broke_off_is_made_again_and_nothing_is_fetched_into_it(tmp_path):
    broken = UserError('the disk is full')
    with mock.patch.object(recording, 'merge', side_effect=broken), pytest.raises(UserError):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    np.savez(tmp_path / f'{MAZE}.npz', **random_arrays())  # as the first of two merges left it
    _, held_out = fetching.locate(MAZE, tmp_path, tmp_path.as_uri())
    assert not held_out.exists()
    record = generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    assert record['files'].keys() == {f'{MAZE}.npz', f'{MAZE}-val.npz'}
    assert digests(tmp_path, MAZE) == [of['sha256'] for of in record['files'].values()]


def test_what_a_killed_cleanup_leaves_is_removed_and_marks_nothing(tmp_path):
    """Else files that were put in the set's place later would be taken for its own."""
    shards = tmp_path / f'.{MAZE}.shards'
    with mock.patch.object(generator, '_discard'):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    assert shards.exists()
    record = generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    assert record['episodes'] == 1
    assert not shards.exists()
    assert not shards.with_suffix('.done').exists()


def test_shards_of_which_nothing_is_known_are_not_gone_on_from(tmp_path):
    generator._plan_shards(tmp_path / f'.{MAZE}.shards', dict(dataset=MAZE, episodes=1, seed=0))
    (tmp_path / f'.{MAZE}.shards' / 'parameters.json').unlink()
    np.savez(tmp_path / f'.{MAZE}.shards' / 'train-000000.npz', **random_arrays())
    with pytest.raises(UserError, match='shards of which nothing is known; remove it'):
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=7)


def test_a_set_that_is_finished_between_two_looks_is_taken(tmp_path):
    parameters = dict(dataset=MAZE, episodes=1, seed=0)
    generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    record = tmp_path / f'{MAZE}.json'
    written = record.read_bytes()
    record.unlink()
    check_free = generator._check_free

    def finish_meanwhile(*arguments):
        try:
            check_free(*arguments)
        finally:
            record.write_bytes(written)

    with mock.patch.object(generator, '_check_free', finish_meanwhile):
        found = generator._finished(tmp_path, MAZE, json.loads(written) | parameters)
    assert found == json.loads(written)


def test_an_unknown_dataset_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'cube-single-play-v0'"):
        generator.generate('cube-singel-play-v0', tmp_path, 1, 1, 0)


@pytest.mark.parametrize('changes', [dict(episodes=0), dict(workers=0), dict(seed=-1)])
def test_numbers_out_of_range_are_refused(tmp_path, changes):
    settings = dict(episodes=1, workers=1, seed=0) | changes
    with pytest.raises(UserError, match='must be at least 1'):
        generator.generate(MAZE, tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_provenance_tells_how_the_files_came_about(cube_folder):
    record = json.loads((cube_folder / f'{CUBE}.json').read_text())
    assert (record['dataset'], record['episodes'], record['seed']) == (CUBE, 1, 0)
    assert record['versions'].keys() == {'ogbench', 'mujoco', 'gymnasium', 'numpy'}
    assert 'expert' not in record
    sums = [file['sha256'] for file in record['files'].values()]
    assert sums == digests(cube_folder, CUBE)


@pytest.fixture
def short_walks(monkeypatch):
    """The ant's sets at a few steps per episode; recorded here, since workers know no patch."""
    source = generator.SOURCES[ANT]._replace(steps=12)
    monkeypatch.setitem(generator.SOURCES, ANT, source)

    def record_all(shards, workers, stop):
        for shard in shards:
            recording.record_shard(shard)
        return {split: [0, 0] for split in recording.SPLITS}

    monkeypatch.setattr(generator, '_record_all', record_all)


def test_provenance_names_the_expert_that_walked(tmp_path, short_walks):
    record = generator.generate(ANT, tmp_path, episodes=1, workers=1, seed=0)
    digest = hashlib.sha256((experts.FOLDER / 'ant.npz').read_bytes()).hexdigest()
    assert record['expert'] == dict(name='ant', sha256=digest)
    assert json.loads((tmp_path / f'{ANT}.json').read_text()) == record


def test_a_set_walked_by_another_expert_is_not_taken_for_this_one(tmp_path, short_walks):
    record = generator.generate(ANT, tmp_path, episodes=1, workers=1, seed=0)
    assert generator.generate(ANT, tmp_path, episodes=1, workers=1, seed=0) == record
    other = dict(record, expert=dict(name='ant', sha256='0' * 64))
    untold = {name: value for name, value in record.items() if name != 'expert'}
    for theirs in (other, untold):
        (tmp_path / f'{ANT}.json').write_text(json.dumps(theirs))
        with pytest.raises(UserError, match='made with other expert'):
            generator.generate(ANT, tmp_path, episodes=1, workers=1, seed=0)


def test_only_bodies_that_must_learn_to_walk_have_experts():
    names = {source.env_id: None for source in generator.SOURCES.values()}
    found = {env_id: behaviours.expert_name(env_id) for env_id in names}
    expected = {env_id: 'ant' if env_id.startswith('ant') else None for env_id in names}
    assert found == expected


def test_committed_records_of_walked_sets_name_a_committed_expert():
    """So that a reader knows which of the experts made a set, and can make it again."""
    digests = {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in experts.FOLDER.rglob('*.npz')
    }
    records = [json.loads(path.read_text()) for path in RECORDS.glob('*.json')]
    assert len(records) == 5
    for record in records:
        if behaviours.expert_name(generator.SOURCES[record['dataset']].env_id):
            assert record['expert']['sha256'] in digests
        else:
            assert 'expert' not in record


def test_plans_succeed_as_often_as_the_official_ones(cube_folder):
    """The table of the official generator: 241 of 242 plans on cube-single."""
    record = json.loads((cube_folder / f'{CUBE}.json').read_text())
    assert record['plans']['train'] >= 9
    assert record['plan_successes']['train'] >= record['plans']['train'] - 1


def test_files_have_the_official_format(cube_folder):
    with np.load(cube_folder / f'{CUBE}.npz') as file:
        found = {name: (file[name].dtype.name, file[name].shape) for name in file.files}
    assert found == {
        'observations': ('float32', (1001, 28)),
        'actions': ('float32', (1001, 5)),
        'terminals': ('bool', (1001,)),
        'qpos': ('float32', (1001, 21)),
        'qvel': ('float32', (1001, 20)),
    }
    arrays = dataset_files.read(cube_folder / f'{CUBE}.npz')
    assert np.flatnonzero(arrays['terminals']).tolist() == [1000]


@pytest.mark.parametrize(
    'task', [1, 5, *(pytest.param(task, marks=pytest.mark.long) for task in (2, 3, 4))]
)
def test_ogbench_loads_the_set_and_we_agree(cube_folder, task):
    name = f'cube-single-play-singletask-task{task}-v0'
    path = cube_folder / f'{CUBE}.npz'
    env, theirs, _ = ogbench.make_env_and_datasets(name, dataset_path=str(path))
    ours = datasets.build(dataset_files.relabel(dataset_files.read(path), path, name, env))
    assert len(ours.starts) == len(theirs['rewards']) == 1000
    for field in ('observations', 'actions', 'rewards', 'masks'):
        np.testing.assert_array_equal(getattr(ours, field)[ours.starts], theirs[field])
    np.testing.assert_array_equal(ours.observations[ours.starts + 1], theirs['next_observations'])


# More of what the smaller scenes of their families have.
LARGE = {f'cube-{number}-play-v0' for number in ('double', 'triple', 'quadruple')}
LARGE |= {f'puzzle-{size}-play-v0' for size in ('4x4', '4x5', '4x6')}


@pytest.mark.parametrize(
    'dataset',
    [
        pytest.param(name, marks=[pytest.mark.long] * (name in LARGE))
        for name in sorted(generator.SOURCES)
    ],
)
def test_every_source_records(dataset):
    """A few steps of each: aligned rows, actions in range, ends marked."""
    source = generator.SOURCES[dataset]._replace(steps=12)
    env = source.make_env(source.env_id, source.steps)
    episode = recording.record_episode(source, env, 0, 'train', 0).episode
    again = recording.record_episode(source, env, 0, 'train', 0).episode
    env.close()
    assert episode['terminals'].tolist() == [False] * 11 + [True]
    assert np.abs(episode['actions']).max() <= 1.0
    assert {len(array) for array in episode.values()} == {12}
    for name, array in episode.items():
        np.testing.assert_array_equal(array, again[name])
    if dataset.startswith('pointmaze'):
        # Observation and qpos are both the position: they must be of the same moment.
        np.testing.assert_array_equal(episode['observations'], episode['qpos'])
    else:
        np.testing.assert_array_equal(episode['observations'][:, :6], episode['qpos'][:, :6])


def test_a_rejected_attempt_is_repeated_with_another_seed():
    attempts = []

    def record(env, env_id, seeds):
        attempts.append(seeds.entropy)
        return behaviours.Recording(None if len(attempts) < 3 else {'x': 0}, 1, 1)

    source = generator.SOURCES[MAZE]._replace(record=record)
    assert recording.record_episode(source, None, 7, 'val', 5).episode == {'x': 0}
    assert attempts == [(7, 1, 5, 0), (7, 1, 5, 1), (7, 1, 5, 2)]


def test_a_cube_out_of_view_is_noticed():
    qpos = np.zeros((4, 20), np.float32)
    assert not behaviours._cube_left_view(dict(qpos=qpos))
    for y, z, lost in [(0.29, 0.0, True), (-0.3, 0.0, True), (-0.31, 0.07, False)]:
        moved = qpos.copy()
        moved[2, 15:17] = y, z
        assert behaviours._cube_left_view(dict(qpos=moved)) == lost


def test_junctions_are_all_but_straight_corridor():
    maze = np.ones((5, 5), int)
    maze[1, 1:4] = maze[1:4, 1] = 0  # an L of two arms
    cells, junctions = behaviours.free_cells(maze)
    assert cells == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]
    assert junctions == [(1, 1), (1, 3), (3, 1)]


def test_cell_distances_by_hand():
    maze = np.ones((5, 5), int)
    maze[1, 1:4] = maze[1:4, 1] = 0
    assert behaviours.cell_distances(maze, (3, 1)) == {
        (3, 1): 0,
        (2, 1): 1,
        (1, 1): 2,
        (1, 2): 3,
        (1, 3): 4,
    }


def test_dataset_names_follow_the_environment():
    assert envs.dataset_name('cube-single-play-singletask-task1-v0') == CUBE
    assert envs.dataset_name('cube-single-play-singletask-v0') == CUBE


def test_an_ant_is_walked_to_goals():
    """Where it is sent, through walls' gaps: a minute and a half of walking."""
    env = behaviours.make_maze_env('antmaze-medium-v0', 1001)
    recording = behaviours.record_navigate(env, 'antmaze-medium-v0', np.random.SeedSequence(0))
    assert recording.successes >= 1
    episode = recording.episode
    assert episode['observations'].shape == (1001, 29)
    # The clipped noise of OGBench's expert walkers, on actions that are never at the ends for long.
    assert 0.0 < np.mean(np.abs(episode['actions']) == 1.0) < 0.5
