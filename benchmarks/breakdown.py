"""Where the time of an update goes, by kind of operation.

    python -m benchmarks.breakdown --agent=evor --populations=1x1,1x5

Trains under JAX's profiler and adds up when which compiled operation was in progress; its name in
the source tells its kind. The profiler costs a little itself, and of operations that were fused
only the last one has a name. Prints a Markdown table.
"""

import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.profiler import ProfileData, ProfileOptions

import configs
from benchmarks import profiles, reports
from utils.jobs import workload
from utils.storage import runs
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('agent', 'evor', 'Name in configs.py.')
flags.DEFINE_string('env_name', 'cube-double-play-singletask-task1-v0', 'Whose sizes.')
flags.DEFINE_list('populations', ['1x1', '1x5'], 'Sizes, as SEEDSxTASKS.')
flags.DEFINE_integer('updates', 20, 'Number of updates that are profiled.', lower_bound=1)


def main(_: list[str]) -> None:
    """Profiles every population and prints the table."""
    config = configs.get_config(FLAGS.agent)
    populations = [workload.parse_population(text) for text in FLAGS.populations]
    sizes = workload.sizes_of(FLAGS.env_name)
    shares = [shares_of_kinds(config, sizes, *population) for population in populations]
    machine = runs.describe()
    print(f'{machine["processor"]}, {machine["cores"]} cores, jax {machine["versions"]["jax"]}\n')
    rows = [[kind, *(f'{100 * share[kind]:.1f}%' for share in shares)] for kind in shares[0]]
    print(reports.table([f'`{FLAGS.agent}`, seeds x tasks', *FLAGS.populations], rows))


def shares_of_kinds(
    config: Any, sizes: tuple[int, int], num_seeds: int, num_tasks: int
) -> dict[str, float]:
    """Returns each kind's share of the time of updates.

    Args:
        config: of the agent.
        sizes: observation_dim, action_dim.
        num_seeds, num_tasks: of the population.
    """
    work = workload.make(config, sizes, num_seeds, num_tasks)
    train_chunk = work.train_chunk.lower(work.states, None, *work.arguments, 0, 0).compile()
    states, _ = train_chunk(work.states, None, *work.arguments, 0, 2)
    options = ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            states, _ = train_chunk(states, None, *work.arguments, 0, FLAGS.updates)
            jax.block_until_ready(states)
        [profile] = Path(folder).glob('**/*.xplane.pb')
        data = ProfileData.from_file(str(profile))
    events = (event for plane in data.planes for line in plane.lines for event in line.events)
    return profiles.shares(events, profiles.kinds_of_operations(train_chunk.as_text()))


if __name__ == '__main__':
    command.run(main)
