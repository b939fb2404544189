"""cgroup v2: which writes limits become, and when it is frozen."""

from __future__ import annotations

import errno
from dataclasses import fields
from typing import Any

import pytest

from pyns import IoMax, Limits
from pyns.cgroups import v2


@pytest.mark.parametrize(
    ("limits", "writes"),
    [
        (Limits(), []),
        (Limits(memory_max="1M"), [("memory", "memory.max", "1048576")]),
        (Limits(memory_max=0), [("memory", "memory.max", "0")]),
        (Limits(memory_max="max"), [("memory", "memory.max", "max")]),
        (Limits(memory_swap_max=0), [("memory", "memory.swap.max", "0")]),
        (
            Limits(memory_swap_max="1M", memory_max="2M"),
            [("memory", "memory.max", "2097152"), ("memory", "memory.swap.max", "1048576")],
        ),
        (Limits(pids_max=64), [("pids", "pids.max", "64")]),
        (Limits(pids_max="max"), [("pids", "pids.max", "max")]),
        (Limits(cpu_max=0.5), [("cpu", "cpu.max", "50000 100000")]),
        (Limits(cpu_max=2), [("cpu", "cpu.max", "200000 100000")]),
        (Limits(cpu_max=0.01), [("cpu", "cpu.max", "1000 100000")]),
        (Limits(cpu_max=0.29), [("cpu", "cpu.max", "29000 100000")]),
        (Limits(cpu_max="max"), [("cpu", "cpu.max", "max 100000")]),
        (
            Limits(cpu_max=0.5, cpu_max_burst=0.29),
            [("cpu", "cpu.max", "50000 100000"), ("cpu", "cpu.max.burst", "29000")],
        ),
        (Limits(cpu_max_burst=0), [("cpu", "cpu.max.burst", "0")]),
        (Limits(cpu_idle=True), [("cpu", "cpu.idle", "1")]),
        (
            Limits(cpu_idle=False, cpu_weight=200),
            [("cpu", "cpu.idle", "0"), ("cpu", "cpu.weight", "200")],
        ),
        (
            Limits(memory_high="1M", memory_low=4096, memory_min="max", memory_oom_group=True),
            [
                ("memory", "memory.high", "1048576"),
                ("memory", "memory.low", "4096"),
                ("memory", "memory.min", "max"),
                ("memory", "memory.oom.group", "1"),
            ],
        ),
        (Limits(memory_oom_group=False), [("memory", "memory.oom.group", "0")]),
        (
            Limits(cpuset_cpus="max", cpuset_mems="max"),
            [("cpuset", "cpuset.cpus", "\n"), ("cpuset", "cpuset.mems", "\n")],
        ),
        (
            Limits(io_max=[IoMax("8:0", "1M", "2M", 30, 40), IoMax("8:16", wbps="max")]),
            [
                ("io", "io.max", "8:0 rbps=1048576 wbps=2097152 riops=30 wiops=40"),
                ("io", "io.max", "8:16 wbps=max"),
            ],
        ),
        (Limits(io_weight=10000), [("io", "io.weight", "10000")]),
        (
            Limits(io_weight={"8:16": "default", "8:0": 5050}),
            [("io", "io.weight", "8:0 5050"), ("io", "io.weight", "8:16 default")],
        ),
        (
            Limits(hugetlb_max={"2MB": "4M", "1GB": "max"}),
            [("hugetlb", "hugetlb.1GB.max", "max"), ("hugetlb", "hugetlb.2MB.max", "4194304")],
        ),
        (Limits(devices=()), [("devices", "BPF_CGROUP_DEVICE", "")]),
        (
            Limits(devices=["c 1:3 rwm", "b *:* m"]),
            [("devices", "BPF_CGROUP_DEVICE", "b *:* m\nc 1:3 rwm")],
        ),
        (Limits(devices="max"), [("devices", "BPF_CGROUP_DEVICE", "max")]),
        (
            Limits(extra={"memory.swap.high": "0", "cgroup.max.depth": 3}, pids_max=1),
            [
                ("pids", "pids.max", "1"),
                ("memory", "memory.swap.high", "0"),
                ("cgroup", "cgroup.max.depth", "3"),
            ],
        ),
        (Limits(cpu_weight=1), [("cpu", "cpu.weight", "1")]),
        (Limits(cpuset_cpus=[0, 3]), [("cpuset", "cpuset.cpus", "0,3")]),
        (
            Limits(cpuset_cpus="0", cpu_weight=5, cpu_max=1, pids_max=1, memory_max=4096),
            [
                ("memory", "memory.max", "4096"),
                ("pids", "pids.max", "1"),
                ("cpu", "cpu.max", "100000 100000"),
                ("cpu", "cpu.weight", "5"),
                ("cpuset", "cpuset.cpus", "0"),
            ],
        ),
    ],
    ids=str,
)
def test_limits_become_writes(limits: Limits, writes: list[tuple[str, str, str]]) -> None:
    assert [write[:3] for write in v2.writes(limits)] == writes


