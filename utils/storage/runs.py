"""Run directories: where a run lives, what it was told, and whether it may be continued."""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from utils import files
from utils.errors import UserError
from utils.system import processor

VERSIONED = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'numpy',
    'ogbench',
    'mujoco',
    'gymnasium',
)
# Bytes; some filesystems, as encrypted ones, take no more.
LONGEST_NAME = 143
RECORD, STATUS = 'config.json', 'status.json'
BASE_POLICIES = 'base_policies'  # folder below SAVE_DIR
MACHINE = ('versions', 'python', 'devices', 'processor', 'cores')
# What may change between the parts of a run without changing what it computes.
# A base policy is known by its digest, whichever task's run of `bc` it was found in.
FREE = (*MACHINE, 'offline_steps', 'base_policy.env_name')
# What records of earlier versions say nothing of.
LATER = ('contents', 'online')


def run_dir(save_dir: str, env_name: str, config_name: str, seeds: list[int]) -> Path:
    """Returns the directory of a run: SAVE_DIR/ENV/CONFIG/seeds_0_1_2.

    Of many seeds the name is a range or a digest, unless an earlier version has written them all.
    """
    folder, name = Path(save_dir).expanduser() / env_name / config_name, _seeds_name(seeds)
    if len(name) <= LONGEST_NAME or os.path.exists(folder / name):
        return folder / name
    if seeds == list(range(seeds[0], seeds[-1] + 1)):
        return folder / f'seeds_{seeds[0]}_to_{seeds[-1]}'
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return folder / f'seeds_{seeds[0]}_and_{len(seeds) - 1}_more_{digest}'


def _seeds_name(seeds: list[int]) -> str:
    return f'seeds_{"_".join(map(str, seeds))}'


def describe(**settings: Any) -> dict[str, Any]:
    """Returns the record of a run, ready for JSON: its settings, all versions and the machine."""
    return _plain(
        dict(
            settings,
            versions={name: importlib.metadata.version(name) for name in VERSIONED},
            python=platform.python_version(),
            devices=[device.device_kind for device in jax.devices()],
            processor=processor.name(),
            cores=os.cpu_count(),
        )
    )


def hardware(record: dict[str, Any]) -> str:
    """Returns what a run was trained on: its accelerators or, without any, the processor."""
    devices = list(dict.fromkeys(record.get('devices', ['unknown'])))
    if devices == ['cpu'] and record.keys() >= {'processor', 'cores'}:
        return f'{record["processor"]}, {record["cores"]} cores'
    return ', '.join(devices)


def seed_of(record: dict[str, Any], directory: Path, seed: int | None) -> int:
    """Returns a seed of the run in `directory`; None: its first.

    Raises:
        UserError: the run has no such seed.
    """
    seeds = record['seeds']
    if seed is not None and seed not in seeds:
        raise UserError(f'--seed: {directory} has the seeds {seeds}, not {seed}')
    return seeds[0] if seed is None else seed


