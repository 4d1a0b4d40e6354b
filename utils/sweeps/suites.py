"""Suites as arrays: every index is one command of main.py, and every command has its runs.

All functions here are pure, but for `runs.run_dir`, which looks whether the directory of very many
seeds is there under its long name; `scripts/sweep.py` looks at files and processes.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils.environments import envs
from utils.errors import UserError
from utils.storage import runs

# What an element holds: one run, all seeds of a task, or all tasks and seeds of an environment.
JOINT = ('none', 'seeds', 'all')
STATES = ('done', 'running', 'queued', 'stopped', 'failed', 'killed', 'missing')
# What a suite decides, and what has a flag of its own.
RESERVED = ('env_name', 'sparse', 'agent', 'agent.config_name', 'task', 'tasks', 'seed', 'seeds')
OWN = ('save_dir', 'dataset_dir', 'dataset_url')
# How SLURM says that a job is not over yet.
SLURM_RUNNING = ('RUNNING', 'COMPLETING', 'SUSPENDED', 'STOPPED', 'SIGNALING', 'STAGE_OUT')
SLURM_QUEUED = ('PENDING', 'CONFIGURING', 'REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD')
SLURM_QUEUED += ('SPECIAL_EXIT', 'RESIZING')
SLURM_QUIET = ('COMPLETED', 'CANCELLED')


class Suite(NamedTuple):
    """Which agents are trained on which tasks, and how.

    A variant of an agent is a config of its own, never a flag: the config's name is part of the run
    directory.

    Attributes:
        agents: names of `configs.CONFIGS`.
        env_names: singletask environments without their task, 'cube-single-play-singletask-v0';
            those with sparse rewards have names of their own, see `sparse`.
        tasks: numbers of the tasks of every environment.
        seeds: of every task.
        flags: of main.py, such as `offline_steps`, by their names.
        mazes: what a config that is meant for mazes is called, after the agent's name; '': agents
            have the same config everywhere. Its runs go by the agent's name.
    """

    agents: tuple[str, ...]
    env_names: tuple[str, ...]
    tasks: tuple[int, ...]
    seeds: tuple[int, ...]
    flags: Mapping[str, Any]
    mazes: str = ''


class Element(NamedTuple):
    """One command of main.py: an agent, an environment, and what is trained jointly.

    Attributes:
        agent: what its runs go by.
        env_name: without the task.
        tasks, seeds: that train together.
        suffix: of the config's name, after the agent's.
    """

    agent: str
    env_name: str
    tasks: tuple[int, ...]
    seeds: tuple[int, ...]
    suffix: str = ''


class Job(NamedTuple):
    """What SLURM says of an element: its state, e.g. 'PENDING', and the reason, e.g. 'Priority'."""

    state: str
    reason: str


class Found(NamedTuple):
    """What was found of an element.

    Attributes:
        statuses: of its runs, as of `runs.read_status`; None where a run has none.
        locked: whether a process works on one of them.
        job: of SLURM, if it knows one.
        error: the last error of the element's newest log, if it ended by one; else ''.
    """

    statuses: Sequence[Mapping[str, Any] | None]
    locked: bool
    job: Job | None
    error: str


class State(NamedTuple):
    """How an element is doing: a name of `STATES`, updates done by all its runs, and why."""

    name: str
    step: int
    reason: str


def elements(suite: Suite, joint: str) -> list[Element]:
    """Returns the elements of a suite; the array index of an element is its place.

    Seeds vary slowest, so that an array that is not done yet has something of every agent and task.

    Args:
        suite: what is to be trained.
        joint: one of `JOINT`.
    """
    seeds = [(seed,) for seed in suite.seeds] if joint == 'none' else [suite.seeds]
    tasks = [suite.tasks] if joint == 'all' else [(task,) for task in suite.tasks]
    product = itertools.product(seeds, suite.env_names, tasks, suite.agents)
    return [
        Element(agent, env, of_env, members, suite.mazes if 'maze' in env else '')
        for members, env, of_env, agent in product
    ]


def env_names(element: Element) -> list[str]:
    """Returns the environments of an element's tasks."""
    return envs.task_names(element.env_name, list(element.tasks))


def directories(element: Element, save_dir: str) -> list[Path]:
    """Returns the run directories of an element, one for every task."""
    seeds = list(element.seeds)
    return [runs.run_dir(save_dir, name, element.agent, seeds) for name in env_names(element)]


def arguments(element: Element, configs_file: Path, flags: Mapping[str, Any]) -> list[str]:
    """Returns what main.py is called with.

    Args:
        element: what to train.
        configs_file: of the agent.
        flags: further ones, by their names.
    """
    own = dict(
        env_name=env_names(element)[0], agent=f'{configs_file}:{element.agent}{element.suffix}'
    )
    if len(element.tasks) > 1:
        own['tasks'] = ','.join(map(str, element.tasks))
    own['seeds'] = ','.join(map(str, element.seeds))
    return [f'--{name}={value}' for name, value in (own | dict(flags)).items()]


