"""The floor plan: which room imports which. Arrows point down: a room is read by itself."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the ground up. A room imports itself and those before it.
FLOORS = (
    'utils',  # errors, files, csv_lines, statistics
    'utils.system',
    'utils.environments',
    'utils.data',
    'utils.models',
    'utils.storage',
    'utils.rollouts',
    'utils.training',
    'utils.generation',
    'agents',
    'utils.sweeps',
    'configs',
    'utils.jobs',
    'utils.deploy',
    'utils.reporting',
    'benchmarks',
    'main',
    'scripts',
)
HERE = {name.split('.')[0] for name in FLOORS}


def room(module):
    """The longest name of a floor that a module's name begins with."""
    parts = module.split('.')
    names = ['.'.join(parts[:end]) for end in (2, 1)]
    return next(name for name in names if name in FLOORS)


def imported(path):
    """What a file imports of this repository, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split('.')[0] in HERE)


def files():
    """Every source file with its dotted name."""
    for top in sorted(HERE):
        file = ROOT / f'{top}.py'
        for path in [file] if file.exists() else (ROOT / top).rglob('*.py'):
            yield path, '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def upward(path, module):
    own = FLOORS.index(room(module))
    return [name for name in imported(path) if FLOORS.index(room(name)) > own]


def test_no_room_imports_one_above_it():
    assert {module: names for path, module in files() if (names := upward(path, module))} == {}


def test_an_arrow_upwards_is_found(tmp_path):
    (tmp_path / 'room.py').write_text('def later():\n    from utils.training import trainer\n')
    assert upward(tmp_path / 'room.py', 'utils.models.networks') == ['utils.training.trainer']
    assert upward(tmp_path / 'room.py', 'utils.jobs.phases') == []


def test_every_room_says_what_it_is_for():
    for package in sorted((ROOT / 'utils').rglob('*')):
        if package.is_dir() and any(package.glob('*.py')):
            assert ast.get_docstring(ast.parse((package / '__init__.py').read_text())), package
