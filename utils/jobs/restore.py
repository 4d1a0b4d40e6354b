"""Loads what a run has trained and its held-out data, for scripts that only act."""

from pathlib import Path
from typing import Any

import agents
from agents import Agent, frozen, records
from utils.data import dataset_files, datasets, fetching, shards
from utils.environments import action_maps, descriptions, envs, wrappers
from utils.environments.descriptions import NONE, Environment, name_of
from utils.errors import UserError
from utils.storage import checkpoints, runs
from utils.system import compilation, guards
from utils.training import populations


def restore(
    directory: Path,
    record: dict[str, Any],
    environment: Environment,
    step: int | None,
    draws: bool = False,
) -> tuple[Agent, Any, int]:
    """Returns a run's agent, its population and the step of the checkpoint.

    Args:
        directory: of the run.
        record: its `config.json`.
        environment: where the agent is to act; sizes must fit. NONE: nowhere.
        step: of the checkpoint; None: the newest.
        draws: whether environments are to draw, which MuJoCo settles once for a process.

    Raises:
        UserError: JAX finds no device, the environment does not fit, or there is no such
            checkpoint.
    """
    if environment != NONE:
        sizes = {name: record[name] for name in ('observation_dim', 'action_dim')}
        _check_sizes(directory, sizes, environment, draws)
    compilation.keep_programs()
    return restore_alone(directory, record, step)


def restore_alone(
    directory: Path, record: dict[str, Any], step: int | None
) -> tuple[Agent, Any, int]:
    """Does what `restore` does, without an environment to act in, and changes no setting of JAX.

    Raises:
        UserError: JAX finds no device, or there is no such checkpoint.
    """
    guards.check_platform(None)
    config = records.config_of(record, directory)
    spec = agents.Spec(record['observation_dim'], record['action_dim'])
    agent = frozen.restored(agents.create(config, spec), record)
    shapes = populations.shapes(agent.init, record['seeds'])
    return agent, *checkpoints.read(directory, step, shapes)


def _check_sizes(
    directory: Path, sizes: dict[str, int], environment: Environment, draws: bool
) -> None:
    env = envs.make_env(environment, draws=draws)
    spaces = env.observation_space, env.action_space
    for (name, size), space in zip(sizes.items(), spaces, strict=True):
        if space.shape != (size,):
            raise UserError(
                f'{directory}: trained with {name} {size}, but {name_of(environment)} has '
                f'{space.shape[0]}; choose an environment of these sizes'
            )


def held_out(
    record: dict[str, Any], directory: Path, url: str | None = None
) -> tuple[datasets.Dataset, Path]:
    """Returns the held-out transitions that belong to a run's data, and where they lie.

    Args:
        record: the run's `config.json`.
        directory: of the datasets.
        url: where a missing one of OGBench's comes from; None: nowhere.

    Raises:
        UserError: there is none, or its actions were mapped otherwise than the run's.
    """
    environment = descriptions.recorded(record, Path(runs.RECORD))
    path, parts = _held_out_files(record, directory, url)
    if action_maps.of_files(parts) != action_maps.recorded(record, path):
        raise UserError(
            f'{path}: its actions were not mapped as those that the run learned from; import it '
            'with --action_range=RECORD.json of these'
        )
    env = None if environment == NONE else envs.make_env(environment)
    [arrays] = dataset_files.load(path, {record['env_name']: env}, parts)
    return datasets.build(arrays), path


def _held_out_files(
    record: dict[str, Any], directory: Path, url: str | None
) -> tuple[Path, list[Path]]:
    """Returns a held-out file, or the folder of its shards, and the files to read."""
    official = envs.dataset_name(record['env_name'])
    own = Path(record.get('dataset', {}).get('file', official))
    if own.stem == official:
        noise = wrappers.recorded_noise(record)
        if url is not None:
            fetching.locate(official, directory, url, noise)
        directory = directory / noise.label
    data, held_out_file = directory / own, directory / f'{own.stem}-val.npz'
    _, parts = shards.find(data, held_out_file)
    if not parts:
        raise UserError(
            f'{held_out_file}: is not there, but the run was trained on {own}; give the folder of '
            'its held-out file by --dataset_dir'
        )
    return data if data.is_dir() else held_out_file, parts
