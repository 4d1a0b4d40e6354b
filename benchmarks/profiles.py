"""What a profile of a compiled program says of its kinds of operations."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

# Kinds by what the name in the source contains; the first that fits.
KINDS = {
    'layer normalisation': ('LayerNorm',),
    'optimiser and target': ('optimizer',),
    'norm of the gradient': ('grad_norm',),
    'activations and biases': ('MLP', 'VelocityField'),
}
PRODUCTS, REST, WAITING = 'products', 'the rest', 'waiting'


class Event(Protocol):
    """What JAX's profiles tell of something that a thread did."""

    name: str
    start_ns: float
    end_ns: float


def shares(events: Iterable[Event], kinds: dict[str, str]) -> dict[str, float]:
    """Returns the share of the time from the first operation to the last that each kind has.

    Every moment is shared evenly by the operations in progress: what a second thread does for an
    operation has no name in the profile. A moment without any is `WAITING`.

    Args:
        events: of a profile, from all threads.
        kinds: of the operations, by name; other events do not count.
    """
    changes = []
    for event in events:
        if event.name in kinds:
            changes += [(event.start_ns, 1, kinds[event.name])]
            changes += [(event.end_ns, -1, kinds[event.name])]
    changes.sort()
    times, active = dict.fromkeys([PRODUCTS, *KINDS, REST, WAITING], 0.0), Counter[str]()
    for (start, change, kind), (end, *_) in pairwise(changes):
        active[kind] += change
        in_progress = +active or Counter({WAITING: 1})
        for name, count in in_progress.items():
            times[name] += (end - start) * count / in_progress.total()
    whole = sum(times.values())
    return {name: time / whole for name, time in times.items()}


def kinds_of_operations(program: str) -> dict[str, str]:
    """Returns the kind of every operation in the text of a compiled program.

    An operation is a product if it is one or holds one; loops, whose bodies count by themselves,
    have no kind.
    """
    lines = [line.strip() for line in program.splitlines()]
    with_products, computation = set(), ''
    for line in lines:
        computation = _first(r'^(?:ENTRY )?%(\S+) \(.*\{$', line) or computation
        if ' dot(' in line:
            with_products.add(computation)
    kinds = {}
    for line in lines:
        name, operation = _first(r'^(?:ROOT )?%(\S+) = ', line), _first(r' ([a-z-]+)\(', line)
        if name and operation not in ('while', 'call', 'conditional'):
            is_product = operation == 'dot' or _first(r'calls=%([^\s,]+)', line) in with_products
            source = _first(r'op_name="([^"]*)"', line) or ''
            kinds[name] = PRODUCTS if is_product else _kind(source)
    return kinds


def _kind(source: str) -> str:
    fitting = (kind for kind, parts in KINDS.items() if any(part in source for part in parts))
    return next(fitting, REST)


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match and match[1]
