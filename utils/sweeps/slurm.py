"""What SLURM is asked and told, through its own commands."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.sweeps import suites
from utils.sweeps.suites import Job

SQUEUE = (
    'squeue',
    '--me',
    '--array',
    '--states=all',
    '--noheader',
    '--format=%F|%K|%T|%r',
)
# So many that saved nothing new are enough: the time limit is too short.
FRUITLESS_ATTEMPTS = 4


def _run(command: Sequence[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(f'{command[0]}: not found; is SLURM installed here?') from error
    if result.returncode:
        said = ' '.join(result.stderr.split())
        raise UserError(f'{command[0]} failed with exit code {result.returncode}: {said}')
    return result.stdout


def jobs(array_jobs: Collection[str]) -> dict[int, Job]:
    """Returns what SLURM knows of array elements, by their index.

    The queue is asked first; it forgets jobs minutes after their end. What it has forgotten is in
    the accounts, where the cluster keeps any.

    Args:
        array_jobs: numbers of the array jobs, in the order of their submission; where several
            have an element, one that is not over counts more than a newer one that is.

    Raises:
        UserError: the queue cannot be asked.
    """
    if not array_jobs:
        return {}
    queue = _run(SQUEUE).splitlines()
    known: dict[tuple[str, int], Job] = {}
    for line in [*_accounts(array_jobs), *queue]:
        job, index, state, reason = line.split('|', 3)
        if job in array_jobs and index.isdigit():
            known[job, int(index)] = Job(state.split()[0], '' if reason == 'None' else reason)
    over = {key for key, job in known.items() if not _is_active(job)}
    order = list(array_jobs)
    ordered = sorted(known, key=lambda key: (key not in over, order.index(key[0])))
    return {key[1]: known[key] for key in ordered}


def _is_active(job: Job) -> bool:
    return job.state in suites.SLURM_RUNNING + suites.SLURM_QUEUED


def _accounts(array_jobs: Collection[str]) -> list[str]:
    """Lines as those of the queue; none where the cluster keeps no accounts."""
    if shutil.which('sacct') is None:
        return []
    options = ('--allocations', '--noheader', '--parsable2', '--format=JobID,State')
    command = ['sacct', f'--jobs={",".join(array_jobs)}', *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines() if result.returncode == 0 else []
    matches = [re.fullmatch(r'(\d+)_(\d+)\|(.*)', line) for line in lines]
    return [f'{match[1]}|{match[2]}|{match[3]}|' for match in matches if match]


def submit_command(
    script: Path, indices: Collection[int], logs: Path, name: str, options: Sequence[str]
) -> list[str]:
    """Returns the sbatch command of an array, without the arguments of its script.

    Args:
        script: of the batch.
        indices: array indices.
        logs: folder of the logs, one for every index.
        name: of the job.
        options: of sbatch; they override those here and in the script.
    """
    return [
        'sbatch',
        '--parsable',
        f'--job-name={name}',
        f'--array={suites.format_indices(indices)}',
        f'--output={logs}/%a.log',
        *options,
        str(script),
    ]


def submit(command: Sequence[str]) -> str:
    """Submits and returns the number of the array job.

    Raises:
        UserError: sbatch refuses.
    """
    # --parsable prints JOB or, where there are several clusters, JOB;CLUSTER.
    return _run(command).strip().split(';')[0]


def is_array_element() -> bool:
    """Returns whether this process is an element of an array job."""
    return 'SLURM_ARRAY_TASK_ID' in os.environ


def is_first_attempt() -> bool:
    """Returns whether this element has not been in the queue before."""
    return int(os.environ.get('SLURM_RESTART_COUNT', 0)) == 0


def requeue(attempts: int) -> None:
    """Puts this element back into the queue.

    Args:
        attempts: in a row, that ended where this one did.

    Raises:
        UserError: SLURM refuses, or the element gets nowhere.
    """
    if attempts >= FRUITLESS_ATTEMPTS:
        raise UserError(
            f'{attempts} attempts ended at the same update, with the same evaluations; raise the '
            'time limit'
        )
    # The job of an array's last element has the number of the whole array: only the name with the
    # index means that element alone.
    name = f'{os.environ["SLURM_ARRAY_JOB_ID"]}_{os.environ["SLURM_ARRAY_TASK_ID"]}'
    _run(['scontrol', 'requeue', name])


def cpus() -> int | None:
    """Returns the number of cores that SLURM gave this process, if it did."""
    for name in ('SLURM_CPUS_PER_TASK', 'SLURM_CPUS_ON_NODE'):
        if name in os.environ:
            return int(os.environ[name])
    return None
