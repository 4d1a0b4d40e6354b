"""The registry of agents."""

import re
from types import ModuleType

from ml_collections import ConfigDict

from agents import bc, evor, fql, ifql, iql, qc
from agents.interface import Agent, Decision, Spec, num_candidates
from utils.data import recorded_returns
from utils.data.datasets import Dataset
from utils.errors import UserError, did_you_mean

__all__ = [
    'REGISTRY',
    'Agent',
    'Decision',
    'Spec',
    'check',
    'create',
    'freezes_policy',
    'num_candidates',
    'spec_of',
]

# Modules with `check(config)` and `create(config, spec)`.
REGISTRY: dict[str, ModuleType] = {
    'evor': evor,
    'qc': qc,
    'fql': fql,
    'ifql': ifql,
    'iql': iql,
    'bc': bc,
}


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Returns the agent that `config.agent_name` names.

    Raises:
        UserError: unknown agent, or a setting out of range.
    """
    check(config)
    return REGISTRY[config.agent_name].create(config, spec)


def freezes_policy(config: ConfigDict) -> bool:
    """Whether the base policy is trained first, by itself, and then stays as it is."""
    return config.get('frozen_policy', False)


def spec_of(dataset: Dataset, discount: float) -> Spec:
    """Returns what an agent must know of a dataset in host memory."""
    return Spec(
        dataset.observations.shape[1],
        dataset.actions.shape[1],
        *recorded_returns.return_scale(dataset, discount),
        *recorded_returns.return_bounds(dataset, discount),
    )


def check(config: ConfigDict) -> None:
    """Checks a config by itself, before any data is read.

    Raises:
        UserError: unknown agent, or a setting out of range.
    """
    if config is None:
        raise UserError(
            '--agent: was not read; give it as configs.py:NAME, and each flag its value'
        )
    name = config.get('agent_name')
    if not isinstance(name, str) or name not in REGISTRY:
        hint = did_you_mean(str(name), REGISTRY)
        raise UserError(f"agent.agent_name: '{name}' is not an agent.{hint}")
    try:
        REGISTRY[name].check(config)
    except (AttributeError, KeyError) as error:
        raise UserError(
            f'agent.agent_name: the config lacks settings of {name} ({error}); choose another '
            'with --agent=configs.py:NAME'
        ) from error
    folder = config.get('config_name', name)
    if not isinstance(folder, str) or not re.fullmatch(r'\w[\w.-]*', folder):
        raise UserError(
            f'agent.config_name: {folder!r} names the folder of a run; expected letters, digits, '
            "'_', '.' and '-'"
        )
