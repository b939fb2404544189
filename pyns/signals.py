"""How a stretch of code is kept whole, whatever signals come."""

from __future__ import annotations

from pyns._shim import lib

_ALL_SIGNALS = 2**64 - 1


class signals_blocked:  # noqa: N801  a context manager, as those of contextlib, but twice as fast
    """Keep signal handlers from raising in the middle of something, and from running in a child.

    Its value is the signal mask as it was. A handler of Python's can still run when another thread
    takes the signal: that only the caller can prevent.
    """

    _mask: int

    def __enter__(self) -> int:
        self._mask = lib.get_signal_mask()
        try:
            # in here: the handler of a signal that came before may raise when it returns
            lib.set_signal_mask(_ALL_SIGNALS)
        except BaseException:
            lib.set_signal_mask(self._mask)
            raise
        return self._mask

    def __exit__(self, *_: object) -> None:
        lib.set_signal_mask(self._mask)
