"""Evaluates a trained run at other inference settings, without retraining.

    python scripts/evaluate.py --checkpoint=exp/ENV/CONFIG/seeds_0 --n_pi=1,4,16,32 --tau_q=0,0.1

Every combination of the lists is played, all from the same start states and with the same random
numbers. Rows are appended to inference.csv and inference_episodes.csv in the run's directory, or in
--out. For one setting at a time see scripts/sweep_inference.py.
"""

import itertools
from pathlib import Path

import _inference
from absl import flags

from utils import errors

FLAGS = flags.FLAGS
flags.DEFINE_string('checkpoint', None, 'Run directory.', required=True)


def main(_: list[str]) -> None:
    trained = _inference.load(Path(FLAGS.checkpoint).expanduser())
    lists = _inference.given_lists(trained)
    combinations = [
        dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())
    ]
    _inference.play(trained, [trained.agent.configure(**changes) for changes in combinations])


if __name__ == '__main__':
    errors.run(main)
