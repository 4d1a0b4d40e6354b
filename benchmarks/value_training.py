"""Trains value models on processes of known return distribution and measures their errors."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from scipy import stats

import agents
import configs
from agents import evor
from agents.interface import Spec
from benchmarks.processes import Process, Query
from utils.data.datasets import Batch
from utils.jobs import flops
from utils.models import returns
from utils.models.extraction import Noise, soft_value
from utils.models.returns import ReturnScale
from utils.training import populations

# The paper's four layers with layer normalisation, an eighth as wide: depth is what lets a flow
# split its noise between atoms (two layers are at 0.1 on the walks after as many updates).
SMALL = dict(hidden_dims=(64,) * 4, lr=3e-3, next_action='dataset', num_atoms=51)
LEVELS = (np.arange(4096) + 0.5) / 4096
# A distribution is read with many steps, the mean of a flow in one: right for every target.
READING_STEPS = 50
TEMPERATURES = (0.5, 1.0, 4.0)  # in deviations of the true return


class Trained(NamedTuple):
    """A value model trained on one process.

    Attributes:
        model: what was trained.
        population: its state; every leaf is led by the seeds.
        process: the ground truth.
        read: compiled (value params of the seeds, returns, query's observation and action,
            flow_steps) -> points and weights (seeds, num) of the learned distribution, in units of
            reward.
    """

    model: evor.Model
    population: evor.State
    process: Process
    read: Callable


def build(process: Process, steps: int, **settings: object) -> evor.Model:
    """A small EVOR for a process, with the learning rate annealed to zero over `steps`."""
    config = configs.get_config('evor').unlock()
    config.update(SMALL | settings)
    truth = np.concatenate([query.distribution.quantile(LEVELS) for query in process.queries])
    query = process.queries[0]
    sizes = len(query.observation), len(query.action)
    scale = ReturnScale(float(truth.mean()), max(float(truth.std()), 0.1), *process.bounds)
    spec = Spec(*sizes, scale)
    agents.check(config)
    tx = optax.adam(optax.cosine_decay_schedule(config.lr, steps))
    return evor.build(config, spec)._replace(tx=tx)


def make_train(model: evor.Model, process: Process, seeds: int):
    """Returns (population, first_step, num_steps) -> population, compiled."""
    keys = populations.streams(list(range(seeds)), populations.TRAIN_STREAM)

    def step(state: evor.State, key: jax.Array) -> evor.State:
        batch_key, update_key = jax.random.split(key)
        batch = process.sample(batch_key, model.config.batch_size, model.config.n_step or 1)
        next_actions = batch.next_actions[:, 0]
        value, _ = evor.update_value(model, state, batch, next_actions, update_key)
        return state.replace(value=value)

    @jax.jit
    def train_chunk(population: evor.State, first_step: int, num_steps: int) -> evor.State:
        def body(i: jax.Array, population: evor.State) -> evor.State:
            return jax.vmap(step)(population, jax.vmap(jax.random.fold_in, (0, None))(keys, i))

        return jax.lax.fori_loop(first_step, first_step + num_steps, body, population)

    return train_chunk


def make_read(model: evor.Model) -> Callable:
    """Returns `Trained.read` of a model.

    In one dimension a flow keeps the order of its noise, so that stratified noise gives its
    quantiles without sampling error.
    """
    z_0 = jnp.asarray(stats.norm.ppf(LEVELS), jnp.float32)[None]
    noise = Noise(z_0, jnp.full(len(LEVELS), 1.0 / len(LEVELS)))

    @partial(jax.jit, static_argnums=4)
    def read(params, return_map, observation, action, flow_steps):
        def of_seed(params, return_map):
            params = jax.tree.map(lambda leaf: leaf[0], params)  # the only member
            support = returns.support(return_map)
            z, weights = model.value_model.distribution(
                params, observation, action, noise, support, flow_steps
            )
            return returns.to_reward_units(return_map, z[0]), weights[0]

        return jax.vmap(of_seed)(params, return_map)

    return read


def train(process: Process, steps: int, seeds: int = 1, **settings: object) -> Trained:
    """Trains EVOR's reward-to-go on a process.

    Args:
        process: the ground truth.
        steps: number of updates of 256 transitions.
        seeds: members that are trained together.
        **settings: changes to the config; `n_step` are steps of the process before the bootstrap.
    """
    model = build(process, steps, **settings)
    population = populations.init_states(lambda k: evor.init(model, k), list(range(seeds)))
    population = make_train(model, process, seeds)(population, 0, steps)
    return Trained(model, population, process, make_read(model))


def learned_distribution(
    trained: Trained, query: Query, flow_steps: int = READING_STEPS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns points, ascending, and probabilities of the learned distribution.

    In units of reward.

    The slow target copy is read: it averages recent updates.
    """
    state = trained.population
    inputs = (jnp.asarray([array]) for array in (query.observation, query.action))
    points, weights = trained.read(state.value.target_params, state.returns, *inputs, flow_steps)
    order = np.argsort(points[seed], kind='stable')
    return np.float64(points[seed])[order], np.float64(weights[seed])[order]


def with_solver(trained: Trained, solver: str) -> Trained:
    """Returns a trained flow that is read with another solver."""
    config = ConfigDict(trained.model.config)
    config.return_solver = solver
    model = evor.build(config, trained.model.spec)
    return trained._replace(model=model, read=make_read(model))


def quantiles(points: np.ndarray, weights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns the quantiles of a distribution of ascending points."""
    index = np.searchsorted(np.cumsum(weights) / np.sum(weights), levels)
    return points[np.minimum(index, len(points) - 1)]


def measure(
    trained: Trained, query: Query, seed: int = 0, flow_steps: int = READING_STEPS
) -> dict[str, float]:
    """Returns the errors of a learned distribution, in units of reward, read with `flow_steps`.

    `wasserstein` is the Wasserstein-1 distance, `mean_error` that of the mean (of a flow: read in
    one step), `soft_error_T` that of the soft value at T deviations (NaN where the truth is
    infinite), each learned minus true except the first.
    """
    distribution = query.distribution
    points, weights = learned_distribution(trained, query, flow_steps, seed)
    distance = np.abs(quantiles(points, weights, LEVELS) - distribution.quantile(LEVELS)).mean()
    mean_points, mean_weights = learned_distribution(trained, query, 1, seed)
    result = dict(wasserstein=distance, mean_error=mean_points @ mean_weights - distribution.mean)
    for temperature in TEMPERATURES:
        tau = temperature * max(distribution.std, 0.1)
        truth = distribution.soft_value(tau)
        learned = float(soft_value(jnp.asarray(points), jnp.asarray(weights), jnp.float32(tau)))
        error = learned - truth if np.isfinite(truth) else np.nan
        result[f'soft_error_{temperature:g}'] = error
    return {name: float(value) for name, value in result.items()}


def cost(model: evor.Model, process: Process) -> dict[str, float]:
    """Parameters and operations of one update of one member."""
    state = jax.eval_shape(lambda: evor.init(model, jax.random.key(0)))
    batch = jax.eval_shape(lambda: process.sample(jax.random.key(0), model.config.batch_size))

    def update(state: evor.State, batch: Batch) -> object:
        next_actions = batch.next_actions[:, 0]
        return evor.update_value(model, state, batch, next_actions, jax.random.key(0))

    operations = flops.count(update, state, batch)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.value.params))
    return dict(parameters=parameters, mflop_per_update=operations / 1e6)
