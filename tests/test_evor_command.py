"""`evor VERB`: the command of that name, and nothing else."""

import subprocess
import sys
import tomllib

import pytest

from scripts import evor
from tests.commands import ROOT, run_here
from tests.test_cli import assert_one_line


def run(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'scripts.evor', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_verbs_lead_to_commands():
    assert all((ROOT / path).is_file() for path in evor.VERBS.values())


def test_what_is_installed_is_this_command():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    assert project['scripts'] == {'evor': 'scripts.evor:main'}
    assert callable(evor.main)


def test_a_verb_takes_the_flags_of_its_command_and_ends_as_that_does():
    result = run('train', '--agent.nothing=1')
    alone = run_here('main.py', '--agent.nothing=1')
    assert alone.returncode == result.returncode == 2
    assert alone.stderr == result.stderr != ''


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['trian'], "Did you mean 'train'?"), ([], 'name a command'), (['--help'], 'Known: train')],
    ids=['misspelt', 'none', 'a flag'],
)
def test_another_verb_costs_one_line(arguments, message):
    assert_one_line(run(*arguments), message)
