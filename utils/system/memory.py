"""What memory this process may still take."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GIB = 2**30
# Files of a control group, of the second version and of the first: limit, use, and the caches among
# it that the kernel would give up.
GROUP_FILES = {
    '': ('memory.max', 'memory.current', 'inactive_file'),
    'memory': ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
}


def available() -> int:
    """Bytes that this process may still take: of the machine, its container or its own limit."""
    page = os.sysconf('SC_PAGE_SIZE')
    limits = [os.sysconf('SC_PHYS_PAGES') * page]
    with contextlib.suppress(FileNotFoundError):
        # Unlike the number of free pages, it counts the caches that the kernel would give up.
        fields = dict(line.split(':') for line in Path('/proc/meminfo').read_text().splitlines())
        limits.append(int(fields['MemAvailable'].split()[0]) * 1024)
    limits += _of_groups(Path('/proc/self/cgroup'), Path('/sys/fs/cgroup'))
    own_limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path('/proc/self/statm')
    if own_limit != resource.RLIM_INFINITY and statm.exists():
        limits.append(own_limit - int(statm.read_text().split()[0]) * page)
    return max(min(limits), 0)


def _of_groups(told: Path, root: Path) -> Iterator[int]:
    """Bytes that each control group of this process may still take, its own and those above it.

    A container, or a job of SLURM with `--mem`, is one.

    Args:
        told: /proc/self/cgroup.
        root: where the groups are.
    """
    if not told.exists():
        return
    for line in told.read_text().splitlines():
        _, controllers, path = line.split(':', 2)
        kind = 'memory' if 'memory' in controllers.split(',') else controllers
        if kind not in GROUP_FILES:
            continue
        own = PurePosixPath(path.lstrip('/'))
        # A container may not see the groups above its own, whose root is then its own.
        for group in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError):  # 'max' where there is no limit
                yield _left(root / kind / group, *GROUP_FILES[kind])


def _left(group: Path, limit: str, use: str, cache: str) -> int:
    stat = dict(line.split() for line in (group / 'memory.stat').read_text().splitlines())
    used = int((group / use).read_text()) - int(stat.get(cache, 0))
    return int((group / limit).read_text()) - used
