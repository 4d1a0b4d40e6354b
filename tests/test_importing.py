"""Data of other tools: the same trajectories become the same file; what is not told is asked."""

import builtins
import hashlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import foreign_files
from tests.commands import run_here
from utils.data import dataset_files, importing
from utils.data.importers import action_ranges, formats, locating
from utils.data.importers.options import Options
from utils.data.importers.table import Imported
from utils.environments import action_maps
from utils.errors import UserError
from utils.system import locks, memory

GIVEN = foreign_files.trajectories()
ROBOMIMIC = Options(observations=('eef', 'object'), ends_by_reward='rewards')
ARRAYS = Options(
    observations=('state',),
    actions='ctrl',
    rewards='gain',
    ends_by_reward='solved',
    episode_index='run',
)


def d4rl(folder, monkeypatch, given=GIVEN, **changes):
    return foreign_files.write_d4rl(folder / 'own.hdf5', given, **changes)


def minari(folder, monkeypatch, given=GIVEN, **changes):
    return foreign_files.write_minari('maze/own-v0', given, folder, monkeypatch, **changes)


def robomimic(folder, monkeypatch, given=GIVEN, **changes):
    return foreign_files.write_robomimic(folder / 'own.hdf5', given, **changes)


def lerobot(folder, monkeypatch, given=GIVEN, **changes):
    return foreign_files.write_lerobot(folder / 'own', given, **changes)


def arrays(folder, monkeypatch, given=GIVEN):
    return foreign_files.write_arrays(folder / 'own.npz', given)


FORMATS = {
    'd4rl': (d4rl, Options()),
    'minari': (minari, Options()),
    'robomimic': (robomimic, ROBOMIMIC),
    'lerobot': (lerobot, Options()),
    'arrays': (arrays, ARRAYS),
}
each_format = pytest.mark.parametrize('name', FORMATS)


def imported(path, out, options=Options(), name='', action_range=''):  # noqa: B008
    record = importing.import_data(str(path), out, name, options, action_range)
    return dataset_files.read(out), record


def refused(path, options=Options(), match='', **settings):  # noqa: B008
    """Nothing is written, and one line says why."""
    out = path.parent / 'refused.npz'
    with pytest.raises(UserError, match=match) as caught:
        imported(path, out, options, **settings)
    assert '\n' not in str(caught.value)
    assert not out.exists()
    assert not out.with_suffix('.json').exists()
    return str(caught.value)


def without_following(given=GIVEN):
    """What files without successors of last rows hold, as `dataset_files.read` returns it."""
    ends = np.concatenate([one.ends for one in given])
    lengths = [len(one.actions) for one in given]
    terminals = np.zeros(len(ends), bool)
    terminals[np.cumsum(lengths) - 1] = True
    return dict(
        observations=np.concatenate([one.observations[:-1] for one in given]),
        actions=np.concatenate([one.actions for one in given]),
        rewards=np.concatenate([one.rewards for one in given]),
        masks=np.float32(1.0 - ends),
        terminals=terminals,
    )


def with_following(given=GIVEN):
    """The same with a row for the state that each last one leads to."""
    return dict(
        observations=np.concatenate([one.observations for one in given]),
        actions=np.concatenate([np.pad(one.actions, ((0, 1), (0, 0))) for one in given]),
        masks=np.concatenate([np.append(1.0 - one.ends, 1.0) for one in given]),
        terminals=np.concatenate([np.eye(1, len(o.rewards) + 1, len(o.rewards))[0] for o in given]),
    )


