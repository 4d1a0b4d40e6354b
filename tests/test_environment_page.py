"""The page of environments: every state environment of OGBench has its row, and it is right."""

from pathlib import Path

import gymnasium
import ogbench  # noqa: F401  # registers its environments
import pytest

from utils.environments import envs
from utils.reporting import environment_page

PAGE = (Path(__file__).resolve().parents[1] / 'docs/environments.md').read_text()


def environments_of(page):
    """First cells of the last table."""
    lines = page[page.index('| environment |') :].splitlines()[2:]
    return [line.split('|')[1].strip() for line in lines]


def test_every_environment_of_ogbench_has_a_row():
    specs = gymnasium.registry.items()
    ids = [name for name, spec in specs if str(spec.entry_point).startswith('ogbench')]
    plain = {name.removesuffix('-v0') for name in ids if 'singletask' not in name}
    rows = environments_of(PAGE)
    families = [row.removesuffix('*') for row in rows if row.endswith('*')]
    own = {name for name in plain if not name.startswith(tuple(families))}
    assert own == {row for row in rows if not row.endswith('*')}
    assert all(envs.why_unusable(family) for family in families)


def test_what_is_not_supported_says_why():
    for line in PAGE.splitlines():
        if 'not supported: ' in line and line.startswith('|'):
            _, name, kinds, reason, *_ = (cell.strip() for cell in line.split('|'))
            assert kinds == ''
            assert reason == f'not supported: {envs.why_unusable(name)}'


@pytest.mark.long
def test_the_table_is_that_of_the_environments():
    assert PAGE.endswith(environment_page.table()), (
        'put what `python scripts/list_environments.py` prints at the end of docs/environments.md'
    )
