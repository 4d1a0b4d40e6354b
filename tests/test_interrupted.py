"""A real run, killed and stopped while it works: nothing is lost, and nobody else may touch it."""

import json
import os
import signal
import subprocess

import pytest

from tests.equality import assert_equal_runs
from tests.kill import ENV, TASKS, command, run_dir, wait_for
from utils.generation import generator

STEPS = 30


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    generator.generate('pointmaze-medium-stitch-v0', folder, episodes=4, workers=1, seed=0)
    return folder


def interrupt(arguments, save_dir, moment, number):
    """Signals a run and all that it started; returns its exit code and what it said last."""
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(moment, process, save_dir, 0.0)
    assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, number)
    error = process.communicate(timeout=300)[1]
    return process.returncode, error.strip().splitlines()[-1] if error.strip() else ''


def states(save_dir):
    records = [json.loads((run_dir(save_dir, task) / 'status.json').read_text()) for task in TASKS]
    return {(record['state'], record['reason']) for record in records}


@pytest.mark.long
@pytest.mark.usefixtures('optimised')
def test_a_run_killed_stopped_and_disturbed_equals_one_that_was_not(data_dir, tmp_path):
    once = f'--eval_interval={STEPS}'
    whole = [*command(data_dir, tmp_path / 'whole', STEPS), once]
    assert subprocess.run(whole, stderr=subprocess.DEVNULL, check=False).returncode == 0
    save_dir = tmp_path / 'exp'
    arguments = [*command(data_dir, save_dir, STEPS), once]

    process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    wait_for('checkpoint', process, save_dir, 0.0)
    assert process.poll() is None
    process.send_signal(signal.SIGSTOP)  # it holds still while another tries one of its tasks
    others = [item for item in arguments if not item.startswith(('--tasks', '--env_name'))]
    others.append(f'--env_name={ENV.format(2)}')
    second = subprocess.run(others, stderr=subprocess.PIPE, text=True, check=False)
    assert second.returncode == 2
    [line] = second.stderr.splitlines()
    assert line.startswith(f'error: {run_dir(save_dir, 2)}: another process works on this run')
    process.kill()
    process.wait()
    assert states(save_dir) == {('running', '')}

    code, said = interrupt(arguments, save_dir, 'evaluation', signal.SIGUSR1)
    assert (code, said) == (75, 'stopped by SIGUSR1: saved; the same command goes on')
    assert states(save_dir) == {('stopped', 'SIGUSR1')}

    assert subprocess.run(arguments, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert states(save_dir) == {('finished', '')}
    for task in TASKS:
        assert_equal_runs(run_dir(tmp_path / 'whole', task), run_dir(save_dir, task), STEPS)
