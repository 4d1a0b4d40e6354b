"""From an empty folder to a trained, evaluated policy and two pictures; `make demo` runs it.

Every step is a command that is printed first, so that it can be repeated and changed by hand.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import _path
from absl import flags

import configs
from utils import files
from utils.environments import envs
from utils.errors import UserError
from utils.reporting import figures
from utils.storage import runs
from utils.storage.metrics import CsvTable
from utils.system import command

FLAGS = flags.FLAGS
flags.DEFINE_string('out', 'demo', 'Folder for data, run and pictures.')
flags.DEFINE_integer('episodes', 200, 'Training episodes to generate.', lower_bound=1)
flags.DEFINE_string('env_name', 'pointmaze-medium-navigate-singletask-task1-v0', 'Environment.')
flags.DEFINE_string('config', 'evor_c51_maze_small', 'Config of the agent.')
flags.DEFINE_integer('offline_steps', 3_000, 'Updates.', lower_bound=1)
flags.DEFINE_integer('eval_episodes', 25, 'Episodes of each evaluation.', lower_bound=1)
flags.DEFINE_list('n_pi', ['1', '2', '4', '8', '16'], 'Numbers of candidates.')


def main(_: list[str]) -> None:
    out = files.expanded(FLAGS.out, 'out')
    config_name = configs.get_config(FLAGS.config).config_name
    run_dir = runs.run_dir(str(out / 'exp'), FLAGS.env_name, config_name, [0])
    started = time.perf_counter()
    _run(
        'scripts/generate_data.py',
        dataset=envs.dataset_name(FLAGS.env_name),
        episodes=FLAGS.episodes,
        workers=os.cpu_count(),
        dataset_dir=out / 'data',
    )
    _run(
        'main.py',
        env_name=FLAGS.env_name,
        agent=f'configs.py:{FLAGS.config}',
        dataset_dir=out / 'data',
        save_dir=out / 'exp',
        offline_steps=FLAGS.offline_steps,
        log_interval=max(1, FLAGS.offline_steps // 30),
        eval_interval=max(1, FLAGS.offline_steps // 3),
        eval_episodes=FLAGS.eval_episodes,
        save_interval=max(1, FLAGS.offline_steps // 3),
    )
    rows = _evaluate(run_dir)
    figures.learning_curve(run_dir, out / 'learning_curve.png')
    figures.success_against_n_pi(rows, out / 'success_against_n_pi.png')
    _print_table(rows, run_dir)
    pictures = f'{out / "learning_curve.png"} {out / "success_against_n_pi.png"}'
    viewer = 'open' if sys.platform == 'darwin' else 'xdg-open'
    print(f'\nlook at the pictures: {viewer} {pictures}')
    print(f'all told: {time.perf_counter() - started:.0f} s')


def _run(script: str, **settings: object) -> None:
    arguments = [f'--{name}={value}' for name, value in settings.items()]
    print(f'\n$ python {script} {shlex.join(arguments)}', flush=True)
    words = [sys.executable, str(_path.ROOT / script), *arguments]
    if subprocess.run(words, cwd=Path.cwd()).returncode:
        raise UserError(f'{script} failed; what it said is above')


def _evaluate(run_dir: Path) -> list[dict[str, str]]:
    table = CsvTable(run_dir / 'inference.csv')
    before = len(table.read())
    _run(
        'scripts/evaluate.py',
        run=run_dir,
        n_pi=','.join(FLAGS.n_pi),
        eval_episodes=FLAGS.eval_episodes,
    )
    return table.read()[before:]


def _print_table(rows: list[dict[str, str]], run_dir: Path) -> None:
    record = runs.read_record(run_dir)
    trained_with = str(record['agent']['n_pi'])
    names = {'1': 'base policy alone', trained_with: 'EVOR'}
    print(
        f'\n{record["env_name"]}, seed 0, {rows[0]["step"]} updates, {rows[0]["episodes"]} episodes'
    )
    print('95% Wilson intervals: of this agent, not of training it again')
    print('\n|  | N_pi | success | 95% interval | mean length |\n|---|---|---|---|---|')
    for row in rows:
        low, high = float(row['success_low']), float(row['success_high'])
        print(
            f'| {names.get(row["n_pi"], "")} | {row["n_pi"]} | {float(row["success"]):.2f} '
            f'| [{low:.2f}, {high:.2f}] | {float(row["episode_length"]):.0f} |'
        )


if __name__ == '__main__':
    command.run(main)
