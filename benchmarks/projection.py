"""What a suite would cost on the machine of a measured throughput; nothing is run.

    python -m benchmarks.projection --throughput=benchmarks/results/throughput.json

Hours of updates alone, from the largest population that was measured of each agent and shape of its
own; an environment's observations change little of it. Prints a Markdown table.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

import configs
from benchmarks import reports
from utils.errors import UserError
from utils.sweeps import suites
from utils.sweeps.suites import Suite
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_list('throughput', None, 'Files of benchmarks.throughput.', required=True)
flags.DEFINE_string('suite', 'paper25', 'Of configs.py.')


def main(_: list[str]) -> None:
    """Prints the table."""
    suite = configs.get_suite(FLAGS.suite)
    measured = [_read(Path(path)) for path in FLAGS.throughput]
    updates = [row for one in measured for row in one['updates']]
    rows = [row for agent in suite.agents for row in _rows(suite, agent, updates)]
    machines = {
        f'{one["machine"]["processor"]}, {one["machine"]["cores"]} cores' for one in measured
    }
    print(f'Projected, not run: suite {FLAGS.suite} on {"; ".join(sorted(machines))}\n')
    header = 'agent', 'population', 'ms per update', 'hours an environment', 'hours in all'
    print(reports.table(header, rows))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        return {name: content[name] for name in ('updates', 'machine')}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'--throughput: {path} is no result of benchmarks.throughput ({error!r})'
        ) from error


def _rows(suite: Suite, agent: str, updates: list[dict[str, Any]]) -> list[list[str]]:
    """Returns a row for the config, and one for what it is called in mazes."""
    names = (f'{agent}{suite.mazes if "maze" in env else ""}' for env in suite.env_names)
    rows = []
    for name, num in Counter(names).items():
        row, of_environment = suites.projected_hours(suite, updates, name)
        rows.append(
            [
                name,
                f'{row["seeds"]} x {row["tasks"]}',
                f'{row["ms_per_update"]:.3g}',
                f'{of_environment:.3g}',
                f'{of_environment * num:.3g}',
            ]
        )
    return rows


if __name__ == '__main__':
    command.run(main)
