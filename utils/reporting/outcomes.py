"""Outcomes of single episodes, on start states that all agents and seeds share."""

from pathlib import Path

import numpy as np

from utils.csv_lines import Line, Source, read_lines, spans
from utils.errors import UserError
from utils.reporting.results import Result
from utils.storage import metrics


def read(result: Result) -> tuple[dict[int, float], tuple[Source, ...]]:
    """Returns the mean success of each start state over the evaluations that the score is of.

    Returns:
        Episode number -> success in [0, 1], and the lines it was read from.

    Raises:
        UserError: the file is damaged, or does not agree with the score.
    """
    (source,) = result.sources
    evaluated = [
        line
        for line in read_lines(source.file, ('step', 'seed', 'episodes'))
        if line.number in source.lines
    ]
    path = source.file.with_name(
        'episodes.csv' if source.file.name == 'eval.csv' else 'inference_episodes.csv'
    )
    lines = read_lines(path, ('step', 'seed', 'episode', 'success'))
    chosen = [row for line in evaluated for row in _episodes_of(line, lines, path)]
    by_start: dict[int, list[float]] = {}
    for line in chosen:
        by_start.setdefault(line.parse('episode', int), []).append(line.parse('success'))
    used = Source(path, tuple(line.number for line in chosen))
    return {number: float(np.mean(values)) for number, values in by_start.items()}, (used,)


def _episodes_of(evaluated: Line, lines: list[Line], path: Path) -> list[Line]:
    """The lines of one evaluation's episodes: the last ones with its step, seed and settings."""
    names = [name for name in evaluated.values if lines and name in lines[0].values]
    outcomes = ('success', 'episode_return', 'episode_length', *metrics.LATER)
    names = [name for name in names if name not in outcomes]
    wanted = [evaluated.values[name] for name in names]
    rows = [line for line in lines if [line.values[name] for name in names] == wanted]
    rows = rows[-evaluated.parse('episodes', int) :]
    numbers = sorted(line.parse('episode', int) for line in rows)
    rate = np.mean([line.parse('success') for line in rows]) if rows else np.nan
    if numbers != list(range(evaluated.parse('episodes', int))) or not np.isclose(
        rate, evaluated.parse('success')
    ):
        where = f' (lines {spans(line.number for line in rows)})' if rows else ''
        raise UserError(
            f'{path}{where}: not the episodes of {evaluated.path}, line {evaluated.number}; '
            'restore the file from a copy'
        )
    return rows
