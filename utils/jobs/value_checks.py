"""Do values tell candidates apart, do they agree, and are they what held-out returns were?"""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from agents import Agent
from utils.data import datasets, recorded_returns
from utils.models import calibration, candidates, extraction, value_models
from utils.models.calibration import HeldOut
from utils.models.value_models import ValueModel
from utils.rollouts import acting
from utils.training import populations

# Rows at which values are held against returns, at most, but for one of each trajectory.
CALIBRATION_ROWS = 1024
WIDTH = 1.0  # resolution of the calibration, in units of reward


def values_candidates(agent: Agent, state: Any) -> bool:
    """Whether an agent chooses among candidates by their values."""
    return {'n_pi', 'returns'} <= {*vars(agent.settings), *vars(state)}


def quarters(
    agent: Agent,
    state: Any,
    other_agent: Agent,
    other: Any,
    val: datasets.Dataset,
    seed: int,
    samples: int,
) -> list[dict[str, float]]:
    """Returns a row for each quarter of the states, from the least to the most valuable.

    Args:
        agent: of the run, its `act` compiled.
        state: of one seed.
        other_agent: whose values are compared, of the same candidates; its `act` compiled.
        other: its state.
        val: held-out data.
        seed: of the random stream.
        samples: held-out states.
    """
    key, act_key = jax.random.split(populations.stream(seed, populations.DIAGNOSE_STREAM))
    observations = datasets.sample(val, key, samples, 1, 0, 1.0, False).observations
    given = acting.sampled(agent.sampler, np.asarray(observations), act_key, agent.settings)
    given = () if given is None else (given,)
    decision = agent.act(state, observations, act_key, agent.settings, *given)
    weighed = decision.candidates.reshape(*decision.values.shape, -1)
    decided = other_agent.act(other, observations, act_key, other_agent.settings, weighed)
    values, other_values = np.asarray(decision.values), np.asarray(decided.values)
    q_scale, std = getattr(agent.settings, 'q_scale', 'linear'), state.returns.std
    bounds = state.returns.low / std, state.returns.high / std
    compared = np.asarray(extraction.compared(values / std, *bounds, q_scale))
    logits = extraction.pick_logits(compared, getattr(agent.settings, 'tau_q', 0.0))
    columns = dict(
        value=values.mean(axis=1),
        spread=compared.std(axis=1),
        effective_candidates=candidates.effective_number(np.asarray(logits)),
        agreement=candidates.rank_agreement(values, other_values),
    )
    parts = np.array_split(np.argsort(columns['value']), 4)
    return [
        dict(quarter=number)
        | {name: float(np.nanmean(column[part])) for name, column in columns.items()}
        for number, part in enumerate(parts, start=1)
    ]


def returns_at(val: datasets.Dataset, config: ConfigDict, seed: int) -> tuple[HeldOut, float]:
    """Picks held-out rows, and returns what came of them.

    Rows whose return is nearly complete, see `calibration.held_out`. Where no trajectory is long
    enough for that, the first rows of each, where the cut hides least; the mean return stands for
    what it hides.

    Args:
        val: in host memory.
        config: of the agent.
        seed: picks the rows.

    Returns:
        What was recorded there, and the mean weight in its returns of what the cuts have hidden.
    """
    mean, _ = recorded_returns.return_scale(val, config.discount)
    firsts = val.starts[np.diff(val.ends[val.starts], prepend=-1) != 0]
    rows_each = max(1, CALIBRATION_ROWS // len(firsts))
    scale = config.chunk_length, config.discount, mean
    if config.discount < 1.0 and len(recorded_returns.nearly_complete(val, config.discount)):
        rng = np.random.default_rng(seed)
        rows = calibration.held_out_rows(val, config.discount, rng, rows_each)
    else:
        near = np.arange(rows_each)
        rows = np.concatenate([first + near[: val.ends[first] - first + 1] for first in firsts])
        rows = np.intersect1d(rows, val.starts)
    hidden = recorded_returns.missing_weights(val, config.discount)[rows]
    return calibration.held_out_at(val, rows, *scale), float(hidden.mean())


def value_model_of(config: ConfigDict, data: datasets.Dataset) -> ValueModel | None:
    """Returns the value model of an agent that learns return distributions; None: of another."""
    if 'value_model' not in config:
        return None
    chunk_dim = config.chunk_length * data.actions.shape[1]
    return value_models.create(config, data.observations.shape[1], chunk_dim)


def calibrate(
    agent: Agent, state: Any, value_model: ValueModel | None, data: HeldOut, seed: int
) -> dict[str, float]:
    """Returns how values compare with what came of recorded actions, with 95% intervals.

    `bias` is the mean of value minus return. Of an agent that learns return distributions it is
    that of its first net, with `coverage` and `crps` (`calibration.score`); of another it is that
    of the value by which it acts.

    Args:
        agent: of the run; its `act` takes candidates.
        state: of one seed.
        value_model: of `value_model_of`; always the same one, so that it is compiled once.
        data: of `returns_at`.
        seed: of the random stream.
    """
    if value_model is not None:
        params = jax.tree.map(lambda leaf: leaf[0], state.value.params)
        points, weights = calibration.read_distributions(
            value_model, params, state.returns, data.observations, data.actions
        )
        return calibration.score(points, weights, data, WIDTH, seed)[0]
    key = populations.stream(seed, populations.DIAGNOSE_STREAM)
    settings = agent.configure(n_pi=1)
    decision = agent.act(state, data.observations, key, settings, data.actions[:, None])
    errors = np.asarray(decision.values)[:, 0] - data.outcomes
    low, high = calibration.clustered_interval(errors, data.trajectories, seed)
    return dict(bias=float(errors.mean()), bias_low=low, bias_high=high)
