"""What can happen to a cgroup: its limits, its pressure, its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "memory_low",
    "memory_high",
    "memory_max",
    "oom",
    "oom_kill",
    "pids_max",
    "populated",
    "empty",
    "frozen",
    "thawed",
    "pressure",
    "removed",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A pressure that is to be reported: tasks waited that long within a window of time.

    Args:
        resource: what they waited for: "cpu", "memory" or "io".
        stall_seconds: how long they waited, at least.
        window_seconds: within which time, 0.5 to 10 seconds. It is reported once in it at most.
            Without CAP_SYS_RESOURCE the kernel takes multiples of 2 seconds only.
        full: whether all tasks have to wait at the same time, or at least one.

    Raises:
        ValueError: there is no such resource, or the times make no sense.

    Needs: v2 or a hybrid host, with PSI (psi=1).
    Source: Documentation/accounting/psi.rst of the kernel.

    Example:
        >>> Trigger(resource="memory", stall_seconds=0.2).window_seconds
        2.0
    """

    resource: Literal["cpu", "memory", "io"]
    stall_seconds: float
    window_seconds: float = 2.0
    full: bool = False

    def __post_init__(self) -> None:
        if self.resource not in ("cpu", "memory", "io"):
            raise ValueError(f"resource={self.resource!r}: cpu, memory or io is needed")
        if not 0.5 <= self.window_seconds <= 10:
            raise ValueError(f"window_seconds={self.window_seconds!r}: 0.5 to 10 is needed")
        if not 1e-6 <= self.stall_seconds <= self.window_seconds:
            raise ValueError(f"stall_seconds={self.stall_seconds!r} is not within the window")

    def text(self) -> str:
        """Return what the kernel wants to read, in microseconds."""
        share = "full" if self.full else "some"
        return f"{share} {round(self.stall_seconds * 1e6)} {round(self.window_seconds * 1e6)}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a cgroup.

    Attributes:
        kind: what it was.
        count: how often it happened since the last report.
        trigger: of "pressure": which one.
    """

    kind: Kind
    count: int = 1
    trigger: Trigger | None = None
