"""Turns data of other tools into an .npz of ours, with a record of where it came from.

    python scripts/import_data.py --in=hopper.hdf5 --out=hopper.npz

What the file does not tell is asked for by a flag. Nothing is overwritten.
"""

from pathlib import Path
from typing import Any

import _path  # noqa: F401
from absl import flags

from utils import files
from utils.data import importing
from utils.data.importers import formats
from utils.data.importers.options import Options
from utils.errors import UserError
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string(
    'in', None, 'File or folder to read; with --format=minari also the id of a local dataset.'
)
flags.DEFINE_string('out', None, 'The .npz to write; its record is beside it, as .json.')
flags.DEFINE_enum(
    'format', None, sorted(formats.FORMATS), 'Of --in; default: found by its content.'
)
flags.DEFINE_list('observations', [], 'Keys that are put side by side, in this order.')
flags.DEFINE_string('actions', '', "Key of the actions; default: the format's own.")
flags.DEFINE_string(
    'rewards', '', 'Key of the rewards; or last: 1 at the end of each trajectory; or none: all 0.'
)
flags.DEFINE_string(
    'ends_by_reward',
    '',
    'Key that is 1 where the episode ended by reward, as by a success or a fall; or last: at the '
    'end of each trajectory; or none: all are cut by time.',
)
flags.DEFINE_list(
    'ends', [], 'Keys that are 1 at the last row of a trajectory; none: there is one.'
)
flags.DEFINE_string('episode_index', '', "Key of the number of each row's trajectory.")
flags.DEFINE_list(
    'next_observations', [], "Keys, as --observations; none: leaves the file's own out."
)
flags.DEFINE_integer(
    'episode_steps', None, "The environment's limit, if the file tells no timeouts; 0: it has none."
)
flags.DEFINE_string('filter', '', "Of robomimic's lists of trajectories, e.g. train or valid.")
flags.DEFINE_string(
    'action_range',
    '',
    'LOW:HIGH of actions, a number each or one for each number of an action, which becomes -1:1; '
    'data: what they span; or the .json of imported data, whose map is used again.',
)


def main(_: list[str]) -> None:
    for name in ('in', 'out'):
        if FLAGS[name].value is None:
            raise UserError(f'--{name}: is missing; give --in=FILE --out=NAME.npz')
    out = files.expanded(FLAGS.out, 'out')
    try:
        record = importing.import_data(
            FLAGS['in'].value, out, FLAGS.format or '', _options(), FLAGS.action_range
        )
    except MemoryError as error:
        raise UserError(f'{FLAGS["in"].value}: memory ran out; import a part of it') from error
    for line in _told(out, record):
        print(line)


def _options() -> Options:
    if FLAGS.episode_steps is not None and FLAGS.episode_steps < 0:
        raise UserError(f'--episode_steps: must be at least 0, not {FLAGS.episode_steps}')
    values = {name: FLAGS[name].value for name in Options._fields}
    return Options(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _told(out: Path, record: dict[str, Any]) -> list[str]:
    counts, own = record['counts'], record['files'][out.name]
    offset, scale = (record['action_map'][name] for name in ('offset', 'scale'))
    pairs = zip(offset, scale, strict=True)
    spans = ', '.join(f'[{o - s:.6g}, {o + s:.6g}]' for o, s in pairs)
    return [
        f'{record["source"]["path"]}: {record["format"]}, {counts["trajectories"]} trajectories, '
        f'{counts["rows"]} rows, {counts["transitions"]} transitions',
        f'ended by reward: {counts["ended_by_reward"]}, by time: {counts["ended_by_time"]}',
        f'observations: {record["observation_dim"]} numbers; actions: {record["action_dim"]}, '
        f'[-1, 1] stands for {spans} ({record["action_map"]["told_by"]})',
        f'{out}: sha256 {own["sha256"][:16]}, recorded in {out.with_suffix(".json").name}',
    ]


if __name__ == '__main__':
    command.run(main)
