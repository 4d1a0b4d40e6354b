"""Models of the distribution of the reward-to-go of a state and action, all with one interface.

Everything here is in the nets' units and about one member of an ensemble. Whatever the model, its
value of an action is one functional of the learned distribution (`extraction.soft_value`), so that
models can be exchanged with everything else equal.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from utils.errors import UserError
from utils.models import blocks
from utils.models.settings import Declared, Setting, one_of
from utils.models.value_models import categorical, flow_value, implicit_quantile, quantile, scalar

MODULES: dict[str, ModuleType] = {
    'flow': flow_value,
    'scalar': scalar,
    'categorical': categorical,
    'quantile': quantile,
    'implicit_quantile': implicit_quantile,
}
# All settings of all models, so that a run can be told to use another one.
SETTINGS: Declared = dict(
    value_model=Setting(
        'flow',
        one_of(*MODULES),
        'model of the return distribution: flow is the paper, categorical C51, quantile QR-DQN, '
        'implicit_quantile IQN',
    )
)
SETTINGS |= {name: own for module in MODULES.values() for name, own in module.SETTINGS.items()}


class ValueModel(NamedTuple):
    """Pure functions of one value model.

    Attributes:
        init: (key) -> params.
        loss: (params, target_params, batch, next_actions, support, key) -> (loss, metrics), the
            temporal difference on a batch with rewards in the nets' units. `next_actions` are
            (batch, h * action_dim), `support` the bounds of all returns.
        distribution: (params, observations, actions, noise, support, flow_steps) -> (returns,
            weights), both
            (..., num): points of the learned distribution and their probabilities, for
            observations and actions (..., d) and base noise (..., N) with its own weights
            (`Noise`). Only sampled models look at the noise; the others return their whole
            distribution.
    """

    init: Callable
    loss: Callable
    distribution: Callable


def check(config: ConfigDict) -> None:
    """Checks what is between the settings of a model.

    Raises:
        UserError: they do not go together.
    """
    if config.value_model == 'categorical' and config.discount == 1.0:
        raise UserError(
            'agent.value_model: categorical needs bounded returns, which agent.discount=1 has not'
        )
    if config.atom_steps and (config.discount == 0.0 or config.num_atoms < 3):
        raise UserError(
            'agent.atom_steps: atoms in time need agent.discount above 0 and agent.num_atoms of at '
            'least 3: one for never, one for now and one between'
        )


def create(config: ConfigDict, observation_dim: int, chunk_dim: int) -> ValueModel:
    """Builds the value model that `config.value_model` names."""
    module = MODULES[config.value_model]
    net = module.network(config)

    def init(key: jax.Array):
        return module.init(net, key, observation_dim, chunk_dim)

    def distribution(params, observations, actions, noise, support, flow_steps):
        def distribution_of_row(observation, action, z_0):
            own_noise = noise._replace(z_0=z_0)
            return module.distribution(
                net, config, params, observation, action, own_noise, support, flow_steps
            )

        *batch_shape, num = noise.z_0.shape
        rows = (x.reshape(-1, x.shape[-1]) for x in (observations, actions, noise.z_0))
        evaluations = num * config.num_value_nets  # all members read a row at once
        points = blocks.map_rows(distribution_of_row, *rows, evaluations=evaluations)
        return tuple(x.reshape(*batch_shape, x.shape[-1]) for x in points)

    return ValueModel(init, partial(module.loss, net, config), distribution)
