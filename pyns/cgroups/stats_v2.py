"""Which files of a cgroup v2 say what of its use. Pure functions."""

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
    microseconds,
    nested_keyed,
    pressure,
    single,
)


def _cpu_stat(files: Files) -> dict[str, Any]:
    said = flat_keyed(files.text("cpu.stat"))
    return {
        "cpu_seconds": microseconds(said.get("usage_usec")),
        "user_seconds": microseconds(said.get("user_usec")),
        "system_seconds": microseconds(said.get("system_usec")),
        # the lines that only the controller adds
        "throttled_seconds": microseconds(said.get("throttled_usec")),
        "throttled_periods": integer(said.get("nr_throttled")),
    }


def _memory_stat(files: Files) -> dict[str, Any]:
    said = flat_keyed(files.text("memory.stat"))
    return {
        "memory_anon": integer(said.get("anon")),
        "memory_file": integer(said.get("file")),
        "memory_shmem": integer(said.get("shmem")),
        "memory_kernel": integer(said.get("kernel")),
    }


def _memory_events(files: Files) -> dict[str, Any]:
    said = flat_keyed(files.text("memory.events"))
    return {
        "oom_kills": integer(said.get("oom_kill")),
        "memory_max_events": integer(said.get("max")),
        "memory_high_events": integer(said.get("high")),
    }


def _io(files: Files) -> dict[str, Any]:
    text = files.text("io.stat")
    if text is None:
        return {}
    devices = {
        device: IoStats(
            read_bytes=integer(said["rbytes"]),
            write_bytes=integer(said.get("wbytes")),
            reads=integer(said.get("rios")),
            writes=integer(said.get("wios")),
        )
        for device, said in nested_keyed(text).items()
        if "rbytes" in said  # a device that was not used may be a name alone
    }
    return {"io": devices}


def _hugetlb(files: Files) -> dict[str, Any]:
    def of_size(name: str) -> HugetlbStats:
        events = flat_keyed(files.text(f"{name}.events"))
        return HugetlbStats(
            current=integer(files.text(f"{name}.current")),
            peak=None,
            max_events=integer(events.get("max")),
        )

    return {"hugetlb": by_page_size(files, "current", of_size)}


SOURCES = (
    # these four are there in every group, whatever its controllers
    Source(
        "",
        frozenset(
            {
                "cpu_seconds",
                "user_seconds",
                "system_seconds",
                "throttled_seconds",
                "throttled_periods",
            }
        ),
        _cpu_stat,
    ),
    single("", "cpu.pressure", "cpu_pressure", pressure),
    single("", "memory.pressure", "memory_pressure", pressure),
    single("", "io.pressure", "io_pressure", pressure),
    single("memory", "memory.current", "memory_current", integer),
    single("memory", "memory.peak", "memory_peak", integer),
    single("memory", "memory.swap.current", "memory_swap_current", integer),
    single("memory", "memory.swap.peak", "memory_swap_peak", integer),
    Source(
        "memory",
        frozenset({"memory_anon", "memory_file", "memory_shmem", "memory_kernel"}),
        _memory_stat,
    ),
    Source(
        "memory",
        frozenset({"oom_kills", "memory_max_events", "memory_high_events"}),
        _memory_events,
    ),
    single("pids", "pids.current", "pids_current", integer),
    single("pids", "pids.peak", "pids_peak", integer),
    Source("io", frozenset({"io"}), _io),
    Source("hugetlb", frozenset({"hugetlb"}), _hugetlb),
)
