"""The tasks of an environment trained together, sharing all that no reward touches.

Observations, actions, the base policy and its samples are the same for every task of a seed;
rewards and value models are a task's own. An update of one task is lifted over tasks by `vmap`,
which leaves what does not depend on a task outside the mapped axis: it is computed once. Where
the base policy is frozen, a CPU takes one task after the other, which costs it no more and some
agents a quarter less (`benchmarks/turns.py`). The state of several tasks is an agent's state whose
fields named in `Agent.shared` are as ever and whose other leaves are led by the tasks.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from utils.data.datasets import Batch, Dataset
from utils.errors import UserError

State = Any
Metrics = dict[str, jax.Array]
OWN_DATA = ('rewards', 'masks')
OWN_BATCH = ('rewards', 'discounts', 'td_mask')


def stack(datasets: list[Dataset]) -> Dataset:
    """Returns one dataset whose rewards and masks are (tasks, rows), in host memory.

    Raises:
        UserError: the tasks do not see the same transitions.
    """
    first = datasets[0]
    for other in datasets[1:]:
        if not np.array_equal(first.lasts, other.lasts):
            raise UserError(
                '--tasks: the tasks differ in where their trajectories end; train them one by one'
            )
    own = {name: np.stack([getattr(item, name) for item in datasets]) for name in OWN_DATA}
    return first.replace(**own)


def sample(sample_one: Callable) -> Callable[..., Batch]:
    """Lifts (dataset, key, **options) -> batch over tasks; all see the same transitions."""

    def sample_all(dataset: Dataset, key: jax.Array, **options: Any) -> Batch:
        mapped = jax.vmap(
            partial(sample_one, **options),
            (_axes(Dataset, OWN_DATA), None),
            _axes(Batch, OWN_BATCH),
        )
        return mapped(dataset, key)

    return sample_all


class Lifted(NamedTuple):
    """What `agents.Agent` does for one task, for all of them.

    Attributes:
        init: (key) -> the untrained state.
        update: (state, batch, key) -> (state, metrics), metrics (tasks,).
        diagnose: (state, batch, key) -> metrics (tasks,).
        split: (states of a population) -> those of each task, as if it had been trained alone.
        merge: the inverse of `split`.
    """

    init: Callable[[jax.Array], State]
    update: Callable[[State, Batch, jax.Array], tuple[State, Metrics]]
    diagnose: Callable[[State, Batch, jax.Array], Metrics]
    split: Callable[[State], list[State]]
    merge: Callable[[list[State]], State]


def lift(agents: Sequence[Any], batch_tasks: bool | None = None) -> Lifted:
    """Lifts agents over tasks.

    Args:
        agents: one of every task; they differ in what they start with alone.
        batch_tasks: whether tasks step together, as one batched program, or one after the other.
            None: what suits the agents and the device. Those that train what they share must.

    Raises:
        AssertionError: agents that train what they share are to take turns.
    """
    first, num_tasks, shared = agents[0], len(agents), agents[0].shared
    if batch_tasks is None:
        frozen = bool(shared) and not first.trains_shared
        batch_tasks = not frozen or jax.default_backend() != 'cpu'
    assert batch_tasks or not first.trains_shared, shared

    def init(key: jax.Array) -> State:
        states = [agent.init(key) for agent in agents]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return stacked.replace(**{name: getattr(states[0], name) for name in shared})

    def update(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        if not batch_tasks:
            return _in_turn(first.update, shared, state, batch, key)
        axes = _state_axes(state, shared)
        mapped = jax.vmap(first.update, (axes, _axes(Batch, OWN_BATCH), None), (axes, 0))
        return mapped(state, batch, key)

    def diagnose(state: State, batch: Batch, key: jax.Array) -> Metrics:
        axes = _state_axes(state, shared), _axes(Batch, OWN_BATCH), None
        return jax.vmap(first.diagnose, axes)(state, batch, key)

    def split(states: State) -> list[State]:
        return [
            _per_field(states, shared, lambda part: part, lambda part, k=k: _take(part, k))
            for k in range(num_tasks)
        ]

    def merge(of_tasks: list[State]) -> State:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *of_tasks)
        return stacked.replace(**{name: getattr(of_tasks[0], name) for name in shared})

    return Lifted(init, update, diagnose, split, merge)


def _in_turn(
    update: Callable, shared: tuple[str, ...], state: State, batch: Batch, key: jax.Array
) -> tuple[State, Metrics]:
    """Updates one task after the other; nothing that they share changes."""

    def update_task(own: tuple[dict[str, Any], dict[str, Any]]) -> tuple[dict[str, Any], Metrics]:
        own_state, own_batch = own
        updated, metrics = update(state.replace(**own_state), batch.replace(**own_batch), key)
        assert all(getattr(updated, name) is getattr(state, name) for name in shared), shared
        return {name: getattr(updated, name) for name in own_state}, metrics

    names = [name for name in state.__dataclass_fields__ if name not in shared]
    own = tuple(
        {name: getattr(whole, name) for name in of}
        for whole, of in ((state, names), (batch, OWN_BATCH))
    )
    updated, metrics = jax.lax.map(update_task, own)
    return state.replace(**updated), metrics


def _take(part: Any, task: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:, task], part)


def _per_field(state: State, shared: tuple[str, ...], of_shared: Callable, of_own: Callable):
    fields = {
        name: (of_shared if name in shared else of_own)(getattr(state, name))
        for name in state.__dataclass_fields__
    }
    return state.replace(**fields)


def _state_axes(state: State, shared: tuple[str, ...]) -> State:
    return _per_field(state, shared, lambda part: None, lambda part: 0)


def _axes(kind: type, own: tuple[str, ...]) -> Any:
    return kind(**{name: 0 if name in own else None for name in kind.__dataclass_fields__})
