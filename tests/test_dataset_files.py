import http.server
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import gymnasium
import numpy as np
import pytest

from tests.helpers import random_arrays
from utils import dataset_files
from utils.errors import UserError


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
    'flat observations': (dict(observations=np.zeros(75)), "'observations' has shape"),
    'empty': ({name: array[:0] for name, array in random_arrays().items()}, 'has shape'),
    'integer actions': (dict(actions=np.zeros((75, 2), int)), "'actions' has dtype int64"),
    'text': (dict(terminals=np.array(['no'] * 75)), "'terminals' has dtype"),
    'NaN': (with_value('observations', np.nan), "'observations' is not finite in row 3"),
    'infinity': (with_value('rewards', np.inf), "'rewards' is not finite in row 3"),
    'action range': (with_value('actions', 1.5), r"'actions' reach 1.5; expected \[-1, 1\]"),
    'fractional mask': (with_value('masks', 0.5), "'masks' holds values other than 0 and 1"),
    'no end': (dict(terminals=np.zeros(75, bool)), "last row of 'terminals' must be 1"),
    'objects': (dict(observations=np.array([{}] * 75)), 'not a whole .npz file of plain arrays'),
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
        dataset_files.relabel(dataset_files.read(path), path, 'cube-single-v0', None)


class Host:
    """A dataset host on the loopback interface that counts what is asked of it."""

    def __init__(self, folder, shorten=0):
        self.requests = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                if not shorten:
                    return super().do_GET()
                content = (folder / self.path.strip('/')).read_bytes()
                self.send_response(200)
                self.send_header('Content-Length', str(len(content)))
                self.end_headers()
                self.wfile.write(content[:-shorten])

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', 0), partial(Handler, directory=str(folder))
        )
        self.url = f'http://127.0.0.1:{self._server.server_port}'

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'host'
    folder.mkdir()
    for name in ('set-v0.npz', 'set-v0-val.npz'):
        write(folder / name)
    return folder


def test_files_that_are_there_are_not_fetched(source):
    paths = dataset_files.locate('set-v0', source, 'http://127.0.0.1:9')
    assert [path.name for path in paths] == ['set-v0.npz', 'set-v0-val.npz']


def test_missing_files_are_fetched_whole(tmp_path, source):
    with Host(source) as host:
        paths = dataset_files.locate('set-v0', tmp_path / 'new', host.url)
    for path in paths:
        assert path.read_bytes() == (source / path.name).read_bytes()
    assert zipfile.is_zipfile(paths[0])


def test_starters_at_the_same_time_fetch_once(tmp_path, source):
    with Host(source) as host, ThreadPoolExecutor(6) as pool:
        locate = partial(dataset_files.locate, 'set-v0', tmp_path / 'new', host.url)
        results = {future.result() for future in [pool.submit(locate) for _ in range(6)]}
    assert len(results) == 1
    assert sorted(host.requests) == ['/set-v0-val.npz', '/set-v0.npz']


def test_a_transfer_that_breaks_off_leaves_nothing_behind(tmp_path, source):
    with Host(source, shorten=100) as host:
        with pytest.raises(UserError, match='not fetched'):
            dataset_files.locate('set-v0', tmp_path / 'new', host.url)
    assert [path.name for path in (tmp_path / 'new').iterdir() if 'npz' in path.name] == []


def test_offline_the_message_tells_how_to_make_the_data(tmp_path):
    with pytest.raises(UserError, match=r'generate_data.py --dataset=set-v0 --dataset_dir='):
        dataset_files.locate('set-v0', tmp_path, 'http://127.0.0.1:9')


def test_a_bad_url_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match='not fetched from nonsense'):
        dataset_files.locate('set-v0', tmp_path, 'nonsense')
