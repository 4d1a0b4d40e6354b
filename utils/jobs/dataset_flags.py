"""The datasets that a command is about: named, or those of a suite."""

from absl import flags

import configs
from utils.environments import envs
from utils.errors import UserError

FLAGS = flags.FLAGS
flags.DEFINE_list('dataset', [], 'Names of datasets, e.g. cube-single-play-v0.')
flags.DEFINE_string('suite', None, 'Instead: those of a suite of configs.py.')


def chosen_datasets() -> list[str]:
    """Returns the names of the chosen datasets.

    Raises:
        UserError: none or twice chosen, or no such suite.
    """
    if bool(FLAGS.dataset) == bool(FLAGS.suite):
        raise UserError('name datasets by --dataset, or a suite by --suite; one of the two')
    if FLAGS.dataset:
        return FLAGS.dataset
    env_names = configs.get_suite(FLAGS.suite).env_names
    # Environments that differ in their rewards alone share a dataset.
    return list(dict.fromkeys(map(envs.dataset_name, env_names)))
