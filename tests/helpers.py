"""Small agents, datasets and files that several tests share."""

import numpy as np

import agents
import configs

SMALL = dict(hidden_dims=(16, 16), flow_steps=3, num_return_samples=4, n_pi=4, batch_size=32)


def small_config(name='evor', **changes):
    """A config with tiny nets."""
    config = configs.get_config(name).unlock()
    config.update(SMALL | changes)
    return config.lock()


def small_agent(observation_dim=3, action_dim=2, return_mean=0.0, return_std=1.0, **changes):
    """A tiny EVOR."""
    spec = agents.Spec(observation_dim, action_dim, return_mean, return_std)
    return agents.create(small_config(**changes), spec)


def random_arrays(lengths=(30, 20, 25), observation_dim=3, action_dim=2, seed=0):
    """Arrays in OGBench's format with rewards of their own; `lengths` are rows per trajectory."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(lengths) - 1] = True
    masks = (rng.uniform(size=rows) > 0.1).astype(np.float32)
    return dict(
        observations=rng.normal(size=(rows, observation_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        terminals=terminals,
        rewards=masks - 1.0,
        masks=masks,
    )
