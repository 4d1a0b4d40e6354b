"""Makes OGBench datasets without a network, with OGBench's own environments and oracles.

python scripts/generate_data.py --dataset=cube-single-play-v0 --episodes=200 --workers=2
python scripts/generate_data.py --suite=paper25
"""

import os

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.data import fetching
from utils.environments import wrappers
from utils.generation import generator
from utils.jobs.dataset_flags import chosen_datasets
from utils.system import command
from utils.system.stopping import StopRequest

FLAGS = flags.FLAGS
flags.DEFINE_integer('episodes', None, 'Training episodes; default: the official number.')
flags.DEFINE_integer('workers', os.cpu_count(), 'Processes; the result does not depend on it.')
flags.DEFINE_integer('seed', 0, 'Fixes the bytes of the result on one kind of processor.')
flags.DEFINE_string(
    'dataset_dir',
    fetching.DATASET_DIR,
    'Where the dataset is written; with noise, a folder of its own in there.',
)
flags.DEFINE_float('action_noise', 0.0, 'Deviation of Gaussian noise on what is executed.')
flags.DEFINE_float('sticky_prob', 0.0, 'Probability that a step repeats the previous action.')


def main(_: list[str]) -> None:
    noise = wrappers.make_noise(FLAGS.action_noise, FLAGS.sticky_prob)
    dataset_dir = files.expanded(FLAGS.dataset_dir, 'dataset_dir') / noise.label
    names = chosen_datasets()
    for name in names:
        generator.check_name(name)
    stop = StopRequest()
    for name in names:
        with stop.listening():
            record = generator.generate(
                name, dataset_dir, FLAGS.episodes, FLAGS.workers, FLAGS.seed, noise, stop
            )
        for file_name, file in record['files'].items():
            print(f'{dataset_dir / file_name}: {file["rows"]} rows, sha256 {file["sha256"][:16]}')
        plans, successes = record['plans']['train'], record['plan_successes']['train']
        print(f'plans that reached their target: {successes} of {plans}', flush=True)


if __name__ == '__main__':
    command.run(main)
