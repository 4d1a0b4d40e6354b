"""config.json as data: what a run cannot have written is refused in one line."""

import json

import chex
import pytest

import agents
import configs
from agents import policy_file, records
from tests.fuzz_npz import ENV
from tests.helpers import small_config
from utils import errors, files
from utils.data import npz
from utils.environments import envs
from utils.errors import UserError
from utils.jobs.restore import restore
from utils.storage import runs
from utils.storage.checkpoints import Checkpoints
from utils.training import populations

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


def older_run(directory, *lacking):
    """A run of two seeds with a checkpoint, whose record says nothing of some settings."""
    config, sizes = small_config('evor'), dict(observation_dim=2, action_dim=2)
    record = runs.describe(env_name=ENV, seeds=[0, 1], agent=config.to_dict(), **sizes)
    for name in lacking:
        del record['agent'][name]
    (directory / 'config.json').write_text(json.dumps(record))
    agent = agents.create(config, agents.Spec(**sizes))
    population = populations.init_states(agent.init, [0, 1])
    with Checkpoints(directory / 'checkpoints') as checkpoints:
        checkpoints.save(5, population, dict(evaluated=False))
    return agent, population


def test_what_an_older_run_lacks_takes_its_default_and_a_line_says_so(tmp_path, capsys):
    agent, population = older_run(tmp_path, 'n_step', 'kernel_init', 'return_noise')
    capsys.readouterr()
    restored, found, step = restore(tmp_path, runs.read_record(tmp_path), ENV, None)
    assert step == 5
    chex.assert_trees_all_equal(found, population)
    assert restored.settings == agent.settings
    told = 'these take their defaults: kernel_init=fan_average, n_step=0, return_noise=random'
    assert capsys.readouterr().err == f'note: {tmp_path}: an older version made it; {told}\n'


def test_a_run_of_this_version_is_restored_without_a_word(tmp_path, capsys):
    older_run(tmp_path)
    capsys.readouterr()
    restore(tmp_path, runs.read_record(tmp_path), ENV, None)
    assert capsys.readouterr().err == ''


def test_a_setting_that_the_agent_does_not_have_is_refused(tmp_path):
    record = dict(agent=CONFIG | dict(flow_step=3))
    with pytest.raises(
        UserError, match=r"agent\.flow_step: bc has no such.*'flow_steps'"
    ) as caught:
        records.config_of(record, tmp_path)
    assert str(caught.value).startswith(f'{tmp_path}: ')
    assert '\n' not in str(caught.value)


def test_committed_base_policies_are_read():
    """Each by an agent of the 25 tasks, which is to learn values on it."""
    paths = sorted((files.ROOT / 'results/base_policies').glob('*.npz'))
    assert paths
    for path in paths:
        record = json.loads(npz.read(path, npz.headers(path)['record']).tobytes())
        agents.check(records.config_of(record, path))
        sizes = record['observation_dim'], record['action_dim']
        config = configs.get_config(f'qc{record["agent"]["chunk_length"]}_25')
        found = policy_file.read(path, config, *sizes)
        assert path.stem == f'{envs.dataset_name(record["env_name"])}_h{config.chunk_length}'
        assert found.step == record['step'] > 0


@pytest.mark.parametrize('name', ['__class__', 'a.b'])
def test_a_name_that_no_setting_can_have_is_refused(name):
    with pytest.raises(UserError, match='no setting of an agent'):
        runs.agent_config(dict(agent=CONFIG | {name: 1}))


def test_a_message_tells_a_terminal_nothing_to_do(capsys):
    with pytest.raises(SystemExit):
        errors.fail('damaged \x1b[2J\n name \ud800')
    assert capsys.readouterr().err == 'error: damaged ?[2J name ?\n'
