"""What every agent is: pure functions over a state, and what they are told and return."""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from agents import settings
from utils.models import extraction
from utils.models.returns import ReturnScale


class Spec(NamedTuple):
    """What an agent must know of its data.

    Attributes:
        observation_dim, action_dim: sizes of one observation and one action.
        scale: of the dataset's returns; a checkpoint brings its own.
    """

    observation_dim: int
    action_dim: int
    scale: ReturnScale = ReturnScale()


def num_candidates(config: ConfigDict) -> int:
    """Samples of a frozen base policy's pool that a backup picks from; 0: it reads none."""
    reads_pool = config.get('frozen_policy') and config.get('next_action', 'policy') == 'policy'
    return config.get('backup_candidates', 0) if reads_pool else 0


def sampling(agent: 'Agent', config: ConfigDict) -> dict[str, Any]:
    """Returns what batches of an agent are, as arguments of `datasets.sample`."""
    return dict(
        chunk_length=config.chunk_length,
        n_step=config.n_step,
        discount=config.discount,
        needs_next_actions=agent.needs_next_actions,
        num_candidates=agent.num_candidates,
    )


@struct.dataclass
class Decision:
    """What an agent chose and what it weighed, for `n` observations.

    Attributes:
        actions: (n, h, action_dim), the chosen chunks.
        candidates: (n, n_pi, h, action_dim), what they were chosen from.
        values: (n, n_pi), what each candidate was chosen by, in units of reward; nan, which no
            value is, where the agent weighs nothing.
        index: (n,) int32, which candidate was chosen.
    """

    actions: jax.Array
    candidates: jax.Array
    values: jax.Array
    index: jax.Array

    @classmethod
    def of(
        cls, candidates: jax.Array, values: jax.Array, index: jax.Array, chunk_length: int
    ) -> 'Decision':
        """Builds it from flat candidates (n, n_pi, h * action_dim)."""
        n, n_pi, _ = candidates.shape
        candidates = candidates.reshape(n, n_pi, chunk_length, -1)
        return cls(extraction.take(candidates, index), candidates, values, index)

    @classmethod
    def unweighed(cls, actions: jax.Array, chunk_length: int) -> 'Decision':
        """Builds it from flat actions (n, h * action_dim) to which there was no choice."""
        n = actions.shape[0]
        values, index = jnp.full((n, 1), jnp.nan), jnp.zeros(n, jnp.int32)
        return cls.of(actions[:, None], values, index, chunk_length)

    @property
    def promised(self) -> jax.Array:
        """Values of what was chosen, (n,), in units of reward; nan where nothing was weighed."""
        return extraction.take(self.values, self.index)


class Agent(NamedTuple):
    """Pure functions over a state, which is a pytree of arrays.

    Attributes:
        init: (key) -> State.
        update: (state, batch, key) -> (State, metrics), one optimiser step of every model.
        diagnose: (state, batch, key) -> metrics of a held-out batch, without a step.
        act: (state, observations, key, settings, candidates=None) -> Decision; `candidates` are
            for agents that choose among samples.
        settings: what the config says of inference; a pytree whose static part selects a program.
        configure: (**changes) -> settings, with some of them changed.
        needs_next_actions: whether updates use the recorded next actions.
        shared: fields of the state that no reward touches; the tasks of a seed have them in common.
        trains_shared: whether updates change these; not those of a frozen base policy.
        discount: per step, of the returns that its values are of.
        num_candidates: samples of a frozen base policy's pool that an update needs at each
            successor; 0: none.
        sampler: a base policy that is somebody else's, (observations (n, observation_dim), key,
            num) -> (n, num, h, action_dim); `act` is given its samples, flattened
            (`acting.sampled`). None: the state has one.
        chunk_length: h, actions of a decision.
    """

    init: Callable
    update: Callable
    diagnose: Callable
    act: Callable
    settings: struct.PyTreeNode
    configure: Callable
    needs_next_actions: bool
    shared: tuple[str, ...]
    trains_shared: bool
    discount: float
    num_candidates: int = 0
    sampler: Callable | None = None
    chunk_length: int = 1


def needs_next_actions(module: ModuleType, config: ConfigDict) -> bool:
    """Whether updates of an agent use the recorded next actions."""
    return hasattr(module, 'needs_next_actions') and module.needs_next_actions(config)


def bind(module: ModuleType, model: Any) -> Agent:
    """Binds a model to the functions of an agent's module.

    Args:
        module: with `SETTINGS`, `SHARED`, and `init`, `update`, `diagnose` and `act`, whose first
            argument is the model; see `Agent` for what they are. `needs_next_actions(config)` may
            be there.
        model: with the `config` that it was built from.
    """
    config = model.config

    def configure(**changes: object) -> Any:
        configured = settings.inference(module.SETTINGS, config, **changes)
        settings.check(module, ConfigDict(dict(config) | changes))
        return configured

    return Agent(
        init=partial(module.init, model),
        update=partial(module.update, model),
        diagnose=partial(module.diagnose, model),
        act=partial(module.act, model),
        settings=configure(),
        configure=configure,
        needs_next_actions=needs_next_actions(module, config),
        shared=module.SHARED,
        trains_shared=bool(module.SHARED) and not config.get('frozen_policy', False),
        discount=config.discount,
        num_candidates=num_candidates(config),
        chunk_length=config.chunk_length,
    )
