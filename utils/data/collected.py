"""Transitions that agents collect themselves, on the device, beside the data that they began with.

An episode in progress is a trajectory that is cut where it stands, so that what is learned from it
is true already: it has no successors beyond.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from utils.data import datasets
from utils.data.datasets import Batch, Dataset

# Of a `Dataset`, what numbers its rows.
INDICES = ('ends', 'lasts', 'starts', 'acted')


class Collected(NamedTuple):
    """What the members of a population have collected, and where they stand.

    Attributes:
        data: (members * room, ...), on the device: each member's rows in a block of its own, with
            room for more. Member `m` has its transitions at `starts[m * room:]`.
        current: (members,) int, row of the state that the environment is in.
        transitions: (members,) int.
        first: (members,) int, row where the episode in progress began.
        episodes: (members,) int, its number.
        chunks: (members,) int, chunks that it has begun.
        queues: (members, h, action_dim), the chunk in progress.
        left: (members,) int, actions of it that are still to be played.
    """

    data: Dataset
    current: np.ndarray
    transitions: np.ndarray
    first: np.ndarray
    episodes: np.ndarray
    chunks: np.ndarray
    queues: np.ndarray
    left: np.ndarray

    @property
    def room(self) -> int:
        """Rows of each member, in use or not."""
        return len(self.data.starts) // len(self.current)

    @property
    def offsets(self) -> np.ndarray:
        """Each member's first row, (members,)."""
        return np.arange(len(self.current), dtype=np.int32) * self.room


class Own(NamedTuple):
    """What a member samples from: transitions `starts[offset:offset + transitions]` of the data."""

    offset: jax.Array
    transitions: jax.Array


class Step(NamedTuple):
    """What members did, and what came of it; all is led by the members.

    Attributes:
        actions: (members, action_dim).
        rewards: (members,).
        terminated: bool, whether it ended the episode by reward.
        done: bool, whether the episode ended.
        observations: (members, observation_dim) that it led to.
        starts: (members, observation_dim) of the next episodes, where one is done.
        candidates, start_candidates: (members, num, h * action_dim) at both, or None.
    """

    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    done: np.ndarray
    observations: np.ndarray
    starts: np.ndarray
    candidates: np.ndarray | None = None
    start_candidates: np.ndarray | None = None


def room(num_steps: int) -> int:
    """Returns how many rows so many steps can take: every one may be cut, and have a row behind."""
    return 2 * num_steps + 1


def empty(
    members: int,
    room: int,
    observation_dim: int,
    chunk_shape: tuple[int, int],
    num_candidates: int,
) -> Collected:
    """Returns room for what members will collect.

    Args:
        members: their number.
        room: rows of each.
        observation_dim: size of an observation.
        chunk_shape: h, action_dim.
        num_candidates: of a base policy at every state; 0: no updates read any.
    """
    rows, (length, action_dim) = members * room, chunk_shape
    offsets = np.arange(members, dtype=np.int32) * room
    # Arrays of their own, since the buffers are donated.
    indices = {name: jnp.array(np.repeat(offsets, room)) for name in INDICES}
    candidates = None
    if num_candidates:
        candidates = jnp.zeros((rows, num_candidates, length * action_dim), jnp.float16)
    data = Dataset(
        observations=jnp.zeros((rows, observation_dim)),
        actions=jnp.zeros((rows, action_dim)),
        rewards=jnp.zeros(rows),
        masks=jnp.ones(rows),
        candidates=candidates,
        **indices,
    )

    def counts() -> np.ndarray:
        return np.zeros(members, np.int32)

    queues = np.zeros((members, *chunk_shape), np.float32)
    return Collected(data, offsets, counts(), offsets.copy(), counts(), counts(), queues, counts())


@partial(jax.jit, donate_argnums=0)
def write_starts(
    data: Dataset, rows: jax.Array, observations: jax.Array, candidates: jax.Array | None
) -> Dataset:
    """Writes states that nothing has been done in yet, at (members,) rows.

    Args:
        data: its buffers are donated.
        rows: those beyond the end are not written.
        observations: (members, observation_dim).
        candidates: (members, num, h * action_dim), or None.
    """
    data = data.replace(
        observations=data.observations.at[rows].set(observations, mode='drop'),
        ends=data.ends.at[rows].set(rows, mode='drop'),
        lasts=data.lasts.at[rows].set(rows - 1, mode='drop'),
        acted=data.acted.at[rows].set(rows - 1, mode='drop'),
    )
    if candidates is None:
        return data
    return data.replace(candidates=data.candidates.at[rows].set(candidates, mode='drop'))


