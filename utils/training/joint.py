"""The tasks of an environment trained together, sharing all that no reward touches.

Observations, actions, the base policy and its samples are the same for every task of a seed;
rewards and value models are a task's own. An update of one task is lifted over tasks by `vmap`,
which leaves what does not depend on a task outside the mapped axis: it is computed once. A joint
state is an agent's state whose fields named in `shared` are as ever and whose other leaves are led
by the tasks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from utils.data.datasets import Batch, Dataset
from utils.errors import UserError

State = Any
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


def init(init_tasks: list[Callable], shared: tuple[str, ...]) -> Callable[[jax.Array], State]:
    """Returns key -> the untrained joint state, from the `init` of every task's agent."""

    def init_all(key: jax.Array) -> State:
        states = [init_task(key) for init_task in init_tasks]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return stacked.replace(**{name: getattr(states[0], name) for name in shared})

    return init_all


def update(update_one: Callable, shared: tuple[str, ...]) -> Callable:
    """Lifts (state, batch, key) -> (state, metrics) over tasks; metrics become (tasks,)."""

    def update_all(state: State, batch: Batch, key: jax.Array) -> tuple[State, dict]:
        axes = _state_axes(state, shared)
        mapped = jax.vmap(update_one, (axes, _axes(Batch, OWN_BATCH), None), (axes, 0))
        return mapped(state, batch, key)

    return update_all


def diagnose(diagnose_one: Callable, shared: tuple[str, ...]) -> Callable:
    """Lifts (state, batch, key) -> metrics over tasks."""

    def diagnose_all(state: State, batch: Batch, key: jax.Array) -> dict:
        axes = _state_axes(state, shared), _axes(Batch, OWN_BATCH), None
        return jax.vmap(diagnose_one, axes)(state, batch, key)

    return diagnose_all


def split(population: State, shared: tuple[str, ...], num_tasks: int) -> list[State]:
    """Returns each task's population, as it would be had the task been trained alone."""
    return [
        _per_field(population, shared, lambda part: part, lambda part, k=k: _take(part, k))
        for k in range(num_tasks)
    ]


def merge(populations: list[State], shared: tuple[str, ...]) -> State:
    """The inverse of `split`."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *populations)
    return stacked.replace(**{name: getattr(populations[0], name) for name in shared})


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
