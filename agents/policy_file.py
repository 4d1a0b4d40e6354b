"""A trained base policy as one file: parameters and record, without the optimiser's state.

`scripts/export_base_policy.py` writes it, `--base_policy=FILE.npz` reads it. It is an .npz with an
array for every parameter, named by its path, and `record`, the run's `config.json` with the step,
as UTF-8 bytes.
"""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from agents import frozen
from agents.frozen import FrozenPolicy
from utils import files
from utils.data import npz
from utils.errors import UserError
from utils.models import base_policy, networks, train_state
from utils.storage import runs

SUFFIX = '.npz'


def write(path: Path, policy: FrozenPolicy) -> None:
    """Writes a policy under its name only when it is whole.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    leaves = jax.tree.leaves_with_path(policy.policy.params)
    arrays = {_name(of): np.asarray(leaf) for of, leaf in leaves}
    record = json.dumps(policy.record | dict(step=policy.step)).encode()
    with files.writing(path) as file:
        np.savez(file, record=np.frombuffer(record, np.uint8), **arrays)


def read(path: Path, config: ConfigDict, observation_dim: int, action_dim: int) -> FrozenPolicy:
    """Reads a policy; its optimiser begins anew.

    Args:
        path: of the file.
        config: of the run that is to use the policy.
        observation_dim, action_dim: of its data.

    Raises:
        UserError: the file is damaged, or the policy does not fit.
    """
    if not path.is_file():
        raise UserError(f'--base_policy: {path}: no such file')
    headers = npz.headers(path)
    if 'record' not in headers:
        raise UserError(f'--base_policy: {path}: no base policy (record is missing)')
    try:
        record = json.loads(npz.read(path, headers['record']).tobytes())
        runs.check_record(record, path)
        step = record['step']
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'--base_policy: {path}: damaged record ({error}); copy it again'
        ) from error
    trained = frozen.fitting(path, record, config, observation_dim, action_dim)
    net = networks.policy_field(trained, action_dim)
    init = partial(base_policy.init, net, observation_dim=observation_dim)
    shapes = jax.eval_shape(init, jax.random.key(0))

    def parameter(of: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        header = headers.get(_name(of))
        if header is None or (header.shape, header.dtype) != (leaf.shape, leaf.dtype):
            raise UserError(
                f'--base_policy: {path}: {_name(of)} is not what its record says; copy it again'
            )
        return jax.numpy.asarray(npz.read(path, header))

    params = jax.tree.map_with_path(parameter, shapes)
    state = train_state.create(params, optax.adam(trained.lr), with_target=False)
    return FrozenPolicy(path, record, step, net, state, frozen.digest_of(params))


def _name(path: tuple) -> str:
    return '/'.join(str(key.key) for key in path)
