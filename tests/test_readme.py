"""Every command of the README and the guides runs, made small by flags that are appended to it."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import configs
from tests import foreign_files
from utils.storage.metrics import CsvTable

ROOT = Path(__file__).resolve().parents[1]
# In the order in which a newcomer reads them: later pages use what commands before have made.
PAGES = ['README.md', 'docs/data.md', 'docs/environments.md', 'docs/training.md']
PAGES += ['docs/base-policies.md', 'docs/evaluation.md', 'docs/deploy.md', 'docs/reporting.md']
PAGES += ['docs/sweeps.md']
PAGES += ['docs/results/value-models.md', 'docs/results/speed.md']
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


def commands_of(text):
    """Lines of a page's shell blocks."""
    return [
        line
        for block in re.findall(r'```bash\n(.*?)```', text, flags=re.DOTALL)
        for line in re.sub(r'\\\n\s*', '', block).splitlines()
        if line and not line.startswith('#')
    ]


MATHEMATICS = (ROOT / 'docs/math.md').read_text()
COMMANDS = [line for text in TEXTS.values() for line in commands_of(text)]

SMALL_AGENT = ['--agent.hidden_dims=(8,)', '--agent.batch_size=16']
SMALL = {
    'scripts/generate_data.py': ['--episodes=1', '--workers=1', '--dataset_dir=data'],
    'scripts/check_data.py': ['--dataset_dir=data'],
    'scripts/import_data.py': [],
    'pendulum.py': [],
    'main.py': [
        '--dataset_dir=data',
        '--offline_steps=4',
        '--log_interval=2',
        '--eval_interval=4',
        '--eval_episodes=1',
        '--save_interval=4',
        *SMALL_AGENT,
    ],
    # What comes after -- are flags of main.py.
    'scripts/sweep.py': [
        '--dataset_dir=data',
        '--elements=0',
        '--',
        '--offline_steps=4',
        '--log_interval=2',
        '--save_interval=4',
        '--eval_interval=0',
        *SMALL_AGENT,
    ],
    'scripts/sweep_inference.py': ['--eval_episodes=1', '--n_pi=1,64', '--tau_q=0', '--tau_r=1'],
    'scripts/evaluate.py': ['--eval_episodes=1', '--n_pi=1,4', '--tau_q=0'],
    'scripts/export_policy.py': [],
    'scripts/check_policy.py': ['--dataset_dir=data', '--eval_episodes=1', '--samples=64'],
    'scripts/check_values.py': ['--dataset_dir=data', '--samples=64'],
    'benchmarks.return_distribution': [
        '--steps=2',
        '--processes=uniform',
        '--seeds=1',
        '--models=coupled, lam 0',
        '--models=C51',
    ],
    'benchmarks.flow_steps': [
        '--steps=2',
        '--seeds=1',
        '--processes=uniform',
        '--solvers=1 euler,1 heun',
        '--fine=1 euler',
    ],
    'benchmarks.throughput': [
        '--agents=evor,bc',
        '--settings=hidden_dims=8x8',
        '--populations=1x1',
        '--observations=1',
        '--return_samples=1',
        '--repeats=1',
        '--seconds=0',
        '--eval_envs=1',
    ],
    'benchmarks.latency': ['--agents=bc_small', '--decisions=2'],
    'benchmarks.projection': [],
    'benchmarks.breakdown': ['--agent=bc_small', '--populations=1x1', '--updates=2'],
    'benchmarks.comparison': ['--timed_steps=1'],
    'benchmarks.checkpointing': ['--agents=bc_small', '--populations=1x1', '--timed_steps=1'],
    'scripts/make_tables.py': [],
    'scripts/make_figures.py': ['--dataset_dir=data'],
    'scripts/report.py': ['--dataset_dir=data', '--novideos'],
    'benchmarks.calibration': [
        '--dataset_dir=data',
        '--steps=2',
        '--rows=2',
        '--flow_steps=1',
        '--models=coupled, lam 0',
    ],
}
# What readers save from a page, by the page.
SAVED = {'neighbours.py': 'docs/base-policies.md', 'pendulum.py': 'docs/environments.md'}
# Evaluations take most of the time; `tests/test_cli.py` has those of joint and noisy runs.
NOT_EVALUATED = ('--tasks=', ':bc', '--action_noise=', '--dataset_path=', 'fql_cube', 'iql_cube')
# `make test` is what runs this file; `make demo` is tested below.
MAKE = ['make demo', 'make test']


