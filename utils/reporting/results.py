"""Reads run directories into scores: one result per environment, task, config and seed.

A result is finished where every seed of its run was evaluated at the run's last step. One that is
not has no score, and says how far it came.
"""

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils import files, statistics
from utils.csv_lines import Source, read_lines
from utils.environments import descriptions, wrappers
from utils.environments.descriptions import NONE
from utils.errors import UserError
from utils.reporting import evaluations
from utils.reporting.evaluations import Evaluation
from utils.rollouts import outcomes
from utils.storage import runs

# Settings of an agent that are seeds.
SEEDS = ('policy_seed',)
ENV_NAME = re.compile(r'(?P<environment>.+)-singletask(-task(?P<task>\d+))?-v\d+')


class Run(NamedTuple):
    """A run directory.

    Attributes:
        directory: SAVE_DIR/ENV/CONFIG/seeds_0_1_2.
        environment: what the environment's tasks have in common, such as 'cube-single-play'; with
            noise, 'cube-single-play, action_noise_0.2'; with sparse rewards, 'scene-play-sparse'.
        task: '1' to '5', or 'default' where the environment's name has none.
        config_name: of the agent.
        seeds: of its members.
        offline_steps: updates.
        record: config.json.
        online_after: updates after which it learned online; None: it did not.
    """

    directory: Path
    environment: str
    task: str
    config_name: str
    seeds: tuple[int, ...]
    offline_steps: int
    record: dict[str, Any]
    online_after: int | None

    @property
    def last_offline_step(self) -> float:
        """Updates after which it learned online; infinity if it did not."""
        return math.inf if self.online_after is None else self.online_after


class Result(NamedTuple):
    """The score of one seed.

    Attributes:
        run: that it is a member of.
        seed: of the member.
        score: success rate, in [0, 1]; None if the run is not finished.
        evaluations: that the score is the mean of.
        step: of the last evaluation, or what an unfinished run has reached.
        missing: why there is no score, or ''.
    """

    run: Run
    seed: int
    score: float | None
    evaluations: tuple[Evaluation, ...]
    step: int
    missing: str

    @property
    def episodes(self) -> int:
        """Of the last evaluation."""
        return self.evaluations[-1].episodes

    @property
    def sources(self) -> tuple[Source, ...]:
        """Lines that the score is computed from."""
        return evaluations.sources_of(self.evaluations)

    @property
    def experiment(self) -> tuple[str, str, str, int]:
        """What may be there once: environment, task, config and seed."""
        return self.run.environment, self.run.task, self.run.config_name, self.seed


def find_runs(roots: Iterable[Path]) -> list[Run]:
    """Reads the record of every run at or below some folders, in the order of their paths.

    Raises:
        UserError: a folder is missing or holds no run, or a record is damaged.
    """
    found: dict[Path, Run] = {}
    for root in roots:
        directories = list(_run_directories(root))
        if not directories:
            raise UserError(f'--runs: {root} holds no run (a folder seeds_...); give SAVE_DIR')
        found |= {path.resolve(): _read_run(path) for path in directories}
    return sorted(found.values(), key=lambda run: run.directory)


def _run_directories(root: Path) -> Iterable[Path]:
    for path, folders, _ in os.walk(root):
        if Path(path).resolve().name.startswith('seeds_'):
            folders.clear()  # checkpoints are large trees
            yield Path(path)
        # Network storage keeps folders of its own, in which it repeats the names.
        folders[:] = [name for name in folders if not files.is_foreign(name)]


def _read_run(directory: Path) -> Run:
    record = runs.read_record(directory)
    path = directory / 'config.json'
    try:
        env_name, config_name = record['env_name'], record['agent']['config_name']
        seeds = tuple(int(seed) for seed in record['seeds'])
        offline_steps = int(record['offline_steps'])
        after = int(record['online']['after']) if 'online' in record else None
        match = ENV_NAME.fullmatch(env_name)
        own = descriptions.recorded(record, path)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path}: not the record of a run ({error!r}); restore it') from error
    if match is not None:
        name, task = match['environment'], match['task'] or 'default'
    elif own == NONE or own != env_name:  # none, or described
        name, task = env_name, 'default'
    else:
        raise UserError(f"{path}: env_name '{env_name}' is no OGBench singletask environment")
    environment = wrappers.recorded_noise(record).of(name)
    what = environment, task, config_name, seeds, offline_steps, record
    return Run(directory, *what, online_after=after)


def defines_success(run: Run) -> bool:
    """Whether episodes of a run succeed or fail; without an environment there are none."""
    own = descriptions.recorded(run.record, run.directory / runs.RECORD)
    return own != NONE and outcomes.defines_success(own)


def evaluations_by_seed(run: Run) -> dict[int, list[Evaluation]]:
    """Returns each seed's evaluations at the steps where all have one, in the order of steps.

    Those of online learning are left out: tables compare what was learned from the data alone.

    Raises:
        UserError: eval.csv is damaged.
    """
    found: dict[tuple[int, int], Evaluation] = {}
    for one in evaluations.read(run.directory, evaluations.IN_TRAINING):
        if one.step > run.last_offline_step:
            continue
        if one.seed not in run.seeds or (one.step, one.seed) in found:
            raise UserError(
                f'{one.line.path}, line {one.line.number}: a second evaluation of step {one.step} '
                f'and seed {one.seed}, or none of this run; restore the file from a copy'
            )
        found[one.step, one.seed] = one
    steps = sorted({step for step, _ in found})
    shared = [step for step in steps if all((step, seed) in found for seed in run.seeds)]
    return {seed: [found[step, seed] for step in shared] for seed in run.seeds}


