"""Which files of a cgroup v1 say what of its use, in the words of v2. Pure functions.

There is nothing here of memory.failcnt: it counts attempts, of which one charge makes several, and
on Linux 6.18 it stays 0.
"""

from __future__ import annotations

from typing import Any

from pyns.cgroups.stats import (
    Files,
    HugetlbStats,
    IoStats,
    Source,
    by_page_size,
    flat_keyed,
    integer,
    nanoseconds,
    single,
)


def _cpu_stat(files: Files) -> dict[str, Any]:
    said = flat_keyed(files.text("cpu.stat"))
    return {
        "throttled_seconds": nanoseconds(said.get("throttled_time")),
        "throttled_periods": integer(said.get("nr_throttled")),
    }


def _memory_stat(files: Files) -> dict[str, Any]:
    # total_: groups below included, as v2 does and the other files of v1 do
    said = flat_keyed(files.text("memory.stat"))
    return {
        "memory_anon": integer(said.get("total_rss")),
        "memory_file": integer(said.get("total_cache")),
        "memory_shmem": integer(said.get("total_shmem")),
        # not memsw.usage - usage: they are of two moments, and their peaks of two others
        "memory_swap_current": integer(said.get("total_swap")),
    }


def _oom_kills(text: str | None) -> int | None:
    return integer(flat_keyed(text).get("oom_kill"))


def _io(files: Files) -> dict[str, Any]:
    given = files.text("blkio.throttle.io_service_bytes_recursive")
    if given is None:
        return {}
    size = _by_device(given)
    count = _by_device(files.text("blkio.throttle.io_serviced_recursive"))
    devices = {
        device: IoStats(
            read_bytes=size[device].get("Read"),
            write_bytes=size[device].get("Write"),
            reads=count.get(device, {}).get("Read"),
            writes=count.get(device, {}).get("Write"),
        )
        for device in size
        if size[device].get("Total") != 0  # which some kernels say of all that have no io limit
    }
    return {"io": devices}


def _by_device(text: str | None) -> dict[str, dict[str, int | None]]:
    """Read lines "8:0 Read 4096"; the last, the sum of all, is shorter."""
    result: dict[str, dict[str, int | None]] = {}
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) == 3:
            result.setdefault(words[0], {})[words[1]] = integer(words[2])
    return result


def _hugetlb(files: Files) -> dict[str, Any]:
    def of_size(name: str) -> HugetlbStats:
        return HugetlbStats(
            current=integer(files.text(f"{name}.usage_in_bytes")),
            peak=integer(files.text(f"{name}.max_usage_in_bytes")),
            max_events=integer(files.text(f"{name}.failcnt")),
        )

    return {"hugetlb": by_page_size(files, "usage_in_bytes", of_size)}


SOURCES = (
    single("cpuacct", "cpuacct.usage", "cpu_seconds", nanoseconds),
    single("cpuacct", "cpuacct.usage_user", "user_seconds", nanoseconds),
    single("cpuacct", "cpuacct.usage_sys", "system_seconds", nanoseconds),
    Source("cpu", frozenset({"throttled_seconds", "throttled_periods"}), _cpu_stat),
    single("memory", "memory.usage_in_bytes", "memory_current", integer),
    single("memory", "memory.max_usage_in_bytes", "memory_peak", integer),
    single("memory", "memory.kmem.usage_in_bytes", "memory_kernel", integer),
    Source(
        "memory",
        frozenset({"memory_anon", "memory_file", "memory_shmem", "memory_swap_current"}),
        _memory_stat,
    ),
    single("memory", "memory.oom_control", "oom_kills", _oom_kills),  # since Linux 4.13
    single("pids", "pids.current", "pids_current", integer),
    single("pids", "pids.peak", "pids_peak", integer),
    Source("blkio", frozenset({"io"}), _io),
    Source("hugetlb", frozenset({"hugetlb"}), _hugetlb),
)
