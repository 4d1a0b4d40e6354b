import jax
import jax.numpy as jnp
import pytest

import agents
import configs

SPEC = agents.Spec(3, 2, -5.0, 2.0, -100.0, 0.0)


@pytest.mark.parametrize('name', list(configs.CONFIGS))
def test_every_named_config_builds_an_agent_that_acts(name):
    """By shapes alone: nothing is compiled or computed."""
    config = configs.get_config(name)
    agent = agents.create(config, SPEC)

    def act(key):
        return agent.act(agent.init(key), jnp.zeros((7, 3)), key, agent.settings)

    decision = jax.eval_shape(act, jax.random.key(0))
    assert decision.actions.shape == (7, config.chunk_length, 2)
    assert config.config_name == name


@pytest.mark.parametrize('name', list(configs.CONFIGS))
def test_a_config_takes_no_setting_that_it_does_not_have(name):
    with pytest.raises((AttributeError, KeyError)):
        configs.get_config(name).no_such_setting = 1


def test_every_agent_has_a_config():
    names = {configs.get_config(name).agent_name for name in configs.CONFIGS}
    assert names == set(agents.REGISTRY)


@pytest.mark.parametrize('name', [name for name in configs.CONFIGS if name.endswith('_small')])
def test_laptop_configs_have_laptop_nets(name):
    config = configs.get_config(name)
    varied = configs.ABLATIONS['value_net'].get(name[len('evor_') : -len('_small')], {})
    assert config.hidden_dims == varied.get('hidden_dims', (256, 256, 256))
    assert config.policy_layer_norm


def test_an_ablation_differs_from_its_base_in_what_it_says():
    base = configs.get_config('evor_small').to_dict()
    for variants in configs.ABLATIONS.values():
        for name, changes in variants.items():
            config = configs.get_config(f'evor_{name}_small').to_dict()
            differing = {key for key in base if config[key] != base[key]} - {'config_name'}
            assert differing == changes.keys()
