"""Where numbers go: CSV files, TensorBoard events and, on request, Weights & Biases."""

import csv
import io
import math
import os
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import tensorboardX

from utils import files
from utils.errors import UserError
from utils.system import locks

Row = dict[str, Any]
TABLES = ('train', 'eval', 'episodes', 'checks', 'collected')
# Of the tables of a folder, while rows are written.
LOCK = '.rows.lock'
# Of updates; the others are of evaluations.
OF_UPDATES = ('train', 'collected')
# Earlier versions wrote fewer columns.
WIDENED = ('train', 'eval', 'episodes')
# Outcomes that earlier versions did not write.
LATER = ('start_value', 'start_return', 'discounted_return')
LATER += ('start_value_error', 'start_value_error_low', 'start_value_error_high')


class CsvTable:
    """A CSV file that only grows; its columns are those of its first row."""

    def __init__(self, path: Path, widens: bool = False):
        """Reads or writes a file.

        Args:
            path: of the file, which need not be there.
            widens: whether rows may have columns that an older file lacks; it gets them first,
                blank in the rows that it has, whose lines stay where they are.
        """
        self._path, self._widens = path, widens

    def append(self, rows: list[Row]) -> None:
        """Appends rows that all have the table's columns.

        Of several processes, as two evaluations of one run, one writes at a time.

        Raises:
            UserError: the file has other columns.
        """
        lock = locks.take(self._path.with_name(LOCK))
        try:
            self._append(rows)
        finally:
            lock.release()

    def read(self) -> list[dict[str, str]]:
        """Returns all rows, as strings; none if there is no file."""
        if not self._path.exists():
            return []
        with self._path.open(newline='') as file:
            return list(csv.DictReader(file))

    def forget_after(self, step: int) -> None:
        """Drops the rows of steps after `step`, which a resumed run will write again."""
        if not self._path.exists():
            return
        text = self._path.read_bytes()
        whole = _whole_lines(text)
        lines = whole.splitlines(keepends=True)
        kept = lines[:1] + [line for line in lines[1:] if _step(self._path, lines[0], line) <= step]
        if b''.join(kept) != text:
            self._replace(b''.join(kept))

    def sync(self) -> None:
        """Waits until the rows are on the disk."""
        if self._path.exists():
            files.sync(self._path)

    def _append(self, rows: list[Row]) -> None:
        self._drop_broken_line()
        columns = list(rows[0])
        existing = self._columns()
        # In the order that they have there.
        known = [column for column in columns if column in existing]
        if self._widens and existing and existing == known != columns:
            self._widen(columns)
            existing = columns
        if existing not in ([], columns):
            raise UserError(
                f'{self._path}: has columns {existing}, not {columns}; move the file away'
            )
        with self._path.open('a', newline='') as file:
            writer = csv.DictWriter(file, columns, extrasaction='raise')
            if not existing:
                writer.writeheader()
            writer.writerows(rows)

    def _drop_broken_line(self) -> None:
        """Drops what a write that was cut short left: the next row would go on in its line."""
        if not self._path.exists() or not self._path.stat().st_size:
            return
        with self._path.open('rb') as file:
            file.seek(-1, os.SEEK_END)
            if file.read() == b'\n':
                return
        print(f'warning: {self._path}: its last row was cut short; it is dropped', file=sys.stderr)
        self._replace(_whole_lines(self._path.read_bytes()))

    def _widen(self, columns: list[str]) -> None:
        """Gives every row these columns, blank where it has none."""
        text = io.StringIO(newline='')
        writer = csv.DictWriter(text, columns, restval='')
        writer.writeheader()
        writer.writerows(self.read())
        self._replace(text.getvalue().encode())

    def _replace(self, content: bytes) -> None:
        """Exchanges the whole file, or leaves it as it was."""
        partial = self._path.with_suffix('.partial')
        partial.write_bytes(content)
        files.sync(partial)
        os.replace(partial, self._path)

    def _columns(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open(newline='') as file:
            return next(csv.reader(file), [])


def _whole_lines(text: bytes) -> bytes:
    """Returns all lines but a last one without an end, whose write was cut short."""
    return text[: text.rfind(b'\n') + 1]


def _step(path: Path, header: bytes, line: bytes) -> int:
    """Returns the step of a row."""
    try:
        names, values = header.decode().strip().split(','), line.decode().strip().split(',')
        return int(values[names.index('step')])
    except (ValueError, IndexError) as error:
        raise UserError(
            f'{path}: a row has no step ({error}); repair the file or move it away'
        ) from error


class RunLog:
    """The tables of a run and their mirrors; use as a context manager.

    Tables are `train`, `eval`, `episodes`; `checks` where nothing is played; `collected`, episodes
    of online learning. Every row has `step` and `seed`.
    """

    def __init__(
        self,
        run_dir: Path,
        resume_step: int,
        wandb_runs: Mapping[int, Any] | None = None,
        evaluated: bool = True,
    ):
        """Continues the log of `run_dir` after `resume_step`.

        Args:
            run_dir: holds NAME.csv for each table and tensorboard/.
            resume_step: rows of later steps are dropped.
            wandb_runs: a run of Weights & Biases for every seed, or None.
            evaluated: whether the evaluation of `resume_step` was finished; if not, its rows go.
        """
        self._run_dir, self._resume_step = run_dir, resume_step
        self._boards: dict[int, tensorboardX.SummaryWriter] = {}
        self._lock = threading.Lock()  # evaluations may be logged beside training
        self._wandb_runs = wandb_runs
        for name in TABLES:
            given_up = not evaluated and name not in OF_UPDATES
            self._table(name).forget_after(resume_step - given_up)

    def __enter__(self) -> 'RunLog':
        return self

    def __exit__(self, *_: object) -> None:
        for board in self._boards.values():
            board.close()

    def write(self, name: str, rows: list[Row], conditions: Row | None = None) -> None:
        """Appends rows to a table; all but single episodes also go to the mirrors.

        Args:
            name: of the table.
            rows: with `step` and `seed`.
            conditions: columns of the table alone, the same in every row.
        """
        with self._lock:
            self._write(name, rows, conditions or {})

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        for name in TABLES:
            self._table(name).sync()

    def best_step(self, among: Collection[int]) -> int | None:
        """Returns which of these steps has the highest mean success; the first of equals.

        Returns stand in for success where that is not defined. An evaluation that was given up
        lacks seeds, and counts for nothing.
        """
        scores: dict[int, list[float]] = {}
        for row in self._table('eval').read():
            if int(row['step']) not in among:
                continue
            score = row['success'] if 'success' in row else row['episode_return']
            scores.setdefault(int(row['step']), []).append(float(score))
        all_seeds = max(map(len, scores.values()), default=0)
        means = {step: fmean(of) for step, of in scores.items() if len(of) == all_seeds}
        return max(means, key=lambda step: means[step], default=None)

    def _write(self, name: str, rows: list[Row], conditions: Row) -> None:
        tags = [{key: row[key] for key in ('step', 'seed')} for row in rows]
        whole = [tag | conditions | row for tag, row in zip(tags, rows, strict=True)]
        self._table(name).append(whole)
        if name == 'episodes':
            return
        for row in rows:
            metrics = {key: value for key, value in row.items() if key not in ('step', 'seed')}
            # A curve has no point where there is no number, as of what an agent did not promise.
            metrics = {key: value for key, value in metrics.items() if not math.isnan(value)}
            board = self._board(row['seed'])
            for key, value in metrics.items():
                board.add_scalar(f'{name}/{key}', value, row['step'])
            board.flush()
            if self._wandb_runs is not None:
                tagged = {f'{name}/{key}': value for key, value in metrics.items()}
                self._wandb_runs[row['seed']].log(tagged | {'step': row['step']})

    def _table(self, name: str) -> CsvTable:
        return CsvTable(self._run_dir / f'{name}.csv', widens=name in WIDENED)

    def _board(self, seed: int) -> tensorboardX.SummaryWriter:
        if seed not in self._boards:
            self._boards[seed] = tensorboardX.SummaryWriter(
                str(self._run_dir / 'tensorboard' / f'seed_{seed}'),
                purge_step=self._resume_step + 1,
            )
        return self._boards[seed]
