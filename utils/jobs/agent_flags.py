"""--agent and its overrides as they stand on the command line, checked before they are loaded."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from utils.errors import UserError, did_you_mean, nearest

GIVEN = re.compile(r'--?agent(?P<key>\.[^=]*)?(=(?P<value>.*))?', re.DOTALL)


def given(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the setting ('' for --agent itself) and the value of each such flag, in their order.

    Args:
        argv: the command line, its flag files already read.
    """
    until = argv.index('--') if '--' in argv else len(argv)
    found = []
    for place in range(1, until):
        if match := GIVEN.fullmatch(argv[place]):
            following = argv[place + 1] if place + 1 < until else ''
            value = following if match['value'] is None else match['value']
            found.append(((match['key'] or '').removeprefix('.'), value))
    return found


def check_config(argv: Sequence[str], configs_file: Path, known: Iterable[str]) -> None:
    """Checks that --agent, if it is given, is given once, and names a config of a file.

    Args:
        argv: the command line.
        configs_file: where configs are, as a rule.
        known: names of its configs.

    Raises:
        UserError: it does not; the line has the nearest flag that does.
    """
    values = [value for key, value in given(argv) if not key]
    if len(values) > 1:
        raise UserError(
            f'--agent: given {len(values)} times ({", ".join(values)}), but overrides belong to '
            'one; give it once, before its overrides'
        )
    for value in values:
        path, _, name = value.partition(':')
        if fault := _fault(Path(path), name, configs_file, sorted(known)):
            raise UserError(f"--agent: '{value}' {fault}")


def _fault(path: Path, name: str, configs_file: Path, known: list[str]) -> str:
    """Returns what is wrong with a config's path and name, and what would be right, or ''."""
    wanted = nearest(name, known) or nearest(path.stem, known) or 'evor'
    here = Path(configs_file.name)
    here = here if here.exists() and here.samefile(configs_file) else configs_file
    advice = f'give it as {here.name}:NAME; the nearest is --agent={here}:{wanted}'
    try:
        if not path.is_file():
            return f'is no file here; {advice}'
        if not path.samefile(configs_file):
            holds = 'get_config' in path.read_text(encoding='utf-8', errors='replace')
            return '' if holds else f'is a file without configs; {advice}'
    except (OSError, ValueError) as error:
        return f'cannot be read ({getattr(error, "strerror", None) or error}); {advice}'
    if not name:
        return f'lacks the name of a config; {advice}'
    if name not in known:
        return f'is not among the configs.{did_you_mean(name, known)} Known: {", ".join(known)}'
    return ''


def check_repeats(argv: Sequence[str], config: ConfigDict) -> None:
    """Checks that no list is given twice: the parser would append the second one to the first.

    Raises:
        UserError: one is.
    """
    counts = Counter(key for key, _ in given(argv) if key)
    for key, count in counts.items():
        if count > 1 and isinstance(config.get(key), tuple):
            raise UserError(
                f'--agent.{key}: given {count} times, which would be one list after the other; '
                f'give it once, as --agent.{key}=(64,64)'
            )
