"""Candidates of a frozen base policy, drawn once at every state and read by whatever learns values.

The base policy never sees a reward and does not change once it is trained, so its samples at the
states of a dataset can be drawn once and serve every task, value model and seed (QGPO,
arXiv 2304.12824, trains its critics the same way). A pool is an .npy file,

    candidates: (rows, num, h, action_dim) float16 or float32, in [-1, 1]

with `candidates[i]` the chunks sampled at row `i` of the dataset. Pools that are made here have a
.json beside them, which says how many rows are there and what they were drawn from.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from utils import files
from utils.data.host_array import map_file
from utils.errors import UserError
from utils.models import base_policy, draws
from utils.models.networks import VelocityField
from utils.models.train_state import Params
from utils.system import guards, locks
from utils.system.stopping import StoppedError, StopRequest

# Rows that are computed together, whatever is written at a time: products of other sizes round
# otherwise, and the bytes of a pool must not depend on how often it was interrupted.
CPU_TILE, ACCELERATOR_TILE = 256, 8192
# Bytes of candidates between two marks of progress.
BLOCK_BYTES = 64 * 2**20

# (observations (n, observation_dim), rows (n,), their numbers) -> (n, num, h * action_dim) or
# (n, num, h, action_dim). A row's candidates depend on nothing but the row and, of a policy that is
# somebody else's, the first of the CPU_TILE rows that it is drawn with.
Draw = Callable[[np.ndarray, np.ndarray], Any]


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
    draw_rows: Draw,
    observations: np.ndarray,
    shape: tuple[int, int, int],
    provenance: dict[str, Any],
    stop: StopRequest,
) -> np.ndarray:
    """Returns the pool at `path` as a memory map, making what of it is missing.

    An interrupted pool goes on where its last block ended, to the same bytes.

    Args:
        path: PATH.npy; PATH.json beside it holds `rows_done` and the provenance.
        draw_rows: draws what is missing, a tile of rows at a time.
        observations: (rows, observation_dim) of the dataset, in host memory.
        shape: num, h, action_dim of a row's candidates.
        provenance: what the pool is drawn from; another one is refused.
        stop: asked between blocks.

    Raises:
        StoppedError: `stop` said so; what is there stays.
        UserError: there is another pool, it is damaged, or the disk has no room.
    """
    whole = (len(observations), *shape)
    record, note = dict(provenance, shape=list(whole)), path.with_suffix('.json')
    size = f'{shape[0]} candidates at each of {whole[0]} states, {_num_bytes(whole) / 1e6:.0f} MB'
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of several runs that miss the same pool one makes it and the others wait.
    with locks.hold_in_turn(path.with_suffix('.lock'), stop):
        done = _rows_done(path, note, record)
        print(f'pool: {size}, {"is there" if done == whole[0] else "goes to"}: {path}', flush=True)
        if done < whole[0]:
            missing = _num_bytes((whole[0] - done, *shape))
            guards.check_space(path.parent, missing, 'the pool of candidates needs')
            _fill(path, note, record, done, draw_rows, observations, stop)
    return map_file(path, f'delete it and {note.name}')


def _num_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(np.float16).itemsize


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
    array = map_file(path, f'delete it and {note.name}')
    if list(array.shape) != record['shape'] or array.dtype != np.float16:
        raise UserError(f'{path}: damaged (wrong shape or type); delete it and {note.name}')
    return done


def _fill(
    path: Path,
    note: Path,
    record: dict[str, Any],
    done: int,
    draw_rows: Draw,
    observations: np.ndarray,
    stop: StopRequest,
) -> None:
    shape = tuple(record['shape'])
    rows = shape[0]
    mode = 'r+' if done else 'w+'
    try:
        pool = np.lib.format.open_memmap(path, mode, dtype=np.float16, shape=shape)
    except OSError as error:  # of FUSE, which may lack mmap
        raise UserError(
            f'{path}: cannot be mapped to memory ({error.strerror or error}); choose a --save_dir '
            'on another filesystem'
        ) from error
    tile = CPU_TILE if jax.default_backend() == 'cpu' else ACCELERATOR_TILE
    tiles_a_block = max(1, BLOCK_BYTES // _num_bytes((tile, *shape[1:])))
    with tqdm.tqdm(total=rows, initial=done, desc='pool', unit='state') as bar:
        while done < rows:
            if stop():
                raise StoppedError
            end = min(rows, done + tiles_a_block * tile)
            for start in range(done, end, tile):
                # The last tile is padded, so that every product has the same size.
                numbers = np.minimum(np.arange(start, start + tile), rows - 1)
                block = np.asarray(draw_rows(observations[numbers], numbers))
                block = block.reshape(tile, *shape[1:])[: rows - start]
                pool[start : start + len(block)] = block
            pool.flush()
            bar.update(end - done)
            done = end
            files.write_json(note, dict(record, rows_done=done))


def read(path: Path, rows: int, at_least: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns somebody else's pool as a memory map.

    Args:
        path: of the .npy.
        rows: of the dataset.
        at_least: candidates of each row that are needed.
        shape: h, action_dim.

    Raises:
        UserError: it is missing, damaged, or not of the format above.
    """
    pool = map_file(path, 'save the candidates with numpy.save')
    fits = pool.ndim == 4 and pool.shape[0] == rows and pool.shape[2:] == shape
    if not fits or pool.shape[1] < at_least or pool.dtype not in (np.float16, np.float32):
        raise UserError(
            f'{path}: has shape {pool.shape} and dtype {pool.dtype}; expected (rows, candidates, '
            f'h, action_dim) = ({rows}, at least {at_least}, {shape[0]}, {shape[1]}), float16 or '
            'float32'
        )
    if not pool.flags.c_contiguous:  # its rows would be read from all over the file
        raise UserError(f'{path}: is in Fortran order; save numpy.ascontiguousarray of it')
    step = max(1, BLOCK_BYTES // max(1, pool[0].nbytes))
    for start in range(0, rows, step):
        block = pool[start : start + step]
        if not (np.abs(block) <= 1.0).all():  # nan is not, either
            row = start + int(np.argmin((np.abs(block) <= 1.0).reshape(len(block), -1).all(1)))
            raise UserError(
                f'{path}: candidates of row {row} leave [-1, 1]; scale them as the actions are'
            )
    return pool


def flattened(pool: np.ndarray) -> np.ndarray:
    """Returns (rows, num, h, action_dim) as (rows, num, h * action_dim); a map stays a map."""
    return pool.reshape(*pool.shape[:2], -1)