def append(collected: Collected, step: Step) -> Collected:
    """Writes a step of every member; the buffers are donated."""
    now, ended = collected, step.done
    # After an end by reward there is no successor to keep.
    last = now.current + ~step.terminated
    first_free = np.where(ended, last + 1, len(now.data.starts))
    slots = now.offsets + now.transitions
    data = _append(now.data, now.current, last, now.first, slots, step)
    if ended.any():
        data = write_starts(data, first_free, step.starts, step.start_candidates)
    return now._replace(
        data=data,
        current=np.where(ended, last + 1, last).astype(np.int32),
        transitions=now.transitions + 1,
        first=np.where(ended, last + 1, now.first).astype(np.int32),
    )


@partial(jax.jit, donate_argnums=0)
def _append(
    data: Dataset,
    current: jax.Array,
    last: jax.Array,
    first: jax.Array,
    slots: jax.Array,
    step: Step,
) -> Dataset:
    rows = jnp.arange(len(data.starts))
    member = rows // (len(data.starts) // len(current))
    inside = (rows >= first[member]) & (rows <= last[member])
    after = jnp.where(step.terminated, len(data.starts), last)
    data = data.replace(
        observations=data.observations.at[after].set(step.observations, mode='drop'),
        actions=data.actions.at[current].set(step.actions),
        rewards=data.rewards.at[current].set(step.rewards),
        masks=data.masks.at[current].set(1.0 - step.terminated),
        ends=jnp.where(inside, last[member], data.ends),
        lasts=jnp.where(inside, current[member], data.lasts),
        acted=jnp.where(inside, current[member], data.acted),
        starts=data.starts.at[slots].set(current),
    )
    if step.candidates is None:
        return data
    return data.replace(candidates=data.candidates.at[after].set(step.candidates, mode='drop'))


def resize(collected: Collected, room: int) -> Collected:
    """Returns the same with room for so many rows of each member, those in use or more."""
    old, members = collected.offsets, len(collected.current)
    shift = np.arange(members, dtype=np.int32) * room - old

    def fit(name: str, array: jax.Array) -> jax.Array:
        blocks = array.reshape(members, collected.room, *array.shape[1:])
        if name in INDICES:
            blocks = blocks - old[:, None]
        blocks = blocks[:, :room]
        padding = [(0, 0), (0, room - blocks.shape[1])] + [(0, 0)] * (blocks.ndim - 2)
        blocks = jnp.pad(blocks, padding, constant_values=1 if name == 'masks' else 0)
        if name in INDICES:
            blocks = blocks + (old + shift)[:, None]
        return blocks.reshape(members * room, *array.shape[1:])

    fields = {
        name: None if array is None else fit(name, array)
        for name, array in vars(collected.data).items()
    }
    return collected._replace(
        data=Dataset(**fields),
        current=collected.current + shift,
        first=collected.first + shift,
    )


def in_use(collected: Collected) -> int:
    """Returns how many rows the member with the most has in use."""
    return int(np.max(collected.current - collected.offsets)) + 1


def sample(
    offline: Dataset,
    data: Dataset,
    own: Own,
    share: float,
    key: jax.Array,
    batch_size: int,
    **options: object,
) -> Batch:
    """Draws a batch from what there was before and from what a member collected; for use in jit.

    Args:
        offline: what there was before.
        data: of all members.
        own: of the member, at least one transition.
        share: of the batch that is collected, but never more rows than there are (symmetric
            sampling at 0.5, RLPD, arXiv 2302.02948); 0: every transition is as likely, as FQL and
            Q-chunking have it; static.
        key: random key.
        batch_size: static.
        **options: of `datasets.sample`.
    """
    choice_key, offline_key, own_key = jax.random.split(key, 3)
    old = datasets.sample(offline, offline_key, batch_size, **options)
    new = datasets.sample(data, own_key, batch_size, **options, own=own)
    if share:
        num_new = jnp.minimum(round(share * batch_size), own.transitions)
        # In any order: what trains on the first rows of a batch is to see both kinds.
        is_new = jax.random.permutation(choice_key, jnp.arange(batch_size) < num_new)
    else:
        total = len(offline.starts) + own.transitions
        is_new = jax.random.randint(choice_key, (batch_size,), 0, total) < own.transitions

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(is_new.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(pick, new, old)
