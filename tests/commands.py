"""Commands of this repository, run in the process that asks; they end and speak as their own would.

A process of its own spends seconds on imports before it reads its flags. What it does to signals,
streams and exit codes is seen in one alone: see `tests.test_cli.run`.
"""

import contextlib
import io
import logging
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from absl import app, flags
from absl import logging as absl_logging
from absl.testing import flagsaver

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ('main', 'utils', 'scripts', 'benchmarks', 'tests')


def run_here(script, *arguments, cwd=ROOT):
    """Runs a script with arguments; returns what a process of its own would leave."""
    path, stdout, stderr, code = ROOT / script, io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        mock.patch.object(sys, 'argv', [str(path), *arguments]),
        mock.patch.object(sys, 'path', [str(path.parent), *sys.path]),
        warnings.catch_warnings(),
        logs_as_before(),
        _flags_of_its_own(),
    ):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(sys.argv, code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def logs_as_before():
    """absl takes over Python's logging once a command runs."""
    root = logging.getLogger()
    handlers, verbosity = root.handlers[:], absl_logging.get_verbosity()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        absl_logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _flags_of_its_own():
    """No flags of this repository, as in a new process; modules that define some do so again."""
    app.define_help_flags()  # which absl does once per process
    known, saved = dict(vars(flags.FLAGS)), flagsaver.save_flag_values()
    fresh = flags.FlagValues()
    for module, own in flags.FLAGS.flags_by_module_dict().items():
        if not _is_ours(module):
            for flag in own:
                fresh[flag.name] = flag
                fresh.register_flag_by_module(module, flag)
    before = _forget_modules()
    vars(flags.FLAGS).update(vars(fresh))
    try:
        yield
    finally:
        _forget_modules()
        vars(flags.FLAGS).update(known)
        flagsaver.restore_flag_values(saved)
        for name, module in before.items():
            sys.modules[name] = module
            if package := name.rpartition('.')[0]:
                setattr(sys.modules[package], name.rpartition('.')[2], module)


def _is_ours(module):
    return module.partition('.')[0] in PACKAGES


def _forget_modules():
    """Forgets the modules that defined flags; returns them by name."""
    forgotten = {}
    for name in filter(_is_ours, flags.FLAGS.flags_by_module_dict()):
        if name in sys.modules:
            forgotten[name] = sys.modules.pop(name)
            if package := name.rpartition('.')[0]:
                delattr(sys.modules[package], name.rpartition('.')[2])
    return forgotten
