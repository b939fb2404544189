"""cgroup v2: limits → writes. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyns.cgroups.limits import Limits, Write

_PERIOD = 100_000  # microseconds, the kernel's default


def writes(limits: Limits) -> list[Write]:
    """Return the writes that put limits into force."""
    given = limits.given()
    values: dict[str, tuple[str, str, Callable[[Any], str]]] = {
        "memory_max": ("memory", "memory.max", str),
        "memory_swap_max": ("memory", "memory.swap.max", str),
        "pids_max": ("pids", "pids.max", str),
        "cpu_max": ("cpu", "cpu.max", lambda cores: f"{round(cores * _PERIOD)} {_PERIOD}"),
        "cpu_weight": ("cpu", "cpu.weight", str),
        "cpuset_cpus": ("cpuset", "cpuset.cpus", str),
    }
    return [
        Write(controller, file, text(given[name]))
        for name, (controller, file, text) in values.items()
        if name in given
    ]


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen or about to be: cgroup.events lags until every task has stopped."""
    return "frozen 1" in (read("cgroup.events") or "") or (read("cgroup.freeze") or "0")[0] == "1"
