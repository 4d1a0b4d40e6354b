"""The guide to a new agent: its edits are made in a copy of the repository, its commands run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / 'docs/adding-an-agent.md').read_text()
COPIED = 'agents', 'utils', 'scripts', 'tests', 'docs', 'configs.py', 'main.py', 'pyproject.toml'
SMALL = {
    'main.py': [
        '--dataset_dir=data',
        '--offline_steps=4',
        '--eval_interval=0',
        '--agent.hidden_dims=(8,)',
        '--agent.batch_size=16',
    ],
    'scripts/evaluate.py': ['--eval_episodes=1'],
}


def blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', GUIDE, re.DOTALL)


def replace_line(path, line):
    """Puts a line in the place of the one that begins like it."""
    name = line.partition(' = ')[0]
    text, count = re.subn(rf'^{name} = .*$', line, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def python(folder, *arguments):
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A copy of the repository with the guide's agent in it, and a little data."""
    path = tmp_path_factory.mktemp('repository')
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, path / name)
    agent, registered = blocks('python')
    (path / 'agents/one_step.py').write_text(agent)
    replace_line(path / 'agents/__init__.py', registered.strip())
    script, _, page = blocks('bash')[0].split()[1:]
    (path / page).write_text(python(path, script))
    data = '--dataset=pointmaze-medium-navigate-v0', '--episodes=1', '--workers=1'
    python(path, 'scripts/generate_data.py', *data, '--dataset_dir=data')
    return path


def test_the_agent_is_short():
    lines = blocks('python')[0].splitlines()
    assert f'a working agent in {len(lines)} lines' in (ROOT / 'README.md').read_text()
    code = [line for line in lines if line and not line.lstrip().startswith('"""')]
    assert len(code) <= 46


@pytest.mark.parametrize('check', [['check'], ['format', '--check']])
def test_the_agent_passes_the_checks_of_style(check):
    named = '--no-cache', '--stdin-filename=agents/one_step.py', '-'
    command = [sys.executable, '-m', 'ruff', *check, *named]
    agent = blocks('python')[0]
    result = subprocess.run(
        command, cwd=ROOT, input=agent, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.long
def test_what_all_agents_have_in_common_is_tested_for_it(folder):
    """Its name in the registry is all that the tests of every agent need."""
    contracts = 'tests/test_baselines.py', 'tests/test_configs.py', '-k', 'one_step or page'
    output = python(folder, '-m', 'pytest', *contracts, '-p', 'no:cacheprovider')
    assert int(re.search(r'(\d+) passed', output)[1]) >= 10


@pytest.mark.long
def test_its_commands_run(folder):
    _, train, evaluate = (line.split()[1:] for line in blocks('bash')[1].splitlines())
    python(folder, *train, *SMALL[train[0]])
    output = python(folder, *evaluate, *SMALL[evaluate[0]])
    assert re.search(r'n_pi 32 .*success', output)


@pytest.mark.long
def test_what_is_called_otherwise_is_evaluated_too(folder):
    """Scripts know a run's settings by its agent, not by the name of its config."""
    _, train, evaluate = (line.split()[1:] for line in blocks('bash')[1].splitlines())
    python(folder, *train, *SMALL[train[0]], '--agent.config_name=mine')
    mine = [argument.replace('/one_step/', '/mine/') for argument in evaluate]
    python(folder, *mine, *SMALL[evaluate[0]])
