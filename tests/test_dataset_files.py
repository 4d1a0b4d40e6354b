import warnings

import gymnasium
import numpy as np
import pytest

from tests.helpers import random_arrays
from utils.data import dataset_files
from utils.environments import envs
from utils.errors import UserError

MAZE = 'pointmaze-medium-stitch-singletask-task1-v0'


def write(path, **changes):
    arrays = {**random_arrays(), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def with_value(name, value):
    array = random_arrays()[name].copy()
    array[3] = value
    return {name: array}


def test_a_good_file_is_read_as_it_is(tmp_path):
    arrays = dataset_files.read(write(tmp_path / 'good.npz'))
    for name, expected in random_arrays().items():
        np.testing.assert_array_equal(arrays[name], expected)


BAD_ARRAYS = {
    'missing key': (dict(actions=None), "'actions' is missing"),
    'rewards without masks': (dict(masks=None), 'come together'),
    'lengths differ': (dict(actions=random_arrays()['actions'][:-1]), "'actions' has shape"),
    'flat observations': (dict(observations=np.zeros(75)), r'save observations\[:, None\]'),
    'one-dimensional actions': (dict(actions=np.zeros(75)), r'save actions\[:, None\]'),
    'a column of rewards': (dict(rewards=np.zeros((75, 1))), r'save rewards\[:, 0\]'),
    'cuts by another name': (
        dict(terminals=None, timeouts=np.zeros(75)),
        "'terminals' is missing.*if 'timeouts' is 1 at the last row",
    ),
    'nearly the key': (
        dict(actions=None, action=np.zeros((75, 2))),
        "'actions' is missing.*is it 'action'",
    ),
    'a key that speaks to the terminal': (
        {'actions': None, 'act\x7fons': np.zeros((75, 2))},
        r"is it 'act\?ons'",
    ),
    'keys of a folder': (
        {'actions': None, 'data/actions': np.zeros((75, 2))},
        "'actions' is missing.*is it 'data/actions'",
    ),
    'empty': ({name: array[:0] for name, array in random_arrays().items()}, 'has shape'),
    'integer actions': (dict(actions=np.zeros((75, 2), int)), "'actions' has dtype int64"),
    'flat actions': (dict(actions=np.zeros((75, 0), np.float32)), "'actions' has shape"),
    'too large for float32': (
        dict(observations=np.full((75, 3), 1e300)),
        "'observations' is not finite in row 0, as float32",
    ),
    'text': (dict(terminals=np.array(['no'] * 75)), "'terminals' has dtype"),
    'NaN': (with_value('observations', np.nan), "'observations' is not finite in row 3"),
    'infinity': (with_value('rewards', np.inf), "'rewards' is not finite in row 3"),
    'action range': (with_value('actions', 1.5), r"'actions' reach 1.5; expected \[-1, 1\]"),
    'fractional mask': (with_value('masks', 0.5), "'masks' holds values other than 0 and 1"),
    'no end': (dict(terminals=np.zeros(75, bool)), "last row of 'terminals' must be 1"),
    'objects': (dict(observations=np.array([{}] * 75)), "'observations' has dtype object"),
}


@pytest.mark.parametrize(('changes', 'message'), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_a_bad_file_is_named_with_its_fault(tmp_path, changes, message):
    path = write(tmp_path / 'bad.npz', **changes)
    with pytest.raises(UserError, match=message) as caught:
        dataset_files.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('size', [0, 10, 2000])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = write(tmp_path / 'cut.npz')
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match='not a whole'):
        dataset_files.read(path)


def test_a_flipped_byte_is_noticed(tmp_path):
    path = write(tmp_path / 'flipped.npz')
    content = bytearray(path.read_bytes())
    content[500] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match='not a whole'):
        dataset_files.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='no such dataset file'):
        dataset_files.read(tmp_path / 'none.npz')


@pytest.mark.parametrize('qpos', [np.full((75, 2), np.nan), np.array([{}] * 75), np.zeros(3)])
def test_states_that_nothing_is_derived_from_are_not_judged(tmp_path, qpos):
    arrays = dataset_files.read(write(tmp_path / 'own.npz', qpos=qpos))
    assert arrays.keys() == random_arrays().keys()
    path = write(tmp_path / 'bare.npz', qpos=qpos, rewards=None, masks=None)
    with pytest.raises(UserError, match="'qpos'"):
        dataset_files.read(path)


