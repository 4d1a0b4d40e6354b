"""What stops data generation costs one line, and leaves no half file under a name."""

import importlib.metadata
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import tqdm

from tests.helpers import largest_file, unprivileged
from utils.data import npz
from utils.errors import UserError
from utils.generation import generator, recording

MAZE = 'pointmaze-medium-stitch-v0'  # its episodes are the shortest


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(generator, 'SHARD_EPISODES', 2)


def test_without_room_for_a_shard_nothing_is_left(tmp_path):
    with largest_file(10_000), pytest.raises(UserError, match=r'cannot be written \(File too'):
        generator.generate(MAZE, tmp_path, episodes=2, workers=1, seed=0)
    left = {path.name for path in (tmp_path / f'.{MAZE}.shards').iterdir()}
    assert visible(tmp_path) == []
    assert left <= {'parameters.json', 'val-000000.npz'}  # one episode of validation has room


def test_without_room_for_the_set_its_shards_are_kept(tmp_path, small_shards):
    with largest_file(15_000), pytest.raises(UserError, match=f'{MAZE}.npz: cannot be written'):
        generator.generate(MAZE, tmp_path, episodes=4, workers=1, seed=0)
    assert visible(tmp_path) == []
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob('.*/train-*.npz')}
    assert len(stamps) == 2
    merged = []
    original = recording.merge

    def merge(shards, path):
        merged.extend((shard, shard.stat().st_mtime_ns) for shard in shards)
        return original(shards, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, 'merge', merge)
        generator.generate(MAZE, tmp_path, episodes=4, workers=1, seed=0)
    assert stamps.items() <= dict(merged).items()
    assert visible(tmp_path) == [f'{MAZE}-val.npz', f'{MAZE}.json', f'{MAZE}.npz']


def test_a_worker_that_is_killed_costs_one_line_and_no_shard(tmp_path, small_shards, monkeypatch):
    """As by the kernel when memory runs out, in the middle of the work."""
    shards = tmp_path / f'.{MAZE}.shards'

    class KillingBar(tqdm.tqdm):
        """Progress, at whose first step the worker dies."""

        def update(self, n=1):
            for worker in multiprocessing.active_children():
                worker.kill()
            return super().update(n)

    monkeypatch.setattr(generator.tqdm, 'tqdm', KillingBar)
    with pytest.raises(UserError, match=r'worker died .* finished shards are kept'):
        generator.generate(MAZE, tmp_path, episodes=400, workers=1, seed=0)
    assert visible(tmp_path) == []
    assert any(npz.headers(path) for path in shards.glob('train-*.npz'))


def test_a_folder_that_nobody_may_write_to_costs_one_line():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with unprivileged(), pytest.raises(UserError, match='Permission denied'):
            generator.generate(MAZE, Path(folder), episodes=1, workers=1, seed=0)


@pytest.mark.parametrize('content', ['', '{', '[]', '{}', '{"files": 1}', '[' * 100_000])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / f'{MAZE}.json').write_text(content)
    with pytest.raises(UserError, match=f'{MAZE}.json: damaged') as caught:
        generator.generate(MAZE, tmp_path, episodes=1, workers=1, seed=0)
    assert '\n' not in str(caught.value)


def test_a_damaged_shard_is_named(tmp_path, small_shards):
    parameters = dict(dataset=MAZE, episodes=2, seed=0)
    versions = {name: importlib.metadata.version(name) for name in generator.VERSIONED}
    folder = tmp_path / f'.{MAZE}.shards'
    for shard in generator._plan_shards(folder, parameters | dict(versions=versions)):
        Path(shard.path).write_bytes(b'PK')
    with pytest.raises(UserError, match=r'train-000000.npz: not a whole .* remove it and repeat'):
        generator.generate(MAZE, tmp_path, episodes=2, workers=1, seed=0)


def test_the_command_says_so_in_one_line_and_exits_with_2():
    result = subprocess.run(
        [
            *(sys.executable, 'scripts/generate_data.py', f'--dataset={MAZE}', '--episodes=1'),
            '--dataset_dir=/dev/null/data',
        ],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert re.fullmatch(r'error: /dev/null/data: .*Not a directory.*\n', result.stderr)


def test_a_command_that_is_told_to_stop_leaves_no_worker(tmp_path):
    """Else they would write beside the workers of a repetition."""
    arguments = f'--dataset={MAZE}', '--workers=2', f'--dataset_dir={tmp_path}'
    process = subprocess.Popen(
        [sys.executable, 'scripts/generate_data.py', *arguments],
        cwd=Path(__file__).resolve().parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    told = ''
    while 'episode/s' not in told:  # the bar is there once the workers are
        piece = process.stderr.read(1)
        assert piece, told
        told += piece
    parent, deadline = psutil.Process(process.pid), time.monotonic() + 60
    while len(workers := parent.children(recursive=True)) < 3:  # two, and their resource tracker
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.terminate()
    told = process.stderr.read()
    assert process.wait() == 75
    assert told.splitlines()[-1].endswith('stopped by SIGTERM; the same command goes on')
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
