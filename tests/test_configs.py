import math

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

import agents
import configs
from agents import records
from utils import files
from utils.errors import UserError
from utils.models.returns import ReturnScale
from utils.reporting import setting_page
from utils.storage import runs

SPEC = agents.Spec(3, 2, ReturnScale(-5.0, 2.0, -100.0, 0.0))


def words(name):
    """The settings of a config that choose between models."""
    config = configs.get_config(name)
    keys = 'agent_name', 'value_model', 'value_net', 'td_target', 'frozen_policy'
    return tuple(config.get(key) for key in keys)


FIRST_OF_WORDS = {words(name): name for name in reversed(configs.CONFIGS)}.values()


@pytest.mark.parametrize('name', list(configs.CONFIGS))
def test_every_named_config_is_good_and_known_to_its_runs(name):
    config = configs.get_config(name)
    agents.create(config, SPEC)
    assert config.config_name == name.removesuffix(configs.MAZES)  # what its runs go by


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.long] * (name not in FIRST_OF_WORDS))
        for name in configs.CONFIGS
    ],
)
def test_every_named_config_builds_an_agent_that_acts(name):
    """By shapes alone: nothing is compiled or computed."""
    config = configs.get_config(name)
    agent = agents.create(config, SPEC)

    def act(key):
        return agent.act(agent.init(key), jnp.zeros((7, 3)), key, agent.settings)

    decision = jax.eval_shape(act, jax.random.key(0))
    assert decision.actions.shape == (7, config.chunk_length, 2)


def test_rows_of_the_25_tasks_are_of_the_configs_that_they_name():
    """But for the precision of products, which a GPU was given for speed."""
    tables = files.ROOT / 'results/tasks25_small', files.ROOT / 'results/tasks25_gpu'
    paths = [path for table in tables for path in table.rglob('config.json')]
    assert paths
    for path in paths:
        record = runs.read_record(path.parent)
        found = records.config_of(record, path).to_dict()
        maze = configs.MAZES * ('maze' in record['env_name'])
        expected = configs.get_config(found['config_name'] + maze).to_dict()
        free = dict(matmul_precision=None)
        assert found | free == expected | free, path


def test_a_config_takes_no_setting_that_it_does_not_have():
    with pytest.raises((AttributeError, KeyError)):
        configs.get_config('evor').no_such_setting = 1


def test_batches_are_what_the_settings_of_the_agent_say():
    config = configs.get_config('evor25_maze')
    config.update(n_step=7, discount=0.995, chunk_length=2)
    agent = agents.create(config, SPEC)
    assert agents.sampling(agent, config) == dict(
        chunk_length=2, n_step=7, discount=0.995, needs_next_actions=True, num_candidates=0
    )
    config = configs.get_config('qc5_25')
    agent = agents.create(config, SPEC)
    assert agents.sampling(agent, config) == dict(
        chunk_length=5,
        n_step=0,
        discount=0.99,
        needs_next_actions=False,
        num_candidates=config.backup_candidates,
    )


def test_every_agent_has_a_config():
    names = {configs.get_config(name).agent_name for name in configs.CONFIGS}
    assert names == set(agents.REGISTRY)


@pytest.mark.parametrize('name', [name for name in configs.CONFIGS if name.endswith('_small')])
def test_laptop_configs_have_laptop_nets(name):
    config = configs.get_config(name)
    varied = configs.ABLATIONS['value_net'].get(name[len('evor_') : -len('_small')], {})
    assert config.hidden_dims == varied.get('hidden_dims', (256, 256, 256))
    assert config.policy_layer_norm


def test_in_mazes_evor_acts_by_single_actions_and_is_else_the_same():
    small, maze = (configs.get_config(f'evor{name}_small').to_dict() for name in ('', '_maze'))
    differing = {key for key in small if small[key] != maze[key]}
    assert differing == {'chunk_length', 'config_name'}
    assert maze['chunk_length'] == 1


def test_an_ablation_differs_from_its_base_in_what_it_says():
    base = configs.get_config('evor_small').to_dict()
    for variants in configs.ABLATIONS.values():
        for name, changes in variants.items():
            config = configs.get_config(f'evor_{name}_small').to_dict()
            differing = {key for key in base if config[key] != base[key]} - {'config_name'}
            assert differing == changes.keys()


