"""How long an exported policy takes to decide, for one observation.

    python -m benchmarks.latency --agents=evor_small,qc5_small --out=bench/latency

Untrained agents are exported at each number of candidates and loaded again, as a robot would. What
is timed is a call of `Policy.act` that decides: the others return what is queued. Writes
OUT/latency.csv and OUT/latency.md, which it prints.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import agents
import configs
from benchmarks import reports
from utils.deploy import exporting
from utils.deploy.members import Member
from utils.deploy.policy import Policy
from utils.errors import UserError
from utils.jobs import workload
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_list('agents', ['evor_small', 'evor'], 'Names in configs.py.')
flags.DEFINE_list('n_pi', ['1', '8', '32'], 'Candidates, for agents that choose among some.')
flags.DEFINE_string('env_name', 'cube-double-play-singletask-task1-v0', 'Whose sizes.')
flags.DEFINE_integer('decisions', 300, 'Of each row, after the first.', lower_bound=1)
flags.DEFINE_string('out', 'bench/latency', 'Folder of the results; it must not exist yet.')


def main(_: list[str]) -> None:
    """Measures and writes."""
    out = Path(FLAGS.out)
    if out.exists():
        raise UserError(f'{out}: exists already; choose another --out')
    sizes, rows = workload.sizes_of(FLAGS.env_name), []
    for name in FLAGS.agents:
        member = untrained(name, sizes)
        chooses = 'n_pi' in vars(member.agent.settings)
        for num in map(int, FLAGS.n_pi if chooses else ['1']):
            settings = member.agent.configure(**(dict(n_pi=num) if chooses else {}))
            rows.append(dict(agent=name, n_pi=num) | measure(member, settings))
            print(rows[-1], flush=True)
    out.mkdir(parents=True)
    CsvTable(out / 'latency.csv').append(rows)
    text = report(rows)
    (out / 'latency.md').write_text(text)
    print(text)


def untrained(name: str, sizes: tuple[int, int]) -> Member:
    """Returns a member of no run, with the weights of the start.

    Args:
        name: in configs.py.
        sizes: observation_dim, action_dim.
    """
    config = configs.get_config(name)
    agent = agents.create(config, agents.Spec(*sizes))
    record = dict(env_name=FLAGS.env_name, agent=config.to_dict())
    record |= dict(observation_dim=sizes[0], action_dim=sizes[1])
    return Member(record, agent, jax.jit(agent.init)(jax.random.key(0)), step=0, seed=0)


def measure(member: Member, settings: Any) -> dict[str, float]:
    """Exports, loads and times one policy at these settings of inference."""
    observations = np.random.default_rng(0).normal(
        size=(FLAGS.decisions, member.record['observation_dim'])
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / 'policy'
        exporting.write(folder, member, settings)
        size, started = exporting.size(folder), time.perf_counter()
        policy = Policy.load(folder)
        load_seconds = time.perf_counter() - started
    times = []
    for number, observation in enumerate(observations):
        policy.reset(number)
        started = time.perf_counter()
        policy.act(observation)
        times.append(1e3 * (time.perf_counter() - started))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    length = policy.record['chunk_length']
    return dict(chunk_length=length, p50_ms=p50, p99_ms=p99, load_seconds=load_seconds, mb=size)


def report(rows: list[dict[str, Any]]) -> str:
    """Returns the rows in Markdown, below what they were measured on."""
    machine = runs.describe()
    header = ['agent', 'candidates', 'actions per decision', 'p50, ms', 'p99, ms', 'load, s', 'MB']
    lines = [
        [f'`{row["agent"]}`', str(row['n_pi']), str(row['chunk_length'])]
        + [f'{row[name]:.2f}' for name in ('p50_ms', 'p99_ms')]
        + [f'{row[name]:.1f}' for name in ('load_seconds', 'mb')]
        for row in rows
    ]
    return (
        f'{runs.hardware(machine)}; jax {machine["versions"]["jax"]}; a decision for one '
        f'observation of {FLAGS.env_name}, of {FLAGS.decisions}; loading includes compiling.\n\n'
    ) + reports.table(header, lines)


if __name__ == '__main__':
    command.run(main)
