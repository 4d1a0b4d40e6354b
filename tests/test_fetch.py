"""Datasets that are fetched: once, and whole or not at all, from hosts that are slow or broken."""

import hashlib
import http.server
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import largest_file, random_arrays, unprivileged
from utils.data import fetching
from utils.environments import wrappers
from utils.errors import UserError
from utils.system import locks
from utils.system.stopping import StoppedError, StopRequest

ROOT = Path(__file__).resolve().parents[1]
NAMES = ['set-v0-val.npz', 'set-v0.npz']
# A process of its own: finds the dataset, says when it waits for another, prints what it read.
STARTER = """
import hashlib, logging, sys
from pathlib import Path
from utils.data import dataset_files, fetching
from utils.environments import wrappers

class Waiting(logging.Handler):
    def emit(self, record):
        if 'waiting' in record.getMessage():
            print('waits', flush=True)
            logging.getLogger('filelock').removeHandler(self)

logging.getLogger('filelock').addHandler(Waiting())
logging.getLogger('filelock').setLevel(logging.DEBUG)
for path in fetching.locate('set-v0', Path(sys.argv[1]), sys.argv[2]):
    arrays = dataset_files.read(path)
    print(hashlib.sha256(b''.join(array.tobytes() for array in arrays.values())).hexdigest())
"""


def send(handler, content):
    """The answer of a good host."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def send_shortened(handler, content):
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:-100])


def send_no_length(handler, content):
    """Without a length a transfer that breaks off looks whole."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[:-100])


def send_half_a_chunk(handler, content):
    handler.send_response(200)
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    handler.wfile.write(b'%x\r\n' % len(content) + content[:100])


def send_flipped(handler, content):
    middle = len(content) // 2
    send(handler, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def send_login_page(handler, content):
    send(handler, b'<html>Please log in to the network of the hotel</html>')


def send_no_http(handler, content):
    handler.wfile.write(b'\x00\xff\r\n\r\n')


def send_error(handler, content):
    handler.send_error(503)


class Host:
    """A dataset host on the loopback interface that remembers what is asked of it."""

    def __init__(self, folder, send=send):
        requests = self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                send(self, (folder / self.path.strip('/')).read_bytes())

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'

    def __enter__(self):
        serve = partial(self._server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'host'
    folder.mkdir()
    for name in NAMES:
        np.savez(folder / name, **random_arrays())
    return folder


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith('.lock'))


def start(folder, url):
    arguments = [sys.executable, '-c', STARTER, str(folder), url]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_files_that_are_there_are_not_fetched(source):
    paths = fetching.locate('set-v0', source, 'http://127.0.0.1:9')
    assert [path.name for path in paths] == ['set-v0.npz', 'set-v0-val.npz']


@pytest.mark.parametrize('noise', [wrappers.NO_NOISE, wrappers.Noise(sticky_prob=0.1)])
def test_without_a_network_training_does_without_held_out_data(source, capfd, noise):
    folder = source / noise.label
    folder.mkdir(exist_ok=True)
    (source / 'set-v0.npz').rename(folder / 'set-v0.npz')
    (source / 'set-v0-val.npz').unlink()
    paths = fetching.locate('set-v0', source, 'http://127.0.0.1:9', noise)
    assert [path.exists() for path in paths] == [True, False]
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith('warning: there are no held-out data: dataset set-v0: not in')


def test_a_folder_that_nobody_may_write_to_serves_what_it_has(capfd):
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / 'set-v0.npz', **random_arrays())
        Path(folder).chmod(0o555)
        with unprivileged():
            fetching.locate('set-v0', Path(folder), 'http://127.0.0.1:9')
    assert 'cannot be put there' in capfd.readouterr().err


def test_missing_files_are_fetched_whole(tmp_path, source):
    with Host(source) as host:
        paths = fetching.locate('set-v0', tmp_path / 'new', host.url)
    for path in paths:
        assert path.read_bytes() == (source / path.name).read_bytes()
    assert visible(tmp_path / 'new') == NAMES


