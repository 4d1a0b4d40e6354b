"""Which processor this is."""

import platform
from pathlib import Path


def name() -> str:
    """Returns the name of the processor; its architecture, where the system tells no more."""
    return info('model name') or platform.machine()


def info(*keys: str) -> str:
    """Returns what Linux says of the first processor under the first of some keys, or ''."""
    path = Path('/proc/cpuinfo')
    for line in path.read_text().splitlines() if path.exists() else []:
        key, _, value = line.partition(':')
        if key.strip() in keys:
            return value.strip()
    return ''
