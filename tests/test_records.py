"""config.json as data: what a run cannot have written is refused in one line."""

import json

import pytest

import configs
from utils import errors
from utils.errors import UserError
from utils.storage import runs

CONFIG = configs.get_config('bc').to_dict()
RECORD = dict(env_name='an-env', seeds=[0, 1], agent=CONFIG, observation_dim=3, action_dim=2)
DAMAGED = {
    'no JSON': '{"env_name": ',
    'no object': '[]',
    'nested without end': '[' * 100_000,
    'a key is missing': json.dumps({k: v for k, v in RECORD.items() if k != 'seeds'}),
    'no seeds': json.dumps(RECORD | dict(seeds=[])),
    'a seed that is none': json.dumps(RECORD | dict(seeds=[{}])),
    'a seed too large': json.dumps(RECORD | dict(seeds=[2**63])),
    'a size that is none': json.dumps(RECORD | dict(action_dim='2')),
    'an agent that is none': json.dumps(RECORD | dict(agent=[])),
    'a config without a name': json.dumps(RECORD | dict(agent=CONFIG | dict(config_name=0))),
    'a setting of settings': json.dumps(RECORD | dict(agent=CONFIG | dict(lr=dict(a=1)))),
}


@pytest.mark.parametrize('content', DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match=r'config.json: damaged') as caught:
        runs.read_record(tmp_path)
    assert '\n' not in str(caught.value)


def test_bytes_that_are_no_text_are_damage(tmp_path):
    (tmp_path / 'config.json').write_bytes(b'\xff\xfe')
    with pytest.raises(UserError, match=r'config.json: damaged'):
        runs.read_record(tmp_path)


def test_a_whole_record_is_read_as_it_is(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(RECORD))
    record = runs.read_record(tmp_path)
    assert runs.agent_config(record).to_dict() == CONFIG


@pytest.mark.parametrize('name', ['__class__', 'a.b'])
def test_a_name_that_no_setting_can_have_is_refused(name):
    with pytest.raises(UserError, match='no setting of an agent'):
        runs.agent_config(dict(agent=CONFIG | {name: 1}))


def test_a_message_tells_a_terminal_nothing_to_do(capsys):
    with pytest.raises(SystemExit):
        errors.fail('damaged \x1b[2J\n name \ud800')
    assert capsys.readouterr().err == 'error: damaged ?[2J name ?\n'
