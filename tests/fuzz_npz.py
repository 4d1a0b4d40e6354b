"""Dataset files that chance and malice produce, and what reading them must come to."""

import functools
import tracemalloc
import zlib
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from tests.helpers import random_arrays
from tests.npz_files import DEFLATED, STORED, Member, archive, description, header, members, npy
from utils.data import dataset_files, datasets
from utils.environments import envs
from utils.errors import UserError
from utils.system import memory

ENV = 'pointmaze-medium-stitch-singletask-task1-v0'
MEMORY = 32 << 20  # bytes that are said to be available
BOUND = 6 << 20  # bytes that a refusal may take
DTYPES = ('<f4', '<f8', '>f4', '>f8', '<f2', '<f16', '|b1', '|u1', '<i8', '>i4', '<c8', '<U3', 'S2')
DTYPES += ('O', 'V4', '<M8[s]', 'f4,f4')
VALUES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 3e38, 1.001, -7.0, 0.5, 2.0, -1.0, 0.0, -0.0, 1.0)
NAMES = (b'', b'/', b'observations', b'observations.npy', b'../observations.npy', b'C:\\x.npy')
NAMES += (b'observations.npy\x00.npy', b'infos/qpos.npy', b'\xff\xfe', b'a' * 300, b'\x1b[2J\n')
# Pieces of headers, in which Python's own parser may stumble.
FRAGMENTS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (75, 2), }",
    *("'descr'", "'shape'", '(75,)', "'<f4'", "'|O'", '()', "('<f4', (3,))", "[('a', '<f4')]"),
    *('(', ')', '[', ']', '{', '}', ',', ':', '-', '#', '\\', '\n', '\t', '  ', "'", '"', '\x00'),
    *("'V99999999999999999999'", "'f4,('", "b'x'", "f'{x}'", 'lambda: 0', '__import__("os")'),
    *('None', 'True', '75L', '1e999', '1j', '{1: 2, "a": 3}', '{[]: 1}', 'é'),
    *('-' * 3000, '(' * 199, '[' * 300, '9' * 4000, 'not ' * 600, '1+' * 1000),
)
DIMENSIONS = st.sampled_from([0, 1, 2, 3, 75, -1, -75, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30])
ZIP64 = b'\x01\0\x18\0'
CLAIMS = {
    'version': st.integers(0, 2**16 - 1),
    'flags': st.sampled_from([1, 2, 8, 0x20, 0x40, 0x800, 0x2000, 0xFFFF]),
    'method': st.sampled_from([1, 6, 8, 9, 12, 14, 93, 95, 99, 0xFFFF]),
    'crc': st.integers(0, 2**32 - 1),
    'packed': st.integers(0, 2**32 - 1) | st.integers(0, 2000),
    'size': st.integers(0, 2**32 - 1) | st.integers(0, 2000),
    'attributes': st.integers(0, 2**32 - 1),
    'offset': st.integers(0, 2**32 - 1) | st.integers(0, 5000),
    'extra': st.binary(max_size=40)
    | st.binary(max_size=24).map(lambda rest: b'\x01\0\x18\0' + rest),
}
END_CLAIMS = {
    'count': st.integers(0, 2**16 - 1),
    'size': st.integers(0, 2**32 - 1) | st.integers(0, 5000),
    'offset': st.integers(0, 2**32 - 1) | st.integers(0, 5000),
}


@st.composite
def honest(draw):
    """Arrays in the format, with rewards of their own or states to derive them from."""
    arrays = random_arrays((30, 20, 25), 2, 2, draw(st.integers(0, 3)))
    if draw(st.booleans()):
        arrays = {name: arrays[name] for name in ('observations', 'actions', 'terminals')}
        arrays['qpos'] = arrays['observations']
    return arrays


methods = st.sampled_from([STORED, DEFLATED])
files = st.builds(lambda arrays, method: archive(members(arrays, method)), honest(), methods)
places = st.floats(0, 1, exclude_max=True)


@st.composite
def flipped(draw):
    content = bytearray(draw(files))
    for place, bits in draw(
        st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=8)
    ):
        content[int(place * len(content))] ^= bits
    return bytes(content)


