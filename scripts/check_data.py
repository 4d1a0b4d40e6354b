"""Compares generated datasets with what OGBench's own procedure makes.

    python scripts/check_data.py --suite=paper25

For every dataset: the share of transitions at success of each task, with its standard error over
episodes, the range of rewards and the share of successful plans, each beside what is expected where
that is known. Ends with code 2 where one of them is further off than chance explains.
"""

from pathlib import Path

import _path  # noqa: F401
import numpy as np
from absl import flags

from utils import files
from utils.data import contents, dataset_files, datasets, fetching
from utils.data.contents import Content, Share
from utils.environments import envs
from utils.errors import UserError
from utils.generation import generator
from utils.jobs.dataset_flags import chosen_datasets
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('dataset_dir', fetching.DATASET_DIR, 'Where the datasets are.')

TASKS = [1, 2, 3, 4, 5]
COLUMNS = ('dataset', 'what', 'found', 'expected', 'standard errors off')


def main(_: list[str]) -> None:
    directory = files.expanded(FLAGS.dataset_dir, 'dataset_dir')
    print('| ' + ' | '.join(COLUMNS) + ' |\n|' + ' --- |' * len(COLUMNS), flush=True)
    wrong = []
    for name in chosen_datasets():
        for what, found, expected, off, is_wrong in _compare(name, directory):
            print(f'| {name} | {what} | {found} | {expected} | {off} |', flush=True)
            wrong += [f'{name}: {what}'] if is_wrong else []
    if wrong:
        raise UserError(
            f'not what OGBench makes: {", ".join(wrong)}; check versions and the generator'
        )


def _compare(name: str, directory: Path) -> list[tuple[str, str, str, str, bool]]:
    """Returns rows of (what, found, expected, standard errors off, whether that is too many)."""
    env_name = name.removesuffix('-v0') + '-singletask-v0'
    tasks = {task: envs.make_env(task) for task in envs.task_names(env_name, TASKS)}
    built = [datasets.build(x) for x in dataset_files.load(directory / f'{name}.npz', tasks)]
    known = contents.KNOWN.get(name)
    rows = _share_rows([contents.success_share(dataset) for dataset in built], known)
    rewards = [dataset.rewards[dataset.starts] for dataset in built]
    found = float(np.min(rewards)), float(np.max(rewards))
    outside = known is not None and not known.rewards[0] <= found[0] <= found[1] <= known.rewards[1]
    expected = f'within {known.rewards}' if known else '-'
    rows.append(('rewards', f'{found}', expected, '-', outside))
    record = generator.read_record(directory, name)
    plans = record['plans']['train'], record['plan_successes']['train']
    off = contents.plan_deviation(plans, known.plans) if known and known.plans else None
    rows.append(
        (
            'plans that reached their target',
            f'{plans[1]} of {plans[0]}',
            f'{known.plans[1]} of {known.plans[0]}' if off is not None else '-',
            *_judged(off),
        )
    )
    return rows


def _share_rows(
    shares: list[Share], known: Content | None
) -> list[tuple[str, str, str, str, bool]]:
    found = [f'{share.mean:.4f} +- {share.error:.4f}' for share in shares]
    names = [f'success, task {task}' for task in TASKS]
    if known is None:
        return [(name, of, '-', *_judged(None)) for name, of in zip(names, found, strict=True)]
    offs = contents.deviations(shares, known.shares, known.episodes)
    return [
        (name, of, f'{expected:.4f}', *_judged(off))
        for name, of, expected, off in zip(names, found, known.shares, offs, strict=True)
    ]


def _judged(off: float | None) -> tuple[str, bool]:
    return ('-', False) if off is None else (f'{off:+.1f}', abs(off) > contents.TOLERANCE)


if __name__ == '__main__':
    command.run(main)
