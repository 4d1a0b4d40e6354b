"""Whole training states on disk, by orbax: written atomically, read back to the same bits."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from utils.errors import UserError

KEEP = 3


class Checkpoints:
    """The numbered checkpoints of a run; use as a context manager.

    The latest `KEEP` are kept. An interrupted write leaves the ones before as they were.
    """

    def __init__(self, directory: Path):
        self._directory = directory.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(
            self._directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """Returns the number of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def steps(self) -> set[int]:
        """Returns the numbers of all whole checkpoints."""
        return set(self._manager.all_steps())

    def forget_after(self, step: int) -> None:
        """Drops checkpoints after number `step`, which a resumed run will write again."""
        for newer in sorted(known for known in self.steps() if known > step):
            self._manager.delete(newer)

    def save(self, step: int, population: Any) -> None:
        """Writes `population` as checkpoint number `step`."""
        self._manager.save(step, args=ocp.args.StandardSave(population))

    def restore(self, step: int, shapes: Any) -> Any:
        """Reads checkpoint number `step`.

        Args:
            step: its number.
            shapes: the expected pytree of `jax.ShapeDtypeStruct`.

        Raises:
            UserError: no such checkpoint, or it holds other arrays than expected.
        """
        path = self._directory / str(step)
        if step not in self._manager.all_steps():
            have = ', '.join(str(known) for known in self._manager.all_steps()) or 'none'
            raise UserError(f'{path}: no such checkpoint; there are: {have}')
        _check_shapes(path, self._manager.item_metadata(step), shapes)
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
        )
        return self._manager.restore(step, args=ocp.args.StandardRestore(shapes))


def _check_shapes(path: Path, metadata: Any, shapes: Any) -> None:
    stored = _named_shapes(metadata)
    expected = _named_shapes(shapes)
    for name in sorted(expected.keys() | stored.keys()):
        if stored.get(name) != expected.get(name):
            raise UserError(
                f'{path}: {name} is {stored.get(name, "missing")}, expected '
                f'{expected.get(name, "nothing there")}; the checkpoint is of another environment, '
                'network size or number of seeds'
            )


def _named_shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        '.'.join(str(_key_name(key)) for key in path): tuple(leaf.shape) for path, leaf in leaves
    }


def _key_name(key: Any) -> Any:
    for attribute in ('key', 'name', 'idx'):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key
