"""A population spread over devices: every device trains its own seeds."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

SEEDS = PartitionSpec('seeds')
EVERYWHERE = PartitionSpec()


def make_mesh(num_seeds: int, num_devices: int | None = None) -> Mesh:
    """Returns a mesh of the fewest devices that train the seeds in the least time.

    Args:
        num_seeds: of the population.
        num_devices: that may be used; None: all that are visible.
    """
    share = math.ceil(num_seeds / (num_devices or jax.device_count()))
    return Mesh(np.array(jax.devices()[: math.ceil(num_seeds / share)]), ('seeds',))


def pad(seeds: list[int], mesh: Mesh) -> list[int]:
    """Repeats the last seed until all devices have equal shares; the largest sets the time."""
    return seeds + [seeds[-1]] * (-len(seeds) % mesh.size)


def place(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Puts a pytree on the devices: `SEEDS` splits leading axes, `EVERYWHERE` copies."""
    return jax.device_put(tree, NamedSharding(mesh, spec))


def gather(population: Any, mesh: Mesh, num_seeds: int) -> Any:
    """Returns the first seeds of a population, on one device."""
    if mesh.size == 1:
        return population
    leading = jax.tree.map(lambda leaf: leaf[:num_seeds], population)
    return jax.device_put(leading, mesh.devices.flat[0])


def over_devices(train_members: Callable, mesh: Mesh) -> Callable:
    """Splits the program of `populations.make_train_chunk` over a mesh; no device waits."""
    return jax.shard_map(
        train_members,
        mesh=mesh,
        in_specs=(*[SEEDS] * 4, *[EVERYWHERE] * 3),
        out_specs=SEEDS,
        check_vma=False,
    )
