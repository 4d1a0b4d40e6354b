"""What memory this process may still take."""

import contextlib
import os
import resource
from pathlib import Path

GIB = 2**30


def available() -> int:
    """Bytes that this process may still take: of the machine, its container or its own limit."""
    page = os.sysconf('SC_PAGE_SIZE')
    limits = [os.sysconf('SC_PHYS_PAGES') * page]
    with contextlib.suppress(FileNotFoundError):
        # Unlike the number of free pages, it counts the caches that the kernel would give up.
        fields = dict(line.split(':') for line in Path('/proc/meminfo').read_text().splitlines())
        limits.append(int(fields['MemAvailable'].split()[0]) * 1024)
    with contextlib.suppress(FileNotFoundError, ValueError):  # 'max' where there is no limit
        limits.append(int(Path('/sys/fs/cgroup/memory.max').read_text()))
    own_limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path('/proc/self/statm')
    if own_limit != resource.RLIM_INFINITY and statm.exists():
        limits.append(own_limit - int(statm.read_text().split()[0]) * page)
    return max(min(limits), 0)
