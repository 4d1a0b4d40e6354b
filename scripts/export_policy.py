"""Writes a run's policy as a folder that JAX and NumPy alone can act with.

    python scripts/export_policy.py --run=exp/ENV/CONFIG/seeds_0 --out=policies/NAME --n_pi=8

For CPUs, CUDA GPUs and TPUs. Temperatures (tau_q, tau_r) can be changed where it is loaded; other
inference settings are fixed here, as trained unless they are given. See docs/deploy.md.
"""

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.deploy import exporting, members
from utils.jobs import run_flag, setting_flags
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('out', None, 'Folder to write; it must not hold a policy.', required=True)
flags.DEFINE_integer('step', None, 'Checkpoint to use; default: the newest.')
flags.DEFINE_integer('seed', None, "Member of the run; default: the run's first seed.")
flags.DEFINE_bool('half', False, 'Round parameters to float16: half the size, another policy.')


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    member = members.load(run_flag.directory(), FLAGS.step, FLAGS.seed)
    given = setting_flags.given(member.agent, member.record['agent']['agent_name'])
    exporting.write(out, member, member.agent.configure(**given), FLAGS.half)
    print(f'{out}: seed {member.seed}, {member.step} updates, {exporting.size(out):.1f} MB')


if __name__ == '__main__':
    command.run(main)
