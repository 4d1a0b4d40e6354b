"""Files are on the disk before they count, where a disk can be told so, by injected faults."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.commands import run_here
from tests.helpers import unprivileged
from utils import files
from utils.errors import UserError


def failing(monkeypatch, code):
    def fsync(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', fsync)


@pytest.mark.parametrize('code', [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_filesystem_without_the_call_is_written_all_the_same(tmp_path, monkeypatch, code):
    failing(monkeypatch, code)
    files.write_json(tmp_path / 'a.json', dict(a=1))
    with files.writing(tmp_path / 'b') as file:
        file.write(b'b')
    files.sync_tree(tmp_path)
    assert json.loads((tmp_path / 'a.json').read_text()) == dict(a=1)
    assert (tmp_path / 'b').read_bytes() == b'b'
    assert not files.sync(tmp_path)


@pytest.mark.parametrize('code', [errno.EBADF, errno.EISDIR, errno.EACCES])
@pytest.mark.parametrize('call', ['open', 'fsync'])
def test_a_folder_that_cannot_be_synced_is_no_failed_disk(tmp_path, monkeypatch, code, call):
    """But a file that cannot is."""

    def fail(*_):
        raise OSError(code, os.strerror(code))

    (tmp_path / 'a').touch()
    monkeypatch.setattr(os, call, fail)
    assert not files.sync(tmp_path)
    with pytest.raises(OSError, match=os.strerror(code)):
        files.sync(tmp_path / 'a')


@pytest.mark.parametrize('code', [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
def test_a_disk_that_failed_is_told(tmp_path, monkeypatch, code):
    failing(monkeypatch, code)
    with pytest.raises(OSError, match=os.strerror(code)):
        files.write_json(tmp_path / 'a.json', dict(a=1))
    assert not (tmp_path / 'a.json').exists()


@pytest.mark.parametrize('read_only', ['folder', 'file'])
def test_what_cannot_be_written_is_known_before_there_is_something_to_write(read_only):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'rows.csv').touch()
        folder.chmod(0o555 if read_only == 'folder' else 0o777)
        (folder / 'rows.csv').chmod(0o444 if read_only == 'file' else 0o666)
        message = r'cannot be written to \(Permission denied\); go elsewhere'
        with unprivileged(), pytest.raises(UserError, match=message):
            files.check_writable(folder, ['rows.csv', 'more.csv'], 'go elsewhere')
        assert sorted(path.name for path in folder.iterdir()) == ['rows.csv']


def test_what_can_be_synced_is_synced(tmp_path, monkeypatch):
    """Files before the names of them."""
    synced = []
    fsync = lambda handle: synced.append(os.readlink(f'/proc/self/fd/{handle}'))  # noqa: E731
    monkeypatch.setattr(os, 'fsync', fsync)
    (tmp_path / 'folder').mkdir()
    for name in ('a', 'folder/b', 'folder/.DS_Store'):
        (tmp_path / name).touch()
    files.sync_tree(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in synced] == ['folder/b', 'folder', 'a', '.']


@pytest.mark.parametrize(
    ('script', 'flags'),
    [
        ('scripts/evaluate.py', ['--run=~nobody_here']),
        ('scripts/check_data.py', ['--dataset=cube-single-play-v0', '--dataset_dir=~nobody_here']),
        ('scripts/make_tables.py', ['--runs=exp', '--out=~nobody_here']),
    ],
)
def test_the_home_of_somebody_who_has_none_costs_one_line(script, flags):
    result = run_here(script, *flags)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: --{flags[-1].split('=')[0].lstrip('-')}: '~nobody_here'")
