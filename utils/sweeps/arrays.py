"""A suite on disk: the commands of its elements, and what is found of them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from utils import files
from utils.errors import UserError
from utils.storage import runs
from utils.sweeps import slurm, suites
from utils.sweeps.suites import Element, Found, State
from utils.system import locks


class Array(NamedTuple):
    """A suite as it was asked for.

    Attributes:
        elements: all of them, by their index.
        chosen: the indices to treat.
        flags: of main.py, for every element.
        steps: updates of every element.
        folder: of logs, and of what was submitted.
    """

    elements: list[Element]
    chosen: list[int]
    flags: dict[str, Any]
    steps: int
    folder: Path

    def command(self, index: int) -> list[str]:
        """What runs an element."""
        configs_file = files.ROOT / 'configs.py'
        arguments = suites.arguments(self.elements[index], configs_file, self.flags)
        return [sys.executable, str(files.ROOT / 'main.py'), *arguments]

    def announcement(self, index: int) -> str:
        """The line that begins an attempt in an element's log."""
        return f'$ {shlex.join(self.command(index))}'

    def log(self, index: int) -> Path:
        """Where an element's output goes."""
        return self.folder / f'{index}.log'

    def row(self, index: int, state: State) -> str:
        """The line of an element in a table of states."""
        return suites.row(index, self.elements[index], state, self.steps)

    def submitted(self) -> list[str]:
        """The array jobs that were submitted, oldest first."""
        path = self.folder / 'jobs'
        return path.read_text().split() if path.exists() else []

    def state(self, index: int, job: slurm.Job | None = None) -> State:
        """How an element is doing; `job` is what SLURM says of it."""
        directories = suites.directories(self.elements[index], self.flags['save_dir'])
        # Locks first: a run that ends meanwhile has told so by the time it is asked.
        locked = any(locks.is_locked(directory) for directory in directories)
        statuses = [runs.read_status(directory) for directory in directories]
        error = self._last_error(index, statuses)
        return suites.state(Found(statuses, locked, job, error), self.steps)

    def attempts_without_gain(self, index: int, first: bool) -> int:
        """Takes note of where an attempt ended; returns how many have come no further than that.

        Args:
            index: of the element.
            first: whether it is the first attempt of a job; what was noted before is forgotten.
        """
        path = self.folder / f'{index}.ends'
        lines = [] if first or not path.exists() else path.read_text().splitlines()
        lines.append(' '.join(map(str, self.reached(index))))
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(lines) + '\n')
        ends = [tuple(map(int, line.split())) for line in lines]
        return len(ends) - ends.index(max(ends))

    def reached(self, index: int) -> tuple[int, int, int]:
        """Returns how far an element has come: updates, rows of evaluations, phases before them.

        Phases count updates of base policies and rows of pools below SAVE_DIR, also those of other
        elements: one may have waited for another's.
        """
        directories = suites.directories(self.elements[index], self.flags['save_dir'])
        tables = [directory / 'eval.csv' for directory in directories]
        num_rows = [table.read_bytes().count(b'\n') for table in tables if table.exists()]
        phases = Path(self.flags['save_dir']).expanduser() / runs.BASE_POLICIES
        notes = [*phases.rglob(runs.STATUS), *phases.rglob('pool/*.json')]
        told = [json.loads(note.read_text()) for note in notes]
        done = sum(one.get('step', 0) + one.get('rows_done', 0) for one in told)
        return self.state(index).step, sum(num_rows), done

    def _last_error(self, index: int, statuses: list[dict[str, Any] | None]) -> str:
        """The error that ends an element's log, unless its runs tell of something newer."""
        log = self.log(index)
        newest = max((status['time'] for status in statuses if status), default=0.0)
        if not log.is_file() or log.stat().st_mtime < newest:
            return ''
        with log.open(encoding='utf-8', errors='replace') as lines:
            return suites.last_error(lines, self.announcement(index))

    def check_commands(self, indices: list[int]) -> None:
        """Lets main.py read the flags of one element of every config, which takes seconds each.

        Raises:
            UserError: it does not accept them.
        """
        of_configs = {
            (self.elements[index].agent, self.elements[index].suffix): index for index in indices
        }
        for index in of_configs.values():
            command = [*self.command(index), '--only_check_args']
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                said = result.stderr.strip().splitlines() or [f'exit code {result.returncode}']
                raise UserError(f'main.py: {said[-1].removeprefix("error: ")}')
