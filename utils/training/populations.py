"""Training as one program: a population of states, and steps that never leave the device."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from utils.data.collected import Collected
from utils.data.datasets import Dataset
from utils.models.returns import ReturnMap
from utils.training import parallel

State = Any
Metrics = dict[str, jax.Array]
Sampler = Callable[[Dataset, jax.Array], Any]

# What a member's seed key is folded with, so that no two streams of a run meet.
INIT_STREAM, TRAIN_STREAM, EVAL_STREAM, DIAGNOSE_STREAM, POOL_STREAM, COLLECT_STREAM = range(6)
CANDIDATE_STREAM = 6  # of states that are collected


@struct.dataclass
class Window:
    """What is watched of a member's updates since the last line of its log.

    Attributes:
        sums: of every metric, () or (tasks,).
        bad_update: int32 like a metric, number of the first update, counted from 1, that had one
            that is not finite; 0: none.
        bad_state: bool (), whether the state has a number that is not finite.
    """

    sums: Metrics
    bad_update: jax.Array
    bad_state: jax.Array


class Population(NamedTuple):
    """Members in training.

    Attributes:
        states: of every member, stacked along a leading axis.
        window: what is watched of them.
        step: updates that they have had.
        collected: by them, once they learn online.
    """

    states: State
    window: Window
    step: int
    collected: Collected | None = None


def stream(seed: int, name: int) -> jax.Array:
    """Returns the key of one of a seed's random streams."""
    return jax.random.fold_in(jax.random.key(seed), name)


def streams(seeds: list[int], name: int) -> jax.Array:
    """Returns the keys of one stream for every member of a population, (members,)."""
    return jnp.stack([stream(seed, name) for seed in seeds])


def init_states(init: Callable, seeds: list[int]) -> State:
    """Returns the untrained states of all seeds, stacked along a leading member axis."""
    return jax.jit(jax.vmap(init))(streams(seeds, INIT_STREAM))


def shapes(init: Callable, seeds: list[int]) -> State:
    """Returns the shapes and types of `init_states`, which a checkpoint is read into."""
    return jax.eval_shape(partial(init_states, init, seeds))


def member(states: State, index: int) -> State:
    """Returns the state of one member of a population."""
    return jax.tree.map(lambda leaf: leaf[index], states)


def make_train_chunk(
    update: Callable,
    sample: Sampler,
    mesh: Mesh | None = None,
    batch_seeds: bool | None = None,
) -> Callable:
    """Returns the compiled training loop of a population.

    Args:
        update: (state, batch, key) -> (state, metrics) of one member.
        sample: (dataset, key) -> batch; (dataset, key, own) where members have data of their own.
        mesh: the devices that the members are split over; None: they are all on one.
        batch_seeds: whether the members of a device step together, as one batched program, or one
            after the other. A GPU needs batches to be busy; a CPU is busy with one member, whose
            parameters then stay in its cache. None: what suits the device.

    Returns:
        (states, window, keys, dataset, first_step, num_steps, own) -> (states, window). The buffers
        of the states are donated. `window` collects what is watched; None opens one. `keys`
        are the members' training streams. Step `k` draws all its randomness from `fold_in(key, k)`,
        and sums are continued step by step: neither the length of a chunk nor where a run was
        interrupted has any influence on the result. `num_steps` is traced. The dataset is an
        argument, since a captured array would be compiled in as a constant. `own`, led by the
        members, says which part of the dataset is each one's own; None: all is everyone's.
    """
    batch_seeds = jax.default_backend() != 'cpu' if batch_seeds is None else batch_seeds

    def step(state, key, data, own) -> tuple[State, Metrics]:
        batch_key, update_key = jax.random.split(key)
        batch = sample(data, batch_key, *(() if own is None else (own,)))
        return update(state, batch, update_key)

    def train_member(state, window, key, own, data, first_step, num_steps):
        def body(i, carry):
            state, window = carry
            state, metrics = step(state, jax.random.fold_in(key, first_step + i), data, own)
            return state, _watch(window, metrics, first_step + i + 1)

        if window is None:
            metrics = jax.eval_shape(step, state, key, data, own)[1]
            [metric, *_] = metrics.values()
            bad_update = jax.ShapeDtypeStruct(metric.shape, jnp.int32)
            window = zeros_like(Window(metrics, bad_update, jax.ShapeDtypeStruct((), bool)))
        state, window = jax.lax.fori_loop(0, num_steps, body, (state, window))
        return state, window.replace(bad_state=~_is_finite(state))

    def train_members(states, window, keys, own, *shared):
        members = states, window, keys, own
        if batch_seeds:
            return jax.vmap(train_member, (0, 0, 0, 0, None, None, None))(*members, *shared)
        return jax.lax.map(lambda of_seed: train_member(*of_seed, *shared), members)

    split = parallel.over_devices(train_members, mesh) if mesh else train_members

    def train_chunk(states, window, keys, data, first_step, num_steps, own=None):
        return split(states, window, keys, own, data, first_step, num_steps)

    return jax.jit(train_chunk, donate_argnums=0)


def empty_window(train_chunk: Callable, *arguments: Any) -> Window:
    """Returns a window of no updates for a chunk's (states, keys, dataset)."""
    states, *others = arguments
    return zeros_like(jax.eval_shape(train_chunk, states, None, *others, 0, 0)[1])


def zeros_like(tree: Any) -> Any:
    """Returns zeros of the same shapes and types; an empty `Window` is all zeros."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _watch(window: Window, metrics: Metrics, update: jax.Array) -> Window:
    bad = ~jnp.isfinite(jnp.stack(list(metrics.values()))).all(axis=0)
    return window.replace(
        sums=jax.tree.map(jnp.add, window.sums, metrics),
        bad_update=jnp.where((window.bad_update == 0) & bad, update, window.bad_update),
    )


def _is_finite(state: State) -> jax.Array:
    """Whether all that is trained is; returns may be without bounds, as they are undiscounted."""

    def is_map(node: Any) -> bool:
        return isinstance(node, ReturnMap)

    trained = [leaf for leaf in jax.tree.leaves(state, is_leaf=is_map) if not is_map(leaf)]
    floating = [leaf for leaf in trained if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in floating]).all()
