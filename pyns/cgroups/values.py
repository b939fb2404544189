"""Which values a limit takes, and the one form that each is kept in: immutable and hashable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyns.cgroups import devices
from pyns.sizes import parse_size

_Files = Mapping[str, int | str] | tuple[tuple[str, str], ...]
Check = Callable[[str, Any], Any]  # name and value → the value's one form

_IOPS = 2**32 - 2  # one more is the kernel's own sign for no limit, and v1 drops what is above
_FILE = re.compile(r"[a-z_]+\.[A-Za-z0-9_.]+")
_PAGE_SIZE = re.compile(r"[1-9][0-9]*[KMG]B")


@dataclass(frozen=True)
class IoMax:
    """What a cgroup may do with one disk per second; None leaves it as it is.

    Args:
        device: the disk: "/dev/vda", or "254:0" (major:minor); no partition.
        rbps: bytes to read, or "10M", from 2; "max" for no limit.
        wbps: bytes to write.
        riops: number of reads, 2 to 4294967294; "max" for no limit.
        wiops: number of writes.

    Raises:
        ValueError: the device is no block device, a value is out of range, or all are None.
        TypeError: a value is not of its kind.

    Needs: nothing; the cgroup needs the controller io (blkio on v1).
    Source: Documentation/admin-guide/cgroup-v2.rst of the kernel (io.max).

    Example:
        >>> IoMax("254:0", rbps="10M", wiops=100)
        IoMax(device='254:0', rbps=10485760, wbps=None, riops=None, wiops=100)
    """

    device: str
    rbps: int | str | None = None
    wbps: int | str | None = None
    riops: int | str | None = None
    wiops: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", devices.block_device("device", self.device))
        for name in ("rbps", "wbps", "riops", "wiops"):
            value = getattr(self, name)
            if value is not None:
                check = _bytes_per_second if name.endswith("bps") else _operations
                object.__setattr__(self, name, check(name, value))
        if not self.given():
            raise ValueError(
                f"IoMax({self.device!r}) limits nothing: give rbps, wbps, riops, wiops"
            )

    def given(self) -> dict[str, int | str]:
        """Return the limits that are not None, by name."""
        names = ("rbps", "wbps", "riops", "wiops")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def size(name: str, value: int | str) -> int | str:
    """Check bytes, "100M" or "max"."""
    return value if value == "max" else parse_size(name, value)


def _bytes_per_second(name: str, value: int | str) -> int | str:
    if value == "max":
        return value
    parsed = parse_size(name, value)
    if parsed < 2:  # v1 means "no limit" by 0; v2 says EINVAL to 1 on Linux 6.1
        raise ValueError(f"{name}={value!r} is out of range: from 2 bytes per second")
    return parsed


def _operations(name: str, value: int | str) -> int | str:
    return value if value == "max" else integer(name, value, 2, _IOPS)


def count(name: str, value: int | str) -> int | str:
    """Check a number of processes."""
    return value if value == "max" else integer(name, value, 1, 2**22)  # PID_MAX_LIMIT


def weight(name: str, value: int) -> int:
    """Check a share under contention."""
    return integer(name, value, 1, 10000)


def integer(name: str, value: int | str, low: int, high: int) -> int:
    """Check an int in a range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not an int")
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range: {low} to {high}")
    return value