@pytest.mark.parametrize('name', sorted(agents.REGISTRY))
def test_every_declared_default_keeps_its_rule_and_has_words(name):
    declared = agents.REGISTRY[name].SETTINGS
    for key, setting in declared.items():
        setting.rule.check(key, setting.default)
        assert setting.words
        assert setting.rule.allows
        assert '|' not in setting.words + setting.rule.allows  # of a Markdown table


def test_a_setting_of_inference_is_the_same_for_every_agent():
    """A flag of scripts/evaluate.py has one meaning."""
    found = {}
    for module in agents.REGISTRY.values():
        for key, setting in module.SETTINGS.items():
            if setting.of_inference:
                assert found.setdefault(key, setting)[1:] == setting[1:]


def test_the_page_of_settings_is_up_to_date():
    assert (files.ROOT / 'docs/settings.md').read_text() == setting_page.page(), (
        'run `python scripts/list_settings.py > docs/settings.md`'
    )


def test_an_agent_refuses_a_setting_that_it_does_not_have():
    config = ConfigDict(dict(configs.get_config('bc')) | dict(n_pj=3))
    with pytest.raises(UserError, match=r'^agent\.n_pj: bc has no such setting'):
        agents.check(config)
    agent = agents.create(configs.get_config('bc'), SPEC)
    with pytest.raises(UserError, match=r'^agent\.lr: bc has no such inference setting'):
        agent.configure(lr=1.0)


BAD_SETTINGS = {
    'a width of text': ('evor', dict(hidden_dims=('8',)), 'agent.hidden_dims: needs widths'),
    'half a width': ('evor', dict(hidden_dims=(8.5,)), 'agent.hidden_dims: needs widths'),
    'a width of true': ('evor', dict(head_dims=(True,)), 'agent.head_dims: needs widths'),
    'no int32': ('qc1', dict(batch_size=2**31), 'agent.batch_size: must be at most 2147483647'),
    'a fraction': ('bc', dict(flow_steps=2.5), 'agent.flow_steps: must be at least 1, not 2.5'),
    'text': ('fql', dict(lr='fast'), "agent.lr: must be positive, not 'fast'"),
    'infinity': ('fql', dict(alpha=math.inf), 'agent.alpha: must be finite, not inf'),
    'infinite weights': ('iql', dict(alpha=math.inf), 'agent.alpha: must be finite, not inf'),
    'below zero': ('iql', dict(alpha=-1.0), 'agent.alpha: must be at least 0, not -1.0'),
    'not a number': ('ifql', dict(expectile=math.nan), 'agent.expectile: must lie in'),
    'less than none': ('iql', dict(n_step=-1), 'agent.n_step: must be at least 0, not -1'),
    'half a step': ('evor', dict(n_step=1.5), 'agent.n_step: must be at least 0, not 1.5'),
    'less than a chunk': (
        'qc5',
        dict(n_step=4),
        r'agent.n_step: must be 0 \(the chunk length\) or at least agent.chunk_length=5, not 4',
    ),
    'perhaps': ('bc', dict(policy_layer_norm='perhaps'), 'agent.policy_layer_norm: must be true'),
    'another agent': ('bc', dict(agent_name='evor'), 'the config lacks settings of evor'),
    'no agent': ('bc', dict(agent_name=None), "agent.agent_name: 'None' is not an agent"),
    'a path': ('bc', dict(config_name='../bc'), 'agent.config_name: .* names the folder of a run'),
}


@pytest.mark.parametrize(
    ('name', 'changes', 'message'), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys()
)
def test_a_bad_setting_is_named_before_anything_is_built(name, changes, message):
    config = ConfigDict(dict(configs.get_config(name)) | changes)
    for refuse in (agents.check, lambda config: agents.create(config, SPEC)):
        with pytest.raises(UserError, match=message):
            refuse(config)


@pytest.mark.parametrize('name', ['evor5', 'qc5', 'fql', 'ifql', 'iql', 'bc'])
def test_rewards_may_be_summed_over_the_chunk_or_longer(name):
    config = configs.get_config(name)
    assert config.n_step == 0
    for n_step in (0, config.chunk_length, config.chunk_length + 3):
        config.n_step = n_step
        agents.check(config)


@pytest.mark.parametrize('tau', ['tau_r', 'tau_q'])
def test_a_temperature_may_be_infinite(tau):
    agents.check(ConfigDict(dict(configs.get_config('evor')) | {tau: math.inf}))