def assert_holds(found, expected):
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@each_format
def test_each_format_is_found_by_its_content(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    assert formats.detect(path) == name
    _, record = imported(path, tmp_path / 'out.npz', options)
    assert record['format'] == name
    counts = dict(trajectories=3, ended_by_reward=2, ended_by_time=1)
    assert counts.items() <= record['counts'].items()


@pytest.mark.parametrize('name', ['d4rl', 'minari', 'robomimic'])
def test_where_the_successor_of_a_last_row_is_in_the_file_it_is_a_transition(
    tmp_path, monkeypatch, name
):
    make, options = FORMATS[name]
    found, record = imported(make(tmp_path, monkeypatch), tmp_path / 'out.npz', options)
    assert_holds(found, with_following())
    assert record['counts']['transitions'] == 12


@pytest.mark.parametrize('name', ['lerobot', 'arrays'])
def test_where_it_is_not_the_last_row_of_what_was_cut_by_time_is_a_state_alone(
    tmp_path, monkeypatch, name
):
    make, options = FORMATS[name]
    found, record = imported(make(tmp_path, monkeypatch), tmp_path / 'out.npz', options)
    assert_holds(found, without_following())
    assert record['counts']['transitions'] == 11


@pytest.mark.parametrize('name', ['d4rl', 'robomimic'])
def test_successors_can_be_left_out_and_need_not_be_there(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    left_out = options._replace(next_observations=('none',))
    one, _ = imported(make(tmp_path, monkeypatch), tmp_path / 'one.npz', left_out)
    path = make(tmp_path, monkeypatch, following=False)
    other, _ = imported(path, tmp_path / 'other.npz', options)
    assert_holds(one, without_following())
    assert_holds(other, without_following())


@each_format
def test_the_record_tells_where_the_file_came_from(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path, out = make(tmp_path, monkeypatch), tmp_path / 'out.npz'
    _, record = imported(path, out, options)
    assert json.loads(out.with_suffix('.json').read_text()) == record
    if path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert record['source'] == dict(path=str(path), sha256=digest, bytes=path.stat().st_size)
    own = record['files']['out.npz']
    assert own['sha256'] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert own['bytes'] == out.stat().st_size
    for library in formats.FORMATS[name].libraries:
        assert record['versions'][library]
    given = {key for key, value in options._asdict().items() if value}
    assert record['options'].keys() == given


def test_the_digest_of_a_folder_depends_on_names_and_contents_alone(tmp_path, monkeypatch):
    digests = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = lerobot(folder, monkeypatch, foreign_files.trajectories(seed=seed))
        digests.append(imported(path, folder / 'out.npz')[1]['source']['sha256'])
    assert digests[0] == digests[1] != digests[2]


@each_format
def test_nothing_is_overwritten(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    for suffix in ('.npz', '.json'):
        out = tmp_path / f'there{suffix[1:]}.npz'
        out.with_suffix(suffix).write_text('mine')
        with pytest.raises(UserError, match=rf'--out: .*{suffix} is there already'):
            imported(path, out, options)
        assert out.with_suffix(suffix).read_text() == 'mine'


def test_what_is_in_the_way_is_told_before_anything_is_read(tmp_path):
    (tmp_path / 'own.json').write_text('mine')
    with pytest.raises(UserError, match=r'own\.json is there already'):
        importing.import_data(str(tmp_path / 'gone.hdf5'), tmp_path / 'own.npz')


def test_what_comes_into_the_way_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path, out = arrays(tmp_path, monkeypatch), tmp_path / 'out.npz'
    own = formats.FORMATS['arrays']

    def read_slowly(path, options):
        out.write_text('mine')
        return own.read(path, options)

    monkeypatch.setitem(formats.FORMATS, 'arrays', own._replace(read=read_slowly))
    with pytest.raises(UserError, match='is there already'):
        importing.import_data(str(path), out, options=ARRAYS)
    assert out.read_text() == 'mine'


def test_an_out_that_is_no_npz_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'--out: .*out\.hdf5 must end in NAME\.npz'):
        importing.check_out(tmp_path / 'out.hdf5')


def test_what_the_files_say_alike_becomes_the_same_bytes(tmp_path, monkeypatch):
    digests = {}
    for name, (make, options) in FORMATS.items():
        folder = tmp_path / name
        folder.mkdir()
        _, record = imported(make(folder, monkeypatch), folder / 'out.npz', options)
        digests[name] = record['files']['out.npz']['sha256']
    assert digests['d4rl'] == digests['minari'] == digests['robomimic']
    assert digests['lerobot'] == digests['arrays'] != digests['d4rl']


# Damage.


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_part(path, name):
    if name == 'minari':
        return path / 'data/main_data.hdf5'
    return sorted(path.glob('data/*/*.parquet'))[1] if name == 'lerobot' else path


@each_format
def test_half_a_file_is_refused(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    half(damaged_part(path, name))
    refused(path, options, r'not a whole .*; fetch or make it again')


@each_format
def test_flipped_bytes_never_pass_for_a_fault_of_the_program(tmp_path, monkeypatch, name):
    """They are refused in one line, or fall where nothing is read."""
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    part, rng = damaged_part(path, name), np.random.default_rng(0)
    whole, refusals = part.read_bytes(), 0
    for number in range(40):
        content = bytearray(whole)
        for position in rng.integers(0, len(whole), 8):
            content[position] ^= int(rng.integers(1, 256))
        part.write_bytes(content)
        try:
            imported(path, tmp_path / f'{number}.npz', options, name=name)
        except UserError:
            refusals += 1
    assert refusals > 3


@each_format
def test_numbers_that_are_not_finite_are_refused(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    bad = [one._replace(actions=one.actions.copy()) for one in GIVEN]
    bad[1].actions[1, 0] = np.nan
    message = r"'actions' is not finite in row 6"
    refused(make(tmp_path, monkeypatch, bad), options, message)


def test_a_file_of_none_of_the_formats_is_refused(tmp_path):
    path = tmp_path / 'own.txt'
    path.write_text('0.1 0.2\n')
    refused(path, match=r'neither HDF5 nor \.npz.*--format=arrays\|d4rl')
    refused(tmp_path, match=r'a folder without meta/info\.json')
    refused(tmp_path / 'gone.hdf5', match=r'--in: there is no .*gone\.hdf5')


def test_a_part_is_refused_by_the_name_of_the_whole(tmp_path, monkeypatch):
    folder = minari(tmp_path, monkeypatch)
    refused(folder / 'data/main_data.hdf5', match="give Minari's folder")
    folder = lerobot(tmp_path, monkeypatch)
    refused(sorted(folder.glob('data/*/*'))[0], match="give LeRobot's folder")
    np.save(tmp_path / 'state.npy', np.zeros(3))
    refused(tmp_path / 'state.npy', match=r'one array; put all \.npy files into a folder')


@pytest.mark.parametrize(
    ('name', 'library', 'command'),
    [
        ('d4rl', 'h5py', 'pip install h5py'),
        ('minari', 'minari', r"pip install 'minari\[hdf5\]'"),
        ('lerobot', 'pyarrow', 'pip install pyarrow'),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_command(
    tmp_path, monkeypatch, name, library, command
):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    whole = builtins.__import__

    def lacking(module, *arguments):
        if module.split('.')[0] == library:
            raise ModuleNotFoundError(f"No module named '{library}'")
        return whole(module, *arguments)

    monkeypatch.setattr('importlib.import_module', lacking)
    refused(path, options, rf'{library} is not installed .*{command}')


def test_a_flag_that_a_format_has_no_use_for_is_refused(tmp_path, monkeypatch):
    path = d4rl(tmp_path, monkeypatch)
    refused(path, Options(filter='train'), r'--filter: d4rl files have no use for it')


def test_arrays_that_lie_in_other_files_are_refused(tmp_path, monkeypatch):
    """The digest of the file would not tell when they change."""
    path = d4rl(tmp_path, monkeypatch)
    (tmp_path / 'rewards.raw').write_bytes(np.ones(12, np.float32).tobytes())
    with h5py.File(path, 'a') as file:
        del file['rewards']
        elsewhere = [(str(tmp_path / 'rewards.raw'), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset('rewards', (12,), np.float32, external=elsewhere)
    refused(path, match="'/rewards' lies in other files")


def test_groups_that_lie_in_other_files_are_refused(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch)
    with h5py.File(tmp_path / 'links.hdf5', 'w') as file:
        file['data/demo_0'] = h5py.ExternalLink(str(path), 'data/demo_0')
    refused(tmp_path / 'links.hdf5', ROBOMIMIC, "'data/demo_0' lies in other files")


def test_successors_of_d4rl_may_have_another_name(tmp_path, monkeypatch):
    path = d4rl(tmp_path, monkeypatch)
    with h5py.File(path, 'a') as file:
        file.move('next_observations', 'next_obs')
    found, _ = imported(path, tmp_path / 'out.npz', Options(next_observations=('next_obs',)))
    assert_holds(found, with_following())
    refused(path, Options(next_observations=('next_ob',)), "Did you mean 'next_obs'")


@pytest.mark.parametrize('name', ['minari', 'robomimic'])
def test_successors_whose_place_is_known_may_be_left_out_but_not_named(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    found, _ = imported(path, tmp_path / 'out.npz', options._replace(next_observations=('none',)))
    assert_holds(found, without_following())
    others = options._replace(next_observations=('others',))
    refused(path, others, '--next_observations: .* says itself where they are')


def test_hdf5_with_an_array_called_data_is_no_robomimic(tmp_path, monkeypatch):
    path = d4rl(tmp_path, monkeypatch)
    with h5py.File(path, 'a') as file:
        file['data'] = np.zeros(3)
    assert formats.detect(path) == 'd4rl'


def test_words_are_no_numbers(tmp_path, monkeypatch):
    path = minari(tmp_path, monkeypatch, nested=True)
    whole = importing.formats.minari._columns

    def with_words(*arguments):
        columns, terminals = whole(*arguments)
        return columns | {'observations/mission': np.full(len(terminals), 'go')}, terminals

    monkeypatch.setattr(importing.formats.minari, '_columns', with_words)
    refused(path, Options(observations=('pos', 'mission')), "mission' holds no plain numbers")


def test_parts_of_tuples_have_numbers():
    parts = importing.formats.minari._flat('observations', (np.zeros((3, 1)), np.zeros((3, 2))))
    assert list(parts) == ['observations/0', 'observations/1']


def test_a_damaged_array_of_a_folder_is_refused(tmp_path):
    np.save(tmp_path / 'ctrl.npy', np.zeros((3, 1), np.float32))
    whole = (tmp_path / 'ctrl.npy').read_bytes()
    for damaged in (whole.replace(b')', b'(', 1), whole.replace(b'(3,', b'(%d,' % 2**70, 1)):
        (tmp_path / 'ctrl.npy').write_bytes(damaged)
        refused(tmp_path, ARRAYS, 'not a whole .npy file of plain numbers', name='arrays')


def test_two_imports_do_not_write_one_file(tmp_path, monkeypatch):
    """The second waits for the first, and then finds its place taken."""
    out = tmp_path / 'out.npz'
    other = locks.take(tmp_path / '.out.npz.lock')
    outcome = []

    def second():
        try:
            importing.import_data(str(d4rl(tmp_path, monkeypatch)), out)
        except UserError as error:
            outcome.append(str(error))

    own = threading.Thread(target=second)
    own.start()
    own.join(0.5)
    assert own.is_alive()
    out.write_bytes(b'of the first')
    other.release()
    own.join()
    assert 'is there already' in outcome[0]
    assert out.read_bytes() == b'of the first'


def test_arrays_that_exceed_the_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    made = [make(tmp_path, monkeypatch) for make in (d4rl, minari)]
    monkeypatch.setattr(memory, 'available', lambda: 50)
    for path in made:
        refused(path, match=r'reading it takes .* GiB of memory')


def change_hdf5(path, key, change):
    with h5py.File(path, 'a') as file:
        values = change(file[key][()])
        del file[key]
        file[key] = values


@pytest.mark.parametrize('key', ['actions', 'rewards', 'timeouts', 'next_observations'])
def test_columns_of_d4rl_with_another_number_of_rows_are_refused(tmp_path, monkeypatch, key):
    path = d4rl(tmp_path, monkeypatch)
    change_hdf5(path, key, lambda values: values[:-1])
    refused(path, match=rf"'{key}' has .*11")


def test_a_demonstration_of_another_length_than_it_tells_is_refused(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch)
    with h5py.File(path, 'a') as file:
        file['data/demo_1'].attrs['num_samples'] = 7
    refused(path, ROBOMIMIC, r"demo_1 has 3 actions, its 'num_samples' say 7")
    path = robomimic(tmp_path, monkeypatch)
    change_hdf5(path, 'data/demo_2/obs/eef', lambda values: values[1:])
    refused(path, ROBOMIMIC, r"'obs/eef' of /data/demo_2 has shape \(3, 1\); expected 4 rows")


def change_frames(path, number, name, change):
    file = sorted(path.glob('data/*/*'))[number]
    table = pq.read_table(file)
    index = table.column_names.index(name)
    pq.write_table(table.set_column(index, name, change(table.column(name).to_pylist())), file)


LISTS = pa.list_(pa.float32())
BAD_COLUMNS = {
    'a value is missing': ('next.reward', lambda v: pa.array([None, *v[1:]]), 'lacks 1 values'),
    'a state is missing': (
        'observation.state',
        lambda v: pa.array([None, *v[1:]], LISTS),
        'lacks 1 values',
    ),
    'part of a state is missing': (
        'observation.state',
        lambda v: pa.array([[None, 1.0], *v[1:]], LISTS),
        'lacks 1 values',
    ),
    'states of two sizes': (
        'observation.state',
        lambda v: pa.array([[1.0], *v[1:]], LISTS),
        'lists of 2 sizes',
    ),
    'another size than before': (
        'action',
        lambda v: pa.array([[1.0]] * len(v), LISTS),
        "'action' has several sizes",
    ),
    'words': ('next.reward', lambda v: pa.array(['one'] * len(v)), 'is of string'),
    'another order': ('frame_index', lambda v: pa.array(v[::-1]), "'frame_index' does not count"),
}


@pytest.mark.parametrize(
    ('name', 'change', 'message'), BAD_COLUMNS.values(), ids=BAD_COLUMNS.keys()
)
def test_damaged_columns_of_lerobot_are_refused(tmp_path, monkeypatch, name, change, message):
    path = lerobot(tmp_path, monkeypatch)
    change_frames(path, 1, name, change)
    refused(path, match=message)


def test_a_column_that_one_file_of_lerobot_lacks_is_named(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch)
    file = sorted(path.glob('data/*/*'))[2]
    pq.write_table(pq.read_table(file).drop_columns(['next.success']), file)
    refused(path, match=r"episode_000002\.parquet: has no 'next\.success'")


# What cannot be told is asked for.


def test_d4rl_without_timeouts_asks_for_the_limit_of_time(tmp_path, monkeypatch):
    path = d4rl(tmp_path, monkeypatch, timeouts=False, following=False)
    refused(path, match=r"no 'timeouts'.*--episode_steps=1000, or --episode_steps=0")
    found, _ = imported(path, tmp_path / 'out.npz', Options(episode_steps=3))
    # Five steps to a success, three to the limit, four to a success.
    assert np.flatnonzero(found['terminals']).tolist() == [2, 4, 7, 10, 11]
    assert np.flatnonzero(found['masks'] == 0).tolist() == [4, 11]
    found, _ = imported(path, tmp_path / 'endless.npz', Options(episode_steps=0))
    assert np.flatnonzero(found['terminals']).tolist() == [4, 11]


def test_d4rl_with_timeouts_has_no_use_for_a_limit(tmp_path, monkeypatch):
    refused(d4rl(tmp_path, monkeypatch), Options(episode_steps=3), '--episode_steps: .*leave it')


def test_a_d4rl_file_that_breaks_off_ends_by_time(tmp_path, monkeypatch):
    given = foreign_files.trajectories((5, 3), (True, False))
    path = d4rl(tmp_path, monkeypatch, given, following=False)
    with h5py.File(path, 'a') as file:
        file['timeouts'][-1] = False
    found, record = imported(path, tmp_path / 'out.npz')
    assert_holds(found, without_following(given))
    assert record['counts']['ended_by_time'] == 1


def test_minari_asks_for_the_order_of_an_observations_parts(tmp_path, monkeypatch):
    path = minari(tmp_path, monkeypatch, nested=True)
    refused(path, match=r'--observations=KEY,KEY, out of pos, vel')
    refused(path, Options(observations=('pos', 'speed')), 'out of pos, vel')
    found, _ = imported(path, tmp_path / 'out.npz', Options(observations=('vel', 'pos')))
    swapped = with_following()['observations'][:, ::-1]
    np.testing.assert_array_equal(found['observations'], swapped)


def test_observations_without_parts_need_no_names(tmp_path, monkeypatch):
    path = minari(tmp_path, monkeypatch)
    refused(path, Options(observations=('pos',)), 'have no parts; leave it out')


def test_actions_that_are_choices_are_refused(tmp_path, monkeypatch):
    given = [one._replace(actions=np.zeros(len(one.actions), np.int64)) for one in GIVEN]
    path = minari(tmp_path, monkeypatch, given, space=gymnasium.spaces.Discrete(2))
    refused(path, match=r'actions are of Discrete\(2\); expected a Box')


def test_a_minari_dataset_can_be_given_by_its_id_and_be_kept_in_arrow(tmp_path, monkeypatch):
    minari(tmp_path, monkeypatch, data_format='arrow')
    record = importing.import_data('maze/own-v0', tmp_path / 'out.npz', 'minari')
    assert record['source']['path'] == 'maze/own-v0'
    assert_holds(dataset_files.read(tmp_path / 'out.npz'), with_following())
    with pytest.raises(UserError, match='minari download maze/other-v0'):
        importing.import_data('maze/other-v0', tmp_path / 'other.npz', 'minari')


def test_a_minari_dataset_that_lacks_episodes_is_noticed(tmp_path, monkeypatch):
    path = minari(tmp_path, monkeypatch)
    metadata = json.loads((path / 'data/metadata.json').read_text())
    (path / 'data/metadata.json').write_text(json.dumps(metadata | dict(total_episodes=2)))
    refused(path, match=r'tells of 12 steps, its 2 episodes have 8')


def test_minari_data_that_would_run_code_of_its_own_is_refused(tmp_path, monkeypatch):
    """Without spaces, Minari makes the environment that the file names."""
    path = minari(tmp_path, monkeypatch)
    metadata = json.loads((path / 'data/metadata.json').read_text())
    del metadata['action_space']
    metadata['env_spec'] = json.dumps(dict(id='own-v0', entry_point='os:abort'))
    (path / 'data/metadata.json').write_text(json.dumps(metadata))
    refused(path, match="has no 'action_space'")


def test_robomimic_asks_for_keys_and_for_what_its_dones_mean(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch, dones='success')
    refused(path, match=r'--observations=KEY,KEY, out of eef, image, object')
    told = Options(observations=('object', 'eef'))
    refused(path, told, r'--ends_by_reward=dones .*=rewards .*=none')
    swapped = with_following()['observations'][:, ::-1]
    for value, lasts in dict(dones=2, rewards=2, last=3, none=0).items():
        out = tmp_path / f'{value}.npz'
        found, record = imported(path, out, told._replace(ends_by_reward=value))
        np.testing.assert_array_equal(found['observations'], swapped)
        assert record['counts']['ended_by_reward'] == lasts


def test_robomimic_trajectories_are_in_the_order_of_their_numbers(tmp_path, monkeypatch):
    given = foreign_files.trajectories(range(2, 14), (False,) * 12)
    path = robomimic(tmp_path, monkeypatch, given)
    found, _ = imported(path, tmp_path / 'out.npz', ROBOMIMIC)
    assert_holds(found, with_following(given))


def test_a_list_of_robomimic_is_imported_alone(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch)
    options = ROBOMIMIC._replace(filter='valid')
    found, _ = imported(path, tmp_path / 'own-val.npz', options)
    assert_holds(found, with_following(GIVEN[1:2]))
    refused(path, ROBOMIMIC._replace(filter='test'), "no 'mask/test'; there are: train, valid")
    change_hdf5(path, 'mask/valid', lambda names: names[:0])
    refused(path, options, "'mask/valid' .*is empty")


def test_successors_that_some_of_robomimics_trajectories_lack_are_asked_about(
    tmp_path, monkeypatch
):
    path = robomimic(tmp_path, monkeypatch)
    with h5py.File(path, 'a') as file:
        del file['data/demo_1/next_obs']
    refused(path, ROBOMIMIC, r"1 of 3 demonstrations have no 'next_obs'.*--next_observations=none")
    left_out = ROBOMIMIC._replace(next_observations=('none',))
    found, record = imported(path, tmp_path / 'out.npz', left_out)
    assert_holds(found, without_following())
    assert 'next_observations' not in record['arrays']


def test_a_home_of_nobody_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^--in: '~nobody-here/own\.hdf5': "):
        locating.locate('~nobody-here/own.hdf5', '')
    with pytest.raises(UserError, match=r"^--action_range: '~nobody-here/own\.json': "):
        action_ranges.choose(
            tmp_path, Imported({'actions': np.zeros((1, 1))}, []), '~nobody-here/own.json'
        )


def test_images_are_refused(tmp_path, monkeypatch):
    options = ROBOMIMIC._replace(observations=('eef', 'image'))
    refused(robomimic(tmp_path, monkeypatch), options, "'image' has shape .*not images")


def test_a_name_that_is_not_in_the_file_is_answered_by_those_that_are(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch)
    refused(path, ROBOMIMIC._replace(observations=('objekt',)), "Did you mean 'object'")
    path = lerobot(tmp_path, monkeypatch)
    refused(path, Options(observations=('observation.stat',)), 'observation.state')


def test_lerobot_of_version_three_is_the_same_data(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch, per_file=0)
    found, _ = imported(path, tmp_path / 'out.npz')
    assert_holds(found, without_following())


def test_lerobot_without_rewards_or_successes_asks_for_them(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch, extra=('next.done',))
    refused(path, match=r"no 'next\.reward'; give --rewards=COLUMN, --rewards=last")
    refused(path, Options(rewards='last'), r"no 'next\.success'.*--ends_by_reward=last")
    demonstrations = Options(rewards='last', ends_by_reward='last')
    found, record = imported(path, tmp_path / 'out.npz', demonstrations)
    np.testing.assert_array_equal(found['rewards'], found['terminals'])
    assert record['counts']['ended_by_reward'] == 3


def test_lerobot_with_successes_alone_takes_them_as_rewards_by_a_flag(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch, extra=('next.success',))
    found, _ = imported(path, tmp_path / 'out.npz', Options(rewards='next.success'))
    assert_holds(found, without_following())


def test_a_lerobot_file_that_is_missing_is_noticed(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch)
    sorted(path.glob('data/*/*'))[1].unlink()
    refused(path, match=r'tells of 12 total_frames, data/ holds 9; fetch what is missing')


def test_lerobot_frames_out_of_order_are_refused(tmp_path, monkeypatch):
    path = lerobot(tmp_path, monkeypatch)
    file = sorted(path.glob('data/*/*'))[0]
    table = pq.read_table(file)
    pq.write_table(table.take(pa.array([1, 0, 2, 3, 4])), file)
    refused(path, match=r"'frame_index' does not count")


def test_arrays_ask_for_every_name(tmp_path, monkeypatch):
    path = arrays(tmp_path, monkeypatch)
    refused(path, match=r'--observations=NAME --actions=NAME --rewards=NAME --ends_by_reward=NAME')
    neither = ARRAYS._replace(episode_index='')
    refused(path, neither, r'where trajectories end cannot be told')
    refused(path, ARRAYS._replace(ends=('last',)), r'where trajectories end cannot be told')
    found, _ = imported(path, tmp_path / 'out.npz', neither._replace(ends=('last',)))
    assert_holds(found, without_following())
    found, record = imported(path, tmp_path / 'one.npz', neither._replace(ends=('none',)))
    assert record['counts']['trajectories'] == 1


def test_arrays_that_nobody_asks_for_may_hold_anything(tmp_path):
    own = foreign_files.own_arrays(GIVEN)
    notes = dict(notes=np.array(['by hand']), image=np.zeros((2, 3, 3, 3), np.complex64))
    np.savez(tmp_path / 'own.npz', **own, **notes)
    found, _ = imported(tmp_path / 'own.npz', tmp_path / 'out.npz', ARRAYS)
    assert_holds(found, without_following())
    refused(tmp_path / 'own.npz', ARRAYS._replace(rewards='notes'), "'notes' has dtype <U7")
    refused(tmp_path / 'own.npz', ARRAYS._replace(actions='act'), "no 'act'.*ctrl, gain")
    refused(tmp_path / 'own.npz', ARRAYS._replace(rewards='gian'), "Did you mean 'gain'")


def test_a_folder_of_arrays_is_as_good_as_one_file(tmp_path):
    folder = tmp_path / 'own'
    folder.mkdir()
    for name, array in foreign_files.own_arrays(GIVEN).items():
        np.save(folder / f'{name}.npy', array)
    found, _ = imported(folder, tmp_path / 'out.npz', ARRAYS)
    assert_holds(found, without_following())
    with (folder / 'gain.npy').open('wb') as file:  # what tells that pickled objects follow
        header = dict(descr='|O', fortran_order=False, shape=(1,))
        np.lib.format.write_array_header_1_0(file, header)
    refused(folder, ARRAYS, r'gain\.npy: not a whole \.npy file of plain numbers')


def test_rows_of_a_trajectory_that_are_not_together_are_refused(tmp_path, monkeypatch):
    own = foreign_files.own_arrays(GIVEN)
    np.savez(tmp_path / 'own.npz', **own | dict(run=np.arange(12) % 2))
    refused(tmp_path / 'own.npz', ARRAYS, r"'run' comes back to an earlier trajectory")


def test_a_signal_of_ends_that_is_no_truth_is_refused(tmp_path, monkeypatch):
    own = foreign_files.own_arrays(GIVEN)
    np.savez(tmp_path / 'own.npz', **own | dict(solved=np.full(12, 0.5)))
    refused(tmp_path / 'own.npz', ARRAYS, r"'solved' holds values other than 0 and 1")


# Actions.

WIDE = foreign_files.trajectories(scale=2.0)


@pytest.mark.parametrize('name', ['d4rl', 'robomimic', 'lerobot', 'arrays'])
def test_the_range_of_wide_actions_is_asked_for(tmp_path, monkeypatch, name):
    make, options = FORMATS[name]
    path = make(tmp_path, monkeypatch, WIDE)
    message = refused(path, options, r'--action_range=-2:2, or --action_range=data')
    low, high = (limit(np.concatenate([one.actions for one in WIDE])[:, 0]) for limit in (min, max))
    assert f'goes from {low:.6g} to {high:.6g}' in message
    found, record = imported(path, tmp_path / 'out.npz', options, action_range='-2:2')
    assert np.abs(found['actions']).max() <= 1.0
    assert record['action_map']['scale'] == [2.0, 2.0]
    action_map = action_maps.beside(tmp_path / 'out.npz')
    recorded = np.concatenate([one.actions for one in WIDE])
    acted = found.get('acted', np.ones(len(found['actions']), bool))
    undone = action_maps.denormalise(found['actions'][acted], action_map)
    np.testing.assert_allclose(undone, recorded, rtol=0, atol=1e-6)


def test_the_range_that_a_file_tells_is_taken(tmp_path, monkeypatch):
    space = gymnasium.spaces.Box(np.float32([-2, -4]), np.float32([2, 6]))
    path = minari(tmp_path, monkeypatch, WIDE, space=space)
    found, record = imported(path, tmp_path / 'out.npz')
    assert action_maps.beside(tmp_path / 'out.npz') == ((0.0, 1.0), (2.0, 5.0))
    assert record['action_map']['told_by'] == "the file's action space"
    first = (WIDE[0].actions[0] - [0, 1]) / [2, 5]
    np.testing.assert_allclose(found['actions'][0], first, rtol=1e-6)


def test_what_the_data_span_becomes_the_whole_range(tmp_path, monkeypatch):
    path = arrays(tmp_path, monkeypatch, WIDE)
    found, _ = imported(path, tmp_path / 'out.npz', ARRAYS, action_range='data')
    np.testing.assert_array_equal(found['actions'].min(axis=0), [-1, -1])
    np.testing.assert_array_equal(found['actions'].max(axis=0), [1, 1])


def test_held_out_data_take_the_map_of_the_data_they_belong_to(tmp_path, monkeypatch):
    path = robomimic(tmp_path, monkeypatch, WIDE)
    train, val = (ROBOMIMIC._replace(filter=name) for name in ('train', 'valid'))
    _, record = imported(path, tmp_path / 'own.npz', train, action_range='data')
    refused(path, val, '--action_range')
    again = str(tmp_path / 'own.json')
    widest = '-2,-2:2,2'
    _, one = imported(path, tmp_path / 'all.npz', ROBOMIMIC, action_range=widest)
    _, other = imported(
        path, tmp_path / 'own-val.npz', val, action_range=str(tmp_path / 'all.json')
    )
    assert one['action_map']['scale'] == other['action_map']['scale'] == [2.0, 2.0]
    assert record['action_map']['told_by'] == '--action_range=data'
    with pytest.raises(UserError, match='not a whole record of imported data'):
        imported(path, tmp_path / 'x.npz', val, action_range=again.replace('own', 'gone'))


@pytest.mark.parametrize(
    'given', ['2', '2:-2', '-1:1:2', '-1,-1,-1:1,1,1', 'nan:1', '-inf:inf', 'a:b', '1:1']
)
def test_a_range_that_is_none_is_refused(tmp_path, monkeypatch, given):
    path = arrays(tmp_path, monkeypatch, WIDE)
    message = refused(path, ARRAYS, r'^--action_range: ', action_range=given)
    assert re.search(rf'--action_range: {re.escape(given)} ', message)


def test_a_range_that_is_too_narrow_is_refused(tmp_path, monkeypatch):
    path = arrays(tmp_path, monkeypatch, WIDE)
    refused(path, ARRAYS, r'beyond \[-1, 1\] \(--action_range=-1\.5:2\)', action_range='-1.5:2')


# Data of other tools where ours are expected.


@pytest.mark.parametrize('name', ['d4rl', 'minari', 'robomimic', 'lerobot'])
def test_training_on_a_foreign_file_is_refused_by_the_command_that_imports_it(
    tmp_path, monkeypatch, name
):
    make, _ = FORMATS[name]
    path = make(tmp_path, monkeypatch)
    command = f'python scripts/import_data.py --in={path} --out={path.with_name(path.stem)}.npz'
    with pytest.raises(UserError, match=re.escape(command)) as caught:
        formats.check_ours(path)
    assert '\n' not in str(caught.value)


def test_the_command_quotes_what_a_shell_would_take_apart(tmp_path, monkeypatch):
    path = tmp_path / 'my own.hdf5'
    d4rl(tmp_path, monkeypatch).rename(path)
    with pytest.raises(UserError, match=re.escape(f"--in='{path}' --out='{tmp_path}/my own.npz'")):
        formats.check_ours(path)


def test_training_on_our_files_and_shards_is_not_refused(tmp_path, monkeypatch):
    formats.check_ours(arrays(tmp_path, monkeypatch))
    formats.check_ours(tmp_path / 'gone.npz')
    np.save(tmp_path / 'train_32.npy', np.zeros(3))
    formats.check_ours(tmp_path)
    (tmp_path / 'own.npz').unlink()
    with pytest.raises(UserError, match=r'a folder of \.npy files; turn it into an \.npz'):
        formats.check_ours(tmp_path)


# The command.


def script(name, *arguments):
    return subprocess.run(
        [sys.executable, name, *arguments],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_command_says_what_it_has_read_and_what_it_lacks(tmp_path, monkeypatch):
    path, out = robomimic(tmp_path, monkeypatch, WIDE), tmp_path / 'own.npz'
    given = [f'--in={path}', f'--out={out}', '--observations=eef,object']
    given += ['--ends_by_reward=rewards']
    result = run_here('scripts/import_data.py', *given)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert line.endswith('--action_range=data for what they span')
    result = script('scripts/import_data.py', *given, '--action_range=-2:2')
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].endswith('own.hdf5: robomimic, 3 trajectories, 12 rows, 12 transitions')
    assert lines[1] == 'ended by reward: 2, by time: 1'
    assert lines[2].endswith('[-1, 1] stands for [-2, 2], [-2, 2] (--action_range=-2:2)')
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert lines[3] == f'{out}: sha256 {digest[:16]}, recorded in own.json'


def test_training_on_a_foreign_file_costs_one_line(tmp_path, monkeypatch):
    path = d4rl(tmp_path, monkeypatch)
    where = f'--save_dir={tmp_path}/exp', '--agent=configs.py:bc_small'
    result = run_here('main.py', f'--dataset_path={path}', *where)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert f'python scripts/import_data.py --in={path} --out={tmp_path}/own.npz' in line
    assert not (tmp_path / 'exp').exists()


def test_a_package_that_minari_itself_misses_is_named(tmp_path, monkeypatch):
    """Of a set in Arrow's files, which `minari[hdf5]` does not read."""
    folder = minari(tmp_path, monkeypatch)
    lacks = ImportError('pyarrow is not installed')
    with mock.patch('minari.MinariDataset', side_effect=lacks):
        refused(folder, match=r'needs another package \(pyarrow is not installed\)')
