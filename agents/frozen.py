"""A base policy that was trained before, by a run of `bc`, and stays as it is.

EVOR and QC with `next_action=pool` learn values on its candidates (`utils/pool.py`) and act by its
samples. All seeds and tasks of a run share one policy, that of the first seed of the `bc` run.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from agents import bc
from agents.interface import Agent, Spec
from utils import networks, pool, runs, training
from utils.checkpoints import Checkpoints
from utils.datasets import Dataset
from utils.errors import UserError
from utils.networks import VelocityField
from utils.train_state import TrainState

# Settings that make the policy what it is; a run that uses it must have the same.
POLICY_SETTINGS = ('hidden_dims', 'policy_layer_norm', 'matmul_precision', 'chunk_length')
POLICY_SETTINGS += ('flow_steps',)
# Folded into the key of a seed's stream of pools, so that no two pools have the same noise.
TRAIN_POOL, VAL_POOL = range(2)


class FrozenPolicy(NamedTuple):
    """A trained base policy.

    Attributes:
        directory: of the `bc` run.
        record: its `config.json`.
        step: updates it had.
        net, policy: the velocity field and its train state.
        digest: SHA-256 of the parameters.
    """

    directory: Path
    record: dict[str, Any]
    step: int
    net: VelocityField
    policy: TrainState
    digest: str

    @property
    def provenance(self) -> dict[str, Any]:
        """What the record of a run that uses it says of it."""
        env, seed = self.record['env_name'], self.record['seeds'][0]
        return dict(env_name=env, seed=seed, step=self.step, digest=self.digest)


def load(directory: Path, config: Any, observation_dim: int, action_dim: int) -> FrozenPolicy:
    """Reads the newest checkpoint of a `bc` run.

    Args:
        directory: of the run.
        config: of the run that is to use the policy.
        observation_dim, action_dim: of its data.

    Raises:
        UserError: it is no run of `bc`, has no checkpoint, or does not fit.
    """
    record = runs.read_record(directory)
    trained = runs.agent_config(record)
    if trained.agent_name != 'bc':
        raise UserError(
            f'--base_policy: {directory} is a run of {trained.agent_name}; train one with '
            '--agent=configs.py:bc and give its directory'
        )
    # A policy may be older than this setting of rewards, for which it has no use.
    trained = ConfigDict({'n_step': 0} | dict(trained))
    sizes = dict(observation_dim=observation_dim, action_dim=action_dim)
    wanted = sizes | {name: config[name] for name in POLICY_SETTINGS}
    found = {name: record[name] for name in sizes} | {n: trained[n] for n in POLICY_SETTINGS}
    differing = [f'{name} ({found[name]} there)' for name in wanted if wanted[name] != found[name]]
    if differing:
        raise UserError(
            f'--base_policy: {directory} was trained with other settings: {", ".join(differing)}; '
            'train it again, or set --agent.KEY to what it has'
        )
    agent = bc.create(trained, Spec(observation_dim, action_dim, 0.0, 1.0))
    with Checkpoints(directory / 'checkpoints', read_only=True) as checkpoints:
        step = max(checkpoints.steps(), default=None)
        if step is None:
            raise UserError(f'--base_policy: {directory} holds no checkpoint yet; train it first')
        shapes = jax.eval_shape(partial(training.init_population, agent.init, record['seeds']))
        population, _ = checkpoints.restore(step, shapes)
    policy = training.member(population, 0).policy
    net = networks.policy_field(trained, action_dim)
    return FrozenPolicy(directory, record, step, net, policy, _digest(policy.params))


def _digest(params: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(json.dumps([jax.tree_util.keystr(path), leaf.shape]).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def freeze(agent: Agent, frozen: FrozenPolicy) -> Agent:
    """Returns an agent that begins with the trained policy in place of a random one."""

    def init(key: jax.Array) -> Any:
        return agent.init(key).replace(policy=frozen.policy)

    return agent._replace(init=init)


def with_candidates(
    dataset: Dataset, frozen: FrozenPolicy, num: int, checksum: int, stream: int
) -> Dataset:
    """Returns a dataset with the policy's candidates at every row, drawn now or before.

    Args:
        dataset: in host memory.
        frozen: the policy.
        num: candidates of each row.
        checksum: of the dataset's observations.
        stream: `TRAIN_POOL` or `VAL_POOL`.

    Raises:
        UserError: see `pool.ensure`.
    """
    seed, flow_steps = frozen.record['seeds'][0], frozen.record['agent']['flow_steps']
    key = jax.random.fold_in(training.stream(seed, training.POOL_STREAM), stream)
    name = ('train', 'val')[stream]
    provenance = frozen.provenance | dict(observations=checksum, flow_steps=flow_steps)
    candidates = pool.ensure(
        frozen.directory / 'pool' / f'{name}_{num}.npy',
        frozen.net,
        frozen.policy.params,
        dataset.observations,
        key,
        num,
        flow_steps,
        provenance,
    )
    return dataset.replace(candidates=candidates)
