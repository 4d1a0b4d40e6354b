"""Writes a policy as a folder that `utils/deploy/policy.py` reads, without this repository.

The program is StableHLO, by `jax.export`, for any number of rows. Temperatures and parameters are
its arguments: a program with constants for parameters would be slow to load, and XLA would be free
to round what it computes from them otherwise than the run does. Many candidates and samples are
computed in blocks (`utils/models/blocks.py`) of the size that suits the device that exports.
"""

import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters import partial_eval

from utils import files
from utils.deploy import members, policy
from utils.deploy.members import Member
from utils.errors import UserError
from utils.rollouts import acting

MODULE = Path(policy.__file__)


def write(out: Path, member: Member, settings: Any, half: bool = False) -> None:
    """Exports a member's policy; its record, without which there is none, is written last.

    Args:
        out: folder; it must not hold a policy.
        member: whose policy it is.
        settings: of inference; those that are not traced are fixed in the program.
        half: whether parameters are rounded to float16, for a file of half the size. The policy is
            another one then, by as much; what is exported is what is to be evaluated.

    Raises:
        UserError: it cannot be exported, or the folder cannot be written to or holds one.
    """
    if member.agent.sampler is not None:
        raise UserError(
            'its base policy is a function in Python, which cannot be exported; train on one of '
            '`bc`, or use `utils.deploy.members.of_run`'
        )
    if (out / policy.RECORD).exists():
        raise UserError(f'--out: {out}: holds a policy already; give another folder')
    record = members.describe(member, settings) | dict(platforms=policy.PLATFORMS)
    act, parameters = program(member, settings)
    exported = export.export(jax.jit(act), platforms=policy.PLATFORMS)(
        *policy.signature(record, parameters)
    )
    contents = {policy.PROGRAM: bytes(exported.mlir_module_serialized)}
    contents[policy.PARAMETERS] = _npz(_halved(parameters) if half else parameters)
    contents[MODULE.name] = MODULE.read_bytes()
    record |= dict(
        calling_convention=exported.calling_convention_version,
        kept_arguments=exported.module_kept_var_idx,
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    record['digest'] = policy.digest_of_record(record)
    files.check_writable(out, contents, 'give another folder with --out')
    for name, content in contents.items():
        with files.writing(out / name) as file:
            file.write(content)
    files.write_json(out / policy.RECORD, record)


def program(member: Member, settings: Any) -> tuple[Callable, dict[str, np.ndarray]]:
    """Returns acting as a function of what `policy.signature` lists, and the parameters it reads.

    A state holds much that acting does not read: the optimiser's moments, target nets.
    """
    leaves, structure = jax.tree.flatten_with_path(member.state)
    names = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves]
    shapes = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }

    def act(parameters, observations, seeds, chunks, temperatures):
        filled = [
            parameters[name] if name in parameters else jnp.zeros(shape.shape, shape.dtype)
            for name, shape in shapes.items()
        ]
        state = jax.tree.unflatten(structure, filled)
        where = observations, member.key, seeds, chunks
        own = settings.replace(**temperatures)
        return acting.act_for_each(member.agent.act, state, *where, own).actions

    needed = _read_by(act, shapes, member.record['observation_dim'], settings)
    return act, {
        name: np.asarray(leaf)
        for name, (_, leaf) in zip(names, leaves, strict=True)
        if name in needed
    }


def _read_by(act: Callable, shapes: dict[str, Any], observation_dim: int, settings: Any) -> set:
    """Returns the names of the parameters that acting reads."""
    # Sorted, as JAX flattens a dict.
    names = sorted(shapes)
    row = jax.ShapeDtypeStruct((1, observation_dim), jnp.float32)
    number = jax.ShapeDtypeStruct((1,), jnp.uint32)
    temperatures = {
        name: jax.ShapeDtypeStruct((1,), jnp.float32)
        for name, value in vars(settings).items()
        if isinstance(value, jax.Array)
    }
    jaxpr = jax.make_jaxpr(act)(shapes, row, number, number, temperatures).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return {name for name, is_used in zip(names, used, strict=False) if is_used}


def size(folder: Path) -> float:
    """Returns the megabytes of a folder's files."""
    return math.fsum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _halved(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Not the bounds and the scale of returns, which cost nothing: values far from the goal differ
    # from the least return by less than float16 has between its numbers there.
    return {
        name: array.astype(np.float16) if array.dtype == np.float32 and array.ndim else array
        for name, array in arrays.items()
    }


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()
