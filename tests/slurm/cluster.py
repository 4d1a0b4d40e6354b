"""A SLURM cluster of this machine alone, in a folder, for the length of a `with`."""

import contextlib
import getpass
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ('slurmctld', 'slurmd', 'sbatch', 'squeue', 'scancel', 'scontrol', 'sinfo')
# No munge: without authentication the cluster needs no daemon, and serves this machine alone.
# A requeued job waits until its credentials have expired; by default two minutes.
CONF = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PlugStackConfig=/dev/null
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2
NodeName={host} CPUs=2
PartitionName=main Nodes=ALL Default=YES
"""


def missing() -> list[str]:
    """Returns the programs of SLURM that are not installed."""
    path = f'{os.environ["PATH"]}:/usr/sbin:/sbin'
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[str]:
    """Starts a cluster of two cores; yields the name of its node.

    The environment variable SLURM_CONF leads its commands, and those of this process's children, to
    it. At the end all jobs are cancelled.

    Args:
        folder: empty; of its state and logs.
    """
    host = platform.node().split('.')[0]
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True)
    conf = folder / 'slurm.conf'
    controller_port, node_port = _free_ports()
    conf.write_text(
        CONF.format(
            host=host,
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    os.environ['SLURM_CONF'] = str(conf)
    os.environ['PATH'] += ':/usr/sbin:/sbin'
    daemons = [_daemon(name, folder) for name in ('slurmctld', 'slurmd')]
    try:
        wait_for(lambda: 'idle' in _output('sinfo', '--noheader', '--format=%T'), 60)
        yield host
    finally:
        _output('scancel', f'--user={getpass.getuser()}')
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: not _output('squeue', '--noheader').strip(), 60)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def wait_for(reached, seconds: float) -> None:
    """Waits until `reached()`.

    Raises:
        TimeoutError: that took longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f'not reached in {seconds:g} s')
        # What is waited for (a node's state, the queue, what a job's script wrote) changes in the
        # cluster's processes, none of which is a child that could be waited on; SLURM's own waits,
        # `sbatch --wait` and `squeue --iterate`, ask again and again too. Asking may start a
        # process on the two cores that the jobs train on, hence the pause.
        time.sleep(0.2)


def _daemon(name: str, folder: Path) -> subprocess.Popen:
    with (folder / f'{name}.out').open('w') as output:
        return subprocess.Popen([name, '-D'], stdout=output, stderr=output)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for free in sockets:
            free.bind(('', 0))
        return [free.getsockname()[1] for free in sockets]
