"""Every setting in words, from the declarations of the agents: docs/settings.md."""

from collections.abc import Iterable

import agents
from agents.settings import COMMON, PHASES
from utils.models.settings import Declared, Setting

INTRODUCTION = """# Settings

Each is a key of a config, `--agent.KEY=VALUE`. Agents declare theirs (`SETTINGS` in `agents/`) with
the defaults below; `configs.py` names what differs. Those marked *i* are of inference: a trained
agent can act with another value. `python scripts/list_settings.py > docs/settings.md` makes this
page.
"""
HEADER = ('setting', 'default', 'values', 'what it is')


def page() -> str:
    """Returns the page, in Markdown: what is common, and then what each agent has beyond."""
    with_phases = [name for name, module in agents.REGISTRY.items() if _has(module, PHASES)]
    sections = {
        'Every agent': COMMON,
        f'Agents with phases: {", ".join(with_phases)}': PHASES,
    }
    shared = (COMMON | PHASES).items()
    for name, module in agents.REGISTRY.items():
        sections[name] = dict(item for item in module.SETTINGS.items() if item not in shared)
    return '\n'.join([INTRODUCTION, *(_section(*item) for item in sections.items())])


def _has(module: object, declared: Declared) -> bool:
    return module.SETTINGS.keys() >= declared.keys()


def _section(title: str, declared: Declared) -> str:
    rows = [HEADER, ['---'] * len(HEADER), *(_row(*item) for item in declared.items())]
    return f'## {title}\n\n' + ''.join(map(_line, rows))


def _row(name: str, setting: Setting) -> tuple[str, ...]:
    mark = ' *i*' if setting.of_inference else ''
    return f'`{name}`{mark}', f'`{setting.default}`', setting.rule.allows, setting.words


def _line(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |\n'
