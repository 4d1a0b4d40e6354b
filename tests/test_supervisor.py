"""Processes that are run some at a time and hear of signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import STOPPED
from utils.sweeps import supervisor

ROOT = Path(__file__).resolve().parents[1]


def shell(script):
    return subprocess.Popen(['sh', '-c', script])


def never(name, code, signalled):
    return False


def test_a_failure_does_not_stop_the_others():
    codes = {0: 0, 1: 3, 2: 0, 3: STOPPED}
    outcome = supervisor.run(lambda name: shell(f'exit {codes[name]}'), [0, 1, 2, 3], 2, never)
    assert outcome == supervisor.Outcome(codes, [])


def test_an_error_leaves_no_process_behind():
    started = []

    def start(name):
        if name == 2:
            raise OSError('no more processes')
        started.append(shell('exec sleep 60'))
        return started[-1]

    with pytest.raises(OSError, match='no more processes'):
        supervisor.run(start, [0, 1, 2], 3, never)
    assert [process.returncode for process in started] == [-signal.SIGTERM] * 2


def test_a_killed_process_has_the_exit_code_that_a_shell_gives_it():
    assert supervisor.run(lambda _: shell('kill -9 $$'), [0], 1, never).codes == {0: 128 + 9}


@pytest.mark.parametrize('at_once', [1, 3])
def test_no_more_processes_than_asked_for(at_once):
    running, most = [], []

    def start(name):
        running.append(shell('sleep 0.5'))
        most.append(sum(process.poll() is None for process in running))
        return running[-1]

    supervisor.run(start, list(range(4)), at_once, never)
    assert max(most) == at_once


def test_what_is_to_go_on_waits_for_its_turn(tmp_path):
    started = []

    def start(name):
        started.append(name)
        return shell(f'exit {STOPPED if started.count(name) < 3 else 0}')

    outcome = supervisor.run(start, [0, 1], 1, lambda name, code, signalled: code == STOPPED)
    assert started == [0, 1, 0, 1, 0, 1]
    assert outcome.codes == {0: 0, 1: 0}


def test_a_signal_that_comes_as_the_last_one_ends_is_told():
    """The second command is not started: nobody may take it for done."""

    def again(name, code, signalled):
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    outcome = supervisor.run(lambda _: shell('exit 0'), [0, 1], 1, again)
    assert outcome == supervisor.Outcome({0: 0}, [signal.SIGTERM])


PARENT = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from utils.sweeps import supervisor
children = [
    'trap "exit {STOPPED}" TERM USR1; echo up; while :; do sleep 0.05; done',
    'echo up; exec sleep 60',
    'echo late',
]
outcome = supervisor.run(
    lambda name: subprocess.Popen(['sh', '-c', children[name]]), [0, 1, 2], 2, lambda *_: False
)
print(sorted(outcome.codes.items()), [signal.name for signal in outcome.signals])
"""


def signalled(number, handler=signal.SIG_DFL):
    """A supervisor of three children, two at a time, that has just got a signal."""
    process = subprocess.Popen(
        [sys.executable, '-c', PARENT],
        stdout=subprocess.PIPE,
        text=True,
        # Whatever pytest itself was started with: a shell's background jobs ignore SIGINT.
        preexec_fn=lambda: signal.signal(number, handler),
    )
    assert [process.stdout.readline() for _ in range(2)] == ['up\n', 'up\n']
    process.send_signal(number)
    return process


@pytest.mark.parametrize(
    ('number', 'passed_on'),
    [
        (signal.SIGTERM, 'SIGTERM'),
        (signal.SIGUSR1, 'SIGUSR1'),
        (signal.SIGINT, 'SIGTERM'),
        (signal.SIGHUP, 'SIGTERM'),
    ],
)
def test_a_signal_reaches_all_children_and_nothing_is_started_after_it(number, passed_on):
    """The first saves and says so, the second does not listen yet, the third never begins."""
    output = signalled(number).communicate(timeout=30)[0]
    assert output == f'[(0, {STOPPED}), (1, {STOPPED})] [{passed_on!r}]\n'


def test_an_ignored_signal_stays_ignored():
    """As `nohup` has it."""
    process = signalled(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    assert process.communicate(timeout=30)[0].endswith("['SIGTERM']\n")


def test_handlers_are_put_back():
    before = {number: signal.getsignal(number) for number in supervisor.FORWARDED}
    supervisor.run(lambda _: shell('exit 0'), [0], 1, never)
    assert {number: signal.getsignal(number) for number in supervisor.FORWARDED} == before


@pytest.mark.parametrize(('processes', 'threads'), [(1, '8'), (2, '4'), (3, '2'), (16, '1')])
def test_processes_share_the_cores(processes, threads):
    environment = supervisor.share(processes, 8, {'PATH': 'x'})
    assert (environment['NPROC'], environment['OMP_NUM_THREADS']) == (threads, threads)
    assert environment['PATH'] == 'x'


def test_what_the_environment_sets_stays():
    set_already = dict(NPROC='5', XLA_PYTHON_CLIENT_MEM_FRACTION='.3')
    assert set_already.items() <= supervisor.share(2, 8, set_already).items()


def test_one_process_keeps_the_gpu_to_itself():
    assert 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in supervisor.share(1, 8, {})


def test_xla_takes_as_many_threads_as_it_is_given():
    """NPROC is no documented setting of XLA's; should it go, this says so."""
    program = (
        'import os, time, jax, jax.numpy as jnp; x = jnp.ones((1500, 1500));'
        'f = jax.jit(lambda x: x @ x @ x @ x @ x); f(x).block_until_ready();'
        'wall, cpu = time.perf_counter(), time.process_time(); f(x).block_until_ready();'
        'print((time.process_time() - cpu) / (time.perf_counter() - wall))'
    )
    environment = supervisor.share(2, 2, os.environ)
    output = subprocess.check_output(
        [sys.executable, '-c', program],
        env=environment,
        text=True,
        # A worker of the tests has one core, on which nothing could take more.
        preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count())),
    )
    assert float(output) < 1.2
