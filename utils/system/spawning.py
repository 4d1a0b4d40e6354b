"""Processes that know nothing of the program that starts them."""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes spawned within do not run the caller's script again.

    A new process imports the main module, to find there what it is to run. What is run here is in
    modules of its own, and a script without `if __name__ == '__main__'` would do its work again.
    """
    main = sys.modules['__main__']
    sys.modules['__main__'] = ModuleType('__main__')
    try:
        yield
    finally:
        sys.modules['__main__'] = main
