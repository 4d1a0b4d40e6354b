"""Base policies that were trained before and stay as they are: a run's of `bc`, or somebody else's.

Agents with `frozen_policy` learn values on their candidates (`utils/training/pool.py`) and act by
their samples. All seeds and tasks of a run share one policy.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import agents
from agents import records
from agents.interface import Agent, Spec
from utils.errors import UserError
from utils.models import networks
from utils.models.networks import VelocityField
from utils.models.train_state import TrainState
from utils.storage import checkpoints, runs
from utils.training import pool, populations

# What makes the net what it is, beside its widths; a run that uses it must have the same. Euler
# steps are of whoever samples; products have the precision of `bc` in a pool, that of the run in
# what it does.
POLICY_SETTINGS = ('policy_layer_norm', 'chunk_length')
# And those that its training reads.
TRAINING_SETTINGS = (*POLICY_SETTINGS, 'matmul_precision', 'kernel_init', 'lr', 'batch_size')
FUNCTION = re.compile(r'[A-Za-z_][\w.]*:[A-Za-z_]\w*')


class FrozenPolicy(NamedTuple):
    """A base policy that a run of `bc` has trained.

    Attributes:
        directory: of the `bc` run; the file of one that comes as a file.
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

    def pool_provenance(self, flow_steps: int) -> dict[str, Any]:
        """What the note beside a pool, drawn by so many Euler steps, says of it."""
        return self.provenance | dict(flow_steps=flow_steps)

    def pool_name(self, num: int, flow_steps: int) -> str:
        """Returns what a pool of so many candidates, by so many Euler steps, is called."""
        return f'{num}_by_{flow_steps}_steps'

    def draw(self, key: jax.Array, num: int, flow_steps: int) -> pool.Draw:
        """Returns how rows of a pool are drawn, by so many Euler steps."""
        net, params = self.net, self.policy.params
        return lambda observations, rows: pool.draw(
            net, params, observations, rows, key, num, flow_steps
        )

    def give_to(self, agent: Agent) -> Agent:
        """Returns an agent that begins with the trained policy in place of a random one."""

        def init(key: jax.Array) -> Any:
            return agent.init(key).replace(policy=self.policy)

        return agent._replace(init=init)


class ForeignPolicy(NamedTuple):
    """A base policy that is somebody else's.

    Attributes:
        name: MODULE:FUNCTION, or '' where its pool is all there is.
        function: (observations (n, observation_dim), key, num) -> (n, num, h, action_dim), NumPy or
            JAX.
        digest: SHA-256 of the module's source.
        chunk_shape: h, action_dim.
    """

    name: str
    function: Callable
    digest: str
    chunk_shape: tuple[int, int]

    @property
    def provenance(self) -> dict[str, Any]:
        """What the record of a run that uses it says of it."""
        return dict(function=self.name, digest=self.digest)

    def sample(self, observations: np.ndarray, key: jax.Array, num: int) -> np.ndarray:
        """Calls the function; returns (n, num, h, action_dim).

        Raises:
            UserError: it returns something else.
        """
        candidates = np.asarray(self.function(observations, key, num), np.float32)
        expected = (len(observations), num, *self.chunk_shape)
        if candidates.shape != expected or not (np.abs(candidates) <= 1.0).all():
            raise UserError(
                f'--base_policy: {self.name} returned shape {candidates.shape}; expected '
                f'{expected}, (observations, num, h, action_dim), within [-1, 1]'
            )
        return candidates

    def pool_provenance(self, _: int) -> dict[str, Any]:
        """What the note beside a pool says of it; the function knows no Euler steps."""
        return self.provenance

    def pool_name(self, num: int, _: int) -> str:
        """Returns what a pool of so many candidates is called."""
        return str(num)

    def draw(self, key: jax.Array, num: int, _: int) -> pool.Draw:
        """Returns how rows of a pool are drawn: some at a time, with the key of the first."""

        def draw_rows(observations: np.ndarray, rows: np.ndarray) -> np.ndarray:
            # As many at a time on every device, so that a pool begun on one goes on on another.
            parts = range(pool.CPU_TILE, len(rows), pool.CPU_TILE)
            return np.concatenate(
                [
                    self.sample(part, jax.random.fold_in(key, numbers[0]), num)
                    for part, numbers in zip(
                        np.split(observations, parts), np.split(rows, parts), strict=True
                    )
                ]
            )

        return draw_rows

    def give_to(self, agent: Agent) -> Agent:
        """Returns an agent without a policy in its state, which `act` is given the samples of."""

        def init(key: jax.Array) -> Any:
            return agent.init(key).replace(policy=None)

        return agent._replace(init=init, sampler=self.sample)


