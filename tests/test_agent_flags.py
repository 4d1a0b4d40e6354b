"""--agent on the command line: the config that was meant, or one line that names the nearest."""

from pathlib import Path

import pytest

import configs
from utils.errors import UserError
from utils.jobs import agent_flags

CONFIGS_FILE = Path(configs.__file__)


def check(*arguments):
    agent_flags.check_config(['main.py', *arguments], CONFIGS_FILE, configs.CONFIGS)


@pytest.fixture
def at_the_top(monkeypatch):
    monkeypatch.chdir(CONFIGS_FILE.parent)


NEAREST = {
    'no name': ('configs.py', 'lacks the name of a config', 'configs.py:evor'),
    'an empty name': ('configs.py:', 'lacks the name of a config', 'configs.py:evor'),
    "as FQL's users write it": ('agents/fql.py', 'is a file without configs', 'configs.py:fql'),
    'the name alone': ('qc5_small', 'is no file here', 'configs.py:qc5_small'),
    'another folder': ('elsewhere/configs.py:iql', 'is no file here', 'configs.py:iql'),
    'no suffix': ('configs:bc', 'is no file here', 'configs.py:bc'),
    'a folder': ('agents:ifql', 'is no file here', 'configs.py:ifql'),
    'nothing': ('', 'is no file here', 'configs.py:evor'),
    'a name too long': ('x' * 300, 'File name too long', 'configs.py:evor'),
}


@pytest.mark.usefixtures('at_the_top')
@pytest.mark.parametrize(('value', 'fault', 'right'), NEAREST.values(), ids=NEAREST.keys())
@pytest.mark.parametrize('apart', [False, True])
def test_the_nearest_right_flag_is_named(value, fault, right, apart):
    arguments = ('--agent', value) if apart else (f'--agent={value}',)
    with pytest.raises(UserError, match=fault) as caught:
        check(*arguments)
    assert str(caught.value).endswith(f'the nearest is --agent={right}')
    check(f'--agent={right}')


def test_from_another_folder_the_whole_path_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check('--agent=configs.py:evor')
    assert str(caught.value).endswith(f'--agent={CONFIGS_FILE}:evor')
    check(f'--agent={CONFIGS_FILE}:evor')


def test_configs_of_ones_own_are_nobody_elses_business(tmp_path):
    (tmp_path / 'mine.py').write_text('def get_config(name):\n    ...\n')
    check(f'--agent={tmp_path / "mine.py"}:anything')
    check(f'--agent={tmp_path / "mine.py"}')
    check()


def test_two_configs_are_refused():
    """The overrides of the first would be lost without a word."""
    first, second = f'--agent={CONFIGS_FILE}:evor', f'--agent={CONFIGS_FILE}:qc1'
    with pytest.raises(UserError, match='--agent: given 2 times'):
        check(first, '--agent.lr=1', second)


def test_a_list_given_twice_is_refused_and_not_appended():
    config = configs.get_config('evor')
    check = agent_flags.check_repeats
    with pytest.raises(UserError, match=r'--agent\.hidden_dims: given 2 times'):
        check(['main.py', '--agent.hidden_dims=(16,16)', '--agent.hidden_dims', '(8,8)'], config)
    # Of numbers the last one counts, as of all flags.
    check(['main.py', '--agent.lr=1', '--agent.lr=2', '--agent.hidden_dims=(8,)'], config)
    check(['main.py', '--agent.hidden_dims=(8,)', '--', '--agent.hidden_dims=(8,)'], config)
