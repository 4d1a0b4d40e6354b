"""Candidates of a frozen base policy, drawn once at every state and read by whatever learns values.

The base policy never sees a reward and does not change once it is trained, so its samples at the
states of a dataset can be drawn once and serve every task, value model and seed (QGPO,
arXiv 2304.12824, trains its critics the same way). A pool is an .npy file,

    candidates: (rows, num, h * action_dim) float16

with `candidates[i]` the samples at row `i` of the dataset, and a .json beside it that says how many
rows are there and what they were drawn from.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from utils import base_policy, draws, files, guards
from utils.errors import UserError
from utils.networks import VelocityField
from utils.train_state import Params

# Rows that are computed together, whatever is written at a time: products of other sizes round
# otherwise, and the bytes of a pool must not depend on how often it was interrupted.
CPU_TILE, ACCELERATOR_TILE = 256, 8192
# Bytes of candidates between two marks of progress.
BLOCK_BYTES = 64 * 2**20


def size(rows: int, num: int, chunk_dim: int) -> int:
    """Returns the bytes of a pool."""
    return rows * num * chunk_dim * np.dtype(np.float16).itemsize


@partial(jax.jit, static_argnums=(0, 5, 6))
def draw(
    net: VelocityField,
    params: Params,
    observations: jax.Array,
    rows: jax.Array,
    key: jax.Array,
    num: int,
    flow_steps: int,
) -> jax.Array:
    """Draws candidates; those of a row depend on the key and the row's number alone.

    Args:
        net, params: of the base policy.
        observations: (n, observation_dim).
        rows: (n,) int, their numbers.
        key: random key of the pool.
        num: candidates of each; the first of many are those of few.
        flow_steps: Euler steps.

    Returns:
        (n, num, h * action_dim) float16.
    """

    def noise(row: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, row)
        shape = (net.output_dim,)
        return draws.draw_each(own, num, lambda k: jax.random.normal(k, shape), axis=0)

    a_0 = jax.vmap(noise)(rows)
    candidates = base_policy.transport(net, params, observations[:, None], a_0, flow_steps)
    return candidates.astype(jnp.float16)


def ensure(
    path: Path,
    net: VelocityField,
    params: Params,
    observations: np.ndarray,
    key: jax.Array,
    num: int,
    flow_steps: int,
    provenance: dict[str, Any],
) -> np.ndarray:
    """Returns the pool at `path` as a memory map, making what of it is missing.

    An interrupted pool goes on where its last block ended, to the same bytes.

    Args:
        path: PATH.npy; PATH.json beside it holds `rows_done` and the provenance.
        net, params, key, num, flow_steps: see `draw`.
        observations: (rows, observation_dim) of the dataset, in host memory.
        provenance: what the pool is drawn from; another one is refused.

    Raises:
        UserError: there is another pool, it is damaged, or the disk has no room.
    """
    rows, chunk_dim = len(observations), net.output_dim
    record, note = dict(provenance, shape=[rows, num, chunk_dim]), path.with_suffix('.json')
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several runs that miss the same pool one makes it and the others wait.
    with filelock.FileLock(path.with_suffix('.lock')):
        done = _rows_done(path, note, record)
        if done < rows:
            missing = size(rows - done, num, chunk_dim)
            guards.check_space(path.parent, missing, 'the pool of candidates needs')
            _fill(path, note, record, done, net, params, observations, key, flow_steps)
    return np.load(path, mmap_mode='r', allow_pickle=False)


def _rows_done(path: Path, note: Path, record: dict[str, Any]) -> int:
    """How many rows of the pool are on the disk.

    Raises:
        UserError: they are of another pool, or the file is not what the note says.
    """
    if not note.exists():
        return 0
    try:
        found = json.loads(note.read_text(encoding='utf-8'))
        done = found.pop('rows_done')
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f'{note}: damaged ({error}); delete it and the pool beside it') from error
    if found != record:
        names = sorted(
            name for name in found.keys() | record.keys() if found.get(name) != record.get(name)
        )
        raise UserError(
            f'{path}: a pool of something else; these differ: {", ".join(names)}. Move it away'
        )
    try:
        array = np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: damaged ({error}); delete it and {note.name}') from error
    if list(array.shape) != record['shape'] or array.dtype != np.float16:
        raise UserError(f'{path}: damaged (wrong shape or type); delete it and {note.name}')
    return done


def _fill(
    path: Path,
    note: Path,
    record: dict[str, Any],
    done: int,
    net: VelocityField,
    params: Params,
    observations: np.ndarray,
    key: jax.Array,
    flow_steps: int,
) -> None:
    rows, num, chunk_dim = record['shape']
    mode = 'r+' if done else 'w+'
    shape = tuple(record['shape'])
    pool = np.lib.format.open_memmap(path, mode, dtype=np.float16, shape=shape)
    tile = CPU_TILE if jax.default_backend() == 'cpu' else ACCELERATOR_TILE
    tiles_a_block = max(1, BLOCK_BYTES // size(tile, num, chunk_dim))
    label = f'pool, {size(rows, num, chunk_dim) / 1e6:.0f} MB'
    with tqdm.tqdm(total=rows, initial=done, desc=label, unit='state') as bar:
        while done < rows:
            stop = min(rows, done + tiles_a_block * tile)
            for start in range(done, stop, tile):
                # The last tile is padded, so that every product has the same size.
                numbers = np.minimum(np.arange(start, start + tile), rows - 1)
                inputs = observations[numbers], numbers
                block = draw(net, params, *inputs, key, num, flow_steps)
                pool[start : min(start + tile, rows)] = np.asarray(block)[: rows - start]
            pool.flush()
            bar.update(stop - done)
            done = stop
            files.write_json(note, dict(record, rows_done=done))
