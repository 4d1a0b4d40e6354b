"""Command lines of main.py that chance produces, parsed and checked in this process.

Whatever main.py does before it makes environments and reads data is what is tested; the code that
would do so is replaced by one that accepts the command line.
"""

import contextlib
import io
import math
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import ogbench
from absl import flags
from absl.testing import flagsaver
from hypothesis import strategies as st

import agents
import configs
import main
from tests.commands import logs_as_before
from utils import errors
from utils.data import dataset_files, fetching
from utils.system import command

MODULES = ('main', 'utils.jobs.env_flags', 'utils.jobs.env_id_flags', 'utils.jobs.online_flags')
OWN_FLAGS = sorted(
    flag.name for module in MODULES for flag in flags.FLAGS.flags_by_module_dict()[module]
)
INT32 = 2**31 - 1
# Settings for which infinity has a meaning.
TEMPERATURES = ('tau_r', 'tau_q')
# Whole numbers that may be 0.
FROM_ZERO = ('n_step', 'policy_seed', 'atom_steps')
UNIT, POSITIVE = (0.0, 1.0), (0.0, math.inf)
BOUNDS = dict(discount=UNIT, tau=UNIT, lam=UNIT, mean_share=UNIT, expectile=UNIT)
BOUNDS |= dict(lr=POSITIVE, alpha=POSITIVE, kappa=POSITIVE, tau_r=POSITIVE, tau_q=POSITIVE)

ODD_KEYS = ('', 'n_pie', 'hidden_dims.0', 'hidden_dims[0]', 'lr.x', '__class__', 'items', 'Lr', ' ')
ODD_KEYS += ('config_name', 'agent_name', 'get', 'n_pi=2', '.', 'é', '[0]', 'config_name[0]')
WHOLE = ('0', '1', '2', '7', '-1', '3.0', '007', '0x10', '1_000', '1+1', 'True', str(INT32))
WHOLE += (str(2**31), str(2**63), str(10**30), '9' * 5000)
REAL = ('0', '1', '-1', '0.5', '1e-9', '1e-400', '1e400', '-1e400', 'inf', '-inf', 'nan', '1.0001')
TUPLES = ('()', '(8,)', '(8, 8)', '(0,)', '(-8, 8)', '(8.5,)', '8,8', '8', '("a",)', '((8,),)')
TUPLES += (
    '[8, 8]',
    '(None,)',
    '(True,)',
    '(1e9,)',
    '(2**40,)',
    '(99999999999,)',
    '(8',
    '{8}',
    '"8"',
)
TEXTS = ('flow', 'scalar', 'euler', 'quadrature', 'affine', 'none', 'mean', 'bfloat16', 'trunk')
TEXTS += ('evor', 'qc', 'bc', 'sac', 'policy', 'dataset', '../..', '/etc', 'a b', "it's", '"', '~')
ODD = ('', ' ', 'None', 'null', '[]', '{}', '\n', '--', '*', 'é', '__import__("os")', 'lambda: 0')
LISTS = ('0,1,2', '0,0', '1,-1', ',', '0,,1', '5', '1,9', '0,1.5', 'configs.py:evor')
ENV = 'cube-single-play-singletask-task1-v0'
PATHS = ('', '..', '/dev/null', '/dev/null/x', '~', '~/x', 'x' * 300, 'a.npz', ENV)
PATHS += ('.', '/', '~nobody-there', '~nobody-there/x')

anything = st.sampled_from(WHOLE + REAL + TUPLES + TEXTS + ODD + LISTS) | st.text(
    st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=8
)
OF_TYPE = {
    bool: st.sampled_from(['true', 'False', '1', '0', 'maybe', '']),
    int: st.sampled_from(WHOLE) | st.integers().map(str),
    float: st.sampled_from(REAL) | st.floats().map(str),
    tuple: st.sampled_from(TUPLES),
    str: st.sampled_from(TEXTS),
}
TYPES = {key: type(value) for make in configs.CONFIGS.values() for key, value in make().items()}
TYPES['config_name'] = str
config_names = st.sampled_from(sorted(configs.CONFIGS))
environments = st.sampled_from(
    [
        'cube-single-play-singletask-task1-v0',
        'cube-single-play-v0',
        'singletask',
        '',
        '-',
        'a-singletask',
    ]
).map(lambda name: [f'--env_name={name}'])


def spelled(name, value):
    """A flag in one of the ways to write it."""
    forms = {
        'joined': [f'--{name}={value}'],
        'apart': [f'--{name}', value],
        'alone': [f'--{name}'],
        'negated': [f'--no{name}'],
    }
    order = 10 * ['joined'] + ['apart', 'apart', 'alone', 'negated']
    return st.sampled_from(order).map(forms.__getitem__)


@st.composite
def override(draw, config):
    """A setting of an agent: often one that it has, with a value of its type."""
    key = draw(st.sampled_from(2 * sorted(config) + list(ODD_KEYS)))
    typed = OF_TYPE[TYPES[key]] if key in config else anything
    return draw(spelled(f'agent.{key}', draw(typed | typed | typed | typed | anything)))