def read_run(run: Run, rule: str) -> list[Result]:
    """Returns the result of every seed of a run.

    Args:
        run: of `find_runs`.
        rule: 'last' for the mean of the last three evaluations in eval.csv, as OGBench and FQL have
            it; 'final' for the one of most episodes that scripts/evaluate.py added to inference.csv
            at the last step, with the settings and the noise of the run.

    Raises:
        UserError: a file is damaged.
    """
    by_seed = evaluations_by_seed(run)
    steps = [one.step for one in by_seed[run.seeds[0]]]
    if rule == 'final':
        # A checkpoint of the last step was evaluated: nothing else needs to have been.
        last = max([run.offline_steps, *steps])
        by_seed = {seed: _final(run, seed, last) for seed in run.seeds}
        steps += [last] if any(by_seed.values()) else []
    if run.offline_steps not in steps:
        reached = max([*steps, *_trained_steps(run)], default=0)
        reason = _why_unfinished(run, reached)
        return [Result(run, seed, None, (), reached, reason) for seed in run.seeds]
    return [_result(run, seed, by_seed[seed], steps[-1]) for seed in run.seeds]


def _trained_steps(run: Run) -> list[int]:
    return [line.parse('step', int) for line in read_lines(run.directory / 'train.csv', ('step',))]


def online_steps(run: Run) -> int:
    """Returns the updates that a run has made online, by train.csv."""
    after = run.online_after
    return 0 if after is None else max([after, *_trained_steps(run)]) - after


def _why_unfinished(run: Run, reached: int) -> str:
    if reached >= run.offline_steps:
        return f'{run.directory}: trained, but not evaluated at step {run.offline_steps}'
    return f'{run.directory}: unfinished, at step {reached} of {run.offline_steps}'


def _result(run: Run, seed: int, rows: list[Evaluation], step: int) -> Result:
    rows = rows[-statistics.SCORE_EVALUATIONS :]
    if not rows:
        reason = (
            f'{run.directory}: no final evaluation in inference.csv; scripts/evaluate.py makes it'
        )
        return Result(run, seed, None, (), step, reason)
    score = statistics.score(np.array([row.success for row in rows]))
    return Result(run, seed, score, tuple(rows), step, '')


def _final(run: Run, seed: int, step: int) -> list[Evaluation]:
    """The evaluation of most episodes with the settings of the run; the last of these."""
    rows = [
        one
        for one in evaluations.read(run.directory, evaluations.AFTERWARDS)
        if (one.step, one.seed) == (step, seed) and not one.differing(run.record)
    ]
    return [max(reversed(rows), key=lambda row: row.episodes)] if rows else []


def noise(run: Run) -> dict[str, Any]:
    """Returns the noise of a run's environment, as flags name it."""
    return wrappers.recorded_noise(run.record)._asdict()


def read(roots: Iterable[Path], rule: str) -> list[Result]:
    """Reads all runs below some folders.

    The same seed of the same experiment may be there twice, where a run was repeated or went on in
    another population; the finished one counts.

    Raises:
        UserError: a file is damaged, or runs of one name are different experiments.
    """
    found: dict[tuple, Result] = {}
    for run in filter(defines_success, find_runs(roots)):
        for result in read_run(run, rule):
            former = found.setdefault(result.experiment, result)
            if former.score is None:
                found[result.experiment] = result
            elif result.score not in (None, former.score):
                raise UserError(
                    f'{former.run.directory} and {run.directory} both have seed {result.seed} of '
                    f'{run.config_name}, with different scores; leave one out of --runs'
                )
    results = list(found.values())
    check_alike(
        ((result.run.environment, result.run.config_name), result.run, _settings(result))
        for result in results
    )
    return results


def check_alike(members: Iterable[tuple[tuple[str, ...], Run, dict[str, Any]]]) -> None:
    """Checks that runs of one name differ in no setting that both of them record.

    An older record lacks settings that came later; what it lacks is not compared.

    Args:
        members: of each, the name, the run and its settings.

    Raises:
        UserError: two of them do.
    """
    found: dict[tuple[tuple[str, ...], str], tuple[Any, Path]] = {}
    for owner, run, own in members:
        for setting, value in own.items():
            former, where = found.setdefault((owner, setting), (value, run.directory))
            if former != value:
                raise UserError(
                    f'{where} and {run.directory} have one name, but {setting} is {former} there '
                    f'and {value} here; leave one out of --runs'
                )


def settings(run: Run) -> dict[str, Any]:
    """Returns what seeds and tasks of one name share: the agent's settings but seeds, the data."""
    data = run.record.get('dataset', {})
    data = {f'dataset {name}': data[name] for name in ('transitions', 'checksum') if name in data}
    return {key: value for key, value in run.record['agent'].items() if key not in SEEDS} | data


def _settings(result: Result) -> dict[str, Any]:
    updates = {} if result.score is None else dict(updates=result.step)
    return settings(result.run) | noise(result.run) | updates
