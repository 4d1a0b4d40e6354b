"""--run, of every command that is about a run there is."""

from pathlib import Path

from absl import flags

from utils import files

FLAGS = flags.FLAGS
flags.DEFINE_string('run', None, 'Run directory.', required=True)
flags.DEFINE_alias('checkpoint', 'run')  # its name until now; goes with the next release


def directory() -> Path:
    """Returns the run directory that was given.

    Raises:
        UserError: it is in the home of somebody who has none.
    """
    return files.expanded(FLAGS.run, 'run')
