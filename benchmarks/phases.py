"""What the phases cost beside the one loop that trains the base policy along with the values.

    python -m benchmarks.phases --sizes=small,full --out=bench/phases

QC-5 and EVOR-5 (C51) on noise of cube-double's sizes: milliseconds of an update with the policy in
training (with one next action of the data, where the agent can, and with the best of M samples), of
the base policy alone, of values on its pool, and what a state's candidates cost. From these follows
what five tasks cost from nothing. Writes OUT/phases.json and OUT/phases.md, which it prints.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

import configs
from benchmarks import phase_tables
from utils.errors import UserError
from utils.jobs import workload
from utils.models import base_policy, networks
from utils.storage import runs
from utils.system import command
from utils.training import pool

FLAGS = flags.FLAGS
flags.DEFINE_list('sizes', ['small', 'full'], 'Nets: small is 3 x 256, full 4 x 512.')
flags.DEFINE_list('candidates', ['1', '8', '32'], 'M, of the backup.')
flags.DEFINE_string('env_name', 'cube-double-play-singletask-task1-v0', 'Its sizes.')
flags.DEFINE_integer('updates', 60, 'Timed, three times; their median counts.', lower_bound=1)
flags.DEFINE_integer('rows', 1_001_000, 'States of the data, for the whole.', lower_bound=1)
flags.DEFINE_integer('num_pool', 32, 'Candidates at each state.', lower_bound=1)
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')

CHUNKS = dict(chunk_length=5)


def main(_: list[str]) -> None:
    """Measures everything and writes the reports."""
    out = Path(FLAGS.out) / 'phases.json'
    if out.exists():
        raise UserError(f'{out}: exists already; choose another --out')
    sizes = workload.sizes_of(FLAGS.env_name)
    rows, states = [], []
    for size in FLAGS.sizes:
        suffix = {'small': '_small', 'full': ''}[size]
        base = _config('bc' + suffix, **CHUNKS)
        rows.append(dict(size=size, what='base policy', tasks=1, m=0) | _cost(base, sizes, 1))
        states.append(dict(size=size, ms_per_state=_pool_cost(base, sizes)))
        rows += _of_agents(size, suffix, sizes)
    result = dict(machine=runs.describe(), updates=rows, pools=states)
    result |= dict(rows=FLAGS.rows, num_pool=FLAGS.num_pool)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + '\n')
    text = phase_tables.tables(result)
    out.with_suffix('.md').write_text(text)
    print(text)


def _of_agents(size: str, suffix: str, sizes: tuple[int, int]) -> list[dict[str, Any]]:
    """Rows of both agents at one size."""
    rows = []
    evor = dict(value_model='categorical', num_return_samples=1, backup_return_samples=1)
    # With the data's own next action there is one, and nothing is picked.
    data = dict(next_action='dataset', backup_candidates=1)
    for name, changes in (('qc', {}), ('evor', evor)):
        start = 'qc5' + suffix if name == 'qc' else 'evor' + suffix
        plans = [('values', m, {}) for m in map(int, FLAGS.candidates)]
        plans += [('one loop', m, {}) for m in map(int, FLAGS.candidates)]
        if name == 'evor':
            plans += [('values', 0, data), ('one loop', 0, data)]
        for what, m, extra in plans:
            phases = dict(frozen_policy=what == 'values', backup_candidates=m)
            if name == 'evor':
                phases['next_action'] = 'policy'
            config = _config(start, **CHUNKS | changes | phases | extra)
            for tasks in (1, phase_tables.TASKS):
                row = dict(size=size, what=f'{name}, {what}', tasks=tasks, m=m)
                rows.append(row | _cost(config, sizes, tasks))
                print(rows[-1], flush=True)
    return rows


def _config(name: str, **changes: Any) -> ConfigDict:
    config = configs.get_config(name)
    config.update(changes)
    return config


def _cost(config: ConfigDict, sizes: tuple[int, int], tasks: int) -> dict[str, float]:
    work = workload.make(config, sizes, 1, tasks)
    _, milliseconds = workload.time_updates(work, FLAGS.updates)
    return dict(ms_per_update=milliseconds, gflop_per_update=work.gflop_per_update)


def _pool_cost(config: ConfigDict, sizes: tuple[int, int]) -> float:
    """Milliseconds of one state's candidates."""
    net = networks.policy_field(config, sizes[1])
    params = base_policy.init(net, jax.random.key(0), sizes[0])
    tile = pool.CPU_TILE if jax.default_backend() == 'cpu' else pool.ACCELERATOR_TILE
    inputs = np.zeros((tile, sizes[0]), np.float32), np.arange(tile)
    arguments = params, *inputs, jax.random.key(0), FLAGS.num_pool, config.flow_steps
    times = []
    for _ in range(4):  # the first one compiles
        started = time.perf_counter()
        jax.block_until_ready(pool.draw(net, *arguments))
        times.append(time.perf_counter() - started)
    return 1e3 * sorted(times[1:])[1] / tile


if __name__ == '__main__':
    command.run(main)
