"""One seed of a run, as it acts: what is exported, and a `Policy` that reads the run itself."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from agents import Agent
from utils.deploy import policy
from utils.deploy.policy import Policy
from utils.environments import action_maps, descriptions
from utils.jobs import restore
from utils.models.settings import plain
from utils.rollouts import acting
from utils.storage import runs
from utils.training import populations


class Member(NamedTuple):
    """A trained agent.

    Attributes:
        record: the run's config.json.
        agent: of the run.
        state: of the seed.
        step: updates it had.
        seed: of the run's.
    """

    record: dict[str, Any]
    agent: Agent
    state: Any
    step: int
    seed: int

    @property
    def key(self) -> jax.Array:
        """Of the random numbers of its evaluations."""
        return populations.stream(self.seed, populations.EVAL_STREAM)


def load(directory: Path, step: int | None = None, seed: int | None = None) -> Member:
    """Loads a seed of a run.

    Args:
        directory: of the run.
        step: of the checkpoint; None: the newest.
        seed: None: the run's first.

    Raises:
        UserError: there is no such run, seed or checkpoint.
    """
    record = runs.read_record(directory)
    seed = runs.seed_of(record, directory, seed)
    action_maps.recorded(record, directory / runs.RECORD)  # checks what `describe` passes on
    with _without_warnings():
        agent, population, step = restore.restore_alone(directory, record, step)
    state = populations.member(population, record['seeds'].index(seed))
    return Member(record, agent, state, step, seed)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps orbax from telling its life's story, as `command.run` does for commands."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def describe(member: Member, settings: Any) -> dict[str, Any]:
    """Returns the record of a policy, ready for JSON, without what is told of its files.

    Args:
        member: whose policy it is.
        settings: of inference; those that are traced are its temperatures.
    """
    record, own = member.record, plain(settings)
    traced = {name for name, value in vars(settings).items() if isinstance(value, jax.Array)}
    passed_on = action_maps.KEY, descriptions.KEY
    names = 'env_name', 'observation_dim', 'action_dim', 'action_noise', 'sticky_prob'
    return runs.describe(
        format=policy.FORMAT,
        step=member.step,
        seed=member.seed,
        agent=record['agent'],
        chunk_length=record['agent']['chunk_length'],
        settings={name: value for name, value in own.items() if name not in traced},
        temperatures={name: value for name, value in own.items() if name in traced},
        **{name: record[name] for name in (*names, *passed_on) if name in record},
    )


def of_run(
    directory: str | Path, step: int | None = None, seed: int | None = None, **settings: Any
) -> Policy:
    """Returns the policy of a run, as `Policy.load` returns that of an exported folder.

    Args:
        directory: of the run.
        step: of the checkpoint; None: the newest.
        seed: None: the run's first.
        **settings: of inference, in place of those it was trained with, e.g. `n_pi=8`.

    Raises:
        UserError: there is no such run, seed, checkpoint or setting, or its base policy is
            somebody else's and cannot be imported.
    """
    member = load(Path(directory).expanduser(), step, seed)
    return policy_of(member, member.agent.configure(**settings))


def policy_of(member: Member, settings: Any) -> Policy:
    """Returns the policy of a member at these settings of inference."""
    act = acting.bind(member.agent.act, member.state, settings, member.agent.sampler)

    def decide(observations: np.ndarray, seeds: np.ndarray, chunks: np.ndarray) -> np.ndarray:
        numbers = seeds.astype(np.uint32), chunks.astype(np.uint32)
        return np.asarray(act(observations, member.key, *numbers).actions)

    return Policy(decide, describe(member, settings))
