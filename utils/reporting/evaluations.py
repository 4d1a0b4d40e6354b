"""Evaluations as they were recorded, whatever played them: what all tables and charts are made of.

Training writes eval.csv, scripts write inference.csv, one row an evaluation: what was played
(checkpoint, environment, noise, settings of inference) and what came of it. Beside each file is
one with a row for every episode.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.csv_lines import Line, Source, read_lines, spans
from utils.environments import wrappers
from utils.errors import UserError
from utils.rollouts import outcomes
from utils.storage import metrics

IN_TRAINING, AFTERWARDS = 'eval.csv', 'inference.csv'
EPISODES = {IN_TRAINING: 'episodes.csv', AFTERWARDS: 'inference_episodes.csv'}
CHECKPOINT = ('step', 'seed')
OUTCOMES = ('success', 'success_low', 'success_high', 'episode_return', 'episode_length')
OUTCOMES += ('episodes', outcomes.NORMALISED, *outcomes.MEASURED, *metrics.LATER)


class Evaluation(NamedTuple):
    """One agent's episodes under one set of conditions.

    Attributes:
        step, seed: of the checkpoint.
        success: rate, in [0, 1].
        episodes: how many.
        conditions: environment, noise and settings of inference, as written; what a row lacks, as
            those of earlier versions of eval.csv lack all, is as in the run.
        line: where it was read.
    """

    step: int
    seed: int
    success: float
    episodes: int
    conditions: dict[str, str]
    line: Line

    def differing(self, record: dict[str, Any]) -> list[str]:
        """Returns the conditions that are not those of a run, by its config.json."""
        own = record | record['agent'] | wrappers.recorded_noise(record)._asdict()
        return [
            name
            for name, text in self.conditions.items()
            if name in own and not _same(text, own[name])
        ]


def _same(text: str, value: Any) -> bool:
    try:
        return np.float32(text) == np.float32(value)  # rows have what was played with
    except (TypeError, ValueError):
        return text == str(value)


def read(directory: Path, table: str) -> list[Evaluation]:
    """Returns the evaluations of a run, in the order in which they were played.

    Args:
        directory: of the run.
        table: `IN_TRAINING` or `AFTERWARDS`.

    Raises:
        UserError: the file is damaged.
    """
    needed = (*CHECKPOINT, 'success', 'episodes')
    needed += ('env_name',) if table == AFTERWARDS else ()
    return [_evaluation(line) for line in read_lines(directory / table, needed)]


def _evaluation(line: Line) -> Evaluation:
    step, seed = (line.parse(name, int) for name in CHECKPOINT)
    success, episodes = line.parse('success'), line.parse('episodes', int)
    if not 0.0 <= success <= 1.0 or episodes < 1:
        raise UserError(
            f'{line.path}, line {line.number}: a success rate of {success} over {episodes} '
            'episodes; restore the file from a copy'
        )
    known = (*CHECKPOINT, *OUTCOMES)
    conditions = {name: text for name, text in line.values.items() if name not in known and text}
    return Evaluation(step, seed, success, episodes, conditions, line)


def sources_of(evaluations: Iterable[Evaluation]) -> tuple[Source, ...]:
    """Returns the lines of evaluations as sources, one for each file."""
    by_file: dict[Path, list[int]] = {}
    for evaluation in evaluations:
        by_file.setdefault(evaluation.line.path, []).append(evaluation.line.number)
    return tuple(Source(path, tuple(numbers)) for path, numbers in by_file.items())


def outcomes_by_start(
    evaluations: Iterable[Evaluation],
) -> tuple[dict[int, float], tuple[Source, ...]]:
    """Returns the mean success of each start state, which all agents and seeds share.

    Returns:
        Episode number -> success in [0, 1], and the lines it was read from.

    Raises:
        UserError: a file is damaged, or does not agree with its evaluation.
    """
    by_start: dict[int, list[float]] = {}
    sources: dict[Path, list[int]] = {}
    for evaluation in evaluations:
        for line in _episodes_of(evaluation):
            by_start.setdefault(line.parse('episode', int), []).append(line.parse('success'))
            sources.setdefault(line.path, []).append(line.number)
    means = {number: float(np.mean(values)) for number, values in by_start.items()}
    return means, tuple(Source(path, tuple(numbers)) for path, numbers in sources.items())


def _episodes_of(evaluation: Evaluation) -> list[Line]:
    """The lines of an evaluation's episodes: the last ones of its checkpoint and conditions."""
    of, number = evaluation.line, evaluation.episodes
    path = of.path.with_name(EPISODES[of.path.name])
    lines = read_lines(path, (*CHECKPOINT, 'episode', 'success'))
    names = [name for name in (*CHECKPOINT, *evaluation.conditions) if name in of.values]
    wanted = {name: of.values[name] for name in names if lines and name in lines[0].values}
    rows = [line for line in lines if wanted.items() <= line.values.items()][-number:]
    numbers = sorted(line.parse('episode', int) for line in rows)
    rate = np.mean([line.parse('success') for line in rows]) if rows else np.nan
    if numbers != list(range(number)) or not np.isclose(rate, evaluation.success):
        where = f' (lines {spans(line.number for line in rows)})' if rows else ''
        raise UserError(
            f'{path}{where}: not the episodes of {of.path}, line {of.number}; restore the file '
            'from a copy'
        )
    return rows
