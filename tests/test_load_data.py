"""What a run is given to learn from, by the file or folder that its flags name."""

import json
import tracemalloc
from unittest import mock

import jax
import numpy as np
import pytest

from agents import frozen
from tests.helpers import random_arrays, small_config
from utils.data import array_checks, dataset_files, npz
from utils.environments import action_maps, envs, wrappers
from utils.errors import UserError
from utils.jobs import assembly, restore
from utils.system import guards, memory
from utils.system.stopping import StoppedError, StopRequest

ENV = 'pointmaze-medium-stitch-singletask-task1-v0'


@pytest.fixture(scope='module')
def tasks():
    return {ENV: envs.make_env(ENV)}


def write(path, **changes):
    np.savez(path, **(random_arrays(observation_dim=2) | changes))
    return path


def load(path, tasks, name='evor'):
    val_path = path.with_name(f'{path.stem}-val.npz')
    return assembly.load_data(path, val_path, tasks, small_config(name))


def test_atoms_between_rewards_that_are_all_zero_are_refused(tmp_path, tasks):
    """The support of C51 has no width then, and the first update no number."""
    path = write(tmp_path / 'zero.npz', rewards=np.zeros(75, np.float32))
    with pytest.raises(UserError, match=r"zero\.npz: all 'rewards' are 0.*categorical") as caught:
        load(path, tasks, 'evor_c51')
    assert '\n' not in str(caught.value)
    for name in ('evor', 'bc', 'evor_qr'):
        load(path, tasks, name)
    load(write(tmp_path / 'constant.npz', rewards=np.ones(75, np.float32)), tasks, 'evor_c51')


def test_data_with_other_rewards_are_other_data(tmp_path, tasks):
    one, other = (
        load(write(tmp_path / 'mine.npz', rewards=np.full(75, reward, np.float32)), tasks)
        for reward in (0.0, 1.0)
    )
    digests = [assembly.digest_data(data.train[0]) for data in (one, other)]
    assert {name for name in digests[0] if digests[0][name] != digests[1][name]} == {'rewards'}


def write_shards(folder, numbers=(0, 1, 2), **changes):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        for suffix in ('', '-val'):
            arrays = random_arrays((4, 3 + number), observation_dim=2, seed=number)
            np.savez(folder / f'set-v0-{number:03}{suffix}.npz', **(arrays | changes))
    (folder / '._set-v0-000.npz').write_bytes(b'of a Mac')
    (folder / 'README.txt').write_text('of OGBench')
    return folder


def test_shards_are_one_set(tmp_path, tasks, capsys):
    data = load(write_shards(tmp_path / 'set-100m-v0'), tasks)
    expected = [random_arrays((4, 3 + n), observation_dim=2, seed=n) for n in range(3)]
    for of in (data.train[0], data.val[0]):
        for name in ('observations', 'actions', 'rewards', 'masks'):
            whole = np.concatenate([arrays[name] for arrays in expected])
            np.testing.assert_array_equal(getattr(of, name), whole)
        assert np.unique(of.ends).tolist() == [3, 6, 10, 14, 18, 23]
    assert capsys.readouterr().out.count(': 3 files, 0.00 GiB') == 2


@pytest.fixture
def little_memory(monkeypatch):
    """Room for a shard, not for all: a set needs more than twice what its largest one does."""

    def of(folder):
        sizes = [
            sum(header.nbytes for header in npz.headers(path, array_checks.OWN_AXES).values())
            for path in folder.glob('set*-00?.npz')
        ]
        monkeypatch.setattr(memory, 'available', lambda: 2 * max(sizes))

    return of


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('follows', [False, True])
def test_reading_takes_no_more_memory_than_was_told(tmp_path, dtype, follows):
    """Half precision grows, and last rows may lead to states that are put between the others."""
    rows, ends = 20_000, np.arange(20_000) % 100 == 99
    states = np.random.default_rng(0).normal(size=(rows + 1, 20)).astype(dtype)
    arrays = dict(observations=states[:-1], actions=np.zeros((rows, 2), dtype), terminals=ends)
    arrays |= dict(rewards=np.zeros(rows, np.float32), masks=np.ones(rows, np.float32))
    if follows:
        arrays['next_observations'] = np.where(ends[:, None], -states[1:], states[1:])
    np.savez(tmp_path / 'set.npz', **arrays)
    size, besides = dataset_files._num_bytes(dataset_files._headers(tmp_path / 'set.npz'))
    tracemalloc.start()
    found = dataset_files.read(tmp_path / 'set.npz')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * (size + besides)
    assert sum(array.nbytes for array in found.values()) < 1.1 * size