def _no_samples(*_: object) -> None:
    raise UserError(
        'this run was trained on a pool alone and has no base policy to act by; train it with '
        '--base_policy=MODULE:FUNCTION as well, or give `act` candidates'
    )


def load(
    directory: Path,
    config: ConfigDict,
    observation_dim: int,
    action_dim: int,
    step: int | None = None,
) -> FrozenPolicy:
    """Reads a checkpoint of a `bc` run.

    Args:
        directory: of the run.
        config: of the run that is to use the policy.
        observation_dim, action_dim: of its data.
        step: of the checkpoint; None: the newest.

    Raises:
        UserError: it is no run of `bc`, has no such checkpoint, or does not fit.
    """
    record = runs.read_record(directory)
    trained = fitting(directory, record, config, observation_dim, action_dim)
    agent = agents.create(trained, Spec(observation_dim, action_dim))
    shapes = populations.shapes(agent.init, record['seeds'])
    population, step = checkpoints.read(directory, step, shapes)
    policy = populations.member(population, 0).policy
    net = networks.policy_field(trained, action_dim)
    return FrozenPolicy(directory, record, step, net, policy, digest_of(policy.params))


def fitting(
    path: Path, record: dict[str, Any], config: ConfigDict, observation_dim: int, action_dim: int
) -> ConfigDict:
    """Returns the config that a base policy was trained with.

    Args:
        path: of the policy, for errors.
        record: of the run that trained it.
        config: of the run that is to use it.
        observation_dim, action_dim: of that run's data.

    Raises:
        UserError: it is no run of `bc`, or does not fit.
    """
    agent_name = record['agent'].get('agent_name')
    if agent_name != 'bc':
        raise UserError(
            f'--base_policy: {path} is a run of {agent_name}; train one with '
            '--agent=configs.py:bc and give its directory'
        )
    trained = records.config_of(record, path)
    wanted = dict(observation_dim=observation_dim, action_dim=action_dim)
    found = {name: record[name] for name in wanted}
    wanted |= settings_of(config, POLICY_SETTINGS)
    found |= settings_of(trained, POLICY_SETTINGS)
    differing = [f'{name} ({found[name]} there)' for name in wanted if wanted[name] != found[name]]
    if differing:
        raise UserError(
            f'--base_policy: {path} was trained with other settings: {", ".join(differing)}; '
            'train it again, or set --agent.KEY to what it has'
        )
    return trained


def settings_of(config: ConfigDict, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns what a config, of whichever agent, says of its base policy, as `bc` names it."""
    hidden_dims = config.get('policy_hidden_dims') or config.hidden_dims
    return dict(hidden_dims=tuple(hidden_dims)) | {name: config[name] for name in names}


def load_function(name: str, chunk_shape: tuple[int, int]) -> ForeignPolicy:
    """Imports somebody else's base policy.

    Args:
        name: MODULE:FUNCTION, of a module on Python's path.
        chunk_shape: h, action_dim of its candidates.

    Raises:
        UserError: there is no such module or function.
    """
    module_name, _, function_name = name.partition(':')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f'--base_policy: {module_name} cannot be imported ({error}); put its folder into '
            'PYTHONPATH'
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f'--base_policy: {module_name} has no function {function_name}')
    path = getattr(module, '__file__', None)
    if path is None:
        raise UserError(f'--base_policy: {module_name} has no file; put the function into one')
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ForeignPolicy(name, function, digest, chunk_shape)


def pool_alone(chunk_shape: tuple[int, int]) -> ForeignPolicy:
    """Returns what stands for a policy where its pool is all there is."""
    return ForeignPolicy('', _no_samples, '', chunk_shape)


def restored(agent: Agent, record: dict[str, Any]) -> Agent:
    """Returns the agent of a run as its checkpoints have it.

    Args:
        agent: of the run's config.
        record: the run's `config.json`.

    Raises:
        UserError: its base policy is a function that cannot be imported, or that has changed.
    """
    recorded = record.get('base_policy', {})
    name = recorded.get('function')
    if name is None:  # it has none, or it is in the checkpoint
        return agent
    chunk_shape = record['agent']['chunk_length'], record['action_dim']
    if not name:
        return pool_alone(chunk_shape).give_to(agent)
    policy = load_function(name, chunk_shape)
    if policy.digest != recorded['digest']:
        raise UserError(
            f'--base_policy: the file of {name} has changed since this run was trained; restore it'
        )
    return policy.give_to(agent)


def digest_of(params: Any) -> str:
    """Returns the SHA-256 of parameters with their names and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(json.dumps([jax.tree_util.keystr(path), leaf.shape]).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
