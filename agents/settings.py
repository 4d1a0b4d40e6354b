"""Settings that agents have in common, and what follows from an agent's declaration of its own.

A module's `SETTINGS` are all of its settings by name, its `check(config)`, if it has one, is about
what is between several of them.
"""

import functools
from types import ModuleType
from typing import Any

import jax.numpy as jnp
from flax import struct
from ml_collections import ConfigDict

from utils.errors import UserError, did_you_mean
from utils.models.networks import KERNEL_INITS, PRECISIONS
from utils.models.settings import (
    Declared,
    Setting,
    at_inference,
    at_least,
    one_of,
    positive,
    switch,
    widths,
    widths_or_none,
    within,
)

# What every agent has.
COMMON: Declared = dict(
    hidden_dims=Setting((512, 512, 512, 512), widths, 'hidden widths of every net'),
    policy_layer_norm=Setting(False, switch, 'layer normalisation in policies'),
    value_layer_norm=Setting(True, switch, 'layer normalisation in value models and critics'),
    matmul_precision=Setting(
        'float32', one_of(*PRECISIONS), 'precision of matrix products in all nets'
    ),
    kernel_init=Setting(
        'fan_average', one_of(*KERNEL_INITS), "how the nets begin; 'lecun' is flax's own"
    ),
    lr=Setting(3e-4, positive, "Adam's learning rate"),
    batch_size=Setting(256, at_least(1), 'transitions of an update'),
    discount=Setting(0.99, within(0.0, 1.0), 'discount of rewards, per step'),
    tau=Setting(0.005, within(0.0, 1.0), 'Polyak step of target nets'),
    chunk_length=Setting(1, at_least(1), 'actions chosen and played at a time'),
    n_step=Setting(0, at_least(0), "steps of reward before the bootstrap; 0: the chunk's"),
    clip_returns=Setting(
        False, switch, 'whether bootstrapped returns are kept within what rewards allow'
    ),
    return_map=Setting(
        'none',
        one_of('affine', 'none'),
        'returns enter the nets standardised (affine) or as they are (none)',
    ),
)

# Of agents that act by a base policy: first the policy is trained, then its candidates are drawn at
# every state, once, then values are learned. The policy never sees a reward, so it serves every
# task, value model and seed.
PHASES: Declared = dict(
    frozen_policy=Setting(
        False, switch, 'the base policy is trained first and then stays; else along with values'
    ),
    policy_hidden_dims=Setting(
        (), widths_or_none, 'hidden widths of the base policy; (): hidden_dims'
    ),
    policy_steps=Setting(
        300_000, at_least(1), 'updates of a frozen base policy, where the run has to train it'
    ),
    policy_seed=Setting(0, at_least(0), 'seed of a frozen base policy'),
    num_pool=Setting(
        32,
        at_least(1),
        'candidates of a frozen base policy, drawn at every state if updates read any',
    ),
)


# What several agents have; their modules say which.
AFFINE = COMMON['return_map']._replace(default='affine')
VALUE_AGGREGATION = Setting(
    'mean', one_of('mean', 'min'), 'how the values of several nets become one'
)
N_PI = at_inference(32, at_least(1), 'candidates from the base policy; 1 is behaviour cloning')
FLOW_STEPS = at_inference(10, at_least(1), 'Euler steps of the base policy')


def check(module: ModuleType, config: ConfigDict) -> None:
    """Checks the settings of an agent's config, by themselves and then between each other.

    Raises:
        UserError: one is out of range, is missing, or is none of the agent's.
    """
    name, declared = config.agent_name, module.SETTINGS
    if missing := sorted(declared.keys() - {*config}):
        raise UserError(
            f'agent.agent_name: the config lacks settings of {name} ({", ".join(missing)}); choose '
            'another with --agent=configs.py:NAME'
        )
    check_names(module, config)
    for key, setting in declared.items():
        setting.rule.check(key, config[key])
    _check_steps(config)
    if 'num_pool' in declared:
        _check_pool(config)
    if hasattr(module, 'check'):
        module.check(config)


def check_names(module: ModuleType, config: ConfigDict) -> None:
    """Checks that an agent has all settings that a config has.

    Raises:
        UserError: it has not.
    """
    known = {*module.SETTINGS, 'agent_name', 'config_name'}
    for key in sorted({*config} - known):
        raise UserError(
            f'agent.{key}: {config.agent_name} has no such setting.{did_you_mean(key, known)}'
        )


def inference(declared: Declared, config: ConfigDict, **changes: object) -> Any:
    """Returns the inference settings of a config, with some of them changed.

    Returns:
        A pytree with a field for each of them: its leaves are those that are traced, as float32
        scalars; the others are static, so that they select a program.

    Raises:
        UserError: a change is out of range, or of a setting that is none of inference.
    """
    of_inference = {name: setting for name, setting in declared.items() if setting.of_inference}
    for name, value in changes.items():
        if name not in of_inference:
            raise UserError(
                f'agent.{name}: {config.agent_name} has no such inference setting; it has '
                f'{", ".join(of_inference) or "none"}'
            )
        of_inference[name].rule.check(name, value)
    values = {name: changes.get(name, config[name]) for name in of_inference}
    traced = {name: jnp.float32(values[name]) for name in values if of_inference[name].traced}
    return _inference_class(tuple(values), frozenset(traced))(**values | traced)


@functools.cache
def _inference_class(names: tuple[str, ...], traced: frozenset[str]) -> type:
    """Returns the class of inference settings with these names; agents with the same ones share it.

    JAX tells programs apart by the class and by its static fields.
    """
    static = {name: struct.field(pytree_node=False) for name in names if name not in traced}
    return struct.dataclass(
        type('InferenceSettings', (), dict(static, __annotations__=dict.fromkeys(names, Any)))
    )


def _check_steps(config: ConfigDict) -> None:
    """Checks that the bootstrap does not lie within the chunk whose value it completes."""
    if 0 < config.n_step < config.chunk_length:
        raise UserError(
            f'agent.n_step: must be 0 (the chunk length) or at least '
            f'agent.chunk_length={config.chunk_length}, not {config.n_step}'
        )


def _check_pool(config: ConfigDict) -> None:
    """Checks that a frozen policy's pool has the candidates that a backup picks from."""
    needed = config.get('backup_candidates', 1)
    if config.frozen_policy and config.num_pool < needed:
        raise UserError(
            f'agent.num_pool: must be at least agent.backup_candidates={needed}, '
            f'not {config.num_pool}'
        )
