"""cgroup v1: limits → writes, files → statistics. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyns.cgroups.limits import Limits, Write
from pyns.cgroups.stats import flat_keyed

_PERIOD = 100_000  # microseconds, the kernel's default


def writes(limits: Limits) -> list[Write]:
    """Return the writes that put limits into force, in an order that the kernel takes.

    Raises:
        ValueError: memory_swap_max without memory_max. v1 limits memory and swap together, so
            swap alone can't be said.
    """
    given = limits.given()
    result = []
    memory, swap = given.get("memory_max"), given.get("memory_swap_max")
    if memory is not None:
        result.append(Write("memory", "memory.limit_in_bytes", _unlimited(memory)))
    if swap is not None:
        # after the memory limit: EINVAL when it would be below that
        result.append(
            Write("memory", "memory.memsw.limit_in_bytes", _memory_and_swap(memory, swap))
        )
    if "pids_max" in given:
        result.append(Write("pids", "pids.max", str(given["pids_max"])))
    if "cpu_max" in given:
        result.append(Write("cpu", "cpu.cfs_period_us", str(_PERIOD)))
        result.append(Write("cpu", "cpu.cfs_quota_us", str(round(given["cpu_max"] * _PERIOD))))
    if "cpu_weight" in given:
        # weight 100 is the default of v2, 1024 shares that of v1, 2 the least
        shares = max(2, given["cpu_weight"] * 1024 // 100)
        result.append(Write("cpu", "cpu.shares", str(shares)))
    if "cpuset_cpus" in given:
        result.append(Write("cpuset", "cpuset.cpus", given["cpuset_cpus"]))
    return result


def _unlimited(size: int | str) -> str:
    return "-1" if size == "max" else str(size)


def _memory_and_swap(memory: int | str | None, swap: int | str) -> str:
    if swap == "max":
        return "-1"
    if memory is None or memory == "max":
        raise ValueError(
            "memory_swap_max needs memory_max on cgroup v1, which limits the sum of both"
        )
    return str(int(memory) + int(swap))


def _oom_control(text: str) -> dict[str, Any]:
    kills = flat_keyed(text).get("oom_kill")  # since Linux 4.13
    return {} if kills is None else {"oom_kills": kills}


def _nanoseconds(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {field: int(text) / 1e9}


def _integer(field: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {field: int(text)}


# file → what it says, by controller
_FILES: dict[str, dict[str, Callable[[str], dict[str, Any]]]] = {
    "cpuacct": {
        "cpuacct.usage": _nanoseconds("cpu_seconds"),
        "cpuacct.usage_user": _nanoseconds("user_seconds"),
        "cpuacct.usage_sys": _nanoseconds("system_seconds"),
    },
    "memory": {
        "memory.usage_in_bytes": _integer("memory_current"),
        "memory.max_usage_in_bytes": _integer("memory_peak"),
        "memory.oom_control": _oom_control,
    },
    "pids": {
        "pids.current": _integer("pids_current"),
        "pids.peak": _integer("pids_peak"),
    },
}


def stat_files(controllers: tuple[str, ...]) -> list[str]:
    """Return the files to read for statistics; a kernel may lack some."""
    return [file for controller in controllers for file in _FILES.get(controller, ())]


def parse_stat(file: str, text: str) -> dict[str, Any]:
    """Return the fields of Stats that the text of such a file tells."""
    return _FILES[file.partition(".")[0]][file](text)


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen, by itself or from above; only the freezer's have the file."""
    return (read("freezer.state") or "THAWED").strip() != "THAWED"
