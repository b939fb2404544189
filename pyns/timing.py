"""How long each step of a start has taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pyns.steps import Step


class Timing(NamedTuple):
    """A step, and how long it has taken.

    Attributes:
        step: of the plan.
        nanoseconds: from its beginning to that of the next one. Of the last, which executes the
            program, until the caller goes on. None for what pyns-init and its child have done.

    Example:
        >>> from pyns.steps import LoopbackUp
        >>> print(Timing(LoopbackUp(), 12_345))
            12.3 us  bring the loopback interface up
    """

    step: Step
    nanoseconds: int | None

    def __str__(self) -> str:
        taken = "-" if self.nanoseconds is None else f"{self.nanoseconds / 1000:.1f} us"
        return f"{taken:>11}  {self.step.describe()}"


def timings(steps: Iterable[Step], times: Sequence[int]) -> tuple[Timing, ...]:
    """Return how long each step has taken.

    Args:
        steps: all of the plan.
        times: when each began, in nanoseconds, and at the end when all were over; 0 is not known.
    """
    end = times[-1]
    after = [begin or end for begin in times[1:]]
    return tuple(
        Timing(step, next_begin - begin if begin else None)
        for step, begin, next_begin in zip(steps, times[:-1], after, strict=True)
    )
