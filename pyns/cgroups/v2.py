"""cgroup v2: limits → writes. Pure functions."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pyns.cgroups import devices
from pyns.cgroups.limits import PERIOD, Bandwidth, Limits, Write, bandwidth, bfq_weight

_FRESH: Mapping[str, str] = MappingProxyType({})
_QUOTA, _BURST = "cpu.max", "cpu.max.burst"


def reads(limits: Limits) -> list[str]:
    """Return the files whose present text decides how limits are written to a living group."""
    bounded = limits.cpu_max is not None or limits.cpu_max_burst is not None
    return [_QUOTA, _BURST] if bounded else []


def writes(limits: Limits, now: Mapping[str, str] = _FRESH) -> list[Write]:
    """Return the writes that put limits into force, in an order that the kernel takes.

    Args:
        limits: all, but those of controllers that v1 hierarchies have.
        now: present text of the files that `reads` names; empty for a fresh group.

    Raises:
        ValueError: the burst would be above the quota that the group has, or the other way round.
    """
    given = limits.given()
    return [
        *(
            Write(controller, file, text(given[name]))
            for name, (controller, file, text) in _BEFORE_CPU.items()
            if name in given
        ),
        *_cpu(limits, given, now),
        *(
            Write("cpuset", file, "\n" if given[name] == "max" else given[name])
            for name, file in (("cpuset_cpus", "cpuset.cpus"), ("cpuset_mems", "cpuset.mems"))
            if name in given
        ),
        *_io(given),
        *(
            Write("hugetlb", f"hugetlb.{size}.max", str(limit))
            for size, limit in given.get("hugetlb_max", ())
        ),
        *_devices(given),
        *(Write(file.partition(".")[0], file, value) for file, value in given.get("extra", ())),
    ]


_BEFORE_CPU: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "memory_max": ("memory", "memory.max", str),
    "memory_high": ("memory", "memory.high", str),
    "memory_low": ("memory", "memory.low", str),
    "memory_min": ("memory", "memory.min", str),
    "memory_swap_max": ("memory", "memory.swap.max", str),
    "memory_oom_group": ("memory", "memory.oom.group", lambda flag: str(int(flag))),
    "pids_max": ("pids", "pids.max", str),
}


def _cpu(limits: Limits, given: Mapping[str, Any], now: Mapping[str, str]) -> list[Write]:
    quota, period = now.get(_QUOTA, f"max {PERIOD}").split()
    old = Bandwidth(None if quota == "max" else int(quota), int(period), int(now.get(_BURST, "0")))
    new = bandwidth(limits, old)
    result = []
    if "cpu_max" in given:
        text = "max" if new.quota is None else str(new.quota)
        result.append(Write("cpu", _QUOTA, f"{text} {new.period}"))
    if "cpu_max_burst" in given:
        # EINVAL while the burst is above the quota
        first = new.quota is not None and old.burst > new.quota
        result.insert(0 if first else 1, Write("cpu", _BURST, str(new.burst)))
    if "cpu_idle" in given:
        # before the weight: an idle group takes none, and ending that sets it to the default
        result.append(Write("cpu", "cpu.idle", str(int(given["cpu_idle"]))))
    if "cpu_weight" in given:
        result.append(Write("cpu", "cpu.weight", str(given["cpu_weight"])))
    return result


def _io(given: Mapping[str, Any]) -> list[Write]:
    result = []
    for disk in given.get("io_max", ()):
        pairs = " ".join(f"{name}={value}" for name, value in disk.given().items())
        result.append(Write("io", "io.max", f"{disk.device} {pairs}"))
    share = given.get("io_weight", ())
    if isinstance(share, int):
        also = ("io.bfq.weight", str(bfq_weight(share)))
        result.append(Write("io", "io.weight", str(share), also))
    else:
        for device, each in share:
            scaled = each if each == "default" else bfq_weight(each)
            also = ("io.bfq.weight", f"{device} {scaled}")
            result.append(Write("io", "io.weight", f"{device} {each}", also))
    return result


def _devices(given: Mapping[str, Any]) -> list[Write]:
    rules = given.get("devices")
    if rules is None:
        return []
    text = "max" if rules == "max" else "\n".join(rules)
    return [Write("devices", devices.PROGRAM, text)]


_MISSING = {
    "memory.swap": "The kernel counts no swap: it needs CONFIG_SWAP, and swapaccount=1 at boot",
    "cpu.idle": "It came with Linux 5.15",
    _BURST: "It came with Linux 5.14, and needs CONFIG_CFS_BANDWIDTH",
    _QUOTA: "The kernel needs CONFIG_CFS_BANDWIDTH",
    "io.weight": "The kernel needs CONFIG_BLK_CGROUP_IOCOST or the scheduler bfq: modprobe bfq",
    "io.max": "The kernel needs CONFIG_BLK_DEV_THROTTLING",
    "hugetlb": "/sys/kernel/mm/hugepages lists the page sizes of this machine",
}
_REFUSED = {
    ("cpu.weight", errno.EINVAL): "An idle group has no weight: give cpu_idle=False too",
    (
        "cpuset",
        errno.ENOSPC,
    ): "This kernel does not take the list from a group with processes: name them all",
    ("io.max", errno.ENODEV): "It is not there, or a partition, which has no limits of its own",
    ("io.weight", errno.EOPNOTSUPP): "The disk has neither io.cost.qos on nor the scheduler bfq: "
    "write bfq to /sys/block/<disk>/queue/scheduler",
}


def hint(file: str, error: int) -> str | None:
    """Return what to do when the kernel refuses a write; ENOENT: it has no such file."""
    if error == errno.ENOENT:
        known = (said for start, said in _MISSING.items() if file.startswith(start))
        return next(known, "The kernel has no such file; this hierarchy is of cgroup v2")
    refused = _REFUSED.items()
    return next(
        (said for (start, e), said in refused if e == error and file.startswith(start)), None
    )


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen or about to be: cgroup.events lags until every task has stopped."""
    return "frozen 1" in (read("cgroup.events") or "") or (read("cgroup.freeze") or "0")[0] == "1"
