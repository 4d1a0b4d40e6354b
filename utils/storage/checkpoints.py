"""Whole training states on disk, by orbax: durable once committed, verified when read.

A checkpoint is the folder STEP as orbax writes it, one zarr array per leaf, and in it commit.json,
written last: a digest of every file, and how far the run's logs had come. Where commit.json is
missing there is no checkpoint, only the rest of an interrupted write or removal.
"""

import contextlib
import errno
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from utils import files
from utils.errors import UserError
from utils.storage import commits
from utils.storage.commits import Progress

KEEP = 3
NO_ROOM = 'RESOURCE_EXHAUSTED'
# What says nothing about the content of a file.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOMEM)


class DamagedError(UserError):
    """A checkpoint that is not what was written."""


class Checkpoints:
    """The numbered checkpoints of a run; use as a context manager.

    An interrupted write or removal leaves the others as they were. Only one process may write.

    Attributes:
        directory: absolute.
    """

    def __init__(self, directory: Path, read_only: bool = False):
        """Opens a folder of checkpoints.

        Args:
            directory: made if missing, unless `read_only`.
            read_only: changes nothing; otherwise rests of interrupted writes are removed.
        """
        self.directory = directory.resolve()
        self._damaged: set[int] = set()
        if not read_only:
            self._tidy()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,
            enable_async_checkpointing=False,
            read_only=read_only,
            create=not read_only,
        )
        # Not as one OCDBT database: its index may point at files anywhere.
        self._handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=self._handler
        )

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def steps(self) -> set[int]:
        """Returns the numbers of all committed checkpoints."""
        if not self.directory.is_dir():
            return set()
        return {int(entry.name) for entry in self._folders() if (entry / commits.COMMIT).is_file()}

    def save(
        self, step: int, population: Any, progress: Progress, protect: set[int] | None = None
    ) -> None:
        """Writes checkpoint number `step` and removes what is superseded.

        Where it is there already, as after an evaluation that was made up for, its arrays are the
        same: only the progress is written.

        Args:
            step: its number.
            population: pytree of arrays.
            progress: JSON that comes back with it.
            protect: numbers that are kept beside the newest `KEEP`.

        Raises:
            UserError: it could not be written; the ones before are as they were.
        """
        path = self.directory / str(step)
        try:
            if step not in self.steps():
                syncs = files.sync(self.directory)
                with _quietly(), contextlib.nullcontext() if syncs else _arrays_unsynced():
                    self._manager.save(step, args=ocp.args.PyTreeSave(population), force=True)
                files.sync_tree(path)
            commits.write(path, progress)
            files.sync(self.directory)
        except (OSError, ValueError) as error:
            raise UserError(
                f'{path}: not written ({_os_reason(error)}); the checkpoints before it are whole: '
                'mend the disk, then repeat the command'
            ) from error
        for old in sorted(self.steps() - (protect or set()))[:-KEEP]:
            self._delete(old)

    def forget_after(self, step: int) -> None:
        """Drops checkpoints after number `step`, which a resumed run will write again.

        Those that `restore` found damaged are set aside as damaged-NUMBER.
        """
        for newer in sorted(known for known in self.steps() if known > step):
            if newer in self._damaged:
                aside = self.directory / f'damaged-{newer}'
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.directory / str(newer), aside)
                self._manager.reload()
            else:
                self._delete(newer)

    def restore(self, step: int, shapes: Any) -> tuple[Any, Progress]:
        """Reads checkpoint number `step`; returns the population and the progress.

        Args:
            step: its number.
            shapes: the expected pytree of `jax.ShapeDtypeStruct`.

        Raises:
            DamagedError: its content is not what was written.
            UserError: no such checkpoint, it holds other arrays than expected, or the system does
                not let it be read.
            MemoryError, jax.errors.JaxRuntimeError: there is no room for it.
        """
        path = self.directory / str(step)
        if step not in self.steps():
            have = ', '.join(str(known) for known in sorted(self.steps())) or 'none'
            raise UserError(f'{path}: no such checkpoint; there are: {have}')
        with self._damage_named(step):
            progress = commits.verify(path)
            stored = _named_arrays(self._handler.metadata(path / 'default').tree)
        _check_arrays(path, stored, _named_arrays(shapes))
        with self._damage_named(step):
            return self._read(step, shapes), progress

    @contextlib.contextmanager
    def _damage_named(self, step: int) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # orbax itself raises nothing narrower over bad content
            if isinstance(error, jax.errors.JaxRuntimeError) and NO_ROOM in str(error):
                raise
            if isinstance(error, OSError) and error.errno in UNREADABLE:
                raise UserError(
                    f'{self.directory / str(step)}: cannot be read ({error.strerror}); mend that, '
                    'then repeat the command'
                ) from error
            self._damaged.add(step)
            raise DamagedError(
                f'{self.directory / str(step)}: damaged ({" ".join(str(error).split())[:200]}); '
                'use another one'
            ) from error

    def _read(self, step: int, shapes: Any) -> Any:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
        )
        restore_args = ocp.checkpoint_utils.construct_restore_args(shapes)
        # Not by the manager, to which folders of others beside the arrays are items of its own.
        return self._handler.restore(
            self.directory / str(step) / 'default',
            args=ocp.args.PyTreeRestore(shapes, restore_args=restore_args),
        )

    def _delete(self, step: int) -> None:
        """Removes a checkpoint; from the first moment on it does not count as one."""
        (self.directory / str(step) / commits.COMMIT).unlink()
        files.sync(self.directory / str(step))
        self._manager.delete(step)

    def _folders(self) -> list[Path]:
        return [
            entry
            for entry in self.directory.iterdir()
            if re.fullmatch(r'\d+', entry.name) and entry.is_dir() and not entry.is_symlink()
        ]

    def _tidy(self) -> None:
        if not self.directory.is_dir():
            return
        uncommitted = [entry for entry in self._folders() if not (entry / commits.COMMIT).is_file()]
        for entry in [*uncommitted, *self.directory.glob('*.orbax-checkpoint-tmp*')]:
            shutil.rmtree(entry)


