"""Bad inputs of every kind, by the thousand: each is refused in one line, or is good after all.

    python -m tests.fuzz_inputs --count=2000

Dataset files, command lines and records of runs are made by hypothesis and read in this process; at
the end main.py itself is started on some of the files. Printed is how many distinct inputs of each
kind were tried, refused and valid. What ends otherwise is printed, made as small as it goes, and
ends this program with exit code 1. The same seed makes the same inputs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from tests import fuzz_flags, fuzz_npz, fuzz_records
from tests.helpers import random_arrays
from tests.test_cli import snapshot

ROOT = Path(__file__).resolve().parents[1]
# Strategies by kind, who reads them, and a kind's share of the bad inputs.
FAMILIES = {
    'dataset': (fuzz_npz.KINDS, fuzz_npz.Reader, 1),
    'command line': (fuzz_flags.KINDS, fuzz_flags.Parser, 4),
    'config.json': (fuzz_records.KINDS, fuzz_records.Restorer, 2),
}
# In which a kind must have brought its share; of every kind most inputs are refused.
ROUNDS = 20
TINY_RUN = (
    *(f'--env_name={fuzz_npz.ENV}', '--agent=configs.py:bc_small', '--agent.hidden_dims=(8,)'),
    *('--agent.batch_size=8', '--offline_steps=2', '--save_interval=2', '--log_interval=0'),
    '--eval_interval=0',
)


class Survey:
    """Distinct inputs of one kind, and what became of them.

    Attributes:
        tally: how many were 'refused' and how many 'valid'.
    """

    def __init__(self, strategy: st.SearchStrategy, check: Callable[[object], str]):
        """Nothing is drawn yet.

        Args:
            strategy: of the inputs.
            check: returns 'refused' or 'valid', or raises.
        """
        self.tally = Counter(refused=0, valid=0)
        self._strategy, self._check, self._seen = strategy, check, set()

    def draw(self, examples: int, seed: int, shrink: bool = True) -> None:
        """Draws and checks inputs; one that fails is made smaller, if asked for, and raised."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(self._strategy)
        def once(example: object) -> None:
            if repr(example) not in self._seen:
                self.tally[self._check(example)] += 1
                self._seen.add(repr(example))

        once()

    def draw_until_refused(self, refusals: int, seed: int) -> None:
        """Draws until so many were refused."""
        for part in range(ROUNDS):
            lacking = refusals - self.tally['refused']
            if lacking <= 0:
                return
            self.draw(max(20, lacking), ROUNDS * seed + part)
        raise AssertionError(f'after {ROUNDS} rounds {lacking} refusals are lacking')


class Trainer:
    """Starts main.py on dataset files, beside a finished run that must stay as it is."""

    def __init__(self, folder: Path):
        self._path, self._save_dir = folder / 'data.npz', folder / 'exp'
        np.savez(self._path, **random_arrays(observation_dim=2))
        result = self._start()
        assert result.returncode == 0, result.stderr
        self._before = snapshot(self._save_dir)
        assert any(name.endswith('config.json') for name in self._before)

    def __call__(self, content: bytes) -> str:
        self._path.write_bytes(content)
        result = self._start()
        assert 'Traceback' not in result.stderr, result.stderr
        after = snapshot(self._save_dir)
        if result.returncode:
            fuzz_flags.assert_refusal(result.returncode, result.stderr)
            assert after == self._before
            return 'refused'
        # Its own data after all: it was finished already, and says when somebody asked.
        changed = [name for name, digest in after.items() if digest != self._before.get(name)]
        assert all(name.endswith('status.json') for name in changed), changed
        self._before = after
        return 'valid'

    def _start(self) -> subprocess.CompletedProcess:
        arguments = [f'--dataset_path={self._path}', f'--save_dir={self._save_dir}', *TINY_RUN]
        return subprocess.run(
            [sys.executable, 'main.py', *arguments],
            cwd=ROOT,
            env=os.environ | dict(JAX_PLATFORMS='cpu'),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--count', type=int, default=2000, help='bad inputs that are refused')
    parser.add_argument('--runs', type=int, default=24, help='dataset files given to main.py')
    parser.add_argument('--seed', type=int, default=0, help='of the inputs')
    arguments = parser.parse_args()
    shares = sum(len(kinds) * share for kinds, _, share in FAMILIES.values())
    total = Counter()
    print(f'{"inputs":44}{"tried":>8}{"refused":>9}{"valid":>7}{"seconds":>9}')
    with tempfile.TemporaryDirectory() as folder:
        for family, (kinds, reader, share) in FAMILIES.items():
            check = reader(_subfolder(folder, family))
            for kind, strategy in kinds.items():
                start, survey = time.monotonic(), Survey(strategy, check)
                survey.draw_until_refused(-(-arguments.count * share // shares), arguments.seed)
                total += _report(f'{family}: {kind}', survey.tally, start)
        if arguments.runs:
            start, everything = time.monotonic(), st.one_of(*fuzz_npz.KINDS.values())
            survey = Survey(everything, Trainer(_subfolder(folder, 'runs')))
            survey.draw(arguments.runs, arguments.seed, shrink=False)
            total += _report('main.py started on a dataset', survey.tally, start)
    _report('all', total, None)


def _subfolder(folder: str, name: str) -> Path:
    path = Path(folder, name)
    path.mkdir()
    return path


def _report(name: str, tally: Counter, start: float | None) -> Counter:
    seconds = '' if start is None else f'{time.monotonic() - start:9.1f}'
    print(f'{name:44}{tally.total():8}{tally["refused"]:9}{tally["valid"]:7}{seconds}', flush=True)
    return tally


if __name__ == '__main__':
    main()
