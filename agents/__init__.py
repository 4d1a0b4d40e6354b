"""The registry of agents."""

from types import ModuleType

from ml_collections import ConfigDict

from agents import bc, evor, fql, ifql, iql, qc
from agents.interface import Agent, Decision, Spec
from utils import datasets
from utils.datasets import Dataset
from utils.errors import UserError, did_you_mean

__all__ = ['REGISTRY', 'Agent', 'Decision', 'Spec', 'check', 'create', 'spec_of']

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
    return _module(config).create(config, spec)


def spec_of(dataset: Dataset, discount: float) -> Spec:
    """Returns what an agent must know of a dataset in host memory."""
    return Spec(
        dataset.observations.shape[1],
        dataset.actions.shape[1],
        *datasets.return_scale(dataset, discount),
        *datasets.return_bounds(dataset, discount),
    )


def check(config: ConfigDict) -> None:
    """Checks a config by itself, before any data is read.

    Raises:
        UserError: unknown agent, or a setting out of range.
    """
    _module(config).check(config)


def _module(config: ConfigDict) -> ModuleType:
    if config.agent_name not in REGISTRY:
        hint = did_you_mean(config.agent_name, REGISTRY)
        raise UserError(f"agent.agent_name: '{config.agent_name}' is not an agent.{hint}")
    return REGISTRY[config.agent_name]
