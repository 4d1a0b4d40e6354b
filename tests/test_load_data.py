"""What a run is given to learn from, by the file or folder that its flags name."""

import numpy as np
import pytest

from tests.helpers import random_arrays, small_config
from utils.data import npz
from utils.environments import envs
from utils.errors import UserError
from utils.jobs import assembly
from utils.system import memory

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


def test_shards_that_exceed_the_memory_are_refused_before_they_are_read(
    tmp_path, tasks, monkeypatch
):
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


BAD_SHARDS = {
    'one is missing': (without, '2 shards, but number 001 is not among them'),
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
