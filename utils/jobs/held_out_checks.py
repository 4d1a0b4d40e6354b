"""What held-out data say of a run that has no environment to play in, at its evaluations."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import agents
from agents import Agent
from utils.data import datasets
from utils.data.datasets import Dataset
from utils.jobs import policy_checks, value_checks
from utils.training import monitor, populations

POLICY_STATES, VALUE_STATES = 4096, 1024

Row = dict[str, float]


def make(
    agent: Agent, config: ConfigDict, seeds: list[int], val: Dataset
) -> Callable[[Any, int], Row]:
    """Returns (population, index of a seed) -> a row of what can be known without playing.

    Of the base policy: the matching loss and distances to recorded actions, unless it is frozen.
    Of the values: their losses; `agreement` with the next seed's on which candidate is better;
    `bias` and, of return distributions, `coverage` and `crps` against recorded returns, of whose
    weight `hidden` was cut off. What there is nothing to compare with is nan.

    Args:
        agent: of the run.
        config: of the agent.
        seeds: of the population.
        val: held-out data, in host memory, with candidates if updates read any.
    """
    on_device = jax.device_put(val)
    # Compiled once for all evaluations, as `value_model` is read.
    acting = agent._replace(act=jax.jit(agent.act))
    value_model = value_checks.value_model_of(config, val)

    def check(population: Any, index: int) -> Row:
        state, seed = populations.member(population, index), seeds[index]
        row = _losses(agent, state, config, on_device, seed)
        row |= _of_policy(agent, state, config, on_device, seed)
        if not value_checks.values_candidates(agent, state):
            return row
        agreement = float('nan')
        if len(seeds) > 1:
            other = populations.member(population, (index + 1) % len(seeds))
            own = value_checks.quarters(acting, state, acting, other, on_device, seed, VALUE_STATES)
            agreement = float(np.mean([quarter['agreement'] for quarter in own]))
        data, hidden = value_checks.returns_at(val, config, seed)
        row |= dict(agreement=agreement, hidden=hidden)
        return row | value_checks.calibrate(acting, state, value_model, data, seed)

    return check


def _losses(agent: Agent, state: Any, config: ConfigDict, val: Dataset, seed: int) -> Row:
    batch_key, key = jax.random.split(populations.stream(seed, populations.DIAGNOSE_STREAM))
    what = agents.sampling(agent, config)
    batch = datasets.sample(val, batch_key, monitor.DIAGNOSE_BATCH, **what)
    metrics = jax.jit(agent.diagnose)(state, batch, key)
    return {name: float(value) for name, value in metrics.items() if name.endswith('loss')}


def _of_policy(agent: Agent, state: Any, config: ConfigDict, val: Dataset, seed: int) -> Row:
    if agents.freezes_policy(config):
        return {}
    settings = policy_checks.alone(agent, config.get('flow_steps', 1))
    if settings is None:
        return {}
    states = min(POLICY_STATES, max(4, len(val.starts)))
    return policy_checks.distances(agent, state, settings, val, config, seed, states)
