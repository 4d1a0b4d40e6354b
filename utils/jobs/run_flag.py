"""--run, of every command that is about a run there is."""

from pathlib import Path

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string('run', None, 'Run directory.', required=True)
flags.DEFINE_alias('checkpoint', 'run')  # its name until now; goes with the next release


def directory() -> Path:
    """Returns the run directory that was given."""
    return Path(FLAGS.run).expanduser()
