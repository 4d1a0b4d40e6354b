"""The registry of agents, and how a config becomes one of them."""

import importlib
import re
from types import ModuleType

from ml_collections import ConfigDict

from agents import interface, settings
from agents.interface import Agent, Decision, Spec, bind, num_candidates, sampling
from utils.data import recorded_returns
from utils.data.datasets import Dataset
from utils.errors import UserError, did_you_mean
from utils.models.returns import ReturnScale

__all__ = [
    'REGISTRY',
    'Agent',
    'Decision',
    'Spec',
    'check',
    'complete',
    'create',
    'defaults',
    'freezes_policy',
    'needs_next_actions',
    'num_candidates',
    'sampling',
    'spec_of',
]

# Files of this folder; see docs/adding-an-agent.md for what is in one.
NAMES = ('evor', 'qc', 'fql', 'ifql', 'iql', 'bc')
REGISTRY: dict[str, ModuleType] = {
    name: importlib.import_module(f'{__name__}.{name}') for name in NAMES
}


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Returns the agent that `config.agent_name` names.

    Raises:
        UserError: unknown agent, or a setting out of range.
    """
    check(config)
    module = REGISTRY[config.agent_name]
    return bind(module, module.build(config, spec))


def freezes_policy(config: ConfigDict) -> bool:
    """Whether the base policy is trained first, by itself, and then stays as it is."""
    return config.get('frozen_policy', False)


def needs_next_actions(config: ConfigDict) -> bool:
    """Whether updates use the recorded next actions."""
    return interface.needs_next_actions(_module(config.agent_name), config)


def spec_of(dataset: Dataset, discount: float) -> Spec:
    """Returns what an agent must know of a dataset in host memory."""
    scale = ReturnScale(
        *recorded_returns.return_scale(dataset, discount),
        *recorded_returns.return_bounds(dataset, discount),
    )
    return Spec(dataset.observations.shape[1], dataset.actions.shape[1], scale)


def defaults(name: str) -> dict[str, object]:
    """Returns every setting of the agent called `name` at its default.

    Raises:
        UserError: unknown agent.
    """
    return {key: setting.default for key, setting in _module(name).SETTINGS.items()}


def complete(config: ConfigDict) -> tuple[ConfigDict, dict[str, object]]:
    """Completes a config of an older version, which lacks settings that the agent has by now.

    Returns:
        The config with the defaults of what it lacks, and these defaults alone.

    Raises:
        UserError: unknown agent, or it has a setting that the agent has not.
    """
    name = config.get('agent_name')
    added = {key: value for key, value in defaults(name).items() if key not in config}
    settings.check_names(_module(name), config)
    return ConfigDict(added | dict(config)).lock(), added


def check(config: ConfigDict) -> None:
    """Checks a config by itself, before any data is read.

    Raises:
        UserError: unknown agent, or a setting out of range, missing, or none of the agent's.
    """
    if config is None:
        raise UserError(
            '--agent: was not read; give it as configs.py:NAME, and each flag its value'
        )
    settings.check(_module(config.get('agent_name')), config)
    folder = config.get('config_name', config.agent_name)
    if not isinstance(folder, str) or not re.fullmatch(r'\w[\w.-]*', folder):
        raise UserError(
            f'agent.config_name: {folder!r} names the folder of a run; expected letters, digits, '
            "'_', '.' and '-'"
        )


def _module(name: object) -> ModuleType:
    if not isinstance(name, str) or name not in REGISTRY:
        hint = did_you_mean(str(name), REGISTRY)
        raise UserError(f"agent.agent_name: '{name}' is not an agent.{hint}")
    return REGISTRY[name]