def parse_flags(items: Iterable[str]) -> dict[str, str]:
    """Returns flags of main.py by their names.

    Args:
        items: each --name=value.

    Raises:
        UserError: one has another form, or sets what the suite decides.
    """
    flags = {}
    for item in items:
        match = re.fullmatch(r'--([\w.]+)=(.*)', item, flags=re.DOTALL)
        if match is None:
            raise UserError(f"'{item}': flags of main.py are given after -- as --name=value")
        name, flags[name] = match[1], match[2]
        if name in RESERVED:
            raise UserError(
                f'--{name}: decided by the suite; choose or add another, or another --save_dir'
            )
        if name in OWN:
            raise UserError(f'--{name}: give it before the --')
    return flags


def total_steps(flags: Mapping[str, Any]) -> int:
    """Returns the number of updates that the flags ask for, offline and then online.

    Raises:
        UserError: one is not a whole number.
    """
    total = 0
    for name in ('offline_steps', 'online_steps'):
        try:
            total += int(flags.get(name, 0))
        except ValueError as error:
            raise UserError(f'--{name}: expected a whole number ({error})') from error
    return total


def parse_indices(flag: str, text: str, count: int) -> list[int]:
    """Returns array indices, in order, from SLURM's notation: '0-3,5'.

    Args:
        flag: that has them, named in errors.
        text: the indices.
        count: of elements.

    Raises:
        UserError: another notation, or an index not below `count`.
    """
    indices = set()
    for part in text.split(','):
        match = re.fullmatch(r'(\d+)(?:-(\d+))?', part)
        if match is None:
            raise UserError(f"--{flag}: '{part}' is no index; expected such as 0-3,5")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < count:
            raise UserError(f"--{flag}: '{part}' is not within 0-{count - 1}; --list shows them")
        indices |= set(range(first, last + 1))
    return sorted(indices)


def format_indices(indices: Iterable[int]) -> str:
    """Returns array indices in SLURM's notation: '0-3,5'."""
    parts = []
    for _, group in itertools.groupby(enumerate(sorted(indices)), lambda item: item[1] - item[0]):
        members = [index for _, index in group]
        parts.append('-'.join(str(end) for end in dict.fromkeys((members[0], members[-1]))))
    return ','.join(parts)


def last_error(log: Iterable[str], announcement: str) -> str:
    """Returns the error that an element's newest attempt ended with, or ''.

    Args:
        log: the lines of all attempts.
        announcement: the line, '$ COMMAND', that begins an attempt; other commands do not count.
    """
    begun, error = '', ''
    for line in map(str.rstrip, log):
        if line.startswith('$ '):
            begun, error = line, ''
        elif line.startswith('error: '):
            error = line.removeprefix('error: ')
    return error if begun == announcement else ''


def state(found: Found, steps: int) -> State:
    """Returns how an element is doing.

    Args:
        found: of it.
        steps: updates that it is to have.
    """
    known = [status for status in found.statuses if status is not None]
    by_state = {status['state']: status for status in known}
    step = min(status['step'] for status in known) if len(known) == len(found.statuses) else 0
    slurm = found.job.state if found.job else ''
    if step >= steps and by_state.keys() == {'finished'}:
        return State('done', step, '')
    if found.locked or slurm in SLURM_RUNNING:
        return State('running', step, '')
    if slurm in SLURM_QUEUED:
        return State('queued', step, found.job.reason)
    if found.error or 'failed' in by_state:
        return State('failed', step, found.error or by_state['failed']['reason'])
    ended = f'SLURM: {slurm}' if slurm and slurm not in SLURM_QUIET else ''
    if 'running' in by_state:
        return State('killed', step, ended or f'without notice, on {by_state["running"]["host"]}')
    if known:
        # Done with fewer updates, or fewer tasks, than are wanted now.
        last = by_state.get('stopped') or by_state['finished']
        return State('stopped', step, last['reason'] or f'{last["state"]} at {last["step"]}')
    return State('failed' if ended else 'missing', 0, ended)


def row(index: int, element: Element, of: State, steps: int) -> str:
    """Returns the line of an element in a table of states."""
    [first, *more] = directories(element, '')
    name = f'{first}{f" and {len(more)} more tasks" if more else ""}'
    progress = f'{of.step}/{steps}'
    return f'{index:>4}  {of.name:<8} {progress:>16}  {name}  {of.reason}'.rstrip()


def counts(states: Iterable[State]) -> str:
    """Returns how many elements are in which state: '6 elements: 4 done, 2 running'."""
    names = [of.name for of in states]
    parts = [f'{names.count(name)} {name}' for name in STATES if name in names]
    plural = '' if len(names) == 1 else 's'
    return f'{len(names)} element{plural}: {", ".join(parts)}'


def projected_hours(
    suite: Suite, updates: Sequence[Mapping[str, Any]], agent: str
) -> tuple[Mapping[str, Any], float]:
    """Returns the measurement that counts, and the hours of an environment's tasks and seeds.

    Args:
        suite: with `offline_steps` among its flags.
        updates: rows of throughput.json.
        agent: name of a config.

    Raises:
        UserError: the agent was not measured.
    """
    own = [row for row in updates if row['agent'] == agent]
    if not own:
        raise UserError(f'--throughput: {agent} was not measured; give a file that has it too')
    row = max(own, key=lambda row: row['seeds'] * row['tasks'])
    # Larger populations would be trained in turns.
    turns = len(suite.seeds) / row['seeds'] * len(suite.tasks) / row['tasks']
    return row, turns * suite.flags['offline_steps'] * row['ms_per_update'] / 3.6e6
