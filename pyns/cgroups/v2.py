"""cgroup v2: limits → writes, files → statistics. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyns.cgroups.limits import Limits, Write
from pyns.cgroups.stats import flat_keyed

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


def _cpu_stat(text: str) -> dict[str, Any]:
    stat = flat_keyed(text)
    return {
        "cpu_seconds": stat["usage_usec"] / 1e6,
        "user_seconds": stat["user_usec"] / 1e6,
        "system_seconds": stat["system_usec"] / 1e6,
    }


def _integer(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {field: int(text)}


# cpu.stat is there in every group, whatever its controllers
_FILES: dict[str, Callable[[str], dict[str, Any]]] = {
    "cpu.stat": _cpu_stat,
    "memory.current": _integer("memory_current"),
    "memory.peak": _integer("memory_peak"),
    "memory.events": lambda text: {"oom_kills": flat_keyed(text)["oom_kill"]},
    "pids.current": _integer("pids_current"),
    "pids.peak": _integer("pids_peak"),
}


def stat_files(controllers: tuple[str, ...]) -> list[str]:
    """Return the files to read for statistics; a kernel may lack some."""
    return [file for file in _FILES if file == "cpu.stat" or file.partition(".")[0] in controllers]


def parse_stat(file: str, text: str) -> dict[str, Any]:
    """Return the fields of Stats that the text of such a file tells."""
    return _FILES[file](text)


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen or about to be: cgroup.events lags until every task has stopped."""
    return "frozen 1" in (read("cgroup.events") or "") or (read("cgroup.freeze") or "0")[0] == "1"