def test_shards_that_exceed_the_memory_together_are_mapped(tmp_path, tasks, little_memory, capsys):
    folder = write_shards(tmp_path / 'set')
    plain = load(folder, tasks)
    little_memory(folder)
    for again in range(2):
        data = load(folder, tasks)
        for one, other in zip((*plain.train, *plain.val), (*data.train, *data.val), strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)
        assert is_map(data.train[0].observations)
        assert not is_map(plain.train[0].observations)
        # Programs on a CPU read the file; on the device nothing else is taken.
        placed = jax.device_put(data.train[0].observations)
        assert placed.unsafe_buffer_pointer() == data.train[0].observations.ctypes.data
        assert ('copied once' in capsys.readouterr().out) == (not again)


def is_map(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_copies_of_other_shards_are_made_anew(tmp_path, tasks, little_memory):
    folder = write_shards(tmp_path / 'set')
    little_memory(folder)
    load(folder, tasks)
    write_shards(folder, actions=np.zeros((7, 2), np.float32), numbers=[0])
    assert not load(folder, tasks).train[0].actions[:7].any()


def test_copies_that_were_cut_short_are_named(tmp_path, tasks, little_memory):
    folder = write_shards(tmp_path / 'set')
    little_memory(folder)
    load(folder, tasks)
    path = folder / 'set-v0-000-mapped' / 'observations.npy'
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r'observations\.npy: damaged.*delete .*-mapped'):
        load(folder, tasks)


def test_copies_are_given_up_where_the_process_is_told_to_stop(tmp_path, tasks, little_memory):
    folder = write_shards(tmp_path / 'set')
    little_memory(folder)
    stop = StopRequest()
    stop.reason = 'the test'
    with pytest.raises(StoppedError):
        assembly.load_data(folder, folder, tasks, small_config(), stop)
    assert not list(folder.rglob('*.npy'))
    load(folder, tasks)


def test_a_disk_without_room_for_the_copies_is_told_before(tmp_path, tasks, little_memory):
    folder = write_shards(tmp_path / 'set')
    little_memory(folder)
    with mock.patch('shutil.disk_usage', return_value=mock.Mock(total=20, free=10)):
        with pytest.raises(UserError, match=r'mapped copies need .* make room$'):
            load(folder, tasks)


def test_data_that_the_device_cannot_hold_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    monkeypatch.setattr(guards, 'free_memory', lambda: 10)
    guards.check_device_memory(tmp_path, 10)
    with pytest.raises(UserError, match='first shards into a folder of their own'):
        guards.check_device_memory(tmp_path, 11)


def test_a_shard_that_exceeds_the_memory_is_refused_before_it_is_read(tmp_path, tasks, monkeypatch):
    folder = write_shards(tmp_path / 'set')
    monkeypatch.setattr(memory, 'available', lambda: 100)
    monkeypatch.setattr(npz, 'read', None)
    with pytest.raises(UserError, match=r'reading it takes .* GiB of memory'):
        load(folder, tasks)


def without(folder, name):
    (folder / name).unlink()


def other_keys(folder, name):
    arrays = random_arrays(observation_dim=2)
    kept = {key: arrays[key] for key in ('observations', 'actions', 'terminals')}
    np.savez(folder / name, qpos=arrays['observations'], **kept)


def other_size(folder, name):
    np.savez(folder / name, **random_arrays(observation_dim=5))


def another_set(folder, name):
    write(folder / 'other-v0-000.npz')


def the_same_number(folder, name):
    (folder / 'set-v0-01.npz').write_bytes((folder / name).read_bytes())


def the_same_number_held_out(folder, _):
    (folder / 'set-v0-01-val.npz').write_bytes((folder / 'set-v0-001-val.npz').read_bytes())


def without_held_out(folder, _):
    (folder / 'set-v0-001-val.npz').unlink()


