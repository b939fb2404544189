"""What there is outside for a container, and ends with it: devices, processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack


class Companions:
    """How each of them is ended, in the reverse order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] | None = []

    def add(self, end: Callable[[], None]) -> None:
        """Keep what ends one. It is called at once if the container has ended by now."""
        with self._lock:
            if self._ends is not None:
                self._ends.append(end)
                return
        end()

    def end(self) -> None:
        """End them all; once more does nothing."""
        with self._lock:
            ends, self._ends = self._ends, None
        with ExitStack() as stack:  # each of them, also when another one raises
            for end in ends or ():
                stack.callback(end)
