"""Evaluates a trained run at other inference settings, without retraining.

    python scripts/evaluate.py --run=exp/ENV/CONFIG/seeds_0 --n_pi=1,4,16,32 --tau_q=0,0.1

Every combination of the lists is played, all from the same start states and with the same random
numbers. Rows are appended to inference.csv and inference_episodes.csv in the run's directory, or in
--out. For one setting at a time see scripts/sweep_inference.py.
"""

import itertools

import _path  # noqa: F401
from absl import flags

from utils.jobs import inference_flags, run_flag, setting_flags
from utils.system import command

FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    trained = inference_flags.load(run_flag.directory())
    lists = setting_flags.given_lists(trained.agent, trained.agent_name)
    combinations = [
        dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())
    ]
    inference_flags.play(trained, [trained.agent.configure(**changes) for changes in combinations])


if __name__ == '__main__':
    command.run(main)
