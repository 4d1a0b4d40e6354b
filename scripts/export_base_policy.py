"""Writes the base policy of a run of `bc` as one file, which `--base_policy` of main.py reads.

    python scripts/export_base_policy.py --run=exp/ENV/bc/seeds_0 --out=policy.npz

Parameters and record, without the optimiser's state: a third of a checkpoint.
"""

import _path  # noqa: F401
from absl import flags

import agents
from agents import frozen, policy_file
from utils import files
from utils.errors import UserError
from utils.jobs import run_flag
from utils.storage import runs
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_string('out', None, 'FILE.npz to write; it must not exist yet.', required=True)


def main(_: list[str]) -> None:
    directory, out = run_flag.directory(), files.expanded(FLAGS.out, 'out')
    if out.suffix != policy_file.SUFFIX or out.exists():
        raise UserError(f'--out: {out}: expected a new file named *{policy_file.SUFFIX}')
    record = runs.read_record(directory)
    config, _ = agents.complete(runs.agent_config(record))
    sizes = record['observation_dim'], record['action_dim']
    policy = frozen.load(directory, config, *sizes, FLAGS.step)
    policy_file.write(out, policy)
    print(f'{out}: {policy.step} updates, {out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    command.run(main)
