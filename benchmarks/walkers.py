"""How well experts walk a maze, each through the same episodes, as datasets record them.

    python -m benchmarks.walkers --folders=results/experts,exp/ant_expert

An expert is the NAME.npz of a folder (scripts/train_expert.py). Episode e has the same start and
the same first goal for every expert, those of scripts/generate_data.py with that --seed. Writes
OUT/walkers.csv, a row per episode, and OUT/walkers.md, and prints it: goals per episode, and metres
per 5 s as scripts/check_policy.py measures them, with 95% intervals over episodes, and the
differences from the first expert, paired by episode.
"""

import os
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import reports
from utils.errors import UserError
from utils.generation import behaviour_measures, behaviours, experts
from utils.generation.behaviour_measures import Amount
from utils.generation.recording import SPLITS
from utils.generation.sources import SOURCES
from utils.storage.metrics import CsvTable, Row
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_list('folders', str(experts.FOLDER), 'Where the experts lie.')
flags.DEFINE_string('dataset', 'antmaze-large-navigate-v0', 'What they walk.')
flags.DEFINE_integer('episodes', 20, 'Of each.', lower_bound=2)
flags.DEFINE_integer('data_seed', 0, 'Fixes starts and goals, as in scripts/generate_data.py.')
flags.DEFINE_string('out', 'bench', 'Folder of the results; they must not exist yet.')


def play(folder: Path, dataset: str, episodes: int, seed: int) -> list[Row]:
    """Returns a row for each episode of an expert.

    Args:
        folder: where the expert lies.
        dataset: a navigate set of a maze.
        episodes: how many.
        seed: of the set.

    Raises:
        UserError: there is no such set or expert.
    """
    source = SOURCES.get(dataset)
    if source is None or source.record is not behaviours.record_navigate:
        known = [name for name, of in SOURCES.items() if of.record is behaviours.record_navigate]
        raise UserError(f'--dataset: {dataset} is not walked; known: {", ".join(known)}')
    name = behaviours.expert_name(source.env_id)
    if name is None:
        raise UserError(f'--dataset: {dataset} is walked without an expert; choose an ant maze')
    os.environ['MUJOCO_GL'] = 'disable'
    import ogbench  # noqa: F401  (registers the environments)

    env, rows = source.make_env(source.env_id, source.steps), []
    digest = experts.digest(name, folder)
    window = round(behaviour_measures.WINDOW_SECONDS / env.unwrapped.dt)
    for episode in range(episodes):
        seeds = np.random.SeedSequence((seed, SPLITS.index('train'), episode, 0))
        recording = behaviours.record_navigate(env, source.env_id, seeds, folder)
        positions = recording.episode['observations'][:, :2]
        way = behaviour_measures.walked(positions, 1, window)
        row = dict(expert=digest, dataset=dataset, seed=seed, episode=episode)
        rows.append(
            row | dict(goals=recording.successes, metres=way.done / way.units, windows=way.units)
        )
    env.close()
    return rows


def report(rows: list[Row]) -> str:
    """Returns a table with a line per expert, in the order of the rows."""
    names, lines = reports.unique(rows, 'expert'), []
    first = reports.select(rows, expert=names[0])
    for name in names:
        chosen = reports.select(rows, expert=name)
        cells = []
        for column in ('goals', 'metres'):
            values, base = ([row[column] for row in of] for of in (chosen, first))
            cells.append(_with_interval(values))
            differences = np.subtract(values, base)
            cells.append('-' if name == names[0] else _with_interval(differences, '+.2f'))
        lines.append([name[:16], str(len(chosen)), *cells])
    header = ['expert (SHA-256)', 'episodes', 'goals per episode', 'difference']
    return reports.table([*header, 'metres per 5 s', 'difference'], lines)


def _with_interval(values: np.ndarray | list[float], form: str = '.2f') -> str:
    mean, half_width = behaviour_measures.rate([Amount(value, 1.0) for value in values])
    return f'{mean:{form}} +- {half_width:.2f}'


def main(_: list[str]) -> None:
    """Plays the episodes of every expert."""
    out = Path(FLAGS.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    paths = out / 'walkers.csv', out / 'walkers.md'
    for path in paths:
        if path.exists():
            raise UserError(f'{path}: exists already; move it away or choose another --out')
    rows = []
    for folder in FLAGS.folders:
        own = play(Path(folder).expanduser(), FLAGS.dataset, FLAGS.episodes, FLAGS.data_seed)
        CsvTable(paths[0]).append(own)
        rows += own
    text = report(rows)
    paths[1].write_text(text)
    print(text)


if __name__ == '__main__':
    command.run(main)
