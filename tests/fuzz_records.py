"""Records of runs (config.json) that chance and editors damage, and what restoring must come to."""

import contextlib
import io
import json
from unittest import mock

import jax
import pytest
from hypothesis import strategies as st

import agents
import configs
from tests.fuzz_flags import TYPES, assert_config, assert_refusal
from tests.fuzz_npz import ENV
from tests.helpers import small_config
from utils import errors
from utils.environments import envs
from utils.errors import UserError
from utils.jobs import restore
from utils.storage import checkpoints, runs

SIZES = dict(observation_dim=2, action_dim=2)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
LEAVES |= st.sampled_from(
    ['inf', '-inf', 'nan', '', '../..', ENV, 2**31, 2**64, 10**30, -1, 0, 1e999]
)
junk = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
ODD_NAMES = ('', 'a.b', 'items', '__class__', 'lock', '_fields', '0', 'é', 'config_name', 'agent')


def record(config):
    """What main.py writes."""
    return runs.describe(env_name=ENV, seeds=[0, 1], agent=config.to_dict(), **SIZES)


names = st.sampled_from(sorted(configs.CONFIGS))
records = names.map(lambda name: record(small_config(name)))


@st.composite
def edited(draw):
    """Values exchanged, keys lost, renamed or added, at any depth."""
    content = json.loads(json.dumps(draw(records)))
    for _ in range(draw(st.integers(1, 2))):
        place = content
        if draw(st.booleans()):
            place = content.get(draw(st.sampled_from(['agent', 'agent', 'agent', 'versions'])))
        if not isinstance(place, dict) or not place:
            break
        name = draw(st.sampled_from(sorted(place)))
        action = draw(st.sampled_from(['exchange', 'exchange', 'lose', 'rename', 'add']))
        value = place[name] if action in ('exchange', 'add') else place.pop(name)
        if action == 'rename':
            place[draw(st.sampled_from(ODD_NAMES))] = value
        elif action == 'exchange':
            place[name] = draw(junk)
        elif action == 'add':
            place[draw(st.sampled_from(ODD_NAMES) | st.text(max_size=5))] = draw(junk)
    return json.dumps(content).encode()


@st.composite
def damaged(draw):
    """Bytes changed, cut, or no JSON of a record at all."""
    content = bytearray(json.dumps(draw(records)).encode())
    places = st.floats(0, 1, exclude_max=True)
    for place, byte in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[int(place * len(content))] = byte
    content = bytes(content)
    cut = content[: int(draw(places) * len(content))]
    other = draw(junk.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
    deep = b'[' * 100_000
    return draw(st.sampled_from([content, content, content, cut, cut, other, other, deep]))


KINDS = {'edited records': edited(), 'damaged records': damaged()}


class Shapes:
    """In place of checkpoints, which have tests of their own: any shapes are those of number 1."""

    def __init__(self, directory, read_only):
        assert read_only

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def steps(self):
        return {1}

    def restore(self, step, shapes):
        return shapes, {}


class Restorer:
    """Restores runs as the scripts do, and says whether that was refused."""

    def __init__(self, folder):
        self._folder = folder
        self._env = envs.make_env(ENV)
        assert self(json.dumps(record(small_config('bc'))).encode()) == 'valid'

    def __call__(self, content):
        (self._folder / 'config.json').write_bytes(content)
        try:
            with (
                mock.patch.object(envs, 'make_env', return_value=self._env),
                mock.patch.object(checkpoints, 'Checkpoints', Shapes),
            ):
                found = runs.read_record(self._folder)
                config, _ = agents.complete(runs.agent_config(found))
                _, shapes, _ = restore.restore(self._folder, found, found['env_name'], None)
        except UserError as error:
            assert_refusal(*fail(error))
            return 'refused'
        assert {leaf.shape[0] for leaf in jax.tree.leaves(shapes)} == {len(found['seeds'])}
        assert_restored(config)
        return 'valid'


def assert_restored(config):
    """The settings that the agent looks at are sound; JSON tells no 1 from 1.0."""
    default = configs.get_config(config.config_name)
    if config.agent_name == default.agent_name:
        known = {name: config[name] for name in default}
        floats = {n: float(v) for n, v in known.items() if TYPES[n] is float and type(v) is int}
        assert_config(known | floats)


def fail(error):
    """Returns the exit code and the line that a person sees."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as end:
        errors.fail(error)
    return end.value.code, stderr.getvalue()
