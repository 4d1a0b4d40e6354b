"""The registry of agents."""

from ml_collections import ConfigDict

from agents import evor
from agents.interface import Agent, Decision, Spec
from utils.errors import UserError, did_you_mean

__all__ = ['REGISTRY', 'Agent', 'Decision', 'Spec', 'create']

REGISTRY = {'evor': evor.create}


def create(config: ConfigDict, spec: Spec) -> Agent:
    """Returns the agent that `config.agent_name` names.

    Raises:
        UserError: unknown agent, or a setting out of range.
    """
    if config.agent_name not in REGISTRY:
        hint = did_you_mean(config.agent_name, REGISTRY)
        raise UserError(f"agent.agent_name: '{config.agent_name}' is not an agent.{hint}")
    return REGISTRY[config.agent_name](config, spec)