@st.composite
def spliced(draw):
    content = draw(files)
    for _ in range(draw(st.integers(1, 3))):
        first, second = sorted(
            int(place * (len(content) + 1)) for place in draw(st.tuples(places, places))
        )
        middle = content[first:second]
        new = draw(
            st.sampled_from([b'', 2 * middle, middle[::-1], None, draw(st.binary(max_size=60))])
        )
        content = content[:first] if new is None else content[:first] + new + content[second:]
    return content


@st.composite
def keys(draw):
    arrays = draw(honest())
    for name in draw(st.lists(st.sampled_from(sorted(dataset_files.AXES)), min_size=1, max_size=4)):
        if name in arrays and draw(st.booleans()):
            array = arrays.pop(name)
            arrays |= draw(st.sampled_from([{}, {name.upper(): array}, {f'{name}.npy': array}]))
        else:
            arrays[name] = draw(st.sampled_from(list(arrays.values()))) if arrays else np.zeros(3)
    return archive(members(arrays, draw(methods)))


TURNS = {
    'as it is': lambda array: array,
    'one row less': lambda array: array[:-1],
    'one row': lambda array: array[-1:],
    'no row': lambda array: array[:0],
    'no column': lambda array: array[..., :0],
    'flat': np.ravel,
    'deeper': lambda array: array[..., None],
    'wider': lambda array: np.stack([array, array], axis=-1).reshape(len(array), -1),
    'transposed': np.transpose,
    'a number': lambda array: array.flat[0],
}


@st.composite
def shapes_and_types(draw):
    arrays = draw(honest())
    chosen = st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=3, unique=True)
    for name in draw(chosen):
        turn = draw(st.sampled_from(sorted(TURNS)))
        array = TURNS[turn](arrays[name])
        with np.errstate(all='ignore'):
            array = np.asarray(array, order=draw(st.sampled_from('CF')))
            arrays[name] = array.astype(draw(st.sampled_from(DTYPES)))
    return archive(members(arrays, draw(methods)))


@st.composite
def values(draw):
    arrays = {name: array.copy() for name, array in draw(honest()).items()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(arrays)))
        array = arrays[name]
        if array.dtype == bool or draw(st.booleans()):
            array = array.astype(np.float64)
        with np.errstate(all='ignore'):
            array.flat[int(draw(places) * array.size)] = draw(st.sampled_from(VALUES))
        arrays[name] = array
    return archive(members(arrays, draw(methods)))


@st.composite
def headers(draw):
    shape = draw(st.lists(DIMENSIONS, max_size=3).map(tuple) | st.just(10**4000) | st.none())
    text = draw(
        st.builds(description, st.just(shape), st.sampled_from(DTYPES), st.booleans())
        | st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=6).map(''.join)
        | st.text(st.characters(codec='latin-1'), max_size=80)
    )
    version = draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 0), (255, 255)]))
    length = draw(st.none() | st.integers(0, 2**16 - 1) | st.just(len(text.encode())))
    content = header(text[:16_000], version, length) + draw(
        st.sampled_from([b'', bytes(600), bytes(9999)])
    )
    content = draw(st.just(content) | st.binary(max_size=20))
    name = draw(st.sampled_from(['observations', 'terminals', 'qpos']))
    rest = [member for member in members(draw(honest())) if member.name != f'{name}.npy'.encode()]
    return archive([*rest, Member(f'{name}.npy'.encode(), content, draw(methods))])


@st.composite
def directories(draw):
    chosen = members(draw(honest()), draw(methods))
    for _ in range(draw(st.integers(0, 3))):
        index = draw(st.integers(0, len(chosen) - 1))
        fields = draw(st.lists(st.sampled_from(sorted(CLAIMS)), max_size=3, unique=True))
        lies = {field: draw(CLAIMS[field]) for field in fields}
        chosen[index] = chosen[index]._replace(claims=lies)
    for name in draw(st.lists(st.sampled_from(NAMES) | st.binary(max_size=12), max_size=2)):
        chosen.append(Member(name, npy(np.zeros(3)), draw(methods)))
    ends = draw(st.lists(st.sampled_from(sorted(END_CLAIMS)), max_size=1))
    return archive(chosen, **{field: draw(END_CLAIMS[field]) for field in ends})


