"""What makes a checkpoint whole: a digest of every file, written last."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from utils import files

COMMIT = 'commit.json'
# Of a name-to-digest list; a real one has some hundred entries.
MAX_COMMIT_BYTES = 16_000_000

# Names that orbax and tensorstore may take for parts of a checkpoint: one more of them could change
# what is read; what else lies about is nobody's.
READ = re.compile(r'\d+(\.\d+)*|\.z\w+|zarr\.json|_.*|manifest\..*|.*ocdbt.*|process_\d+')

Progress = dict[str, Any]


def write(path: Path, progress: Progress) -> None:
    """Makes what lies in `path` a checkpoint, after `progress` of its run."""
    digests = {name: digest(path / name) for name in file_names(path)}
    files.write_json(path / COMMIT, dict(files=digests, progress=progress))


def file_names(path: Path) -> list[str]:
    """Returns the relative names of all files below `path` but the commit and foreign ones."""
    names = []
    for folder, folders, leaves in os.walk(path):
        for name in [*folders, *leaves]:
            if Path(folder, name).is_symlink():
                raise ValueError(f'{Path(folder, name)} is a link')
        folders[:] = [name for name in folders if not files.is_foreign(name)]
        own = [leaf for leaf in leaves if not files.is_foreign(leaf)]
        names += [str(Path(folder, leaf).relative_to(path)) for leaf in own]
    return sorted(set(names) - {COMMIT, f'{COMMIT}.partial'})


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def verify(path: Path) -> Progress:
    """Returns the progress of a checkpoint whose files are those that were committed.

    Raises:
        ValueError, OSError: they are not.
    """
    if (path / COMMIT).stat().st_size > MAX_COMMIT_BYTES:
        raise ValueError(f'{COMMIT} is too large')
    commit = json.loads((path / COMMIT).read_text())
    digests, names = commit['files'], file_names(path)
    for name in sorted(digests.keys() ^ set(names)):
        if name in digests or READ.fullmatch(Path(name).name):
            raise ValueError(f'{name} is {"missing" if name in digests else "extra"}')
    for name in digests:
        if digest(path / name) != digests[name]:
            raise ValueError(f'{name} is not what was written')
    return dict(commit['progress'])