def read(directory: Path, step: int | None, shapes: Any) -> tuple[Any, int]:
    """Returns the population of a run, and the step that it is of.

    Args:
        directory: of the run.
        step: of the checkpoint; None: the newest.
        shapes: see `Checkpoints.restore`.

    Raises:
        UserError: the run has no such checkpoint, or it is damaged.
    """
    with Checkpoints(directory / 'checkpoints', read_only=True) as checkpoints:
        step = max(checkpoints.steps(), default=None) if step is None else step
        if step is None:
            raise UserError(f'{directory}: holds no checkpoint yet; train it first')
        population, _ = checkpoints.restore(step, shapes)
        return population, step


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Leaves what went wrong to the error that is raised.

    Of every array that could not be written orbax logs a traceback, and tensorstore calls back to a
    loop that is closed by then. Both may come late, so that after a failure it stays quiet.
    """
    level, hook = logging.get_verbosity(), sys.unraisablehook

    def pass_on(unraisable: Any) -> None:
        if str(unraisable.exc_value) != 'Event loop is closed':
            hook(unraisable)

    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = pass_on
    warnings.filterwarnings('ignore', '.*was never awaited', RuntimeWarning)
    yield
    logging.set_verbosity(level)
    sys.unraisablehook = hook


@contextlib.contextmanager
def _arrays_unsynced() -> Iterator[None]:
    """Lets tensorstore leave to `files.sync_tree` what is to be on the disk.

    It fails where directories cannot be synced, and orbax passes no setting on to it but by a part
    of its own that is not public, which is touched on such filesystems alone.
    """
    from orbax.checkpoint._src.serialization import tensorstore_utils

    context = tensorstore_utils._BASE_TS_CONTEXT
    context['file_io_sync'] = False
    try:
        yield
    finally:
        del context['file_io_sync']


def _os_reason(error: Exception) -> str:
    """Returns the system's reason of a failed write; tensorstore hides it in a ValueError.

    Raises:
        ValueError: `error` is of another kind.
    """
    if isinstance(error, OSError):
        return str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code is None:
        raise error
    return os.strerror(int(code[1]))


def _check_arrays(path: Path, stored: dict[str, str], expected: dict[str, str]) -> None:
    for name in sorted(expected.keys() | stored.keys()):
        if stored.get(name) != expected.get(name):
            raise UserError(
                f'{path}: {name} is {stored.get(name, "missing")}, expected '
                f'{expected.get(name, "nothing there")}; the checkpoint is of another environment, '
                'network size or number of seeds'
            )


def _named_arrays(tree: Any) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        '.'.join(str(_key_name(key)) for key in path): f'{leaf.dtype}{list(leaf.shape)}'
        for path, leaf in leaves
    }


def _key_name(key: Any) -> Any:
    for attribute in ('key', 'name', 'idx'):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key
