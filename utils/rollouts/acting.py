"""An agent's `act` as evaluations call it: each row acted on as if it were alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Number of a rollout where there is none.
IDLE = -1
# Of `in_batches`: of candidates and samples, a few rows make large products already.
BATCH_ROWS = 8


class Acts(NamedTuple):
    """What is done in each of n rows.

    Attributes:
        actions: (n, h, action_dim).
        promised: (n,) value that the agent gave to them, in units of reward; nan for an agent that
            weighs nothing.
    """

    actions: np.ndarray | jax.Array
    promised: np.ndarray | jax.Array


# (observations (n, observation_dim), key, rollouts (n,), chunks (n,)) -> Acts; see `bind`.
Act = Callable[[np.ndarray, jax.Array, np.ndarray, np.ndarray], Acts]


def bind(act: Callable, state: Any, settings: Any, sampler: Callable | None = None) -> Act:
    """Returns an agent's `act` as `evaluate` calls it: compiled, with state and settings filled in.

    A chunk of an episode is drawn with its own key, `chunk_key`.

    Args:
        act: an agent's, (state, observations, key, settings) -> Decision. It is compiled once for
            each static part of the settings, however often it is bound.
        state: of the agent.
        settings: of inference, the same for all episodes: arrays in it are scalar.
        sampler: of the agent, see `Agent.sampler`.
    """

    def act_on(observations, key, episodes, chunks) -> Acts:
        where = observations, key, episodes, chunks
        return act_for_each(act, state, *where, settings, _sampled_alone(sampler, *where, settings))

    return act_on


def chunk_key(key: jax.Array, episode: jax.Array | int, chunk: jax.Array | int) -> jax.Array:
    """The key of a chunk of an episode, so that all agents meet the same noise there."""
    return jax.random.fold_in(jax.random.fold_in(key, episode), chunk)


def sampled(
    sampler: Callable | None, observations: np.ndarray, key: jax.Array, settings: Any
) -> np.ndarray | None:
    """Candidates (n, n_pi, h * action_dim) of a sampler; None without one, see `Agent.sampler`."""
    if sampler is None:
        return None
    drawn = np.asarray(sampler(observations, key, settings.n_pi), np.float32)
    return drawn.reshape(*drawn.shape[:2], -1)


def _sampled_alone(
    sampler: Callable | None,
    observations: np.ndarray,
    key: jax.Array,
    episodes: np.ndarray,
    chunks: np.ndarray,
    settings: Any,
) -> np.ndarray | None:
    """Candidates (n, n_pi, h * action_dim) of a sampler, row by row: an outcome is its own.

    Where no rollout is, they are 0: the observation there is none that a policy knows.
    """
    if sampler is None:
        return None
    played = np.flatnonzero(episodes != IDLE)
    own = [
        sampled(sampler, observations[[row]], chunk_key(key, episodes[row], chunks[row]), settings)
        for row in played
    ]
    candidates = np.zeros((len(observations), *own[0].shape[1:]), np.float32)
    candidates[played] = np.concatenate(own)
    return candidates


def bind_each(
    act: Callable,
    state: Any,
    settings: Sequence[Any],
    num_episodes: int,
    sampler: Callable | None = None,
) -> Act:
    """Returns an agent's `act` as `sweep` calls it: each rollout is played with its own settings.

    The keys are those of `bind`, so that all settings meet the same noise in a chunk of an episode.
    Rows whose settings have the static part in common are acted on together, in batches of one
    size: what is computed for a row does not depend on what else is swept.

    Args:
        act, state: as for `bind`.
        settings: of inference, of each setting in turn.
        num_episodes: of each.
        sampler: of the agent, see `Agent.sampler`.
    """
    settings = jax.device_get(settings)
    programs: dict[Any, list[int]] = {}
    for number, one in enumerate(settings):
        programs.setdefault(jax.tree.structure(one), []).append(number)

    def act_on(observations, key, rollouts, chunks) -> Acts:
        numbers, episodes = np.divmod(rollouts, num_episodes)
        parts = []
        for members in programs.values():
            for batch, padded in in_batches(np.flatnonzero(np.isin(numbers, members))):
                own = [settings[number] for number in numbers[padded]]
                own = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
                what = observations[padded], key, episodes[padded], chunks[padded]
                candidates = _sampled_alone(sampler, *what, own)
                parts.append((batch, act_for_each(act, state, *what, own, candidates)))
        actions = np.zeros((len(rollouts), *parts[0][1].actions.shape[1:]), np.float32)
        promised = np.full(len(rollouts), np.nan, np.float32)
        for batch, acts in parts:
            actions[batch] = acts.actions[: len(batch)]
            promised[batch] = acts.promised[: len(batch)]
        return Acts(actions, promised)

    return act_on


def in_batches(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Deals rows to batches of one size, so that a row is rounded alike whatever else is played.

    Args:
        rows: their numbers.

    Yields:
        The rows of a batch, and the same again and again until there are `BATCH_ROWS`.
    """
    for batch in np.split(rows, range(BATCH_ROWS, len(rows), BATCH_ROWS)):
        if len(batch):
            yield batch, np.resize(batch, BATCH_ROWS)


@partial(jax.jit, static_argnums=0)
def act_for_each(
    act, state, observations, key, episodes, chunks, settings, candidates=None
) -> Acts:
    """Acts on each observation as if it were alone, with a key of its own; one call for all.

    Arrays in the settings are scalar, or have an entry for each observation. `candidates`, if there
    are any, are (n, num, h * action_dim).
    """
    settings = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, observations.shape[0]), settings)

    def act_alone(observation, episode, chunk, own_settings, candidates) -> Acts:
        own_key = chunk_key(key, episode, chunk)
        given = () if candidates is None else (candidates[None],)
        decision = act(state, observation[None], own_key, own_settings, *given)
        return Acts(decision.actions[0], decision.promised[0])

    return jax.vmap(act_alone)(observations, episodes, chunks, settings, candidates)
