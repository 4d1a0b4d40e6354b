"""Run directories: where a run lives, what it was told, and whether it may be continued."""

import importlib.metadata
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from utils.errors import UserError

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
# What may change between the parts of a run without changing what it computes.
FREE = ('versions', 'python', 'devices', 'offline_steps')


def run_dir(save_dir: str, env_name: str, config_name: str, seeds: list[int]) -> Path:
    """Returns the directory of a run: SAVE_DIR/ENV/CONFIG/seeds_0_1_2."""
    members = '_'.join(str(seed) for seed in seeds)
    return Path(save_dir).expanduser() / env_name / config_name / f'seeds_{members}'


def describe(**settings: Any) -> dict[str, Any]:
    """Returns the record of a run, ready for JSON: its settings, all versions and devices."""
    return _plain(
        dict(
            settings,
            versions={name: importlib.metadata.version(name) for name in VERSIONED},
            python=platform.python_version(),
            devices=[device.device_kind for device in jax.devices()],
        )
    )


def open_runs(records: dict[Path, dict[str, Any]], resume: bool) -> None:
    """Starts or continues the runs of a population, given by their directories.

    Raises:
        UserError: a directory holds a run of another configuration, or one that nobody asked to
            resume; then nothing has been written to any.
    """
    for directory, record in records.items():
        _check_open(directory, record, resume)
    for directory, record in records.items():
        path = directory / 'config.json'
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix('.partial')
            partial.write_text(json.dumps(record, indent=2, allow_nan=False) + '\n')
            os.replace(partial, path)


def _check_open(directory: Path, record: dict[str, Any], resume: bool) -> None:
    if not (directory / 'config.json').exists():
        return
    differing = sorted(_differences(read_record(directory), record))
    if differing:
        raise UserError(
            f'{directory} holds a run of another configuration; these differ: '
            f'{", ".join(differing)}. Choose another --save_dir'
        )
    if not resume:
        raise UserError(
            f'{directory} already holds this run; pass --resume to continue it or choose '
            'another --save_dir'
        )


def read_record(directory: Path) -> dict[str, Any]:
    """Returns the record of the run in `directory`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = directory / 'config.json'
    if not path.is_file():
        raise UserError(
            f'{directory}: no run here (config.json is missing); give the run directory'
        )
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f'{path}: damaged ({error}); restore it from a copy') from error


def agent_config(record: dict[str, Any]) -> ConfigDict:
    """Returns the agent's config of a run's record."""
    config = {name: _number(value) for name, value in record['agent'].items()}
    for name in ('hidden_dims', 'head_dims'):
        if name in config:
            config[name] = tuple(config[name])
    return ConfigDict(config).lock()


def _differences(stored: dict[str, Any], record: dict[str, Any], prefix: str = '') -> list[str]:
    names = []
    for name in stored.keys() | record.keys():
        if not prefix and name in FREE:
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


def _number(value: Any) -> Any:
    return float(value) if value in ('inf', '-inf', 'nan') else value
