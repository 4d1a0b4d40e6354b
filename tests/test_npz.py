"""Archives that lie: nothing is executed, and no memory is taken on a claim's word."""

import os
import resource
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests import npz_files
from tests.helpers import random_arrays
from tests.npz_files import DEFLATED, STORED, Member, archive, description, header, members
from utils.data import dataset_files, npz
from utils.errors import UserError

GIANT = 2**40


def write(path, content):
    path.write_bytes(content)
    return path


def replaced(name, content, method=STORED, **claims):
    """An honest file but for one member."""
    rest = [member for member in members(random_arrays()) if member.name != name]
    return archive([*rest, Member(name, content, method, claims)])


def refusal(path, bound=8 << 20):
    """The one line that a file is refused with, which must not cost memory."""
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        dataset_files.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < bound
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


@pytest.mark.parametrize('method', [STORED, DEFLATED])
def test_an_honest_file_is_read_as_numpy_reads_it(tmp_path, method):
    arrays = random_arrays()
    path = write(tmp_path / 'good.npz', archive(members(arrays, method)))
    with np.load(path) as file:
        assert set(file.files) == set(arrays)
    for name, found in npz.headers(path).items():
        np.testing.assert_array_equal(npz.read(path, found), arrays[name], strict=True)


@pytest.mark.parametrize('dtype', ['<f8', '>f4', '<f2', '>i8', '|u1', '|b1'])
def test_any_plain_number_in_any_order_is_read(tmp_path, dtype):
    array = np.asfortranarray((np.arange(12).reshape(3, 4) % 2).astype(dtype))
    path = write(tmp_path / 'array.npz', archive(members({'array': array})))
    [found] = npz.headers(path).values()
    copy = npz.read(path, found)
    np.testing.assert_array_equal(copy, array)
    assert copy.flags.c_contiguous
    assert copy.dtype == np.dtype(dtype).newbyteorder('=')