BAD_SHARDS = {
    'one is there twice': (the_same_number, 'a number stands for two shards'),
    'one is missing': (without, '2 shards, but number 001 is not among them'),
    'one held out is there twice': (the_same_number_held_out, 'a number stands for two shards'),
    'one held out is missing': (without_held_out, 'number 001-val is not among them'),
    'one has other keys': (other_keys, r'set-v0-001\.npz: holds .*qpos'),
    'one has another size': (other_size, r'set-v0-001\.npz: holds observations \[5\]'),
    'two sets': (another_set, 'shards of several datasets .other-v0, set-v0'),
}


@pytest.mark.parametrize(('spoil', 'message'), BAD_SHARDS.values(), ids=BAD_SHARDS.keys())
def test_shards_that_are_not_one_set_are_refused(tmp_path, tasks, spoil, message):
    folder = write_shards(tmp_path / 'set')
    spoil(folder, 'set-v0-001.npz')
    with pytest.raises(UserError, match=message):
        load(folder, tasks)


def test_a_folder_without_shards_is_named(tmp_path, tasks):
    write(tmp_path / 'mine.npz')
    with pytest.raises(UserError, match=r'a folder without files NAME-000\.npz'):
        load(tmp_path, tasks)


def write_record(path, scale=2.0, **changes):
    """Beside a file, as scripts/import_data.py writes it."""
    own = dict(bytes=path.stat().st_size)
    action_map = dict(offset=[0.0, 0.0], scale=[scale, scale])
    record = dict(action_map=action_map, files={path.name: own}) | changes
    path.with_suffix('.json').write_text(json.dumps(record))


def test_a_run_takes_the_map_of_actions_from_the_record_beside_its_data(tmp_path, tasks):
    path = write(tmp_path / 'mine.npz')
    assert load(path, tasks).action_map is None
    write_record(path, 1.0)
    plain = load(path, tasks)
    assert plain.action_map is None
    assert 'action_map' not in assembly.describe_data(plain, plain.train[0])
    write_record(path)
    data = load(path, tasks)
    record = json.loads(json.dumps(assembly.describe_data(data, data.train[0])))
    assert action_maps.recorded(record, path) == data.action_map == ((0.0, 0.0), (2.0, 2.0))
    run = assembly.make_run(small_config('bc'), [ENV], [0], data, wrappers.NO_NOISE)
    assert run.action_map == data.action_map


def test_held_out_data_whose_actions_were_mapped_otherwise_are_refused(tmp_path, tasks):
    path, val_path = write(tmp_path / 'mine.npz'), write(tmp_path / 'mine-val.npz')
    write_record(path)
    with pytest.raises(UserError, match=r'mine-val\.npz.*--action_range=.*mine\.json'):
        load(path, tasks)
    write_record(val_path)
    assert load(path, tasks).action_map == ((0.0, 0.0), (2.0, 2.0))


def test_shards_have_one_map_by_the_record_beside_each(tmp_path, tasks):
    names = 'mine-000', 'mine-001', 'mine-000-val'
    paths = [write(tmp_path / f'{name}.npz') for name in names]
    assert (load(tmp_path, tasks).action_map, load(tmp_path, tasks).told) == (None, False)
    for number, path in enumerate(paths):
        write_record(path)
        if number < 2:
            with pytest.raises(UserError, match=r'mine-00.*not mapped as those of mine-000\.npz'):
                load(tmp_path, tasks)
    data = load(tmp_path, tasks)
    assert (data.action_map, data.told) == (((0.0, 0.0), (2.0, 2.0)), True)
    write_record(paths[1], scale=3.0)
    with pytest.raises(UserError, match=r'mine-001\.npz.*--action_range=.*mine-000\.json'):
        load(tmp_path, tasks)


BAD_RECORDS = {
    'no JSON': '{',
    'no map': '{"action_map": {"offset": [0.0, 0.0]}}',
    'a scale of 0': '{"action_map": {"offset": [0.0, 0.0], "scale": [0.0, 1.0]}}',
    'not finite': '{"action_map": {"offset": [NaN, 0.0], "scale": [1.0, 1.0]}}',
    'two sizes': '{"action_map": {"offset": [0.0], "scale": [1.0, 1.0]}}',
    'files of another kind': '{"action_map": {"offset": [0.0], "scale": [1.0]}, "files": [1]}',
}


