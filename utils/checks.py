"""Checks of configs, shared by the agents; each raises one line that names the setting."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from utils.errors import UserError, did_you_mean
from utils.networks import PRECISIONS


def choices(config: ConfigDict, allowed: dict[str, tuple[str, ...]]) -> None:
    """Checks that settings are among named choices."""
    for name, known in allowed.items():
        if config[name] not in known:
            hint = did_you_mean(config[name], known)
            raise UserError(
                f"agent.{name}: '{config[name]}' is not one of {', '.join(known)}.{hint}"
            )


def at_least(config: ConfigDict, lowest: int, names: Iterable[str]) -> None:
    """Checks that whole numbers are not too small."""
    for name in names:
        if config[name] < lowest:
            raise UserError(f'agent.{name}: must be at least {lowest}, not {config[name]}')


def ranges(config: ConfigDict, bounds: dict[str, tuple[float, float]]) -> None:
    """Checks that numbers lie in closed intervals."""
    for name, (low, high) in bounds.items():
        if not low <= config[name] <= high:
            raise UserError(f'agent.{name}: must lie in [{low}, {high}], not {config[name]}')


def temperatures(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that temperatures are at least 0; NaN is refused, infinity is not."""
    for name in names:
        if not config[name] >= 0:
            raise UserError(f'agent.{name}: a temperature is at least 0, not {config[name]}')


def positive(config: ConfigDict, names: Iterable[str]) -> None:
    """Checks that numbers are above 0."""
    for name in names:
        if not config[name] > 0:
            raise UserError(f'agent.{name}: must be positive, not {config[name]}')


def widths(config: ConfigDict, name: str) -> None:
    """Checks that the widths of hidden layers are there and at least 1."""
    if not config[name] or min(config[name]) < 1:
        raise UserError(f'agent.{name}: needs widths of at least 1, not {config[name]}')


def common(config: ConfigDict) -> None:
    """Checks the settings that every agent has: nets, optimiser, discount and chunks."""
    at_least(config, 1, ('batch_size', 'chunk_length'))
    ranges(config, {'discount': (0.0, 1.0)})
    choices(config, {'matmul_precision': tuple(PRECISIONS)})
    widths(config, 'hidden_dims')
    positive(config, ('lr',))