def test_a_whole_file_of_objects_is_not_called_broken(tmp_path):
    path = write(tmp_path / 'objects.npz', observations=np.array([{}] * 75))
    with pytest.raises(UserError) as caught:
        dataset_files.read(path)
    assert str(caught.value) == (
        f"{path}: 'observations' has dtype object; expected plain numbers; save them as arrays of "
        'numbers'
    )


OTHERS = {
    'HDF5': (
        b'\x89HDF\r\n\x1a\n' + bytes(99),
        r"is HDF5, as D4RL's; turn it into an .npz: python scripts/import_data\.py",
    ),
    'a pointer': (b'version https://git-lfs.github.com/spec/v1\noid sha256:', 'git lfs pull'),
    'one array': (b'\x93NUMPY\x01\x00' + bytes(99), 'is a single array'),
}


@pytest.mark.parametrize(('content', 'message'), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_npz_is_told_by_its_name(tmp_path, content, message):
    (tmp_path / 'other.npz').write_bytes(content)
    with pytest.raises(UserError, match=message):
        dataset_files.read(tmp_path / 'other.npz')


def test_sizes_are_compared_with_the_environment(tmp_path):
    class Env:
        observation_space = gymnasium.spaces.Box(-1, 1, (4,))
        action_space = gymnasium.spaces.Box(-1, 1, (2,))

    arrays = dataset_files.read(write(tmp_path / 'good.npz'))
    with pytest.raises(UserError, match="'observations' have size 3, some-env expects 4"):
        dataset_files.check_spaces(arrays, 'good.npz', 'some-env', Env())


def test_rewards_of_the_file_are_kept(tmp_path):
    arrays = dataset_files.read(write(tmp_path / 'good.npz'))
    assert dataset_files.relabel(arrays, 'good.npz', 'any', None) is arrays


def test_rewards_cannot_be_derived_without_states(tmp_path):
    path = write(tmp_path / 'bare.npz', rewards=None, masks=None)
    with pytest.raises(UserError, match="key 'qpos' is missing"):
        dataset_files.relabel(dataset_files.read(path), path, 'cube-single-singletask-v0', None)


@pytest.fixture(scope='module')
def maze():
    return envs.make_env(MAZE)


@pytest.mark.parametrize('columns', [1, 3])
def test_states_of_another_environment_are_refused(tmp_path, maze, columns):
    """OGBench would broadcast one column, and take the first two of three."""
    path = write(tmp_path / 'bare.npz', rewards=None, masks=None, qpos=np.zeros((75, columns)))
    with pytest.raises(UserError, match=f"'qpos' has {columns} columns, the states of .* have 2"):
        dataset_files.relabel(dataset_files.read(path), path, MAZE, maze)


def test_buttons_of_another_environment_are_refused(tmp_path):
    """One button would be compared with all nine."""
    name = 'puzzle-3x3-play-singletask-task1-v0'
    env = envs.make_env(name)
    qpos = np.zeros((75, env.unwrapped.model.nq))
    states = dict(qpos=qpos, button_states=np.zeros((75, 1), int))
    path = write(tmp_path / 'bare.npz', rewards=None, masks=None, **states)
    with pytest.raises(UserError, match=r"'button_states' has 1 columns, the states of .* have 9"):
        dataset_files.relabel(dataset_files.read(path), path, name, env)


def test_each_task_has_the_rewards_of_its_own_goal(tmp_path):
    numbers, rows = (4, 5), (10, 20)
    tasks = {name: envs.make_env(name) for name in (MAZE.replace('1-', f'{n}-') for n in numbers)}
    qpos = np.full((75, 2), -100.0, np.float32)
    for (name, env), number, row in zip(tasks.items(), numbers, rows, strict=True):
        assert f'task{number}-' in name
        qpos[row] = env.unwrapped.task_infos[number - 1]['goal_xy']
    states = dict(observations=qpos, qpos=qpos)
    path = write(tmp_path / 'bare.npz', rewards=None, masks=None, **states)
    for arrays, row in zip(dataset_files.load(path, tasks), rows, strict=True):
        assert np.flatnonzero(arrays['rewards'] == 0.0).tolist() == [row]
        assert np.flatnonzero(arrays['masks'] == 0.0).tolist() == [row]


def test_states_far_away_are_no_success_and_no_warning(tmp_path, maze):
    far = np.full((75, 2), 3e38, np.float32)
    path = write(tmp_path / 'bare.npz', rewards=None, masks=None, qpos=far)
    with warnings.catch_warnings(action='error'):
        labelled = dataset_files.relabel(dataset_files.read(path), path, MAZE, maze)
    assert set(labelled['rewards']) == {-1.0}
