"""An offline dataset on the device, and batches of action chunks drawn from it inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from utils.data.host_array import HostArray
from utils.errors import UserError


@struct.dataclass
class Dataset:
    """Rows of recorded trajectories, laid end to end as in OGBench's files.

    The last row of a trajectory is the state where the recording was cut. It is the successor of
    the row before; it is a transition of its own only where its mask is 0, since then it needs no
    successor.

    Attributes:
        observations: (rows, observation_dim) float32.
        actions: (rows, action_dim) float32.
        rewards: (rows,) float32.
        masks: (rows,) float32; 0 where the episode ends by reward, else 1. Masks alone stop the
            bootstrap.
        ends: (rows,) int32, the last row of each row's trajectory.
        lasts: (rows,) int32, the last transition of each row's trajectory.
        starts: (transitions,) int32, the rows that are transitions.
        candidates: (rows, num, h * action_dim), samples of a frozen base policy at every row
            (`pool`), on the device or not, or None.
        acted: (rows,) int32, the last row of each row's trajectory that has an action; None: the
            last row of all, as in OGBench's files.
    """

    observations: jax.Array
    actions: jax.Array
    rewards: jax.Array
    masks: jax.Array
    ends: jax.Array
    lasts: jax.Array
    starts: jax.Array
    candidates: jax.Array | HostArray | None = None
    acted: jax.Array | None = None


@struct.dataclass
class Batch:
    """Transitions over chunks of `h` actions, with rewards of `n >= h` steps.

    Where n > h, what follows the chunk is the data's own actions, whatever policy is evaluated.

    Attributes:
        observations: (batch, observation_dim).
        actions: (batch, h, action_dim); zero after a trajectory's cut.
        action_mask: (batch, h); 1 for steps before the cut.
        rewards: (batch,) discounted reward sum of the n steps, stopped at the first mask of 0.
        discounts: (batch,) factor of the bootstrap: discount ** n, or 0 after a mask of 0.
        next_observations: (batch, observation_dim) after the n steps.
        next_actions: (batch, h, action_dim) that the data took there.
        td_mask: (batch,); 1 where reward, successor and (if asked for) next actions lie within the
            trajectory.
        next_candidates: (batch, num, h * action_dim) base-policy samples at the successor, if asked
            for.
    """

    observations: jax.Array
    actions: jax.Array
    action_mask: jax.Array
    rewards: jax.Array
    discounts: jax.Array
    next_observations: jax.Array
    next_actions: jax.Array
    td_mask: jax.Array
    next_candidates: jax.Array | None = None


def flatten(chunks: jax.Array) -> jax.Array:
    """Returns (batch, h, action_dim) chunks as (batch, h * action_dim) actions."""
    return chunks.reshape(chunks.shape[0], -1)


def build(arrays: dict[str, np.ndarray]) -> Dataset:
    """Indexes validated arrays (`dataset_files.load`), in host memory.

    Args:
        arrays: `observations`, `actions`, `terminals` (true at last rows), `rewards`, `masks`;
            `acted` where last rows have no action.

    Raises:
        UserError: no trajectory holds a transition.
    """
    cuts = np.flatnonzero(arrays['terminals'])
    lengths = np.diff(cuts, prepend=-1)
    ends = np.repeat(cuts, lengths)
    # A function of the rows alone in what follows, so that tasks with other rewards can share it.
    lasts = np.where(arrays['masks'][ends] == 0, ends, ends - 1)
    starts = np.flatnonzero(np.arange(len(ends)) <= lasts)
    # Single rows whose masks are 0 are transitions, as of a bandit; the others would be lost.
    if not len(starts) or (lengths.max() == 1 and len(starts) < len(ends)):
        raise UserError(
            "dataset: every trajectory has a single row; two make a transition, and 'terminals' is "
            '1 at the last one alone'
        )
    return Dataset(
        observations=np.asarray(arrays['observations'], np.float32),
        actions=np.asarray(arrays['actions'], np.float32),
        rewards=np.asarray(arrays['rewards'], np.float32),
        masks=np.asarray(arrays['masks'], np.float32),
        ends=ends.astype(np.int32),
        lasts=lasts.astype(np.int32),
        starts=starts.astype(np.int32),
        acted=_last_acted(arrays['acted'], ends) if 'acted' in arrays else None,
    )


def _last_acted(acted: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.where(acted[ends], ends, ends - 1).astype(np.int32)


def check_chunks(
    dataset: Dataset, chunk_length: int, n_step: int, needs_next_actions: bool, name: object
) -> None:
    """Checks that a chunk, the steps of reward and what follows them fit in a trajectory.

    Args:
        dataset: in host memory.
        chunk_length, n_step, needs_next_actions: see `sample`.
        name: of the dataset, for errors.

    Raises:
        UserError: every trajectory is shorter than `chunk_length` or `n_step`, or nothing could be
            learned since none has room for the next actions and none ends by reward.
    """
    _, transitions = np.unique(dataset.ends[dataset.starts], return_counts=True)
    for setting, steps in dict(chunk_length=chunk_length, n_step=n_step).items():
        if steps > transitions.max():
            raise UserError(
                f'agent.{setting}: {steps} is longer than any trajectory of {name} '
                f'(the longest has {transitions.max()} transitions)'
            )
    if not needs_next_actions or (dataset.masks[dataset.starts] == 0).any():
        return
    ends = np.unique(dataset.ends)
    acted = (ends if dataset.acted is None else dataset.acted[ends]) + 1
    longest = (acted - np.concatenate([[0], ends[:-1] + 1])).max()
    needed = (n_step or chunk_length) + chunk_length
    if longest < needed:
        raise UserError(
            f'agent.next_action: dataset needs {needed} actions in a row '
            f'(agent.n_step and agent.chunk_length together), and no trajectory of {name} has more '
            f'than {longest}; make these smaller'
        )


def sample(
    dataset: Dataset,
    key: jax.Array,
    batch_size: int,
    chunk_length: int,
    n_step: int,
    discount: float,
    needs_next_actions: bool,
    num_candidates: int = 0,
    own: tuple[jax.Array, jax.Array] | None = None,
) -> Batch:
    """Draws transitions uniformly with replacement; pure, for use inside jit.

    Args:
        dataset: on the device.
        key: random key.
        batch_size, chunk_length, discount: static.
        n_step: steps of reward before the bootstrap, at least `chunk_length`; 0: `chunk_length`;
            static.
        needs_next_actions: whether `td_mask` asks for a full chunk of recorded next actions.
        num_candidates: of the pool, at each successor; static.
        own: which of `starts` are drawn from: the first, and their number; None: all.
    """
    choice_key, pool_key = jax.random.split(key) if num_candidates else (key, key)
    first, total = (0, dataset.starts.shape[0]) if own is None else own
    choice = jax.random.randint(choice_key, (batch_size,), 0, total)
    rows = dataset.starts[choice + first if own else choice]
    batch = gather(dataset, rows, chunk_length, n_step, discount, needs_next_actions)
    if not num_candidates:
        return batch
    next_rows = jnp.minimum(rows + (n_step or chunk_length), dataset.ends[rows])
    return batch.replace(
        next_candidates=draw_candidates(dataset.candidates, next_rows, pool_key, num_candidates)
    )


def draw_candidates(
    candidates: jax.Array | HostArray, rows: jax.Array, key: jax.Array, num: int
) -> jax.Array:
    """Takes `num` different ones of each row's pool, from a random one on.

    Args:
        candidates: (dataset rows, pool, d).
        rows: (n,) int.
        key: random key.
        num: at most the size of the pool.

    Returns:
        (n, num, d) float32.
    """
    size = candidates.shape[1]
    first = jax.random.randint(key, (rows.shape[0], 1), 0, size)
    columns = (first + jnp.arange(num)[None]) % size
    if isinstance(candidates, HostArray):
        taken = candidates.take(jnp.broadcast_to(rows[:, None], columns.shape), columns)
    else:
        taken = candidates[rows[:, None], columns]
    return taken.astype(jnp.float32)


def gather(
    dataset: Dataset,
    rows: jax.Array,
    chunk_length: int,
    n_step: int,
    discount: float,
    needs_next_actions: bool,
) -> Batch:
    """Returns the chunks that start at `rows`, (batch,) int32; see `sample`."""
    n_step = n_step or chunk_length
    steps = jnp.arange(n_step)
    ends = dataset.ends[rows][:, None]
    window = rows[:, None] + steps[None]
    inside = jnp.minimum(window, ends)
    masks = dataset.masks[inside]
    exists = window <= dataset.lasts[rows][:, None]
    goes_on = jnp.where(exists, masks, 1.0)
    survived = jnp.cumprod(goes_on, axis=1)
    # Reward of step j counts while no earlier step ended the episode.
    before = jnp.concatenate([jnp.ones_like(survived[:, :1]), survived[:, :-1]], axis=1)
    rewards = before * exists * dataset.rewards[inside] * discount ** steps[None]
    alive = survived[:, -1]
    next_chunk = window[:, :chunk_length] + n_step
    last_needed, last_there = next_chunk[:, 0], ends[:, 0]
    if needs_next_actions:
        last_needed = next_chunk[:, -1]
        last_there = last_there if dataset.acted is None else dataset.acted[rows]
    complete = last_needed <= last_there
    next_inside = jnp.minimum(next_chunk, ends)
    if needs_next_actions:
        # After an end by reward nothing is missing: as in a chunk that meets one, 0 stands there.
        ending = (dataset.masks[next_inside] == 0) & (next_chunk <= dataset.lasts[rows][:, None])
        complete |= ending.any(axis=1)
    in_chunk = exists[:, :chunk_length]
    return Batch(
        observations=dataset.observations[rows],
        actions=dataset.actions[inside[:, :chunk_length]] * in_chunk[..., None],
        action_mask=in_chunk.astype(jnp.float32),
        rewards=jnp.sum(rewards, axis=1),
        discounts=discount**n_step * alive,
        next_observations=dataset.observations[next_inside[:, 0]],
        next_actions=dataset.actions[next_inside] * (next_chunk <= ends)[..., None],
        td_mask=jnp.where(alive == 0, 1.0, complete.astype(jnp.float32)),
    )
