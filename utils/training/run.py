"""What is trained, on what, and how it is evaluated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from utils.data.datasets import Dataset
from utils.environments import env_processes, wrappers
from utils.environments.action_maps import ActionMap
from utils.environments.descriptions import Environment
from utils.environments.wrappers import Noise
from utils.rollouts import acting, evaluation, outcomes
from utils.storage.metrics import RunLog
from utils.system.stopping import StoppedError
from utils.training import multitask, parallel, pool, populations
from utils.training.multitask import Lifted
from utils.training.schedule import Schedule


class Online(NamedTuple):
    """How agents learn from what they collect.

    Attributes:
        sample: ((offline data, what all collected), key, own) -> a batch of both (`collected`).
        draw: (key) -> how candidates of new states are drawn (`pool.Draw`); None: updates read
            none.
        share: of a batch that is collected.
    """

    sample: Callable
    draw: Callable[[jax.Array], pool.Draw] | None
    share: float


class Run(NamedTuple):
    """What is trained, and on what.

    Attributes:
        agents: of every task; they differ in the scale of returns that they start with.
        environments: of every task.
        seeds: trained for every task.
        mesh: the devices that the seeds are split over.
        train, val: datasets of all tasks on the devices (`multitask.stack`).
        sample: (dataset, key, batch_size) -> a batch of all tasks.
        noise: of the environments that evaluations are played in.
        action_map: to their actions; None: they are the agents' own.
        check: (states, index of a seed) -> numbers of held-out data, in place of playing where
            there is no environment.
        online: None: the data are all there is.
    """

    agents: list[Any]
    environments: list[Environment]
    seeds: list[int]
    mesh: Mesh
    train: Dataset
    val: Dataset | None
    sample: Callable
    noise: Noise = wrappers.NO_NOISE
    action_map: ActionMap | None = None
    check: Callable[[Any, int], dict[str, float]] | None = None
    online: Online | None = None

    @property
    def agent(self) -> Any:
        """The agent whose functions serve every task."""
        return self.agents[0]

    @property
    def lifted(self) -> Lifted:
        """The agents, lifted over tasks."""
        return multitask.lift(self.agents)

    @property
    def members(self) -> np.ndarray:
        """For every member of the padded population, which of the seeds it has."""
        return np.array([self.seeds.index(seed) for seed in parallel.pad(self.seeds, self.mesh)])


def evaluate(
    run: Run,
    task: int,
    states: Any,
    step: int,
    schedule: Schedule,
    log: RunLog,
    should_stop: Callable[[], bool],
) -> bool:
    """Evaluates every seed of a task; returns whether it was not given up.

    Args:
        run: what is trained.
        task: its number in the run.
        states: of its seeds.
        step: updates they have had.
        schedule: how much is played.
        log: where rows go.
        should_stop: asked between steps of the environments.
    """
    if run.check is not None:
        for index, seed in enumerate(run.seeds):
            log.write('checks', [dict(step=step, seed=seed) | run.check(states, index)])
        return True
    num_episodes, environment = schedule.eval_episodes, run.environments[task]
    num_envs = min(num_episodes, schedule.eval_envs)
    with env_processes.VectorEnv(environment, num_envs, run.noise, run.action_map) as vector_env:
        for index, seed in enumerate(run.seeds):
            # The stream is the evaluation's own, the same whenever the evaluation takes place.
            key = populations.stream(seed, populations.EVAL_STREAM)
            state = populations.member(states, index)
            act = acting.bind(run.agent.act, state, run.agent.settings, run.agent.sampler)
            try:
                episodes = evaluation.evaluate(
                    act,
                    vector_env,
                    num_episodes,
                    key,
                    should_stop=should_stop,
                    discount=run.agent.discount,
                )
            except StoppedError:
                return False
            tags = dict(step=step, seed=seed)
            conditions = outcomes.conditions(environment, run.noise, run.agent.settings)
            log.write('eval', [tags | outcomes.summary(episodes, environment)], conditions)
            log.write('episodes', outcomes.rows(episodes, tags, environment), conditions)
    return True
