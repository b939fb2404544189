"""cgroup v1: which writes limits become, and when it is frozen."""

from __future__ import annotations

import pytest

from pyns import Limits
from pyns.cgroups import v1


@pytest.mark.parametrize(
    ("limits", "writes"),
    [
        (Limits(), []),
        (Limits(memory_max="1M"), [("memory", "memory.limit_in_bytes", "1048576")]),
        (Limits(memory_max=0), [("memory", "memory.limit_in_bytes", "0")]),
        (Limits(memory_max="max"), [("memory", "memory.limit_in_bytes", "-1")]),
        (
            Limits(memory_max="2M", memory_swap_max="1M"),
            [
                ("memory", "memory.limit_in_bytes", "2097152"),
                ("memory", "memory.memsw.limit_in_bytes", "3145728"),
            ],
        ),
        (
            Limits(memory_max="2M", memory_swap_max=0),
            [
                ("memory", "memory.limit_in_bytes", "2097152"),
                ("memory", "memory.memsw.limit_in_bytes", "2097152"),
            ],
        ),
        (
            Limits(memory_max="2M", memory_swap_max="max"),
            [
                ("memory", "memory.limit_in_bytes", "2097152"),
                ("memory", "memory.memsw.limit_in_bytes", "-1"),
            ],
        ),
        (Limits(memory_swap_max="max"), [("memory", "memory.memsw.limit_in_bytes", "-1")]),
        (Limits(pids_max=64), [("pids", "pids.max", "64")]),
        (Limits(pids_max="max"), [("pids", "pids.max", "max")]),
        (
            Limits(cpu_max=0.5),
            [("cpu", "cpu.cfs_period_us", "100000"), ("cpu", "cpu.cfs_quota_us", "50000")],
        ),
        (
            Limits(cpu_max=0.01),
            [("cpu", "cpu.cfs_period_us", "100000"), ("cpu", "cpu.cfs_quota_us", "1000")],
        ),
        (
            Limits(cpu_max=0.29),  # 28999.999999999996 microseconds
            [("cpu", "cpu.cfs_period_us", "100000"), ("cpu", "cpu.cfs_quota_us", "29000")],
        ),
        (Limits(cpu_weight=100), [("cpu", "cpu.shares", "1024")]),
        (Limits(cpu_weight=10000), [("cpu", "cpu.shares", "102400")]),
        (Limits(cpu_weight=1), [("cpu", "cpu.shares", "10")]),
        (Limits(cpuset_cpus="0-3,6"), [("cpuset", "cpuset.cpus", "0-3,6")]),
        (
            Limits(cpuset_cpus=[0], cpu_max=1, pids_max=1, memory_max=4096),
            [
                ("memory", "memory.limit_in_bytes", "4096"),
                ("pids", "pids.max", "1"),
                ("cpu", "cpu.cfs_period_us", "100000"),
                ("cpu", "cpu.cfs_quota_us", "100000"),
                ("cpuset", "cpuset.cpus", "0"),
            ],
        ),
    ],
    ids=str,
)
def test_limits_become_writes(limits: Limits, writes: list[tuple[str, str, str]]) -> None:
    assert v1.writes(limits) == writes


@pytest.mark.parametrize(
    "limits",
    [
        Limits(memory_swap_max=0),
        Limits(memory_swap_max="1G", pids_max=5),
        # the sum of no limit and some is no limit: swap would be free
        Limits(memory_max="max", memory_swap_max=0),
    ],
    ids=["none", "some", "unlimited memory"],
)
def test_a_limit_of_swap_alone_cannot_be_said(limits: Limits) -> None:
    with pytest.raises(ValueError, match="memory_swap_max needs memory_max on cgroup v1"):
        v1.writes(limits)


@pytest.mark.parametrize(
    ("state", "frozen"),
    [("THAWED\n", False), ("FREEZING\n", True), ("FROZEN\n", True), (None, False)],
)
def test_frozen_is_what_the_freezer_says(state: str | None, frozen: bool) -> None:
    assert v1.is_frozen({"freezer.state": state}.get) is frozen
