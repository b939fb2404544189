"""What a cgroup may be limited to: one vocabulary, that of cgroup v2."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

from pyns.cgroups import values
from pyns.cgroups.values import IoMax

# limit → its controller (v2's name), and what it may be
_KNOWN: dict[str, tuple[str, values.Check]] = {
    "memory_max": ("memory", values.size),
    "memory_high": ("memory", values.size),
    "memory_low": ("memory", values.size),
    "memory_min": ("memory", values.size),
    "memory_swap_max": ("memory", values.size),
    "memory_oom_group": ("memory", values.flag),
    "pids_max": ("pids", values.count),
    "cpu_max": ("cpu", values.cores),
    "cpu_max_burst": ("cpu", values.burst),
    "cpu_weight": ("cpu", values.weight),
    "cpu_idle": ("cpu", values.flag),
    "cpuset_cpus": ("cpuset", values.numbers),
    "cpuset_mems": ("cpuset", values.numbers),
    "io_max": ("io", values.io_limits),
    "io_weight": ("io", values.io_weights),
    "hugetlb_max": ("hugetlb", values.huge_pages),
    "devices": ("devices", values.device_rules),
}


class Write(NamedTuple):
    """One value for one file of one controller."""

    controller: str
    file: str
    value: str
    also: tuple[str, str] | None = None  # a second file and value; a kernel may have either or both


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a cgroup; None leaves the kernel's default, or what `Cgroup.apply` finds.

    Sizes are bytes, "100M" or "1.5GiB". "max" lifts a limit again, except as said below.

    Args:
        memory_max: bytes. Whatever goes beyond is reclaimed, then the OOM killer comes.
        memory_high: bytes from which on the group is slowed down and reclaimed. Not on v1.
        memory_low: bytes that are reclaimed only when others have nothing left; 0 for none ("max"
            is all). Not on v1.
        memory_min: bytes that are never reclaimed, as memory_low. Not on v1.
        memory_swap_max: bytes of swap beside memory_max; 0 for none. v1 limits the sum, so there
            it needs memory_max.
        memory_oom_group: whether the OOM killer takes the whole group or one process. Not on v1.
        pids_max: number of processes and threads.
        cpu_max: CPU time per time, in cores: 0.5 is half of one, 2 is two whole ones. Counted in
            periods of 100 ms.
        cpu_max_burst: CPU time that may be saved up beyond cpu_max, in cores over one period; 0
            for none. At most cpu_max.
        cpu_weight: share under contention, 1 to 10000; the default is 100.
        cpu_idle: whether it runs only when nobody else wants to; it has no weight then.
        cpuset_cpus: the CPUs to run on: "0-3,6", or their numbers. "max" is v2's only.
        cpuset_mems: the memory nodes to use, as cpuset_cpus.
        io_max: an IoMax for each disk.
        io_weight: share of the disks under contention, 1 to 10000; the default is 100. Or a mapping
            device → share or "default". Only counts for a disk with the scheduler bfq, or (v2)
            with io.cost.qos on.
        hugetlb_max: mapping of a page size ("2MB", "1GB") → bytes.
        devices: what may be opened (r, w) and made (m), as "c 1:3 rwm", "b *:* m", "/dev/null rw";
            all else is denied, () denies all. Groups above can deny more.
        extra: mapping file → value, for what is not here, written last and as it is. The name
            says the controller; files "cgroup.*" are v2's.

    Raises:
        ValueError: a value is out of range or not of its kind, a device is not there, or two
            limits contradict each other.
        TypeError: there is no such limit, or a value has the wrong type.

    Needs: nothing; the cgroup needs the controller. devices on v2: CAP_BPF and CAP_NET_ADMIN, and
        CAP_SYS_ADMIN to change them, of the host's first user namespace.
    Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel.

    Example:
        >>> Limits(memory_max="100M").memory_max
        104857600
        >>> Limits(devices=["c 1:3 wr", "c 1:3 m"]).devices
        ('c 1:3 rwm',)
    """

    memory_max: int | str | None = None
    memory_high: int | str | None = None
    memory_low: int | str | None = None
    memory_min: int | str | None = None
    memory_swap_max: int | str | None = None
    memory_oom_group: bool | None = None
    pids_max: int | str | None = None
    cpu_max: float | str | None = None
    cpu_max_burst: float | None = None
    cpu_weight: int | None = None
    cpu_idle: bool | None = None
    cpuset_cpus: str | Iterable[int] | None = None
    cpuset_mems: str | Iterable[int] | None = None
    io_max: Iterable[IoMax] | None = None
    io_weight: int | Mapping[str, int | str] | tuple[tuple[str, int | str], ...] | None = None
    hugetlb_max: Mapping[str, int | str] | tuple[tuple[str, int | str], ...] | None = None
    devices: Iterable[str] | None = None
    extra: Mapping[str, int | str] | tuple[tuple[str, str], ...] | None = None

    __signature__: ClassVar[inspect.Signature]

    def __new__(cls, **limits: Any) -> Self:
        """Refuse an unknown limit with the names of those that there are."""
        names = [*_KNOWN, "extra"]
        unknown = sorted(limits.keys() - set(names))
        if unknown:
            raise TypeError(f"unknown limit {', '.join(unknown)}; there are {', '.join(names)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, (_, check) in _KNOWN.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))
        if self.extra is not None:
            object.__setattr__(self, "extra", values.files("extra", self.extra))
        if self.cpu_idle and self.cpu_weight is not None:
            raise ValueError("cpu_idle=True: an idle group has no cpu_weight")
        bandwidth(self, Bandwidth())

    def given(self) -> dict[str, Any]:
        """Return the limits that are not None, by name."""
        pairs = ((name, getattr(self, name)) for name in (*_KNOWN, "extra"))
        return {name: value for name, value in pairs if value is not None}

    def only(self, controllers: Collection[str]) -> Limits:
        """Return those that these controllers have."""
        given = {
            n: v for n, v in self.given().items() if n != "extra" and _KNOWN[n][0] in controllers
        }
        extra = {file: value for file, value in self._extra() if _prefix(file) in controllers}
        return Limits(**given, extra=extra or None)

    def controllers(self) -> set[str]:
        """Return the controllers that these limits need, by v2's names; files "cgroup.*" need none.

        "devices" is one of them, which v2 has by another way.
        """
        return set(_controllers(self))

    def _extra(self) -> tuple[tuple[str, str], ...]:
        return self.extra if isinstance(self.extra, tuple) else ()


# what __new__ would hide from those that look
Limits.__signature__ = inspect.Signature(
    list(inspect.signature(Limits.__init__).parameters.values())[1:]
)


@functools.lru_cache(maxsize=64)
def _controllers(limits: Limits) -> frozenset[str]:
    named = {_KNOWN[name][0] for name in limits.given() if name != "extra"}
    return frozenset(named | {_prefix(file) for file, _ in limits._extra()} - {"cgroup"})


def _prefix(file: str) -> str:
    return file.partition(".")[0]


PERIOD = 100_000  # microseconds, the kernel's default


class Bandwidth(NamedTuple):
    """CPU time of a group: microseconds in each period; as a fresh group has it."""

    quota: int | None = None
    period: int = PERIOD
    burst: int = 0


def bandwidth(limits: Limits, now: Bandwidth) -> Bandwidth:
    """Return what a group's CPU time becomes.

    Raises:
        ValueError: the burst would be above the quota; one of them is what the group has.
    """
    quota, period = now.quota, now.period
    if limits.cpu_max is not None:
        quota, period = None, PERIOD
        if not isinstance(limits.cpu_max, str):
            quota = round(limits.cpu_max * PERIOD)
    burst = now.burst
    if limits.cpu_max_burst is not None:
        burst = round(limits.cpu_max_burst * period)
    if quota is not None and burst > quota:
        raise ValueError(
            f"cpu_max_burst={burst / period:g} can't be above cpu_max={quota / period:g}; what is "
            "not given is what the group has"
        )
    return Bandwidth(quota, period, burst)


def bfq_weight(share: int) -> int:
    """Return a share of 1 to 10000 as bfq counts, to 1000; both have 100 for the default."""
    return share if share <= 100 else 100 + (share - 100) * 900 // 9900