def test_of_two_processes_one_fetches_and_the_other_waits(tmp_path, source):
    """The host answers nobody before the other waits, which it does not do if it asks too."""
    asked, gate = threading.Event(), threading.Event()

    def send_late(handler, content):
        asked.set()
        gate.wait(60)
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(content)))
        handler.end_headers()
        for start in range(0, len(content), 1000):
            handler.wfile.write(content[start : start + 1000])
            handler.wfile.flush()

    with Host(source, send_late) as host:
        processes = [start(tmp_path / 'new', host.url)]
        assert asked.wait(60)
        processes.append(start(tmp_path / 'new', host.url))
        assert processes[1].stdout.readline() == 'waits\n'
        gate.set()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    expected = hashlib.sha256(b''.join(array.tobytes() for array in random_arrays().values()))
    assert outputs == 2 * [2 * f'{expected.hexdigest()}\n']
    assert sorted(host.requests) == ['/set-v0-val.npz', '/set-v0.npz']


def test_a_fetch_that_is_killed_leaves_nothing_under_the_name(tmp_path, source):
    asked = threading.Event()

    def send_half(handler, content):
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:2000])
        handler.wfile.flush()
        asked.set()
        process.wait(60)

    with Host(source, send_half) as host:
        process = start(tmp_path / 'new', host.url)
        assert asked.wait(60)
        process.kill()
        process.communicate()
    assert not {*visible(tmp_path / 'new')} & {*NAMES}
    with Host(source) as host:
        fetching.locate('set-v0', tmp_path / 'new', host.url)
    assert visible(tmp_path / 'new') == NAMES


BROKEN = {
    'breaks off': (send_shortened, 'broke off after'),
    'breaks off, and never said how much': (send_no_length, 'not a whole .npz file'),
    'breaks off in a chunk': (send_half_a_chunk, 'IncompleteRead'),
    'flips a bit': (send_flipped, 'not a whole .npz file'),
    'asks to log in': (send_login_page, 'not a whole .npz file'),
    'speaks no HTTP': (send_no_http, 'not fetched'),
    'is overloaded': (send_error, '503'),
}


@pytest.mark.parametrize(('answer', 'message'), BROKEN.values(), ids=BROKEN.keys())
def test_a_host_that(tmp_path, source, answer, message):
    with Host(source, answer) as host:
        with pytest.raises(UserError, match=message) as caught:
            fetching.locate('set-v0', tmp_path / 'new', host.url)
    assert f'{host.url}/set-v0.npz' in str(caught.value)
    assert visible(tmp_path / 'new') == []


class Stopped(StopRequest):
    def __call__(self):
        return True


def test_who_is_told_to_stop_waits_for_nobody_and_keeps_no_half(tmp_path, source):
    with Host(source) as host, pytest.raises(StoppedError):
        fetching.locate('set-v0', tmp_path / 'new', host.url, stop=Stopped())
    assert visible(tmp_path / 'new') == []
    taken = locks.take(tmp_path / 'new/.set-v0.lock')
    with pytest.raises(StoppedError):
        fetching.locate('set-v0', tmp_path / 'new', 'http://127.0.0.1:9', stop=Stopped())
    taken.release()


def test_a_full_disk_is_told_from_a_broken_network(tmp_path, source):
    with Host(source) as host, largest_file(1000):
        with pytest.raises(UserError, match=r'set-v0.npz: cannot be written \(File too large\)'):
            fetching.locate('set-v0', tmp_path / 'new', host.url)
    assert visible(tmp_path / 'new') == []


def test_a_folder_that_nobody_may_write_to_is_named():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        for path in (Path(folder), Path(folder) / 'new'):
            with unprivileged(), pytest.raises(UserError, match='cannot be put there') as caught:
                fetching.locate('set-v0', path, 'http://127.0.0.1:9')
            assert 'Permission denied' in str(caught.value)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot be put there'):
        fetching.locate('set-v0', tmp_path / 'file', 'http://127.0.0.1:9')


def test_offline_the_message_tells_how_to_make_the_data(tmp_path):
    with pytest.raises(UserError, match=r'generate_data.py --dataset=set-v0 --dataset_dir='):
        fetching.locate('set-v0', tmp_path, 'http://127.0.0.1:9')


@pytest.mark.parametrize('url', ['nonsense', 'http://[', 'http://host:port', 'http://\u2603..x'])
def test_a_bad_url_is_a_user_error(tmp_path, url):
    with pytest.raises(UserError, match='not fetched from'):
        fetching.locate('set-v0', tmp_path, url)
