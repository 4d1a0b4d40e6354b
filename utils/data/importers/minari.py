"""Local Minari datasets, by the `minari` package: episodes with one more observation than steps.

`terminations` are ends by reward; all other ends are by time.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from utils.data.importers import hdf5, libraries, table
from utils.data.importers.options import Options, takes_successors
from utils.data.importers.table import Imported, Table
from utils.errors import UserError

USES = {'observations', 'rewards', 'ends_by_reward', 'next_observations'}
METADATA = 'metadata.json'
# Of columns: what is in a dictionary of observations, and what each step leads to.
PART, NEXT = 'observations/', 'next '
# What the package and what it reads with raise on garbage.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, AssertionError)


def read(path: Path, options: Options) -> Imported:
    """Reads a dataset's folder.

    Args:
        path: of the folder, or of the folder `data` in it.
        options: `observations` are needed where an observation is a dictionary; `rewards` and
            `ends_by_reward` may be other ones than the episodes' rewards and terminations;
            `next_observations` may leave out what last steps lead to.

    Raises:
        UserError: the dataset is damaged, its observations or actions are not flat numbers, a flag
            is needed, or minari is not installed.
    """
    minari = libraries.load('minari')
    follows = takes_successors(path, options)
    folder = path / 'data' if (path / 'data').is_dir() else path
    _check_spaces(folder)
    for file in folder.glob('*.hdf5'):
        hdf5.check_all(file)
    with libraries.whole(path, 'Minari dataset', DAMAGE):
        dataset = minari.MinariDataset(folder)
        episodes = list(dataset.iterate_episodes())
        expected = dataset.total_steps
    action_range = _action_range(path, dataset.action_space)
    _check_lengths(path, episodes, expected)
    columns, terminals = _columns(path, episodes)
    chosen = _observations(path, columns, options.observations)
    complete = options._replace(
        observations=chosen,
        actions='actions',
        rewards=options.rewards or 'rewards',
        ends_by_reward=options.ends_by_reward or 'terminations',
        next_observations=tuple(f'{NEXT}{name}' for name in chosen if follows),
    )
    arrays = table.assemble(Table(path, tuple(columns), columns.__getitem__, terminals), complete)
    files = sorted(file for file in folder.rglob('*') if file.is_file())
    return Imported(arrays, files, action_range)


def _observations(path: Path, columns: Iterable[str], given: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the columns of observations, in their order."""
    parts = [name.removeprefix(PART) for name in columns if name.startswith(PART)]
    if not parts and not given:
        return ('observations',)
    if not given or not set(given) <= set(parts):
        raise UserError(
            f'{path}: which parts of an observation, and in which order, cannot be told; give '
            f'--observations=KEY,KEY, out of {", ".join(parts)}'
            if parts
            else f'--observations: those of {path} have no parts; leave it out'
        )
    return tuple(f'{PART}{name}' for name in given)


def _check_spaces(folder: Path) -> None:
    """Checks that the spaces are told; else Minari would run code that the data names."""
    path = folder / METADATA
    with libraries.whole(path, 'JSON file', (OSError, ValueError, RecursionError)):
        metadata = json.loads(path.read_text())
    for name in ('observation_space', 'action_space'):
        if not isinstance(metadata, dict) or not isinstance(metadata.get(name), str):
            raise UserError(f"{path}: has no '{name}'; make the dataset again by minari >= 0.5")


def _check_lengths(path: Path, episodes: list[Any], expected: int) -> None:
    lengths = [len(episode.rewards) for episode in episodes]
    if sum(lengths) != expected or not all(lengths):
        raise UserError(
            f'{path}: its {METADATA} tells of {expected} steps, its {len(lengths)} episodes have '
            f'{sum(lengths)}; expected as many, and none without steps; fetch or make it again'
        )


def _columns(path: Path, episodes: list[Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns columns of all steps, with observations before and after them, and last rows."""
    parts: dict[str, list[np.ndarray]] = {}
    for episode in episodes:
        steps = len(episode.rewards)
        own = {name: np.asarray(getattr(episode, name)) for name in ('rewards', 'terminations')}
        own |= _flat('actions', episode.actions)
        for name, values in _flat('observations', episode.observations).items():
            if len(values) != steps + 1:
                raise UserError(
                    f"{path}: '{name}' of episode {episode.id} has {len(values)} rows; expected "
                    f'{steps + 1}, one more than steps'
                )
            own |= {name: values[:-1], f'{NEXT}{name}': values[1:]}
        for name, values in own.items():
            parts.setdefault(name, []).append(values)
    for name, own in parts.items():
        if len(own) != len(episodes) or len({part.shape[1:] for part in own}) > 1:
            raise UserError(f"{path}: '{name}' is not of the same size in all episodes")
    terminals = np.zeros(sum(len(part) for part in parts['rewards']), bool)
    terminals[np.cumsum([len(part) for part in parts['rewards']]) - 1] = True
    return {name: np.concatenate(own) for name, own in parts.items()}, terminals


def _flat(name: str, value: Any) -> dict[str, np.ndarray]:
    """Returns the arrays in nested dictionaries and tuples, by their paths."""
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: np.asarray(value)}
    return {
        path: array
        for key, part in value.items()
        for path, array in _flat(f'{name}/{key}', part).items()
    }


def _action_range(path: Path, space: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f'{path}: actions are of {space}; expected a Box of numbers in a row')
    bounded = np.isfinite(space.low).all() and np.isfinite(space.high).all()
    return (space.low, space.high) if bounded else None