def run(arguments, cwd, **variables):
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder from which the README's relative paths lead to the repository's files."""
    path = tmp_path_factory.mktemp('readme')
    for name in ('main.py', 'configs.py', 'scripts', 'benchmarks', 'agents', 'utils', 'results'):
        (path / name).symlink_to(ROOT / name)
    for name, page in SAVED.items():
        [program] = re.findall(r'```python\n(.*?)```', TEXTS[page], re.DOTALL)
        (path / name).write_text(program)
    return path


def test_the_readme_is_short():
    assert len(TEXTS['README.md'].splitlines()) <= 150


@pytest.mark.parametrize('name', ['qc5_pool', 'evor5_pool_c51'])
def test_the_table_of_cube_double_is_of_the_committed_rows(name):
    page = (ROOT / 'docs/results/cube-double.md').read_text()
    [line] = [line for line in page.splitlines() if line.startswith(f'| `{name}` (')]
    *cells, mean = (cell.strip() for cell in line.split('|')[2:-1])
    rates = []
    for task, cell in enumerate(cells, start=1):
        folder = ROOT / f'results/tasks25/cube-double-play-singletask-task{task}-v0/{name}/seeds_0'
        *_, row = CsvTable(folder / 'eval.csv').read()
        rate, low, high = (
            100 * float(row[key]) for key in ('success', 'success_low', 'success_high')
        )
        assert cell == f'{rate:.1f} [{low:.1f}, {high:.1f}]'
        rates.append(rate)
    assert len(rates) == 5
    assert mean == f'{sum(rates) / 5:.1f}'


@pytest.mark.parametrize(
    'page', ['README.md', *(str(path.relative_to(ROOT)) for path in ROOT.glob('docs/**/*.md'))]
)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r'\]\(([^)\s#]+)[^)]*\)', text):
        if '://' not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_case_of_troubleshooting_has_its_test():
    page = (ROOT / 'docs/troubleshooting.md').read_text()
    named = set(re.findall(r'`(test_\w+)`', page))
    assert len(named) > 40
    sources = ''.join(path.read_text() for path in (ROOT / 'tests').glob('test_*.py'))
    assert named <= set(re.findall(r'^def (test_\w+)', sources, re.MULTILINE))


def test_the_mathematics_is_where_the_page_says():
    references = re.findall(r'`((?:agents|utils)/[\w/]+)\.py:(\w+)`', MATHEMATICS)
    assert len(references) > 15
    for module, name in references:
        assert callable(getattr(importlib.import_module(module.replace('/', '.')), name))


def test_the_readme_names_the_two_commands():
    assert [command for command in COMMANDS if command.startswith('make')] == MAKE


def write_foreign_files(folder, monkeypatch):
    """What readers of the guide to data bring from other tools."""
    given = foreign_files.trajectories()
    foreign_files.write_d4rl(folder / 'maze.hdf5', given)
    foreign_files.write_minari('maze/own-v0', given, folder, monkeypatch)
    foreign_files.write_robomimic(folder / 'demos.hdf5', given)
    foreign_files.write_lerobot(folder / 'lerobot_maze', foreign_files.trajectories(scale=3.0))
    foreign_files.write_arrays(folder / 'arrays.npz', given)


JOBS = {path.stem: path.read_text() for path in ROOT.glob('utils/jobs/*.py')}
NAMED = {'agent': configs.CONFIGS, 'suite': configs.SUITES}
SETTINGS = {key for name in configs.CONFIGS for key in configs.get_config(name)}


def source_of(script):
    """The text of a script and of the modules of jobs that it imports: where its flags are."""
    found, new = {}, {script: (ROOT / script).read_text()}
    while new:
        found |= new
        new = {
            name: text
            for name, text in JOBS.items()
            if name not in found and any(re.search(rf'\b{name}\b', own) for own in new.values())
        }
    return '\n'.join(found.values())


def unknown(command):
    """What a command names that is not here: its script, flags, settings, a config, a suite."""
    words = shlex.split(command.partition('python ')[2])
    script = f'{words[1].replace(".", "/")}.py' if words[0] == '-m' else words[0]
    if not (ROOT / script).is_file():
        return [] if script in SAVED else [script]
    source, missing = source_of(script), []
    for word in words[1:]:
        flag, _, value = word.removeprefix('--').removeprefix('no').partition('=')
        if not word.startswith('--') or not flag:
            continue
        if '$' in value:
            found = True  # the loop that sets it is not read
        elif flag in NAMED:
            found = value.removeprefix('configs.py:') in NAMED[flag]
        elif flag.startswith('agent.'):
            found = flag.removeprefix('agent.') in SETTINGS
        else:
            of_inference = 'setting_flags' in source and flag in SETTINGS  # in lists
            found = f"'{flag}'" in source or of_inference
        missing += [] if found else [word]
    return missing


# Also of pages whose commands nobody runs here: loops, GPUs, hours.
EVERYWHERE = dict.fromkeys(
    command.strip()
    for page in [ROOT / 'README.md', *ROOT.glob('docs/**/*.md')]
    if page.name != 'adding-an-agent.md'  # a test of its own adds that agent
    for line in commands_of(page.read_text())
    for command in re.findall(r'python [^;|&>]*', line)
)


@pytest.mark.parametrize('command', EVERYWHERE)
def test_what_a_command_names_is_there(command):
    assert unknown(command) == []


@pytest.mark.parametrize(
    'command',
    [
        'python scripts/evaluated.py --run=exp',
        'python main.py --agent=configs.py:evr',
        'python main.py --agent=configs.py:evor --agent.tau_x=1',
        'python main.py --offline_stepz=3',
        'python main.py --workers=8',
        'python scripts/sweep.py --suite=paper26',
    ],
)
def test_what_is_not_there_is_found(command):
    assert len(unknown(command)) == 1


@pytest.mark.long
@pytest.mark.xdist_group('readme')
def test_every_command_runs_in_order(folder, monkeypatch):
    write_foreign_files(folder, monkeypatch)
    for command in COMMANDS:
        if command in MAKE:
            continue
        before, _, rest = command.partition('python ')
        variables = dict(part.split('=', 1) for part in before.split())
        assert rest, f'nobody runs this command: {command}'
        arguments = shlex.split(rest)
        script = arguments[1] if arguments[0] == '-m' else arguments[0]
        small = [*SMALL[script]]
        if '--dataset_dir=' in command:
            small.remove('--dataset_dir=data')
        if script == 'main.py' and any(part in command for part in NOT_EVALUATED):
            small.append('--eval_interval=0')
        if '--online_steps=' in command:
            small.append('--online_steps=3')
        if '_pool' in command or 'sweep.py --suite=tasks25' in command:
            small.append('--agent.policy_steps=4')
        run([*arguments, *small], folder, **variables)
        if script == 'scripts/generate_data.py':
            # What a reader brings under this name: any file in OGBench's format.
            (folder / 'mine.npz').write_bytes(
                (folder / 'data/cube-single-play-v0.npz').read_bytes()
            )
    for block in re.findall(r'```python\n(.*?)```', TEXTS['docs/deploy.md'], re.DOTALL):
        small = block.replace('episodes=50', 'episodes=1')
        run(['-c', small], folder, PYTHONPATH=f'{folder}/policies/cube')


@pytest.mark.long
@pytest.mark.xdist_group('readme')
def test_the_demo_runs(folder):
    arguments = ['--episodes=1', '--offline_steps=6', '--eval_episodes=1', '--n_pi=1,16']
    output = run(['scripts/demo.py', '--out=demo', *arguments], folder)
    assert '| base policy alone | 1 |' in output
    assert '| EVOR | 16 |' in output
    assert 'of this agent, not of training it again' in output
    for name in ('learning_curve.png', 'success_against_n_pi.png'):
        assert (folder / 'demo' / name).read_bytes().startswith(b'\x89PNG')


def test_the_table_of_limits_is_of_the_committed_rows():
    page = (ROOT / 'docs/results/before-the-audit.md').read_text()
    tables = sorted((ROOT / 'results/limits').glob('*/*/*/values.csv'))
    assert len(tables) == 5
    for table in tables:
        rows = np.genfromtxt(table, delimiter=',', names=True)
        rows = rows[rows['step'] == rows['step'].max()]
        quarters = [rows[rows['quarter'] == quarter] for quarter in (1, 2, 3, 4)]

        def cell(name, form, quarters=quarters):
            return ' '.join(form.format(part[name].mean()).lstrip('0') for part in quarters)

        cells = [f'{int(rows["step"][0]):,}', cell('spread', '{:.3f}')]
        cells += [cell('effective_candidates', '{:.1f}'), cell('agreement', '{:.2f}')]
        assert f'| {" | ".join(cells)} |' in page
