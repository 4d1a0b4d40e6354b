"""How fast this machine trains, acts and evaluates, against what it could reach.

    python -m benchmarks.throughput --agents=evor,qc5 --out=bench/throughput

For every agent: what an update of populations costs (operations in the jaxpr, time, share of
the rate that this machine reaches on plain (batch, width) x (width, width) products, memory), the
latency of `act`, and, with --eval_envs, steps per second of an evaluation against those of the
environments alone. Writes OUT/throughput.json and OUT/throughput.md, which it prints.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

import agents
import configs
from agents import Agent
from benchmarks import reports, stepping
from utils.environments import env_processes
from utils.errors import UserError
from utils.jobs import workload
from utils.rollouts import acting
from utils.storage import runs
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_list('agents', ['evor'], 'Names in configs.py.')
flags.DEFINE_list('settings', [], 'KEY=VALUE for configs that have the key, e.g. lam=1.0.')
flags.DEFINE_string('env_name', 'cube-double-play-singletask-task1-v0', 'Sizes; what is played.')
flags.DEFINE_list('populations', ['1x1', '1x5', '5x5'], 'Sizes, as SEEDSxTASKS; 0: none.')
flags.DEFINE_list('observations', ['1', '50', '1000'], 'Batch sizes of act; 0: none.')
flags.DEFINE_list('return_samples', ['1', '8', '32'], 'Reward-to-go samples of act.')
flags.DEFINE_integer('repeats', 5, 'Of each measurement; their median counts.', lower_bound=1)
flags.DEFINE_float('seconds', 2.0, 'Of each repeat, about.', lower_bound=0.0)
flags.DEFINE_integer('eval_envs', 0, 'Environments of the evaluation; 0: none.', lower_bound=0)
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')


def main(_: list[str]) -> None:
    """Measures everything and writes the reports."""
    out = Path(FLAGS.out) / 'throughput.json'
    if out.exists():
        raise UserError(f'{out}: exists already; choose another --out')
    chosen = {name: _config(name) for name in FLAGS.agents}
    populations = [workload.parse_population(text) for text in FLAGS.populations if text != '0']
    sizes = workload.sizes_of(FLAGS.env_name)
    result = dict(machine=runs.describe(), env_name=FLAGS.env_name, settings=FLAGS.settings)
    result |= dict(updates=[], latencies=[], evaluation=[])
    for name, config in chosen.items():
        for num_seeds, num_tasks in populations:
            row = dict(agent=name, seeds=num_seeds, tasks=num_tasks)
            result['updates'].append(row | update_cost(config, sizes, num_seeds, num_tasks))
            print(result['updates'][-1], flush=True)
        agent = agents.create(config, agents.Spec(*sizes))
        for row in latencies(agent, sizes[0]):
            result['latencies'].append(dict(agent=name) | row)
            print(result['latencies'][-1], flush=True)
        if FLAGS.eval_envs:
            result['evaluation'].append(dict(agent=name) | evaluation_cost(agent))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + '\n')
    text = reports.throughput_tables(result)
    out.with_suffix('.md').write_text(text)
    print(text)


def update_cost(
    config: ConfigDict, sizes: tuple[int, int], num_seeds: int, num_tasks: int
) -> dict[str, float]:
    """Measures training of one population, alternating with plain matrix products.

    Args:
        config: of the agent.
        sizes: observation_dim, action_dim.
        num_seeds, num_tasks: of the population.
    """
    work = workload.make(config, sizes, num_seeds, num_tasks)
    states, started = work.states, time.perf_counter()
    lowered = work.train_chunk.lower(states, None, *work.arguments, 0, 0)
    train_chunk, compile_seconds = lowered.compile(), time.perf_counter() - started
    width = max(config.hidden_dims)
    x, w = jnp.ones((config.batch_size, width)), jnp.eye(width)
    products, updates = [], []

    def train(num_steps: int) -> None:
        nonlocal states
        states, _ = train_chunk(states, None, *work.arguments, 0, num_steps)
        jax.block_until_ready(states)

    for _ in range(FLAGS.repeats):
        products.append(_rate(lambda count: jax.block_until_ready(_multiply(x, w, count))))
        updates.append(_rate(train))
    peak = statistics.median(rate for rate, _ in products) * 2e-9 * config.batch_size * width**2
    peak_cpu = statistics.median(rate for _, rate in products) * 2e-9 * config.batch_size * width**2
    rate = statistics.median(rate for rate, _ in updates)
    rate_cpu = statistics.median(rate for _, rate in updates)
    return dict(
        parameters=work.parameters,
        gflop_per_update=work.gflop_per_update,
        ms_per_update=1e3 / rate,
        updates_per_second=rate,
        gflops=rate * work.gflop_per_update,
        product_gflops=peak,
        share_of_products=rate * work.gflop_per_update / peak,
        share_per_cpu_second=rate_cpu * work.gflop_per_update / peak_cpu,
        compile_seconds=compile_seconds,
        memory_mib=_memory_mib(train_chunk.memory_analysis()),
    )


@jax.jit
def _multiply(x: jax.Array, w: jax.Array, count: int) -> jax.Array:
    return jax.lax.fori_loop(
        0, count, lambda _, x: jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST), x
    )


def _rate(run: Callable[[int], Any]) -> tuple[float, float]:
    """Returns how often per second, and per second of CPU time, something runs."""
    run(1)
    started = time.perf_counter()
    run(2)
    count = max(2, int(2 * FLAGS.seconds / (time.perf_counter() - started)))
    started, started_cpu = time.perf_counter(), time.process_time()
    run(count)
    cpu = max(time.process_time() - started_cpu, 1e-9)
    return count / (time.perf_counter() - started), count / cpu


def latencies(agent: Agent, observation_dim: int) -> list[dict[str, float]]:
    """Measures `act` in milliseconds; agents without reward-to-go samples get one row a batch."""
    act, rows = jax.jit(agent.act), []
    state = jax.jit(agent.init)(jax.random.key(0))
    samples = 'num_return_samples'
    sampled = samples in vars(agent.settings)
    for n in filter(None, map(int, FLAGS.observations)):
        for num in (int(text) for text in (FLAGS.return_samples if sampled else ['1'])):
            settings = agent.configure(**({samples: num} if sampled else {}))
            times = _latency(act, state, jnp.zeros((n, observation_dim)), settings)
            p50, p99 = np.percentile(times, [50, 99])
            rows.append({'observations': n, samples: num, 'p50_ms': p50, 'p99_ms': p99})
    return rows


def _latency(act: Callable, state: Any, observations: jax.Array, settings: Any) -> list[float]:
    keys = list(jax.random.split(jax.random.key(1), 1000))
    jax.block_until_ready(act(state, observations, keys[0], settings))
    times: list[float] = []
    for key in keys:
        started = time.perf_counter()
        jax.block_until_ready(act(state, observations, key, settings))
        times.append(1e3 * (time.perf_counter() - started))
        if sum(times) > 1e3 * FLAGS.repeats * FLAGS.seconds and len(times) >= FLAGS.repeats:
            break
    return times


def evaluation_cost(agent: Agent) -> dict[str, float]:
    """Steps per second of environments alone and when the base policy acts, alternated."""
    base = {'n_pi': 1} if 'n_pi' in vars(agent.settings) else {}
    state = jax.jit(agent.init)(jax.random.key(0))
    act = acting.bind(agent.act, state, agent.configure(**base))
    alone, evaluated = [], []
    for repeat in range(FLAGS.repeats):
        alone.append(stepping.steps_per_second(FLAGS.env_name, FLAGS.eval_envs))
        with env_processes.VectorEnv(FLAGS.env_name, FLAGS.eval_envs) as vector_env:
            key = jax.random.key(repeat)
            rate = stepping.evaluation_rate(act, vector_env, 2 * FLAGS.eval_envs, key)
        evaluated.append(rate)
    ceiling, reached = statistics.median(alone), statistics.median(evaluated)
    return dict(
        envs=FLAGS.eval_envs,
        steps_per_second_alone=ceiling,
        steps_per_second=reached,
        share=reached / ceiling,
    )


def _config(name: str) -> ConfigDict:
    config = configs.get_config(name)
    for text in FLAGS.settings:
        key, _, value = text.partition('=')
        if key in config:
            config[key] = _parse(type(config[key]), key, value)
    agents.check(config)
    return config


def _parse(kind: type, key: str, value: str) -> Any:
    parsers = {tuple: lambda text: tuple(map(int, text.split('x')))}
    parsers[bool] = flags.BooleanParser().parse
    try:
        return parsers.get(kind, kind)(value)
    except ValueError as error:
        raise UserError(f"--settings: {key} is a {kind.__name__}, not '{value}'") from error


def _memory_mib(analysis: Any) -> float:
    """What the program needs: arguments, results that are not arguments, and in between."""
    size = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    return (size + analysis.output_size_in_bytes - analysis.alias_size_in_bytes) / 2**20


if __name__ == '__main__':
    command.run(main)
