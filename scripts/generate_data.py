"""Makes an OGBench dataset without a network, with OGBench's own environments and oracles.

python scripts/generate_data.py --dataset=cube-single-play-v0 --episodes=200 --workers=2
"""

import os
from pathlib import Path

import _path  # noqa: F401
from absl import flags

from utils import errors, generation

FLAGS = flags.FLAGS
flags.DEFINE_string(
    'dataset', None, 'Name of the dataset, e.g. cube-single-play-v0.', required=True
)
flags.DEFINE_integer('episodes', None, 'Training episodes; default: the official number.')
flags.DEFINE_integer('workers', os.cpu_count(), 'Processes; the result does not depend on it.')
flags.DEFINE_integer('seed', 0, 'Fixes the bytes of the result.')
flags.DEFINE_string('dataset_dir', '~/.ogbench/data', 'Where the dataset is written.')


def main(_: list[str]) -> None:
    dataset_dir = Path(FLAGS.dataset_dir).expanduser()
    record = generation.generate(
        FLAGS.dataset, dataset_dir, FLAGS.episodes, FLAGS.workers, FLAGS.seed
    )
    for name, file in record['files'].items():
        print(f'{dataset_dir / name}: {file["rows"]} rows, sha256 {file["sha256"][:16]}')
    plans, successes = record['plans']['train'], record['plan_successes']['train']
    print(f'plans that reached their target: {successes} of {plans}')


if __name__ == '__main__':
    errors.run(main)
