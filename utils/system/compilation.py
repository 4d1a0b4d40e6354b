"""Compiled programs are kept between processes, in the user's cache folder."""

import hashlib
import os
import sys
from pathlib import Path

import jax

from utils.system import processor

SECONDS = 0.3  # programs that compile faster are not kept


def keep_programs() -> None:
    """Lets JAX keep compiled programs, unless its own settings say where or that it is not to.

    The folder is one of the machine's kind: a program holds instructions of the processor that it
    was compiled on, and a home directory may be shared by several kinds.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    folder = folder_of(Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        print(
            f'note: {folder} cannot be written to: programs are compiled anew each time; '
            'JAX_COMPILATION_CACHE_DIR=FOLDER chooses another place',
            file=sys.stderr,
        )
        return
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', SECONDS)


def folder_of(cache: Path) -> Path:
    """Returns where this kind of machine's programs are below a cache folder."""
    kind = f'{processor.name()} {processor.info("flags", "Features")}'
    digest = hashlib.sha256(kind.encode()).hexdigest()[:12]
    return cache / 'evor' / f'programs-{digest}'