def flag(name: str, value: bool) -> bool:
    """Check True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not True or False")
    return value


def cores(name: str, value: float | str) -> float | str:
    """Check CPU time per time."""
    # the kernel takes quotas from 1 ms on; our period is 100 ms
    return value if value == "max" else _number_of_cores(name, value, 0.01)


def burst(name: str, value: float) -> float:
    """Check CPU time that may be saved up."""
    return _number_of_cores(name, value, 0)


def _number_of_cores(name: str, value: float | str, low: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is not a number of cores, as 0.5")
    if not low <= value <= 10**6:
        raise ValueError(f"{name}={value!r} is out of range: {low} to 1000000 cores")
    return value


def numbers(name: str, value: str | Iterable[int]) -> str:
    """Check CPUs or memory nodes."""
    what = "CPUs" if name == "cpuset_cpus" else "memory nodes"
    if isinstance(value, bytes):
        raise TypeError(f'{name}={value!r} is not a str, as "0-3,6", or numbers')
    if not isinstance(value, str):
        value = ",".join(str(integer(name, number, 0, 2**16)) for number in value)
    if value == "max":
        return value
    parts = [part.strip() for part in value.split(",")]
    for part in parts:
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first]
        if not all(n.isascii() and n.isdigit() for n in ends) or int(ends[0]) > int(ends[-1]):
            raise ValueError(f'{name}={value!r} is not a list of {what}, as "0-3,6"')
    return ",".join(parts)


def io_limits(name: str, value: Iterable[IoMax]) -> tuple[IoMax, ...] | None:
    """Check limits of disks; one disk is there once."""
    limits = (value,) if isinstance(value, IoMax) else tuple(_iterated(name, value, "IoMax(...)"))
    for limit in limits:
        if not isinstance(limit, IoMax):
            raise TypeError(f"{name}: {limit!r} is not an IoMax")
    named = [limit.device for limit in limits]
    if twice := sorted({device for device in named if named.count(device) > 1}):
        raise ValueError(f"{name} names {', '.join(twice)} twice")
    return limits or None


def io_weights(
    name: str, value: int | Mapping[str, int | str]
) -> int | tuple[tuple[str, int | str], ...] | None:
    """Check the share of all disks, or that of each."""
    if isinstance(value, int):
        return weight(name, value)
    pairs: dict[str, int | str] = {}
    for device, each in _pairs(name, value, "an int, or a mapping device → int"):
        key = devices.block_device(name, device)
        pairs[key] = each if each == "default" else weight(f"{name}[{device!r}]", each)
    return tuple(sorted(pairs.items())) or None


def huge_pages(
    name: str, value: Mapping[str, int | str]
) -> tuple[tuple[str, int | str], ...] | None:
    """Check bytes for each size of huge pages."""
    pairs: dict[str, int | str] = {}
    for page, each in _pairs(name, value, 'a mapping page size → bytes, as {"2MB": "1G"}'):
        if not isinstance(page, str):
            raise TypeError(f'{name}: {page!r} is not a page size, as "2MB" or "1GB"')
        if not _PAGE_SIZE.fullmatch(page):
            raise ValueError(f'{name}: {page!r} is not a page size, as "2MB" or "1GB"')
        pairs[page] = size(f"{name}[{page!r}]", each)
    return tuple(sorted(pairs.items())) or None


def device_rules(name: str, value: Iterable[str]) -> tuple[str, ...] | str:
    """Check which devices are allowed."""
    if isinstance(value, str) and value == "max":
        return value
    return devices.allow_rules(name, _iterated(name, value, "rules, as ['c 1:3 rwm']"))


def files(name: str, value: _Files) -> tuple[tuple[str, str], ...] | None:
    """Check values for files that have no limit of their own here, in the order given."""
    pairs: dict[str, str] = {}
    for file, each in _pairs(name, value, 'a mapping file → value, as {"memory.swap.high": "1M"}'):
        if not isinstance(file, str):
            raise TypeError(f"{name}: {file!r} is not a file's name, as a str")
        if not _FILE.fullmatch(file) or ".." in file:
            raise ValueError(f"{name}: {file!r} is not a file of a controller, as memory.swap.high")
        if isinstance(each, bool) or not isinstance(each, (int, str)):
            raise TypeError(f"{name}[{file!r}]={each!r} is not a str or an int")
        if not str(each) or "\0" in str(each):
            raise ValueError(f"{name}[{file!r}]={each!r}: the kernel wants at least one character")
        pairs[file] = str(each)
    return tuple(pairs.items()) or None


def _iterated(name: str, value: Any, wanted: str) -> Iterable[Any]:
    if not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}: give a sequence of {wanted}")
    return value


def _pairs(name: str, value: Any, wanted: str) -> Iterable[tuple[Any, Any]]:
    # a tuple of pairs is what a mapping is kept as, and comes back by dataclasses.replace
    if isinstance(value, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in value):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}={value!r}: give {wanted}")
    return value.items()