@pytest.mark.parametrize('content', BAD_RECORDS.values(), ids=BAD_RECORDS.keys())
def test_a_damaged_record_beside_data_is_refused(tmp_path, tasks, content):
    path = write(tmp_path / 'mine.npz')
    path.with_suffix('.json').write_text(content)
    with pytest.raises(UserError, match=r'mine\.json: .*restore'):
        load(path, tasks)


def test_a_record_of_another_file_is_refused(tmp_path, tasks):
    path = write(tmp_path / 'mine.npz')
    write_record(path)
    write(path, extra=np.zeros(75, np.float32))
    with pytest.raises(UserError, match=r'is the record of a file mine\.npz of \d+ bytes'):
        load(path, tasks)


def test_a_record_of_generated_data_tells_of_no_map(tmp_path, tasks):
    path = write(tmp_path / 'mine.npz')
    path.with_suffix('.json').write_text('{"dataset": "mine", "plans": {}}')
    assert load(path, tasks).action_map is None


@pytest.mark.parametrize('content', ['{"rate": 50}', '[1, 2]'])
def test_a_json_of_something_else_tells_nothing_of_actions(tmp_path, tasks, content):
    path = write(tmp_path / 'mine.npz')
    path.with_suffix('.json').write_text(content)
    assert (load(path, tasks).action_map, load(path, tasks).told) == (None, False)


def test_a_base_policy_whose_actions_stand_for_others_is_refused(tmp_path, tasks):
    path = write(tmp_path / 'mine.npz')
    write_record(path)
    data = load(path, tasks)
    record = assembly.describe_data(data, data.train[0])
    policy = frozen.FrozenPolicy(tmp_path / 'bc', record, 1, None, None, '')
    assembly.check_actions(policy, data)
    other = data._replace(action_map=None)
    with pytest.raises(UserError, match=r'--base_policy: .*mapped otherwise'):
        assembly.check_actions(policy, other)
    with pytest.raises(UserError, match=r'--base_policy: .*mapped otherwise'):
        assembly.check_actions(policy._replace(record={}), data)


def test_the_held_out_file_of_a_run_on_own_data_has_their_name_and_map(tmp_path, tasks):
    """Not OGBench's set of the environment, which the run has nothing to do with."""
    data = load(write(tmp_path / 'mine.npz'), tasks)
    record = dict(env_name=ENV) | assembly.describe_data(data, data.train[0])
    with pytest.raises(UserError, match=r'mine-val\.npz: is not there, but .*--dataset_dir'):
        restore.held_out(record, tmp_path, 'file:///none')
    path = write(tmp_path / 'mine-val.npz')
    found, _ = restore.held_out(record, tmp_path, 'file:///none')
    np.testing.assert_array_equal(found.actions, data.train[0].actions)
    write_record(path)
    with pytest.raises(UserError, match=r'mine-val\.npz: its actions were not mapped as those'):
        restore.held_out(record, tmp_path, 'file:///none')


def test_held_out_shards_of_a_run_are_found_by_their_folder(tmp_path, tasks):
    data = load(write_shards(tmp_path / 'set-100m-v0'), tasks)
    record = dict(env_name=ENV) | assembly.describe_data(data, data.train[0])
    found, _ = restore.held_out(record, tmp_path, 'file:///none')
    np.testing.assert_array_equal(found.actions, data.val[0].actions)


def test_the_held_out_file_of_a_noisy_run_on_generated_data_is_that_of_its_noise(tmp_path, tasks):
    """Not the one without noise beside it; where nothing may be fetched, it is missed."""
    official = f'{envs.dataset_name(ENV)}.npz'
    noise = wrappers.Noise(0.2)
    record = dict(env_name=ENV, dataset=dict(file=official)) | noise._asdict()
    write(tmp_path / official.replace('.npz', '-val.npz'))
    with pytest.raises(UserError, match=rf'{noise.label}/.*-val\.npz: is not there'):
        restore.held_out(record, tmp_path)
    noisy = tmp_path / noise.label / official.replace('.npz', '-val.npz')
    noisy.parent.mkdir()
    actions = np.zeros((75, 2), np.float32)
    write(noisy, actions=actions)
    found, path = restore.held_out(record, tmp_path)
    assert path == noisy
    np.testing.assert_array_equal(found.actions, actions)
