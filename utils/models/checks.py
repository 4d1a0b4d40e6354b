"""Checks of configs, shared by the agents; each raises one line that names the setting.

A config may come from a command line or from a file, so that types are not taken for granted.
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real

from ml_collections import ConfigDict

from utils.errors import UserError, did_you_mean
from utils.models.networks import KERNEL_INITS, PRECISIONS

LARGEST = 2**31 - 1  # of a whole number on the device


def choices(config: ConfigDict, allowed: dict[str, tuple[str, ...]]) -> None:
    """Checks that settings are among named choices."""
    for name, known in allowed.items():
        if config[name] not in known:
            hint = did_you_mean(str(config[name]), known)
            raise UserError(
                f"agent.{name}: '{config[name]}' is not one of {', '.join(known)}.{hint}"
            )


def switches(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that settings are true or false."""
    for name in names:
        if not isinstance(config[name], bool):
            raise UserError(f'agent.{name}: must be true or false, not {config[name]!r}')


def at_least(config: ConfigDict, lowest: int, names: Iterable[str]) -> None:
    """Checks that whole numbers are neither too small nor too large for the device."""
    for name in names:
        if not _is_whole(config[name]) or config[name] < lowest:
            raise UserError(f'agent.{name}: must be at least {lowest}, not {config[name]!r}')
        if config[name] > LARGEST:
            raise UserError(f'agent.{name}: must be at most {LARGEST}, not {config[name]}')


def ranges(config: ConfigDict, bounds: dict[str, tuple[float, float]]) -> None:
    """Checks that numbers lie in closed intervals."""
    for name, (low, high) in bounds.items():
        if not _is_number(config[name]) or not low <= config[name] <= high:
            raise UserError(f'agent.{name}: must lie in [{low}, {high}], not {config[name]!r}')


def temperatures(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that temperatures are at least 0; NaN is refused, infinity is not."""
    for name in names:
        if not _is_number(config[name]) or not config[name] >= 0:
            raise UserError(f'agent.{name}: a temperature is at least 0, not {config[name]!r}')


def positive(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that numbers are above 0 and finite."""
    for name in names:
        if not _is_number(config[name]) or not config[name] > 0:
            raise UserError(f'agent.{name}: must be positive, not {config[name]!r}')
        _finite(config, name)


def not_negative(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that numbers are at least 0 and finite."""
    for name in names:
        if not _is_number(config[name]) or not config[name] >= 0:
            raise UserError(f'agent.{name}: must be at least 0, not {config[name]!r}')
        _finite(config, name)


def widths(config: ConfigDict, name: str) -> None:
    """Checks that the widths of hidden layers are there and at least 1."""
    given = config[name]
    whole = isinstance(given, (tuple, list)) and all(map(_is_whole, given))
    if not whole or not given or min(given) < 1 or max(given) > LARGEST:
        raise UserError(f'agent.{name}: needs widths of at least 1, e.g. (64, 64), not {given!r}')


def common(config: ConfigDict) -> None:
    """Checks the settings that every agent has: nets, optimiser, discount and chunks."""
    at_least(config, 1, ('batch_size', 'chunk_length'))
    _return_steps(config)
    ranges(config, {'discount': (0.0, 1.0), 'tau': (0.0, 1.0)})
    known = {'matmul_precision': tuple(PRECISIONS), 'kernel_init': tuple(KERNEL_INITS)}
    choices(config, known | {'return_map': ('affine', 'none')})
    switches(config, ('policy_layer_norm', 'value_layer_norm', 'clip_returns'))
    widths(config, 'hidden_dims')
    positive(config, ('lr',))


def phases(config: ConfigDict) -> None:
    """Checks the settings of agents whose base policy can be trained first, by itself."""
    switches(config, ('frozen_policy',))
    at_least(config, 1, ('policy_steps', 'num_pool'))
    at_least(config, 0, ('policy_seed',))
    if config.policy_hidden_dims != ():
        widths(config, 'policy_hidden_dims')
    needed = config.get('backup_candidates', 1)
    if config.frozen_policy and config.num_pool < needed:
        raise UserError(
            f'agent.num_pool: must be at least agent.backup_candidates={needed}, '
            f'not {config.num_pool}'
        )


def _return_steps(config: ConfigDict) -> None:
    """Checks that the bootstrap does not lie within the chunk whose value it completes."""
    at_least(config, 0, ('n_step',))
    if 0 < config.n_step < config.chunk_length:
        raise UserError(
            f'agent.n_step: must be 0 (the chunk length) or at least '
            f'agent.chunk_length={config.chunk_length}, not {config.n_step}'
        )


def _finite(config: ConfigDict, name: str) -> None:
    if not math.isfinite(config[name]):
        raise UserError(f'agent.{name}: must be finite, not {config[name]!r}')


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