def test_every_limit_has_its_write() -> None:
    others: dict[str, Any] = {
        "memory_oom_group": True,
        "cpu_idle": False,
        "cpuset_cpus": "1",
        "cpuset_mems": "1",
        "io_max": [IoMax("8:0", rbps=2)],
        "hugetlb_max": {"2MB": 0},
        "devices": (),
        "extra": {"memory.swap.high": 1},
    }
    everything: dict[str, Any] = {field.name: 1 for field in fields(Limits)} | others
    assert len(v2.writes(Limits(**everything))) == len(everything)


def test_weights_of_disks_are_for_the_scheduler_bfq_too() -> None:
    [write] = v2.writes(Limits(io_weight=10000))
    assert write.also == ("io.bfq.weight", "1000")
    [write] = v2.writes(Limits(io_weight={"8:0": 5050}))
    assert write.also == ("io.bfq.weight", "8:0 550")
    [write] = v2.writes(Limits(io_weight={"8:0": "default"}))
    assert write.also == ("io.bfq.weight", "8:0 default")


@pytest.mark.parametrize(
    ("quota", "burst", "limits", "files"),
    [
        ("max 100000", "0", {"cpu_max": 0.5, "cpu_max_burst": 0.5}, ["max", "max.burst"]),
        ("50000 100000", "50000", {"cpu_max": 0.4, "cpu_max_burst": 0.1}, ["max.burst", "max"]),
        ("50000 100000", "20000", {"cpu_max": 0.4, "cpu_max_burst": 0.3}, ["max", "max.burst"]),
        ("50000 100000", "50000", {"cpu_max": "max", "cpu_max_burst": 2}, ["max", "max.burst"]),
    ],
    ids=str,
)
def test_quota_and_burst_are_written_in_the_order_that_the_kernel_takes(
    quota: str, burst: str, limits: dict[str, Any], files: list[str]
) -> None:
    made = v2.writes(Limits(**limits), {"cpu.max": quota, "cpu.max.burst": burst})
    assert [write.file for write in made] == [f"cpu.{file}" for file in files]


def test_burst_is_a_part_of_the_period_that_the_group_has() -> None:
    [write] = v2.writes(Limits(cpu_max_burst=0.2), {"cpu.max": "50000 200000"})
    assert write[:3] == ("cpu", "cpu.max.burst", "40000")


def test_a_burst_above_the_quota_is_refused_before_the_kernel_does() -> None:
    now = {"cpu.max": "50000 100000", "cpu.max.burst": "30000"}
    with pytest.raises(ValueError, match=r"cpu_max_burst=0\.3 can't be above cpu_max=0\.2"):
        v2.writes(Limits(cpu_max=0.2), now)


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (Limits(memory_max=1, memory_swap_max=1, cpu_weight=5), []),
        (Limits(cpu_max=1), ["cpu.max", "cpu.max.burst"]),
        (Limits(cpu_max_burst=1), ["cpu.max", "cpu.max.burst"]),
    ],
    ids=str,
)
def test_only_what_decides_something_is_read(limits: Limits, files: list[str]) -> None:
    assert v2.reads(limits) == files


@pytest.mark.parametrize(
    ("file", "error", "said"),
    [
        ("memory.swap.max", errno.ENOENT, "swapaccount=1"),
        ("cpu.idle", errno.ENOENT, "Linux 5.15"),
        ("cpu.max.burst", errno.ENOENT, "Linux 5.14"),
        ("io.weight", errno.ENOENT, "modprobe bfq"),
        ("hugetlb.3MB.max", errno.ENOENT, "/sys/kernel/mm/hugepages"),
        ("cpu.shares", errno.ENOENT, "no such file; this hierarchy is of cgroup v2"),
        ("io.max", errno.ENODEV, "a partition"),
        ("io.weight", errno.EOPNOTSUPP, "queue/scheduler"),
        ("cpu.weight", errno.EINVAL, "cpu_idle=False"),
    ],
)
def test_hint_says_what_the_kernel_lacks_or_wants(file: str, error: int, said: str) -> None:
    assert said in (v2.hint(file, error) or "")


def test_no_hint_where_nothing_is_certain() -> None:
    assert v2.hint("memory.max", errno.EACCES) is None


@pytest.mark.parametrize(
    ("events", "frozen"),
    [
        ("populated 1\nfrozen 0\n", False),
        ("populated 1\nfrozen 1\n", True),
        ("populated 0\nfrozen 1\n", True),
        ("populated 0\nfrozen 0\n", False),
        (None, False),
    ],
    ids=["running", "frozen", "empty and frozen", "empty", "the root has no such file"],
)
def test_frozen_is_what_the_events_say(events: str | None, frozen: bool) -> None:
    assert v2.is_frozen({"cgroup.events": events}.get) is frozen