def test_large_arrays_are_read_in_pieces(tmp_path):
    array = np.random.default_rng(0).normal(size=(npz.PIECE // 8 + 7, 3))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / 'large.npz', array=array)
        [found] = npz.headers(tmp_path / 'large.npz').values()
        np.testing.assert_array_equal(npz.read(tmp_path / 'large.npz', found), array)


def test_only_wanted_arrays_are_looked_at(tmp_path):
    """What OGBench does not know may be anything, with the names of other formats."""
    other = [Member(b'infos/goal.npy', b'no array'), Member(b'README', b'hello', 99)]
    path = write(tmp_path / 'more.npz', archive([*members(random_arrays()), *other]))
    assert dataset_files.read(path).keys() == random_arrays().keys()


OBSERVATIONS = npz_files.npy(random_arrays()['observations'])
WIDE = npz_files.npy(np.zeros((75, 20), np.float32))
LYING = {
    'more bytes claimed than there are': (
        replaced(b'observations.npy', header(description((GIANT, 3)))),
        "'observations' of shape",
    ),
    'a giant, to the directory as well': (
        replaced(b'observations.npy', header(description((10**9, 1))), size=2**32 - 2),
        'cannot hold the 4294967294 bytes it claims',
    ),
    'fewer bytes claimed than there are': (
        replaced(b'observations.npy', OBSERVATIONS + bytes(4)),
        'does not fill',
    ),
    'a stream longer than claimed': (
        replaced(
            b'observations.npy',
            OBSERVATIONS + bytes(10**6),
            DEFLATED,
            size=len(OBSERVATIONS),
            crc=zlib.crc32(OBSERVATIONS),
        ),
        'Bad CRC-32',
    ),
    'such a stream with a checksum to match': (
        replaced(
            b'observations.npy',
            WIDE + bytes(10**6),
            DEFLATED,
            size=len(WIDE),
            crc=zlib.crc32(WIDE + bytes(1)),
        ),
        'is longer than the 6128 claimed',
    ),
    'a stream shorter than claimed': (
        replaced(b'observations.npy', OBSERVATIONS[:-4], DEFLATED, size=len(OBSERVATIONS)),
        'breaks off 4 bytes before its end',
    ),
    'a wrong checksum': (replaced(b'observations.npy', OBSERVATIONS, crc=1), 'Bad CRC-32'),
    'a negative size': (
        replaced(b'observations.npy', header(description((-75, -3))) + bytes(900)),
        'does not fill',
    ),
    'a header without end': (
        replaced(b'observations.npy', header('', (2, 0), length=2**32 - 1) + bytes(5000)),
        'does not describe an array',
    ),
    'a header for another parser': (
        replaced(b'observations.npy', header(description((75, 3)), (3, 0))),
        'version',
    ),
    'a header that is nested': (
        replaced(b'observations.npy', header('-' * 4000 + '1')),
        'does not describe an array',
    ),
    'a header that breaks off': (
        replaced(b'observations.npy', header("{'descr': (")),
        'does not describe an array',
    ),
    'a header of no type': (
        replaced(b'observations.npy', header(description((75, 3), descr=()))),
        'does not describe an array',
    ),
    'a header of other keys': (
        replaced(b'observations.npy', header("{1: 2, 'a': 3}")),
        'does not describe an array',
    ),
    'a header that is indented': (
        replaced(b'observations.npy', header('\t {}None\n  None')),
        'does not describe an array',
    ),
    'a header that calls': (
        replaced(b'observations.npy', header("__import__('os').abort()")),
        'does not describe an array',
    ),
    'encrypted': (replaced(b'observations.npy', OBSERVATIONS, flags=1), 'is encrypted'),
    'another compression': (
        replaced(b'observations.npy', OBSERVATIONS, zipfile.ZIP_LZMA),
        'compressed by method 14',
    ),
    'a later version of zip': (replaced(b'observations.npy', OBSERVATIONS, version=200), 'version'),
    'twice': (archive(2 * members(random_arrays())), "'observations.npy' is there twice"),
    'a path': (replaced(b'../../observations.npy', OBSERVATIONS), 'a path'),
    'an absolute path': (replaced(b'/etc/observations.npy', OBSERVATIONS), 'a path'),
    'a folder': (replaced(b'observations/', b''), 'a link or a folder'),
    'a link': (
        replaced(b'observations.npy', b'/etc/passwd', attributes=0o120777 << 16),
        'a link or a folder',
    ),
    'terminal codes in a name': (replaced(b'\x1b[2J\n/../x', b''), 'a path'),
    'data of nowhere': (replaced(b'observations.npy', OBSERVATIONS, offset=2**31), 'not a whole'),
    'a directory of a gigabyte': (archive(members(random_arrays()), size=2**30), 'not a whole'),
    'objects': (
        replaced(b'observations.npy', npz_files.npy(np.array([{}] * 75))),
        "'observations' has dtype object; expected plain numbers",
    ),
    'records': (
        replaced(b'observations.npy', npz_files.npy(np.zeros(75, [('x', 'f4')]))),
        'expected plain numbers',
    ),
    'truth values that are neither': (
        replaced(b'terminals.npy', header(description((75,), '|b1')) + b'\xff' * 75),
        'no truth values',
    ),
}


@pytest.mark.parametrize(('content', 'message'), LYING.values(), ids=LYING.keys())
def test_a_lie_costs_one_line_and_no_memory(tmp_path, content, message):
    assert message in refusal(write(tmp_path / 'bad.npz', content))


def test_pickled_objects_are_never_run(tmp_path):
    evil = npz_files.objects((75,), tmp_path / 'executed')
    refusal(write(tmp_path / 'evil.npz', replaced(b'observations.npy', evil)))
    assert not (tmp_path / 'executed').exists()


def test_a_directory_of_too_many_members_is_not_read(tmp_path):
    many = [Member(b'%06d' % number, b'') for number in range(30_000)]
    content = archive(members(random_arrays()) + many, count=0)
    assert 'a directory of' in refusal(write(tmp_path / 'many.npz', content), bound=3 << 20)


def test_more_than_the_memory_is_refused_in_gib(tmp_path):
    """An honest bomb: 64 MiB of zeros in 64 KiB, and a limit as a job scheduler sets it."""
    zeros = {'observations': np.zeros((2**21, 8), np.float32), 'actions': np.zeros((2**21, 1))}
    zeros |= {'terminals': np.ones(2**21, bool)}
    np.savez_compressed(tmp_path / 'bomb.npz', **zeros)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (taken + (96 << 20), hard))
    try:
        message = refusal(tmp_path / 'bomb.npz')
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert 'reading it takes 0.14 GiB of memory, 0.09 GiB are available' in message


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / 'folder.npz').mkdir()
    os.mkfifo(tmp_path / 'pipe.npz')
    (tmp_path / 'dangling.npz').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'loop.npz').symlink_to(tmp_path / 'loop.npz')
    (tmp_path / 'empty.npz').touch()
    for name in ('folder', 'pipe'):
        assert 'not a regular file' in refusal(tmp_path / f'{name}.npz')
    for name in ('dangling', 'loop', 'missing'):
        assert 'no such dataset file' in refusal(tmp_path / f'{name}.npz')
    assert 'empty' in refusal(tmp_path / 'empty.npz')


def test_a_link_to_a_file_is_the_file(tmp_path):
    write(tmp_path / 'good.npz', archive(members(random_arrays())))
    (tmp_path / 'link.npz').symlink_to(tmp_path / 'good.npz')
    assert dataset_files.read(tmp_path / 'link.npz').keys() == random_arrays().keys()


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path):
    path = write(tmp_path / 'good.npz', archive(members({'array': np.zeros(3)})))
    [found] = npz.headers(path).values()
    write(path, archive(members({'array': np.zeros(4)})))
    with pytest.raises(UserError, match='changed while it was read'):
        npz.read(path, found)