ZEROS = {size: zlib.compress(bytes(size), 9, wbits=-15) for size in (2**20, 48 << 20)}


@functools.cache
def zeros(rows):
    """A file in the format that is larger than the memory when it is unpacked, and says so."""
    arrays = dict(
        observations=np.zeros((rows, 2), np.float32),
        actions=np.zeros((rows, 2), np.float32),
        terminals=np.ones(rows, bool),
        rewards=np.zeros(rows, np.float32),
        masks=np.ones(rows, np.float32),
    )
    return archive(members(arrays, DEFLATED))


@st.composite
def bombs(draw):
    """Streams of zeros behind headers that claim as much, or more, or less."""
    if not draw(st.integers(0, 3)):
        return zeros(draw(st.sampled_from([2**20, 2**20 + 1, 2**20 + 2])))
    size, stream = draw(st.sampled_from(sorted(ZEROS.items())))
    start = header(description((draw(DIMENSIONS), draw(DIMENSIONS))))
    honest_rows = (size - 256) // 8
    exact = header(description((honest_rows, 2)))
    beginning = draw(st.sampled_from([start, exact]))
    compressor = zlib.compressobj(wbits=-15)
    packed = compressor.compress(beginning) + compressor.flush(zlib.Z_SYNC_FLUSH) + stream
    claimed = draw(
        st.sampled_from([len(beginning) + honest_rows * 8, len(beginning) + size, 1000, 2**32 - 2])
    )
    claims = dict(method=DEFLATED, size=claimed, crc=draw(st.integers(0, 1)))
    rest = draw(honest())
    kept = [member for member in members(rest, DEFLATED) if member.name != b'observations.npy']
    return archive([*kept, Member(b'observations.npy', packed, 99, claims)])


magic = st.sampled_from(
    [b'', b'PK\x03\x04', b'PK\x05\x06', b'PK\x01\x02', b'\x93NUMPY\x01\x00', b'\x80\x04']
)
garbage = st.builds(lambda start, rest: start + rest, magic, st.binary(max_size=400))

KINDS = {
    'flipped bytes': flipped(),
    'cut and spliced': spliced(),
    'keys': keys(),
    'shapes and types': shapes_and_types(),
    'values': values(),
    'headers': headers(),
    'zip directories': directories(),
    'bombs': bombs(),
    'garbage': garbage,
}


class Reader:
    """Reads files as training does, and says whether they were refused."""

    def __init__(self, folder):
        self._path = folder / 'fuzzed.npz'
        self._env = envs.make_env(ENV)
        assert self(archive(members(random_arrays(observation_dim=2)))) == 'valid'

    def __call__(self, content):
        self._path.write_bytes(content)
        tracemalloc.start()
        try:
            with mock.patch.object(memory, 'available', return_value=MEMORY):
                [arrays] = dataset_files.load(self._path, {ENV: self._env})
            datasets.build(arrays)
            assert_format(arrays)
            return 'valid'
        except UserError as error:
            message, peak = str(error), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert_one_line(message)
        assert peak <= BOUND + 4 * len(content), f'{peak} bytes of memory for: {message}'
        return 'refused'


def assert_one_line(message):
    assert message.isprintable(), repr(message)
    assert 0 < len(message) < 2000, message


def assert_format(arrays):
    """The contract of `dataset_files.load`."""
    rows = len(arrays['observations'])
    for name, size in dict(observations=2, actions=2, rewards=None, masks=None).items():
        array = arrays[name]
        assert array.dtype == np.float32
        assert array.shape == ((rows,) if size is None else (rows, size))
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    assert np.abs(arrays['actions']).max() <= 1.0 + dataset_files.ACTION_SLACK
    assert np.isin(arrays['masks'], (0.0, 1.0)).all()
    assert arrays['terminals'].dtype == bool
    assert arrays['terminals'].shape == (rows,)
    assert arrays['terminals'].view(np.uint8).max() == 1
    assert arrays['terminals'][-1]
