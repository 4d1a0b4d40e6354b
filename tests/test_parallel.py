"""A population on several devices is the population on one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from utils.training import parallel

ROOT = Path(__file__).resolve().parents[1]

# In a process of its own: the number of devices is fixed when JAX starts.
PROGRAM = """
import jax
import numpy as np
from tests.helpers import random_arrays, small_agent
from utils.data import datasets
from utils.training import parallel, populations

agent, seeds = small_agent(), [0, 1, 2, 3, 4]
dataset = datasets.build(random_arrays((40, 30)))

def train(mesh):
    def sample(dataset, key):
        return datasets.sample(dataset, key, 32, 1, 0, 0.9, agent.needs_next_actions)

    train_chunk = populations.make_train_chunk(agent.update, sample, mesh)
    padded = parallel.pad(seeds, mesh)
    population = populations.init_states(agent.init, padded)
    population = parallel.place(population, mesh, parallel.SEEDS)
    keys = populations.streams(padded, populations.TRAIN_STREAM)
    keys = parallel.place(keys, mesh, parallel.SEEDS)
    data = parallel.place(dataset, mesh, parallel.EVERYWHERE)
    population, _ = train_chunk(population, None, keys, data, 0, 20)
    leaf = jax.tree.leaves(population)[0]
    assert len(leaf.sharding.device_set) == mesh.size
    return parallel.gather(population, mesh, len(seeds))

assert jax.device_count() == 4
many = parallel.make_mesh(len(seeds))
assert many.size == 3  # two seeds each at most, as with four devices
one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('seeds',))
for left, right in zip(jax.tree.leaves(train(many)), jax.tree.leaves(train(one)), strict=True):
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
"""


@pytest.mark.long
def test_five_seeds_on_four_devices_equal_those_on_one():
    flags = dict(XLA_FLAGS='--xla_force_host_platform_device_count=4', JAX_PLATFORMS='cpu')
    result = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        cwd=ROOT,
        env=os.environ | flags,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ('num_seeds', 'num_devices', 'used', 'padded'),
    [(1, 4, 1, 1), (4, 4, 4, 4), (5, 4, 3, 6), (5, 2, 2, 6), (25, 8, 7, 28), (3, 1, 1, 3)],
)
def test_devices_get_equal_shares(monkeypatch, num_seeds, num_devices, used, padded):
    devices = np.array(jax.devices() * num_devices)
    monkeypatch.setattr(jax, 'devices', lambda: devices)
    monkeypatch.setattr(jax, 'device_count', lambda: num_devices)
    mesh = parallel.make_mesh(num_seeds)
    seeds = list(range(num_seeds))
    assert mesh.size == used
    assert parallel.pad(seeds, mesh)[:num_seeds] == seeds
    assert len(parallel.pad(seeds, mesh)) == padded
