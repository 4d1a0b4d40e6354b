"""Offline to online: agents act, and learn from what came of it beside the offline data.

Every seed plays an environment of its own, a step before each update. A run that goes on after an
interruption plays the episodes in progress again, by the actions that it kept, so that the
environments are where they were.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from utils.data import collected as kept_data
from utils.data.collected import Collected, Own, Step
from utils.environments.descriptions import name_of
from utils.environments.env_processes import Played, VectorEnv
from utils.errors import UserError
from utils.rollouts import acting, outcomes
from utils.training import populations
from utils.training.run import Run

# Numbers of episodes from here on are never those of evaluations.
FIRST_EPISODE = 2**63


def empty(run: Run, room: int) -> Collected:
    """Returns room for so many rows of every seed."""
    chunk_shape = run.agent.chunk_length, run.train.actions.shape[1]
    num_candidates = 0 if run.online.draw is None else run.train.candidates.shape[1]
    return kept_data.empty(
        len(run.seeds),
        room,
        run.train.observations.shape[1],
        chunk_shape,
        num_candidates,
    )


@contextlib.contextmanager
def opened(run: Run, collected: Collected) -> Iterator['Collector']:
    """Opens an environment of the run's one task for every seed, where they were left.

    Args:
        run: what is trained.
        collected: before, or `empty`.

    Raises:
        UserError: an environment does not come back to where it was.
    """
    [environment] = run.environments
    with VectorEnv(environment, len(run.seeds), run.noise, run.action_map) as vector_env:
        yield Collector(run, vector_env, collected)


class Collector:
    """Plays the environments of all seeds, a step at a time.

    Attributes:
        collected: so far.
    """

    def __init__(self, run: Run, vector_env: VectorEnv, collected: Collected):
        """Starts the first episodes, or takes up those in progress; see `opened`."""
        self._run, self._vector_env = run, vector_env
        self._members = np.arange(len(run.seeds))
        self._keys = populations.streams(run.seeds, populations.COLLECT_STREAM)
        self._draws = None
        if run.online.draw is not None:
            keys = populations.streams(run.seeds, populations.CANDIDATE_STREAM)
            self._draws = [run.online.draw(key) for key in keys]
        self._act = _compiled_act(run)
        # Counters of a checkpoint are arrays of JAX.
        self.collected = Collected(collected.data, *map(np.asarray, collected[1:]))
        self._returns = np.zeros(len(run.seeds))
        self._lengths = np.zeros(len(run.seeds), np.int32)
        self._observations = self._start(self._members)
        if collected.transitions.any():
            self._play_again()
        else:
            self._write_first()

    @property
    def own(self) -> Own:
        """Which of the collected data are each member's."""
        return Own(self.collected.offsets, self.collected.transitions)

    def step(self, states: Any) -> list[dict[str, Any]]:
        """Plays a step of every seed with the states of the population.

        Returns:
            A row for every episode that ended.
        """
        actions = self._next_actions(states)
        self._vector_env.play(self._members, actions[:, None])
        played = self._vector_env.collect(self._members)
        self._returns += played.rewards
        self._lengths += 1
        done = np.flatnonzero(played.done)
        rows = [self._row(member, played) for member in done]
        starts = self._begin_next(done)
        terminated = played.done & ~played.cut
        last = self.collected.current + ~terminated
        step = Step(
            actions=actions,
            rewards=played.rewards.astype(np.float32),
            terminated=terminated,
            done=played.done,
            observations=played.observations,
            starts=starts,
            candidates=self._candidates(played.observations, np.flatnonzero(~terminated), last),
            start_candidates=self._candidates(starts, done, last + 1),
        )
        self.collected = kept_data.append(self.collected, step)
        self._observations = np.where(played.done[:, None], starts, played.observations)
        return rows

    def _next_actions(self, states: Any) -> np.ndarray:
        """Returns the next action of every seed's chunk; where there is none, chooses a chunk."""
        now, length = self.collected, self._run.agent.chunk_length
        chosen = now.left == 0
        queues, left = now.queues, np.where(chosen, length, now.left)
        if chosen.any():
            where = self._observations, self._keys, now.episodes, now.chunks
            chunks = np.asarray(self._act(states, *where, self._samples(*where)))
            queues = np.where(chosen[:, None, None], chunks, queues)
        self.collected = now._replace(queues=queues, left=left - 1, chunks=now.chunks + chosen)
        return queues[self._members, length - left]

    def _samples(self, observations, *places) -> np.ndarray | None:
        """Returns what somebody else's policy samples, (members, 1, n_pi, h * action_dim)."""
        agent = self._run.agent
        if agent.sampler is None:
            return None
        keys = [acting.chunk_key(*place) for place in zip(*places, strict=True)]
        return np.stack(
            [
                acting.sampled(agent.sampler, observation[None], key, agent.settings)
                for observation, key in zip(observations, keys, strict=True)
            ]
        )

    def _begin_next(self, members: np.ndarray) -> np.ndarray:
        """Starts the next episodes of some members; returns (all members, observation_dim)."""
        starts = np.zeros_like(self._observations)
        if len(members):
            now, goes_on = self.collected, ~np.isin(self._members, members)
            self.collected = now._replace(
                episodes=now.episodes + ~goes_on,
                chunks=now.chunks * goes_on,
                left=now.left * goes_on,
            )
            self._returns[members], self._lengths[members] = 0.0, 0
            starts[members] = self._start(members)
        return starts

    def _start(self, members: np.ndarray) -> np.ndarray:
        episodes = self.collected.episodes[members]
        seeds = [self._run.seeds[member] for member in members]
        self._vector_env.start(members, list(map(episode_number, seeds, episodes)))
        return self._vector_env.collect(members).observations

    def _write_first(self) -> None:
        now = self.collected
        candidates = self._candidates(self._observations, self._members, now.current)
        data = kept_data.write_starts(now.data, now.current, self._observations, candidates)
        self.collected = now._replace(data=data)

    def _play_again(self) -> None:
        """Plays the episodes in progress up to where they were."""
        now = self.collected
        for member in self._members:
            first, current = now.first[member], now.current[member]
            if first < current:
                self._vector_env.play([member], now.data.actions[None, first:current])
                played = self._vector_env.collect([member])
                self._observations[member] = played.observations[0]
                self._returns[member], self._lengths[member] = played.rewards[0], current - first
        kept = np.asarray(now.data.observations[now.current])
        if not np.array_equal(self._observations, kept):
            raise UserError(
                f'{name_of(self._run.environments[0])}: does not come to the same state by the '
                'same actions, as it must for a run to go on; its resets must be seeded, and '
                'machine and versions must be those that the run began with'
            )

    def _candidates(
        self, observations: np.ndarray, members: np.ndarray, rows: np.ndarray
    ) -> np.ndarray | None:
        """Draws candidates at the states of some members; zeros for the others.

        Args:
            observations: (all members, observation_dim).
            members: whose are needed.
            rows: (all members,) where the states are kept.
        """
        if self._draws is None:
            return None
        now = self.collected
        numbers = rows - now.offsets  # those of a member, whoever is trained beside it
        shape = len(rows), *now.data.candidates.shape[1:]
        candidates = np.zeros(shape, np.float16)
        for member in members:
            where = observations[member, None], numbers[member, None]
            candidates[member] = np.asarray(self._draws[member](*where)).reshape(shape[1:])
        return candidates

    def _row(self, member: int, played: Played) -> dict[str, Any]:
        """Returns what the log says of an episode that has ended."""
        row = dict(
            seed=self._run.seeds[member],
            episode=int(self.collected.episodes[member]),
            success=int(played.success[member]),
            episode_return=float(self._returns[member]),
            episode_length=int(self._lengths[member]),
        )
        if not outcomes.defines_success(self._run.environments[0]):
            del row['success']
        return row


def episode_number(seed: int, episode: int) -> int:
    """Returns the number that the environment starts an episode of a seed with."""
    sequence = np.random.SeedSequence((populations.COLLECT_STREAM, seed, episode))
    return FIRST_EPISODE | int(sequence.generate_state(1, np.uint64)[0])


def _compiled_act(run: Run) -> Callable:
    """Returns (states, observations, keys, episodes, chunks, candidates) -> chunks of all seeds.

    Seeds act one after the other, so that each acts as if it were trained alone.
    """
    agent, split = run.agent, run.lifted.split

    def act_alone(member: tuple) -> jax.Array:
        state, observation, *place, candidates = member
        given = () if candidates is None else (candidates,)
        key = acting.chunk_key(*place)
        decision = agent.act(state, observation[None], key, agent.settings, *given)
        return decision.actions[0]

    @jax.jit
    def act(states: Any, *where: Any) -> jax.Array:
        [of_task] = split(states)
        return jax.lax.map(act_alone, (of_task, *where))

    return act
