"""What a setting is: a default, the rule that its values keep, and words for it.

Agents and value models declare theirs; configs, checks, flags and the lists of inference settings
follow from that. A value may come from a command line or from a file, so that rules take no type
for granted; each raises one line that names the setting.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax

from utils.errors import UserError, did_you_mean

LARGEST = 2**31 - 1  # of a whole number on the device


class Rule(NamedTuple):
    """What values a setting can have.

    Attributes:
        allows: those, in words.
        check: (name, value) -> None; raises UserError where the value is not one of them.
    """

    allows: str
    check: Callable[[str, object], None]


class Setting(NamedTuple):
    """One declared setting.

    Attributes:
        default: its value where a config says nothing else; its type is the setting's.
        rule: what values it can have.
        words: what it is, without a full stop.
        of_inference: whether a trained agent can act with another value. A float is then traced,
            so that a new value needs no new program; values of other types are static.
    """

    default: object
    rule: Rule
    words: str
    of_inference: bool = False

    @property
    def traced(self) -> bool:
        """Whether the compiled program takes the value as an argument."""
        return self.of_inference and isinstance(self.default, float)


Declared = dict[str, Setting]


def at_inference(default: object, rule: Rule, words: str) -> Setting:
    """Returns a setting with another value of which a trained agent can act."""
    return Setting(default, rule, words, of_inference=True)


def plain(settings: object) -> dict[str, Any]:
    """Returns inference settings as numbers and text."""
    # float32 temperatures in their shortest spelling: 0.1, not 0.10000000149.
    return {
        name: float(str(value)) if isinstance(value, jax.Array) else value
        for name, value in vars(settings).items()
    }


def one_of(*known: str) -> Rule:
    """Allows the named choices."""

    def check(name: str, value: object) -> None:
        if value not in known:
            hint = did_you_mean(str(value), known)
            raise UserError(f"agent.{name}: '{value}' is not one of {', '.join(known)}.{hint}")

    return Rule(', '.join(known), check)


def at_least(lowest: int) -> Rule:
    """Allows whole numbers that are neither too small nor too large for the device."""

    def check(name: str, value: object) -> None:
        if not _is_whole(value) or value < lowest:
            raise UserError(f'agent.{name}: must be at least {lowest}, not {value!r}')
        if value > LARGEST:
            raise UserError(f'agent.{name}: must be at most {LARGEST}, not {value}')

    return Rule(f'at least {lowest}', check)


def within(low: float, high: float) -> Rule:
    """Allows numbers of a closed interval."""

    def check(name: str, value: object) -> None:
        if not _is_number(value) or not low <= value <= high:
            raise UserError(f'agent.{name}: must lie in [{low}, {high}], not {value!r}')

    return Rule(f'in [{low:g}, {high:g}]', check)


def _check_switch(name: str, value: object) -> None:
    """Allows true and false."""
    if not isinstance(value, bool):
        raise UserError(f'agent.{name}: must be true or false, not {value!r}')


def _check_temperature(name: str, value: object) -> None:
    """Allows numbers from 0 to infinity, both included."""
    if not _is_number(value) or not value >= 0:
        raise UserError(f'agent.{name}: a temperature is at least 0, not {value!r}')


def _check_positive(name: str, value: object) -> None:
    """Allows finite numbers above 0."""
    if not _is_number(value) or not value > 0:
        raise UserError(f'agent.{name}: must be positive, not {value!r}')
    _check_finite(name, value)


def _check_not_negative(name: str, value: object) -> None:
    """Allows finite numbers of at least 0."""
    if not _is_number(value) or not value >= 0:
        raise UserError(f'agent.{name}: must be at least 0, not {value!r}')
    _check_finite(name, value)


def _check_widths(name: str, value: object) -> None:
    """Allows the widths of one or more hidden layers."""
    whole = isinstance(value, (tuple, list)) and all(map(_is_whole, value))
    if not whole or not value or min(value) < 1 or max(value) > LARGEST:
        raise UserError(f'agent.{name}: needs widths of at least 1, e.g. (64, 64), not {value!r}')


def _check_widths_or_none(name: str, value: object) -> None:
    """Allows the widths of hidden layers, or ()."""
    if value != ():
        _check_widths(name, value)


def _check_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise UserError(f'agent.{name}: must be finite, not {value!r}')


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


switch = Rule('true or false', _check_switch)
temperature = Rule('at least 0, or inf', _check_temperature)
positive = Rule('above 0', _check_positive)
not_negative = Rule('at least 0', _check_not_negative)
widths = Rule('widths', _check_widths)
widths_or_none = Rule('widths, or ()', _check_widths_or_none)
