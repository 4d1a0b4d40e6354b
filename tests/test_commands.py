"""The command that a report gives for a run, and what it needs besides."""

import json
from pathlib import Path

import pytest
from absl import flags

import main  # noqa: F401  # declares the flags
from utils.reporting import commands, results

RESULTS = Path(__file__).resolve().parents[1] / 'results'


@pytest.mark.parametrize('folder', ['online', 'tasks25_gpu', 'one_loop', 'quick5'])
def test_every_flag_is_one_of_main(folder):
    for run in results.find_runs([RESULTS / folder]):
        *_, program = commands.train_command(run.record, 5).partition('main.py ')
        names = [flag.removeprefix("'").removeprefix('--') for flag in program.split(' --')]
        names = [name.partition('=')[0] for name in names]
        assert {name for name in names if not name.startswith('agent')} <= set(flags.FLAGS), run


def test_an_online_run_goes_on_as_long_and_is_given_the_same_base_policy():
    [run] = results.find_runs([RESULTS / 'online/antmaze-large-navigate-singletask-task1-v0'])
    command = commands.train_command(run.record, results.online_steps(run))
    assert '--offline_steps=15000' in command
    assert '--online_steps=20000' in command
    assert '--online_share=0.5' in command
    assert 'digest' not in command
    [policy] = commands.files_needed(run.record)
    assert policy.startswith('--base_policy: env_name antmaze-large-navigate')
    assert run.record['base_policy']['digest'] in policy


def test_a_run_of_one_loop_needs_no_files():
    record = json.loads(next(RESULTS.glob('quick5/*/*/*/config.json')).read_text())
    assert commands.files_needed(record) == []
