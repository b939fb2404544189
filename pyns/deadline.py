"""When the limits of a run can be reached at the earliest: its time, and its CPU time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from pyns.exceeded import CpuTimeExpired, TimeoutExpired

# Seconds between two looks at least. What is used up within them is too much by as many for each
# CPU; a look takes 20 us.
_STEP = 0.004
_LONGEST = 3600.0  # seconds; poll(2) takes no more than 24 days


class Deadline:
    """The moment at which a wait has to be over, or looked at again.

    CPU time has no event. When it is looked at, what is left of it tells how long all CPUs would
    take to use it up, and it is not looked at again before.

    Args:
        args: of the program, for what is raised.
        timeout: seconds from now; None for no limit.
        cpu_time: seconds of CPU time since the program's start; None for no limit.
        used: returns how many those are until now; None when nobody is left who could use any.
        cpus: how many CPUs can be used at the same time, at most.

    Raises:
        ValueError: the timeout is not a number (nan), which would never be over.
    """

    def __init__(
        self,
        args: Any,
        timeout: float | None,
        cpu_time: float | None = None,
        used: Callable[[], float | None] = lambda: None,
        cpus: int = 1,
    ) -> None:
        check_timeout(timeout)
        self._args = args
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._cpu_time = cpu_time
        self._used = used
        self._cpus = cpus
        self._next_look = 0.0

    def left(self) -> float | None:
        """Return for how many seconds nothing has to be looked at; None for ever.

        Raises:
            CpuTimeExpired, TimeoutExpired: a limit is reached.
        """
        now = time.monotonic()
        left = None
        if self._cpu_time is not None:
            if now >= self._next_look:
                self._next_look = now + self._look(self._cpu_time)
            left = self._next_look - now
        if self._end is not None:
            if now >= self._end:
                raise TimeoutExpired(self._args, self._timeout or 0)
            left = self._end - now if left is None else min(left, self._end - now)
        return None if left is None or left == math.inf else min(left, _LONGEST)

    def _look(self, cpu_time: float) -> float:
        used = self._used()
        if used is None:
            return math.inf
        if used >= cpu_time:
            raise CpuTimeExpired(self._args, cpu_time)
        return max((cpu_time - used) / self._cpus, _STEP)


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError or TypeError for what no time is ever after; below 0, all is."""
    if timeout is not None and math.isnan(timeout):
        raise ValueError("timeout=nan: it is not a number of seconds")
