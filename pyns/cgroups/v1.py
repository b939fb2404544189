"""cgroup v1: limits → writes. Pure functions."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pyns.cgroups.limits import PERIOD, Bandwidth, Limits, Write, bandwidth, bfq_weight

_FRESH: Mapping[str, str] = MappingProxyType({})

# what v1 has no word for, and what to do instead
_UNSAYABLE = {
    "memory_high": "use memory_max",
    "memory_low": "extra={'memory.soft_limit_in_bytes': ...} comes nearest",
    "memory_min": "extra={'memory.soft_limit_in_bytes': ...} comes nearest",
    "memory_oom_group": "it kills one process at a time; call Cgroup.kill when oom_kills grows",
}
_LIMIT, _SUM = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_QUOTA, _PERIOD, _BURST = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"
_UNLIMITED = 2**62  # bytes; v1 shows no limit as the largest number of whole pages


def reads(limits: Limits) -> list[str]:
    """Return the files whose present text decides how limits are written to a living group."""
    files = []
    if limits.memory_max is not None or limits.memory_swap_max is not None:
        files += [_LIMIT, _SUM]
    if limits.cpu_max is not None or limits.cpu_max_burst is not None:
        files += [_QUOTA, _PERIOD, _BURST]
    return files


def writes(limits: Limits, now: Mapping[str, str] = _FRESH) -> list[Write]:
    """Return the writes that put limits into force, in an order that the kernel takes.

    Args:
        limits: those of the controllers of one hierarchy.
        now: present text of the files that `reads` names; empty for a fresh group.

    Raises:
        ValueError: v1 has no word for one of them.
    """
    given = limits.given()
    for name, instead in _UNSAYABLE.items():
        if name in given:
            raise ValueError(f"cgroup v1 has no {name}: {instead}")
    result = _memory(given, now)
    if "pids_max" in given:
        result.append(Write("pids", "pids.max", str(given["pids_max"])))
    result += _cpu(limits, given, now)
    for name, file in (("cpuset_cpus", "cpuset.cpus"), ("cpuset_mems", "cpuset.mems")):
        if given.get(name) == "max":
            raise ValueError(f"cgroup v1 has no {name}='max': name them all, as \"0-3\"")
        if name in given:
            result.append(Write("cpuset", file, given[name]))
    result += _io(given)
    for size, limit in given.get("hugetlb_max", ()):
        result.append(Write("hugetlb", f"hugetlb.{size}.limit_in_bytes", _bytes(_number(limit))))
    result += _devices(given)
    for file, value in given.get("extra", ()):
        result.append(Write(file.partition(".")[0], file, value))
    return result


def _memory(given: Mapping[str, Any], now: Mapping[str, str]) -> list[Write]:
    limit, swap = given.get("memory_max"), given.get("memory_swap_max")
    if limit is None and swap is None:
        return []
    # v1 limits memory, and the sum of memory and swap, which is never below
    old_limit, old_sum = (_number(now.get(file, "max")) for file in (_LIMIT, _SUM))
    new_limit = old_limit if limit is None else _number(limit)
    allowed = (
        _number(swap)
        if swap is not None
        else _UNLIMITED
        if old_sum == _UNLIMITED
        else old_sum - old_limit
    )
    if new_limit == _UNLIMITED and allowed < _UNLIMITED:
        raise ValueError(
            "memory_swap_max needs memory_max on cgroup v1, which limits the sum of both: give a "
            "size of memory, or memory_swap_max='max' as well"
        )
    new_sum = min(new_limit + allowed, _UNLIMITED)
    result = []
    if limit is not None:
        result.append(Write("memory", _LIMIT, _bytes(new_limit)))
    if swap is not None or new_sum != old_sum:
        result.append(Write("memory", _SUM, _bytes(new_sum)))
    if new_limit > old_sum:
        result.reverse()  # EINVAL: the limit may not be above the sum, not for a moment
    return result


def _number(size: int | str) -> int:
    return _UNLIMITED if size == "max" else min(int(size), _UNLIMITED)


def _bytes(number: int) -> str:
    return "-1" if number == _UNLIMITED else str(number)


def _cpu(limits: Limits, given: Mapping[str, Any], now: Mapping[str, str]) -> list[Write]:
    old_quota = int(now.get(_QUOTA, "-1"))
    old = Bandwidth(
        None if old_quota < 0 else old_quota,
        int(now.get(_PERIOD, PERIOD)),
        int(now.get(_BURST, "0")),
    )
    new = bandwidth(limits, old)
    result = []
    if "cpu_max" in given:
        result.append(Write("cpu", _QUOTA, "-1" if new.quota is None else str(new.quota)))
        if old.period != new.period:
            # the share of the CPU stays at or below both the old and the new one: EINVAL when it
            # is above that of the group above
            place = 0 if old.period < new.period else 1
            result.insert(place, Write("cpu", _PERIOD, str(new.period)))
    if "cpu_max_burst" in given:
        # EINVAL while the burst is above the quota
        first = new.quota is not None and old.burst > new.quota
        result.insert(0 if first else len(result), Write("cpu", _BURST, str(new.burst)))
    if "cpu_idle" in given:
        # before the shares: an idle group takes none, and ending that sets them to the default
        result.append(Write("cpu", "cpu.idle", str(int(given["cpu_idle"]))))
    if "cpu_weight" in given:
        # weight 100 is the default of v2, 1024 shares that of v1, 2 the least
        shares = max(2, given["cpu_weight"] * 1024 // 100)
        result.append(Write("cpu", "cpu.shares", str(shares)))
    return result


_THROTTLES = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


def _io(given: Mapping[str, Any]) -> list[Write]:
    result = []
    for disk in given.get("io_max", ()):
        for name, value in disk.given().items():
            number = 0 if value == "max" else value  # here 0 is no limit
            result.append(Write("blkio", _THROTTLES[name], f"{disk.device} {number}"))
    share = given.get("io_weight", ())
    if isinstance(share, int):
        weight = str(bfq_weight(share))
        result.append(Write("blkio", "blkio.bfq.weight", weight, also=("blkio.weight", weight)))
    else:
        for device, each in share:
            line = f"{device} {each if each == 'default' else bfq_weight(each)}"
            file = "blkio.bfq.weight_device"
            result.append(Write("blkio", file, line, also=("blkio.weight_device", line)))
    return result


def _devices(given: Mapping[str, Any]) -> list[Write]:
    rules = given.get("devices")
    if rules is None:
        return []
    if rules == "max":
        return [Write("devices", "devices.allow", "a")]
    allowed = [Write("devices", "devices.allow", rule) for rule in rules]
    return [Write("devices", "devices.deny", "a"), *allowed]


_MISSING = {
    _SUM: "The kernel counts no swap: it needs CONFIG_SWAP, and swapaccount=1 at boot",
    "cpu.idle": "It came with Linux 5.15",
    _BURST: "It came with Linux 5.14, and needs CONFIG_CFS_BANDWIDTH",
    _QUOTA: "The kernel needs CONFIG_CFS_BANDWIDTH",
    "blkio.bfq.weight": "Only the I/O scheduler bfq has weights, and it is not there: modprobe bfq",
    "blkio.throttle": "The kernel needs CONFIG_BLK_DEV_THROTTLING",
    "hugetlb": "/sys/kernel/mm/hugepages lists the page sizes of this machine",
}
_REFUSED = {
    (_QUOTA, errno.EINVAL): "A group above may have less, or one below more",
    ("cpu.shares", errno.EINVAL): "An idle group has no weight: give cpu_idle=False too",
    ("devices.deny", errno.EINVAL): "It has groups below it: limit its devices before making them",
    ("devices.allow", errno.EINVAL): "It has groups below it: lift the limit before making them",
    ("devices.allow", errno.EPERM): "The group above does not allow it",
    (
        "blkio.throttle",
        errno.ENODEV,
    ): "It is not there, or a partition, which has no limits of its own",
    ("blkio.bfq.weight_device", errno.EOPNOTSUPP): "The disk's scheduler is not bfq: write bfq to "
    "/sys/block/<disk>/queue/scheduler",
    ("cpuset", errno.EACCES): "The group above has not all of them",
    ("cpuset", errno.EBUSY): "A group below has more of them",
    (_LIMIT, errno.EBUSY): "The processes hold more than that, which can't be reclaimed",
    (_SUM, errno.EBUSY): "The processes hold more than that, which can't be reclaimed",
}


def hint(file: str, error: int) -> str | None:
    """Return what to do when the kernel refuses a write; ENOENT: it has no such file."""
    if error == errno.ENOENT:
        known = (said for start, said in _MISSING.items() if file.startswith(start))
        return next(known, "The kernel has no such file; this hierarchy is of cgroup v1")
    refused = _REFUSED.items()
    return next(
        (said for (start, e), said in refused if e == error and file.startswith(start)), None
    )


def is_frozen(read: Callable[[str], str | None]) -> bool:
    """Whether a group is frozen, by itself or from above; only the freezer's have the file."""
    return (read("freezer.state") or "THAWED").strip() != "THAWED"
