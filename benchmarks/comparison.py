"""One table of trained agents: success with intervals, and the cost of an update.

    python -m benchmarks.comparison --runs=exp/cube-single-play-singletask-task1-v0

Reads the last evaluation of every seed of every config under RUNS, times each agent's update here,
and writes OUT/comparison.csv and OUT/comparison.md, which it prints. Success is pooled over seeds,
with a 95% Wilson interval over all episodes; the seeds' own rates stand beside it.
"""

import statistics as stdlib_statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import agents
from agents import Agent
from benchmarks import flops, reports, scores
from utils import datasets, errors, runs, training
from utils.errors import UserError
from utils.metrics import CsvTable
from utils.train_state import TrainState

FLAGS = flags.FLAGS
flags.DEFINE_string('runs', None, 'Folder SAVE_DIR/ENV of runs.', required=True)
flags.DEFINE_integer('timed_steps', 200, 'Updates that are timed, three times.', lower_bound=1)
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')


def main(_: list[str]) -> None:
    """Reads, measures and writes."""
    out = Path(FLAGS.out)
    csv = out / 'comparison.csv'
    if csv.exists():
        raise UserError(f'{csv}: exists already; choose another --out')
    root = Path(FLAGS.runs).expanduser()
    names = sorted(path.name for path in root.glob('*') if any(path.glob('seeds_*/eval.csv')))
    if not names:
        raise UserError(f'--runs: {root} holds no evaluated run; give SAVE_DIR/ENV')
    rows = [scores.success(root / name) | cost(root / name) for name in names]
    rows.sort(key=lambda row: -row['success'])
    out.mkdir(parents=True, exist_ok=True)
    CsvTable(csv).append(rows)
    text = reports.comparison_table(rows)
    (out / 'comparison.md').write_text(text)
    print(text)


def cost(folder: Path) -> dict[str, float]:
    """Parameters, operations and milliseconds of an update of one member, on this machine."""
    record = runs.read_record(next(iter(sorted(folder.glob('seeds_*')))))
    config = runs.agent_config(record)
    sizes = record['observation_dim'], record['action_dim']
    agent = agents.create(config, agents.Spec(*sizes, -80.0, 25.0, -100.0, 0.0))
    dataset = _noise(*sizes)

    def sample(dataset: datasets.Dataset, key: jax.Array) -> datasets.Batch:
        return datasets.sample(
            dataset,
            key,
            config.batch_size,
            config.chunk_length,
            config.discount,
            agent.needs_next_actions,
        )

    key = jax.random.key(0)
    state = jax.eval_shape(agent.init, key)
    batch = jax.eval_shape(sample, dataset, key)
    trained = [part.params for part in _train_states(state)]
    return dict(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(trained)),
        gflop_per_update=flops.count(agent.update, state, batch, key) / 1e9,
        ms_per_update=_time(agent, sample, dataset),
    )


def _train_states(state: Any) -> list[Any]:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, TrainState))
    return [leaf for leaf in leaves if isinstance(leaf, TrainState)]


def _time(agent: Agent, sample: Any, dataset: datasets.Dataset) -> float:
    train_chunk = training.make_train_chunk(agent.update, sample)
    keys = training.streams([0], training.TRAIN_STREAM)
    population = training.init_population(agent.init, [0])
    population, _ = train_chunk(population, keys, dataset, 0, 0)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        population, _ = train_chunk(population, keys, dataset, 0, FLAGS.timed_steps)
        jax.block_until_ready(population)
        times.append(time.perf_counter() - started)
    return 1e3 * stdlib_statistics.median(times) / FLAGS.timed_steps


def _noise(observation_dim: int, action_dim: int, rows: int = 10_001) -> datasets.Dataset:
    """A dataset of the right sizes; what an update costs does not depend on its content."""
    rng = np.random.default_rng(0)
    terminals = np.zeros(rows, bool)
    terminals[-1] = True
    return jax.device_put(
        datasets.build(
            dict(
                observations=rng.normal(size=(rows, observation_dim)),
                actions=rng.uniform(-1.0, 1.0, (rows, action_dim)),
                terminals=terminals,
                rewards=-np.ones(rows),
                masks=np.ones(rows),
            )
        )
    )


if __name__ == '__main__':
    errors.run(main)
