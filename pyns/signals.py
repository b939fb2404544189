"""How a stretch of code is kept whole, whatever signals come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyns._shim import lib

_ALL_SIGNALS = 2**64 - 1


@contextmanager
def signals_blocked() -> Iterator[int]:
    """Keep signal handlers from raising in the middle of something, and from running in a child.

    Yields the signal mask as it was. A handler of Python's can still run when another thread takes
    the signal: that only the caller can prevent.
    """
    mask = lib.get_signal_mask()
    try:
        # in here: the handler of a signal that came before may raise when it returns
        lib.set_signal_mask(_ALL_SIGNALS)
        yield mask
    finally:
        lib.set_signal_mask(mask)
