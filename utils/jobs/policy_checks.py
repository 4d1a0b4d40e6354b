"""Does a base policy imitate held-out data?"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from agents import Agent
from utils import statistics
from utils.data import datasets
from utils.training import populations


def alone(agent: Agent, flow_steps: int) -> Any | None:
    """Returns the settings with which an agent acts by its base policy alone; None: it never does.

    Args:
        agent: of a run.
        flow_steps: Euler steps of the policy.
    """
    known = vars(agent.settings)
    if 'flow_steps' not in known:
        return None
    return agent.configure(flow_steps=flow_steps, **({'n_pi': 1} if 'n_pi' in known else {}))


def distances(
    agent: Agent,
    state: Any,
    settings: Any,
    val: datasets.Dataset,
    config: Mapping[str, Any],
    seed: int,
    samples: int,
) -> dict[str, float]:
    """Returns the matching loss and sliced Wasserstein distances, on held-out data.

    Args:
        agent: of the run.
        state: of one seed.
        settings: of `alone`.
        val: held-out data on the device.
        config: of the agent.
        seed: of the random stream.
        samples: held-out states.
    """
    keys = jax.random.split(populations.stream(seed, populations.DIAGNOSE_STREAM), 3)
    # Only actions are compared: the chunk's own rewards do.
    batch = datasets.sample(
        val, keys[0], samples, config['chunk_length'], 0, config['discount'], True
    )
    batch = jax.tree.map(lambda leaf: leaf[batch.action_mask.all(axis=1)], batch)
    metrics = jax.jit(agent.diagnose)(state, batch, keys[1])
    sampled = jax.jit(agent.act)(state, batch.observations, keys[2], settings).actions
    sampled, recorded = (np.asarray(datasets.flatten(x)) for x in (sampled, batch.actions))
    observations = np.asarray(batch.observations)
    observations = (observations - observations.mean(axis=0)) / (observations.std(axis=0) + 1e-6)
    half = len(recorded) // 2

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        # Disjoint halves, so that the floor and the distance have the same sampling error.
        rng = np.random.default_rng(seed)
        return statistics.sliced_wasserstein(one[:half], other[half:], rng)

    def joined(actions: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, actions], axis=1)

    return dict(
        policy_loss=float(metrics['policy_loss']),
        action_distance=distance(sampled, recorded),
        action_distance_floor=distance(recorded, recorded),
        joint_distance=distance(joined(sampled), joined(recorded)),
        joint_distance_floor=distance(joined(recorded), joined(recorded)),
    )
