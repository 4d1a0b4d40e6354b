"""What can go wrong with a machine, told in one line."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax

from utils.errors import UserError
from utils.system import memory


def check_platform(expected: str | None) -> None:
    """Checks that JAX has the kind of device that was asked for.

    Args:
        expected: 'cpu', 'gpu' or 'tpu'; None: any.

    Raises:
        UserError: it has not.
    """
    try:
        found = jax.default_backend()
    # JAX meets a platform that is not installed with a bare assertion.
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get('JAX_PLATFORMS', '')
        raise UserError(
            f"JAX finds no device (JAX_PLATFORMS='{asked}': {one_line(error)}); install "
            'requirements-gpu.txt, or set JAX_PLATFORMS=cpu'
        ) from error
    if expected not in (None, found):
        raise UserError(
            f'--platform={expected}: JAX only finds a {found}; check the node, and that '
            f'requirements-gpu.txt is installed'
        )


def check_space(
    directory: Path,
    num_bytes: int,
    what: str = 'checkpoints need',
    remedy: str = 'make room or choose another --save_dir',
) -> None:
    """Checks that the disk of `directory` has room.

    Raises:
        UserError: it has not.
    """
    usage = shutil.disk_usage(directory)
    free = usage.free
    # Some filesystems of the cloud do not know their size, and say that it is 0.
    if usage.total and free < num_bytes:
        raise UserError(
            f'{directory}: {what} {num_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are '
            f'free; {remedy}'
        )


def free_memory() -> int:
    """Returns the bytes that are free on the device; of a CPU, in the machine."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and 'bytes_limit' in stats:
        return stats['bytes_limit'] - stats['bytes_in_use']
    return memory.available()


def check_device_memory(path: Path, num_bytes: int) -> None:
    """Checks that an accelerator holds the data; a CPU reads them where they are.

    Raises:
        UserError: it does not.
    """
    if jax.default_backend() != 'cpu' and num_bytes > free_memory():
        raise UserError(
            f'{path}: {num_bytes / memory.GIB:.2f} GiB, but {free_memory() / memory.GIB:.2f} GiB '
            "of the device's memory are free; put the first shards into a folder of their own, or "
            'set JAX_PLATFORMS=cpu'
        )


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Names what lowers the need where memory runs out.

    Raises:
        UserError: in place of what JAX and NumPy raise.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)):
            raise
        raise UserError(
            f'out of memory ({one_line(error)}); ask for fewer --seeds, --tasks, candidates, '
            'samples or episodes at once, or lower --agent.batch_size, --agent.hidden_dims or '
            '--eval_envs'
        ) from error


def one_line(error: BaseException) -> str:
    """Returns an error's message, or its name, on one line that is not too long."""
    return ' '.join(str(error).split())[:300] or type(error).__name__