def check_records(
    records: dict[Path, dict[str, Any]],
    without: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Checks that directories hold no other runs than these; writes nothing.

    Args:
        records: of the runs, by their directories.
        without: keys of records that are not known yet.
        defaults: of the agent's settings; what an earlier version's record lacks of them has them.

    Raises:
        UserError: a directory holds a run of another configuration.
    """
    for directory, record in records.items():
        if not (directory / RECORD).exists():
            continue
        stored = _read_json(directory / RECORD)
        stored = {name: value for name, value in stored.items() if name not in without}
        stored = {name: record[name] for name in LATER if name in record} | stored
        if defaults and 'agent' in stored:
            stored['agent'] = _plain({**defaults}) | stored['agent']
        differing = sorted(_differences(stored, record))
        if differing:
            raise UserError(
                f'{directory} holds a run of another configuration; these differ: '
                f'{", ".join(differing)}. Choose another --save_dir, or another name by '
                '--agent.config_name'
            )


def write_records(records: dict[Path, dict[str, Any]]) -> None:
    """Writes the records of runs that begin; those that go on have theirs."""
    for directory, record in records.items():
        if not (directory / RECORD).exists():
            files.write_json(directory / RECORD, record)


def record_online(directories: Iterable[Path], after: int, share: float) -> None:
    """Adds to records that were written without it that a run goes on online.

    Args:
        directories: of the runs.
        after: so many updates.
        share: of a batch that is collected.
    """
    for directory in directories:
        stored = _read_json(directory / RECORD)
        if 'online' not in stored:
            stored |= dict(online=dict(after=after, share=share))
            files.write_json(directory / RECORD, stored)


class Status:
    """Tells onlookers how runs are doing, in status.json; use as a context manager.

    A failure within is told before it is raised again.
    """

    def __init__(self, directories: list[Path], total_steps: int):
        """Tells of runs that are trained together.

        Args:
            directories: of the runs.
            total_steps: updates in all.
        """
        self._directories, self._total_steps = directories, total_steps
        self._step = 0

    def __enter__(self) -> 'Status':
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            with contextlib.suppress(OSError):  # the disk may be what failed
                self.tell('failed', self._step, ' '.join(f'{error}'.split()) or kind.__name__)

    def tell(self, state: str, step: int, reason: str = '') -> None:
        """Writes how the runs are doing.

        Args:
            state: 'running', 'stopped' (the same command goes on), 'finished' or 'failed'.
            step: updates done and saved.
            reason: why they stopped or failed.
        """
        self._step = step
        content = dict(
            state=state,
            step=step,
            total_steps=self._total_steps,
            reason=reason,
            host=platform.node(),
            pid=os.getpid(),
            time=time.time(),
        )
        for directory in self._directories:
            files.write_json(directory / STATUS, content)


def read_status(directory: Path) -> dict[str, Any] | None:
    """Returns what `Status` wrote last, or None.

    Raises:
        UserError: the file is damaged.
    """
    return _read_json(directory / STATUS) if (directory / STATUS).is_file() else None


def read_record(directory: Path) -> dict[str, Any]:
    """Returns the record of the run in `directory`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = directory / RECORD
    if not path.is_file():
        raise UserError(
            f'{directory}: no run here (config.json is missing); give the run directory'
        )
    record = _read_json(path)
    check_record(record, path)
    return record


def check_record(record: dict[str, Any], path: Path) -> None:
    """Checks that a record has what nothing can be restored without.

    Raises:
        UserError: it has not.
    """
    if wrong := _wrong_key(record):
        raise UserError(
            f'{path}: damaged ({wrong} is missing or not what a run has); restore it from a copy'
        )


def _wrong_key(record: dict[str, Any]) -> str | None:
    """Returns a key of a record without which, or with whose value, nothing can be restored."""
    kinds = dict(env_name=str, seeds=list, agent=dict, observation_dim=int, action_dim=int)
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            return name
    seeds, agent = record['seeds'], record['agent']
    if not seeds or any(type(seed) is not int or not 0 <= seed < 2**63 for seed in seeds):
        return 'seeds'
    nested = any(isinstance(value, dict) for value in agent.values())
    return 'agent' if nested or not isinstance(agent.get('config_name'), str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path}: damaged ({error}); restore it from a copy') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: damaged (not a JSON object); restore it from a copy')
    return content


def agent_config(record: dict[str, Any]) -> ConfigDict:
    """Returns the agent's config of a run's record.

    Raises:
        UserError: it has a name that no setting can have.
    """
    config = {name: _setting(value) for name, value in record['agent'].items()}
    try:
        return ConfigDict(config).lock()
    except (AttributeError, KeyError, ValueError) as error:
        raise UserError(f'config.json: no setting of an agent: {error}; restore it') from error


def _differences(stored: dict[str, Any], record: dict[str, Any], prefix: str = '') -> list[str]:
    names = []
    for name in stored.keys() | record.keys():
        if f'{prefix}{name}' in FREE:
            continue
        one, other = stored.get(name), record.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _differences(one, other, f'{prefix}{name}.')
        elif one != other:
            names.append(f'{prefix}{name} ({one} there, {other} here)')
    return names


def _plain(value: Any) -> Any:
    """Makes a value fit for strict JSON, which has neither tuples nor infinity."""
    if isinstance(value, (dict, ConfigDict)):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _setting(value: Any) -> Any:
    """The inverse of `_plain`, for a value that is no dict."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if value in ('inf', '-inf', 'nan') else value
