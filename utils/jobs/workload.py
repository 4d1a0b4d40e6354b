"""Populations of agents in training on noise: what an update costs does not depend on the data."""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import agents
from agents import Agent
from utils.data import datasets
from utils.environments import envs
from utils.errors import UserError
from utils.jobs import flops
from utils.models.train_state import TrainState
from utils.training import multitask, parallel, populations


class Workload(NamedTuple):
    """A population in training.

    Attributes:
        agent: of every member.
        states: of its members, all tasks of a seed together (`multitask.lift`).
        train_chunk: of `populations.make_train_chunk`.
        arguments: what it is given after the states: keys and dataset.
        gflop_per_update: operations of one update of all members, in 1e9.
        parameters: of one member, without targets.
    """

    agent: Agent
    states: Any
    train_chunk: Callable
    arguments: tuple[Any, Any]
    gflop_per_update: float
    parameters: int


def make(
    config: ConfigDict,
    sizes: tuple[int, int],
    num_seeds: int,
    num_tasks: int,
    batch_tasks: bool | None = None,
) -> Workload:
    """Makes an untrained population.

    Args:
        config: of the agent.
        sizes: observation_dim, action_dim.
        num_seeds, num_tasks: its members are all pairs.
        batch_tasks: of `multitask.lift`.
    """
    seeds = list(range(num_seeds))
    mesh = parallel.make_mesh(num_seeds)
    padded = parallel.pad(seeds, mesh)
    agent = _agent(config, sizes)
    lifted, sample = multitask.lift([agent] * num_tasks, batch_tasks), _sampler(agent, config)
    keys = parallel.place(
        populations.streams(padded, populations.TRAIN_STREAM), mesh, parallel.SEEDS
    )
    data = multitask.stack([_noise(agent, config, sizes)] * num_tasks)
    dataset = parallel.place(data, mesh, parallel.EVERYWHERE)
    states = populations.init_states(lifted.init, padded)
    gflop, parameters = count(config, sizes, num_tasks)
    return Workload(
        agent,
        parallel.place(states, mesh, parallel.SEEDS),
        populations.make_train_chunk(lifted.update, sample, mesh),
        (keys, dataset),
        len(padded) * gflop,
        parameters,
    )


def sizes_of(env_name: str) -> tuple[int, int]:
    """Returns the observation_dim and action_dim of an environment."""
    env = envs.make_env(env_name)
    return env.observation_space.shape[0], env.action_space.shape[0]


def parse_population(text: str) -> tuple[int, int]:
    """Reads --populations: the seeds and tasks of SEEDSxTASKS.

    Raises:
        UserError: it is none.
    """
    parts = text.split('x')
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise UserError(f"--populations: expected SEEDSxTASKS such as 5x5, not '{text}'")
    return int(parts[0]), int(parts[1])


def time_updates(work: Workload, num_steps: int) -> tuple[Any, float]:
    """Trains three times; returns the states and the median milliseconds of an update."""
    states, _ = work.train_chunk(work.states, None, *work.arguments, 0, 0)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        states, _ = work.train_chunk(states, None, *work.arguments, 0, num_steps)
        jax.block_until_ready(states)
        times.append(time.perf_counter() - started)
    return states, 1e3 * statistics.median(times) / num_steps


def count(config: ConfigDict, sizes: tuple[int, int], num_tasks: int = 1) -> tuple[float, int]:
    """Returns the GFLOP of an update of one seed, and the parameters of one member.

    Nothing is computed: shapes are enough.

    Args:
        config: of the agent.
        sizes: observation_dim, action_dim.
        num_tasks: trained together.
    """
    agent = _agent(config, sizes)
    lifted, sample = multitask.lift([agent] * num_tasks), _sampler(agent, config)
    key = jax.random.key(0)
    state = jax.eval_shape(lifted.init, key)
    data = multitask.stack([_noise(agent, config, sizes)] * num_tasks)
    batch = jax.eval_shape(sample, data, key)
    gflop = flops.count(lifted.update, state, batch, key) / 1e9
    return gflop, _parameters(jax.eval_shape(agent.init, key))


def _agent(config: ConfigDict, sizes: tuple[int, int]) -> Agent:
    return agents.create(config, agents.Spec(*sizes))


def _sampler(agent: Agent, config: ConfigDict) -> Callable:
    """Returns (dataset, key) -> a batch of all tasks."""

    def sample_one(dataset: datasets.Dataset, key: jax.Array) -> datasets.Batch:
        what = agents.sampling(agent, config)
        return datasets.sample(dataset, key, config.batch_size, **what)

    return multitask.sample(sample_one)


def _parameters(state: Any) -> int:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, TrainState))
    params = [leaf.params for leaf in leaves if isinstance(leaf, TrainState)]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _noise(
    agent: Agent, config: ConfigDict, sizes: tuple[int, int], rows: int = 10_001
) -> datasets.Dataset:
    """Random data and, where updates read one, a pool."""
    observation_dim, action_dim = sizes
    rng = np.random.default_rng(0)
    terminals = np.zeros(rows, bool)
    terminals[-1] = True
    dataset = datasets.build(
        dict(
            observations=rng.normal(size=(rows, observation_dim)),
            actions=rng.uniform(-1.0, 1.0, (rows, action_dim)),
            terminals=terminals,
            rewards=-np.ones(rows),
            masks=np.ones(rows),
        )
    )
    if not agent.num_candidates:
        return dataset
    shape = rows, agent.num_candidates, config.chunk_length * action_dim
    candidates = rng.uniform(-1.0, 1.0, shape).astype(np.float16)
    return dataset.replace(candidates=candidates)
