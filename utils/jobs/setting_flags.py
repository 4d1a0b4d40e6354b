"""Flags of all inference settings there are: a list of values for each."""

from typing import Any

from absl import flags

import agents
from agents import Agent
from utils.errors import UserError

FLAGS = flags.FLAGS
# Of all agents, by name: one has the same words wherever it is declared. Those that select a
# program come first, so that settings of one program are combined next to each other.
_DECLARED = {
    name: setting
    for module in agents.REGISTRY.values()
    for name, setting in module.SETTINGS.items()
    if setting.of_inference
}
SETTINGS = dict(sorted(_DECLARED.items(), key=lambda item: item[1].traced))

for _name, _setting in SETTINGS.items():
    flags.DEFINE_list(
        _name,
        None,
        f'{_setting.words} ({_setting.rule.allows}); several are a list. Default: as trained.',
    )


def given_lists(agent: Agent, agent_name: str) -> dict[str, list[Any]]:
    """Returns the settings that the flags list, by name.

    Args:
        agent: that is to have them.
        agent_name: its name, for errors.

    Raises:
        UserError: the agent has no such setting, or a list is not one.
    """
    known = vars(agent.settings)
    given = {}
    for name, setting in SETTINGS.items():
        if FLAGS[name].value is None:
            continue
        if name not in known:
            raise UserError(
                f'--{name}: {agent_name} has no such inference setting; it has '
                f'{", ".join(known) or "none"}'
            )
        kind = type(setting.default)
        try:
            given[name] = [kind(item) for item in FLAGS[name].value]
        except ValueError as error:
            raise UserError(f'--{name}: expected a list of {kind.__name__} ({error})') from error
    return given


def given(agent: Agent, agent_name: str) -> dict[str, Any]:
    """Returns the settings that the flags give, one value each, by name.

    Args:
        agent, agent_name: as for `given_lists`.

    Raises:
        UserError: the agent has no such setting, or a flag has several values.
    """
    lists = given_lists(agent, agent_name)
    for name, values in lists.items():
        if len(values) != 1:
            raise UserError(f'--{name}: expected one value here, not {len(values)}')
    return {name: value for name, [value] in lists.items()}
