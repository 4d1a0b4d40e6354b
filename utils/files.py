"""Files that are whole or not there, also after a power cut."""

import json
import os
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Waits until a file's content, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Syncs all files and directories below `directory`, and itself last."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


def write_json(path: Path, content: Any) -> None:
    """Writes strict JSON under its name only when it is whole and on the disk."""
    partial = path.with_name(f'{path.name}.partial')
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)
