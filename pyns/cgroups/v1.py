"""cgroup v1: limits → writes. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

from pyns.cgroups.limits import Limits, Write

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


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen, by itself or from above; only the freezer's have the file."""
    return (read("freezer.state") or "THAWED").strip() != "THAWED"
