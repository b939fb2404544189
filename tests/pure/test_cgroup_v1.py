"""cgroup v1: which writes limits become, and when it is frozen."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from pyns import IoMax, Limits
from pyns.cgroups import v1
from pyns.cgroups.limits import Write


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
            [("cpu", "cpu.cfs_quota_us", "50000")],
        ),
        (
            Limits(cpu_max=0.01),
            [("cpu", "cpu.cfs_quota_us", "1000")],
        ),
        (
            Limits(cpu_max=0.29),  # 28999.999999999996 microseconds
            [("cpu", "cpu.cfs_quota_us", "29000")],
        ),
        (Limits(cpu_max="max"), [("cpu", "cpu.cfs_quota_us", "-1")]),
        (
            Limits(cpu_max=0.5, cpu_max_burst=0.29),
            [("cpu", "cpu.cfs_quota_us", "50000"), ("cpu", "cpu.cfs_burst_us", "29000")],
        ),
        (Limits(cpu_max_burst=0), [("cpu", "cpu.cfs_burst_us", "0")]),
        (Limits(cpu_idle=True), [("cpu", "cpu.idle", "1")]),
        (
            Limits(cpu_idle=False, cpu_weight=200),
            [("cpu", "cpu.idle", "0"), ("cpu", "cpu.shares", "2048")],
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
                ("cpu", "cpu.cfs_quota_us", "100000"),
                ("cpuset", "cpuset.cpus", "0"),
            ],
        ),
        (Limits(cpuset_mems=[0, 1]), [("cpuset", "cpuset.mems", "0,1")]),
        (
            Limits(io_max=[IoMax("8:0", "1M", "2M", 30, 40), IoMax("8:16", wbps="max")]),
            [
                ("blkio", "blkio.throttle.read_bps_device", "8:0 1048576"),
                ("blkio", "blkio.throttle.write_bps_device", "8:0 2097152"),
                ("blkio", "blkio.throttle.read_iops_device", "8:0 30"),
                ("blkio", "blkio.throttle.write_iops_device", "8:0 40"),
                ("blkio", "blkio.throttle.write_bps_device", "8:16 0"),
            ],
        ),
        (Limits(io_weight=100), [("blkio", "blkio.bfq.weight", "100")]),
        (Limits(io_weight=1), [("blkio", "blkio.bfq.weight", "1")]),
        (Limits(io_weight=10000), [("blkio", "blkio.bfq.weight", "1000")]),
        (
            Limits(io_weight={"8:16": "default", "8:0": 5050}),
            [
                ("blkio", "blkio.bfq.weight_device", "8:0 550"),
                ("blkio", "blkio.bfq.weight_device", "8:16 default"),
            ],
        ),
        (
            Limits(hugetlb_max={"2MB": "4M", "1GB": "max"}),
            [
                ("hugetlb", "hugetlb.1GB.limit_in_bytes", "-1"),
                ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304"),
            ],
        ),
        (Limits(devices=()), [("devices", "devices.deny", "a")]),
        (
            Limits(devices=["c 1:3 rwm", "b *:* m"]),
            [
                ("devices", "devices.deny", "a"),
                ("devices", "devices.allow", "b *:* m"),
                ("devices", "devices.allow", "c 1:3 rwm"),
            ],
        ),
        (Limits(devices="max"), [("devices", "devices.allow", "a")]),
        (
            Limits(extra={"memory.swappiness": 0, "cpu.shares": "2"}, cpu_weight=100),
            [
                ("cpu", "cpu.shares", "1024"),
                ("memory", "memory.swappiness", "0"),
                ("cpu", "cpu.shares", "2"),
            ],
        ),
    ],
    ids=str,
)
def test_limits_become_writes(limits: Limits, writes: list[tuple[str, str, str]]) -> None:
    assert [write[:3] for write in v1.writes(limits)] == writes


def test_weights_of_disks_have_the_name_that_older_schedulers_gave_them_too() -> None:
    [write] = v1.writes(Limits(io_weight=100))
    assert write.also == ("blkio.weight", "100")
    [write] = v1.writes(Limits(io_weight={"8:0": 100}))
    assert write.also == ("blkio.weight_device", "8:0 100")


M = 1 << 20
NO_LIMIT = 2**63 - 4096


@pytest.mark.parametrize(
    ("now", "limits", "writes"),
    [
        # what is there: limit and sum in MiB; what comes: limit first while it is below the sum
        ((100, 150), {"memory_max": 200 * M}, ["sum 250", "limit 200"]),
        ((100, 150), {"memory_max": 120 * M}, ["limit 120", "sum 170"]),
        ((100, 150), {"memory_max": 150 * M}, ["limit 150", "sum 200"]),
        ((100, 150), {"memory_max": 50 * M}, ["limit 50", "sum 100"]),
        ((100, 100), {"memory_max": 200 * M}, ["sum 200", "limit 200"]),
        ((100, 100), {"memory_max": 50 * M}, ["limit 50", "sum 50"]),
        ((100, 100), {"memory_max": 100 * M}, ["limit 100"]),
        ((100, None), {"memory_max": 200 * M}, ["limit 200"]),
        ((None, None), {"memory_max": 200 * M}, ["limit 200"]),
        ((100, None), {"memory_max": "max"}, ["limit -1"]),
        ((100, 150), {"memory_max": "max", "memory_swap_max": "max"}, ["sum -1", "limit -1"]),
        ((100, 150), {"memory_max": 200 * M, "memory_swap_max": 0}, ["sum 200", "limit 200"]),
        ((100, 150), {"memory_max": 60 * M, "memory_swap_max": 0}, ["limit 60", "sum 60"]),
        ((100, 150), {"memory_max": 200 * M, "memory_swap_max": "max"}, ["sum -1", "limit 200"]),
        ((None, None), {"memory_max": 60 * M, "memory_swap_max": 0}, ["limit 60", "sum 60"]),
        ((100, 150), {"memory_swap_max": 0}, ["sum 100"]),
        ((100, None), {"memory_swap_max": M}, ["sum 101"]),
        ((100, 150), {"memory_swap_max": "max"}, ["sum -1"]),
        ((None, None), {"memory_swap_max": "max"}, ["sum -1"]),
    ],
    ids=str,
)
def test_memory_and_its_sum_with_swap_are_written_in_the_order_that_the_kernel_takes(
    now: tuple[int | None, int | None], limits: dict[str, Any], writes: list[str]
) -> None:
    files = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    present = {
        file: str(NO_LIMIT if mib is None else mib * M)
        for file, mib in zip(files, now, strict=True)
    }
    expected = []
    for write in writes:
        name, mib = write.split(" ")
        value = "-1" if mib == "-1" else str(int(mib) * M)
        expected.append(Write("memory", files[name == "sum"], value))
    assert v1.writes(Limits(**limits), present) == expected


def test_without_swap_accounting_memory_alone_is_written() -> None:
    present = {"memory.limit_in_bytes": "1048576"}
    assert v1.writes(Limits(memory_max="2M"), present) == [
        Write("memory", "memory.limit_in_bytes", "2097152")
    ]


def test_memory_is_not_lifted_where_that_would_free_swap() -> None:
    present = {
        "memory.limit_in_bytes": str(100 * M),
        "memory.memsw.limit_in_bytes": str(150 * M),
    }
    with pytest.raises(ValueError, match="or memory_swap_max='max' as well"):
        v1.writes(Limits(memory_max="max"), present)


@pytest.mark.parametrize(
    ("now", "limits", "writes"),
    [
        # quota, period, burst
        (("-1", "100000", "0"), {"cpu_max": 0.5}, ["quota 50000"]),
        (("50000", "100000", "0"), {"cpu_max": "max"}, ["quota -1"]),
        (("50000", "50000", "0"), {"cpu_max": 0.5}, ["period 100000", "quota 50000"]),
        (("50000", "200000", "0"), {"cpu_max": 0.5}, ["quota 50000", "period 100000"]),
        (
            ("50000", "100000", "50000"),
            {"cpu_max": 0.4, "cpu_max_burst": 0.1},
            ["burst 10000", "quota 40000"],
        ),
        (
            ("50000", "100000", "20000"),
            {"cpu_max": 0.4, "cpu_max_burst": 0.3},
            ["quota 40000", "burst 30000"],
        ),
        (
            ("50000", "100000", "20000"),
            {"cpu_max": 0.8, "cpu_max_burst": 0.7},
            ["quota 80000", "burst 70000"],
        ),
        (
            ("50000", "100000", "50000"),
            {"cpu_max": "max", "cpu_max_burst": 2},
            ["quota -1", "burst 200000"],
        ),
        (
            ("-1", "50000", "90000"),
            {"cpu_max": 0.4, "cpu_max_burst": 0.3},
            ["burst 30000", "period 100000", "quota 40000"],
        ),
        (("50000", "200000", "0"), {"cpu_max_burst": 0.2}, ["burst 40000"]),
    ],
    ids=str,
)
def test_cpu_time_is_written_in_the_order_that_the_kernel_takes(
    now: tuple[str, str, str], limits: dict[str, Any], writes: list[str]
) -> None:
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us")
    given = [write.split(" ") for write in writes]
    expected = [("cpu", f"cpu.cfs_{name}_us", value) for name, value in given]
    made = v1.writes(Limits(**limits), dict(zip(files, now, strict=True)))
    assert [write[:3] for write in made] == expected


@pytest.mark.parametrize(
    ("quota", "limits", "said"),
    [
        ("50000", {"cpu_max": 0.2}, "cpu_max_burst=0.3 can't be above cpu_max=0.2"),
        ("20000", {"cpu_max_burst": 0.4}, "cpu_max_burst=0.4 can't be above cpu_max=0.2"),
    ],
    ids=["quota", "burst"],
)
def test_a_burst_above_the_quota_is_refused_before_the_kernel_does(
    quota: str, limits: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        v1.writes(Limits(**limits), {"cpu.cfs_quota_us": quota, "cpu.cfs_burst_us": "30000"})


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        (Limits(pids_max=1, cpu_weight=5), []),
        (Limits(memory_max=1), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
        (Limits(memory_swap_max=1), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]),
        (Limits(cpu_max=1), ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"]),
        (Limits(cpu_max_burst=1), ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"]),
    ],
    ids=str,
)
def test_only_what_decides_something_is_read(limits: Limits, files: list[str]) -> None:
    assert v1.reads(limits) == files


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"memory_high": "1M"}, "cgroup v1 has no memory_high: use memory_max"),
        ({"memory_low": 0}, "cgroup v1 has no memory_low: extra={'memory.soft_limit_in_bytes'"),
        ({"memory_min": 0}, "cgroup v1 has no memory_min: extra={'memory.soft_limit_in_bytes'"),
        ({"memory_oom_group": True}, "cgroup v1 has no memory_oom_group: it kills one process"),
        ({"cpuset_cpus": "max"}, "cgroup v1 has no cpuset_cpus='max': name them all"),
        ({"cpuset_mems": "max"}, "cgroup v1 has no cpuset_mems='max': name them all"),
    ],
    ids=str,
)
def test_what_v1_has_no_word_for_is_refused_with_what_to_do(
    limits: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        v1.writes(Limits(**limits))


@pytest.mark.parametrize(
    ("file", "error", "said"),
    [
        ("memory.memsw.limit_in_bytes", errno.ENOENT, "swapaccount=1"),
        ("cpu.idle", errno.ENOENT, "Linux 5.15"),
        ("cpu.cfs_burst_us", errno.ENOENT, "Linux 5.14"),
        ("blkio.bfq.weight_device", errno.ENOENT, "modprobe bfq"),
        ("blkio.throttle.read_bps_device", errno.ENOENT, "CONFIG_BLK_DEV_THROTTLING"),
        ("hugetlb.3MB.limit_in_bytes", errno.ENOENT, "/sys/kernel/mm/hugepages"),
        ("memory.high", errno.ENOENT, "no such file; this hierarchy is of cgroup v1"),
        ("blkio.throttle.read_bps_device", errno.ENODEV, "a partition"),
        ("cpu.shares", errno.EINVAL, "cpu_idle=False"),
        ("devices.allow", errno.EPERM, "above does not allow"),
    ],
)
def test_hint_says_what_the_kernel_lacks_or_wants(file: str, error: int, said: str) -> None:
    assert said in (v1.hint(file, error) or "")


def test_no_hint_where_nothing_is_certain() -> None:
    assert v1.hint("memory.limit_in_bytes", errno.EACCES) is None


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