@st.composite
def overrides(draw):
    """A config and settings of its agent."""
    name = draw(config_names)
    parts = draw(st.lists(override(configs.get_config(name)), min_size=1, max_size=2))
    return [f'--agent=configs.py:{name}', *(argument for part in parts for argument in part)]


@st.composite
def own_flag(draw):
    """A flag of main.py, often with a value of its type."""
    name = draw(st.sampled_from([*OWN_FLAGS, 'offline_step', 'x', '']))
    kind = flags.FLAGS[name].flag_type() if name in OWN_FLAGS else 'string'
    typed = {
        'int': OF_TYPE[int],
        'float': OF_TYPE[float],
        'bool': OF_TYPE[bool],
        'comma separated list of strings': st.sampled_from(LISTS + WHOLE),
        'string': st.sampled_from(PATHS),
    }.get(kind, anything)
    return draw(spelled(name, draw(typed | typed | typed | anything)))


@st.composite
def own_flags(draw):
    """Flags of main.py, at times with a config that is not there or a word that is no flag."""
    parts = draw(st.lists(own_flag() | own_flag() | environments, min_size=1, max_size=3))
    odd = [[], [], [], [], ['stray'], ['--agent=configs.py:evo'], ['--agent=nowhere.py:evor']]
    parts += [draw(st.sampled_from(odd)), draw(st.just([]) | override(configs.get_config('evor')))]
    return [argument for part in parts for argument in part]


KINDS = {'overrides of settings': overrides(), 'flags of main.py': own_flags()}


class AcceptedError(BaseException):
    """Where main.py would read its data; no Exception, so that nobody takes it for one."""


class Parser:
    """Starts main.py in this process, up to its data, and says whether that was refused."""

    def __init__(self, folder):
        self._folder, self.said = Path(folder), ''
        (self._folder / 'configs.py').symlink_to(configs.__file__)
        # Run once, absl has set up what it sets up once per process.
        outcome = self(['--agent=configs.py:evor', '--agent.n_pi=3'])
        assert outcome == 'valid', self.said

    def __call__(self, arguments):
        stderr, stdout, before = io.StringIO(), io.StringIO(), os.getcwd()
        saved = flagsaver.save_flag_values()
        os.chdir(self._folder)
        try:
            with (
                contextlib.redirect_stderr(stderr),
                contextlib.redirect_stdout(stdout),
                logs_as_before(),
                mock.patch.object(sys, 'argv', ['main.py', *arguments]),
                # Python may keep the bytecode of configs.py; that is no file of the program's.
                mock.patch.object(sys, 'dont_write_bytecode', True),
                mock.patch.object(ogbench, 'make_env_and_datasets', return_value=SimpleNamespace()),
                mock.patch.object(fetching, 'locate', side_effect=AcceptedError),
                mock.patch.object(dataset_files, 'load', side_effect=AcceptedError),
            ):
                command.run(main.main, main.define_agent_flag)
            raise AssertionError('main.py ended before its data')
        except AcceptedError:
            assert_sound(flags.FLAGS)
            outcome = 'valid'
        except SystemExit as end:
            assert_refusal(end.code, stderr.getvalue())
            outcome, self.said = 'refused', stderr.getvalue()
        finally:
            flagsaver.restore_flag_values(saved)
            os.chdir(before)
        assert [path.name for path in self._folder.iterdir()] == ['configs.py'], (
            'a file was written'
        )
        return outcome


def assert_refusal(code, stderr):
    """One clear line, and an exit code that scripts understand."""
    assert code == errors.EXIT_CODE, f'exit code {code}'
    assert re.fullmatch(r'error: .+\n', stderr), stderr
    assert stderr[:-1].isprintable(), stderr


def assert_sound(found):
    """Every value that was accepted is of its type, finite and in its range."""
    agents.check(found.agent)
    assert_config(found.agent)
    for name in OWN_FLAGS:
        if type(found[name].value) in (int, float) and name != 'seed':
            assert 0 <= found[name].value < math.inf, f'--{name}: {found[name].value}'
    for seed in found.seeds or [found.seed]:
        assert 0 <= int(seed) < 2**32, f'seed {seed}'
    assert found.offline_steps >= 1
    assert found.eval_episodes >= 1


def assert_config(config):
    """Every setting of an agent is of its type, finite and in its range."""
    for name, value in config.items():
        what = f'{name}: {value!r}'
        assert type(value) is TYPES[name], what
        if type(value) is int:
            assert (name not in FROM_ZERO) <= value <= INT32, what
        elif type(value) is float:
            low, high = BOUNDS[name]
            assert low <= value <= high, what
            assert math.isfinite(value) or name in TEMPERATURES, what
        elif type(value) is tuple:
            assert value or name == 'policy_hidden_dims', what
            assert all(type(item) is int and 1 <= item <= INT32 for item in value), what
