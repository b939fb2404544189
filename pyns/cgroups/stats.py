"""What a cgroup has used: typed results, and what lies between two of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol, Self


def _difference(after: Any, before: Any) -> Any:
    if after is None or before is None:
        return None
    between = after - before
    # the kernel counts in nanoseconds at most
    return round(between, 9) if isinstance(between, float) else between


def _latest(after: Any, before: Any) -> Any:  # noqa: ARG001  as its siblings
    return after


def _risen(after: Any, before: Any) -> Any:
    # a record that was not broken says nothing of what came after it
    return after if after is not None and before is not None and after > before else None


def _each(after: Any, before: Any) -> Any:
    if after is None or before is None:
        return None
    # what was not there yet had used nothing
    return {
        key: used - before[key] if key in before else used - type(used)()
        for key, used in after.items()
    }


# how a field of `after - before` comes from those two
_COUNTER: Mapping[str, Any] = {"between": _difference}
_GAUGE: Mapping[str, Any] = {"between": _latest}
_PEAK: Mapping[str, Any] = {"between": _risen}
_MAPPING: Mapping[str, Any] = {"between": _each}


class _Subtractable:
    """Values whose fields say how each is subtracted."""

    def __sub__(self, before: Self) -> Self:
        if type(before) is not type(self):
            return NotImplemented
        return type(self)(
            **{
                f.name: f.metadata["between"](getattr(self, f.name), getattr(before, f.name))
                for f in fields(self)  # type: ignore[arg-type]  # each is a dataclass
            }
        )


@dataclass(frozen=True, kw_only=True)
class IoStats(_Subtractable):
    """What reached one block device; None where the kernel is silent.

    Attributes:
        read_bytes: bytes read.
        write_bytes: bytes written.
        reads: requests to read.
        writes: requests to write.
    """

    read_bytes: int | None = field(default=0, metadata=_COUNTER)
    write_bytes: int | None = field(default=0, metadata=_COUNTER)
    reads: int | None = field(default=0, metadata=_COUNTER)
    writes: int | None = field(default=0, metadata=_COUNTER)


@dataclass(frozen=True, kw_only=True)
class HugetlbStats(_Subtractable):
    """Huge pages of one size; None where the kernel is silent.

    Attributes:
        current: bytes in use now.
        peak: bytes, the highest that was (v1 only).
        max_events: times that the limit refused some.
    """

    current: int | None = field(default=0, metadata=_GAUGE)
    peak: int | None = field(default=0, metadata=_PEAK)
    max_events: int | None = field(default=0, metadata=_COUNTER)


@dataclass(frozen=True, kw_only=True)
class Stall(_Subtractable):
    """How long tasks were waiting for a resource.

    Attributes:
        avg10: percent of the time, over the last 10 seconds.
        avg60: over the last 60 seconds.
        avg300: over the last 300 seconds.
        total_seconds: in all.
    """

    avg10: float | None = field(default=None, metadata=_GAUGE)
    avg60: float | None = field(default=None, metadata=_GAUGE)
    avg300: float | None = field(default=None, metadata=_GAUGE)
    total_seconds: float | None = field(default=None, metadata=_COUNTER)


@dataclass(frozen=True, kw_only=True)
class Pressure(_Subtractable):
    """Pressure stall information (PSI) of one resource; None where the kernel is silent.

    Attributes:
        some: at least one task was waiting.
        full: all tasks were waiting at the same time.
    """

    some: Stall | None = field(default=None, metadata=_COUNTER)
    full: Stall | None = field(default=None, metadata=_COUNTER)


@dataclass(frozen=True, kw_only=True)
class Stats(_Subtractable):
    """What the processes of a cgroup have used since it was made; None where the kernel is silent.

    `after - before` is what they have used in between: counters are subtracted; what is now
    (`_current`, averages of pressure) is that of `after`; a peak is that of `after` if it rose in
    between, for then it was reached there, else None.

    Groups below are included, but on v1 in `oom_kills`.

    Attributes:
        cpu_seconds: CPU time.
        user_seconds: of it, in user mode. A v1 kernel counts these two by the timer tick, so
            that short runs have none and the sum is not `cpu_seconds`.
        system_seconds: of it, in the kernel.
        throttled_seconds: time that its processes could have run, but for cpu_max, summed over the
            CPUs.
        throttled_periods: periods in which cpu_max was used up.
        memory_current: bytes charged now, page cache and kernel memory included.
        memory_peak: bytes, the highest that was.
        memory_swap_current: bytes swapped out now.
        memory_swap_peak: bytes, the highest that was (v2, Linux 6.5).
        memory_anon: of memory_current, what belongs to no file: heaps, stacks, private mappings.
        memory_file: of memory_current, the page cache, tmpfs and shared memory included.
        memory_shmem: of memory_file, tmpfs and shared memory.
        memory_kernel: of memory_current, the kernel's own (v2: Linux 5.18).
        oom_kills: processes that the OOM killer took because of memory_max. v1: without those of
            groups below.
        memory_max_events: times that memory_max was about to be exceeded (v2).
        memory_high_events: times that a process was throttled because of memory_high (v2).
        pids_current: processes and threads now.
        pids_peak: the highest that was (Linux 6.1).
        io: by device, "major:minor". v1: without what the kernel writes back from the page cache
            later; some kernels count only devices with an io limit.
        hugetlb: by page size, "2MB".
        cpu_pressure: waiting for a CPU; this and the next two on v2 and hybrid hosts.
        memory_pressure: waiting for memory to be reclaimed or read in again.
        io_pressure: waiting for block devices.
    """

    cpu_seconds: float | None = field(default=None, metadata=_COUNTER)
    user_seconds: float | None = field(default=None, metadata=_COUNTER)
    system_seconds: float | None = field(default=None, metadata=_COUNTER)
    throttled_seconds: float | None = field(default=None, metadata=_COUNTER)
    throttled_periods: int | None = field(default=None, metadata=_COUNTER)
    memory_current: int | None = field(default=None, metadata=_GAUGE)
    memory_peak: int | None = field(default=None, metadata=_PEAK)
    memory_swap_current: int | None = field(default=None, metadata=_GAUGE)
    memory_swap_peak: int | None = field(default=None, metadata=_PEAK)
    memory_anon: int | None = field(default=None, metadata=_GAUGE)
    memory_file: int | None = field(default=None, metadata=_GAUGE)
    memory_shmem: int | None = field(default=None, metadata=_GAUGE)
    memory_kernel: int | None = field(default=None, metadata=_GAUGE)
    oom_kills: int | None = field(default=None, metadata=_COUNTER)
    memory_max_events: int | None = field(default=None, metadata=_COUNTER)
    memory_high_events: int | None = field(default=None, metadata=_COUNTER)
    pids_current: int | None = field(default=None, metadata=_GAUGE)
    pids_peak: int | None = field(default=None, metadata=_PEAK)
    io: Mapping[str, IoStats] | None = field(default=None, metadata=_MAPPING)
    hugetlb: Mapping[str, HugetlbStats] | None = field(default=None, metadata=_MAPPING)
    cpu_pressure: Pressure | None = field(default=None, metadata=_COUNTER)
    memory_pressure: Pressure | None = field(default=None, metadata=_COUNTER)
    io_pressure: Pressure | None = field(default=None, metadata=_COUNTER)


ALL_FIELDS = frozenset(f.name for f in fields(Stats))


class Files(Protocol):
    """The files of a group in one hierarchy."""

    def text(self, name: str) -> str | None:
        """Return the text of one; None if the kernel has no such file."""
        ...

    def names(self) -> Iterable[str]:
        """Return the names of all."""
        ...


class Source(NamedTuple):
    """Where some fields of Stats come from."""

    controller: str  # that the group needs for it; "" for none
    fields: frozenset[str]
    read: Callable[[Files], dict[str, Any]]


def chosen(
    sources: Iterable[Source], controllers: Collection[str], wanted: frozenset[str]
) -> tuple[Source, ...]:
    """Return those sources that tell what is wanted, and that a group with these has."""
    return tuple(
        source
        for source in sources
        if not source.fields.isdisjoint(wanted)
        and (not source.controller or source.controller in controllers)
    )


def collect(sources: Iterable[Source], files: Files) -> dict[str, Any]:
    """Return what a group's files tell."""
    told: dict[str, Any] = {}
    for source in sources:
        told |= source.read(files)
    return {name: value for name, value in told.items() if value is not None}


def single(controller: str, file: str, name: str, read: Callable[[str | None], object]) -> Source:
    """Return the source of one field that is a file of its own."""
    return Source(controller, frozenset({name}), lambda files: {name: read(files.text(file))})


def by_page_size(
    files: Files, current: str, make: Callable[[str], HugetlbStats]
) -> Mapping[str, HugetlbStats] | None:
    """Return what `make` says of each page size that has a file hugetlb.<size>.<current>."""
    parts = (name.split(".", 2) for name in files.names())
    sizes = [part[1] for part in parts if part[0] == "hugetlb" and part[2:] == [current]]
    return {size: make(f"hugetlb.{size}") for size in sorted(sizes)} or None


# The readers of the kernel's formats. None of them fails: what they can't read is not there, for
# a later kernel may write what this one doesn't.


def integer(text: str | None) -> int | None:
    """Read a number; None for anything else ("max")."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 21 else None


def microseconds(text: str | None) -> float | None:
    """Read a duration in microseconds, as seconds."""
    count = integer(text)
    return None if count is None else count / 10**6


def nanoseconds(text: str | None) -> float | None:
    """Read a duration in nanoseconds, as seconds."""
    count = integer(text)
    return None if count is None else count / 10**9


def cpu_count(text: str | None) -> int | None:
    """Read how many numbers there are in a list such as "0-3,6"; None if it is none."""
    count = 0
    for part in (text or "").strip().split(","):
        first, _, last = part.partition("-")
        low, high = integer(first), integer(last or first)
        if low is None or high is None:
            return None
        count += high - low + 1
    return count


def flat_keyed(text: str | None) -> dict[str, str]:
    """Read a file of lines "key value"."""
    lines = (line.split() for line in (text or "").splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def nested_keyed(text: str | None) -> dict[str, dict[str, str]]:
    """Read a file of lines "key name=value name=value ...", io.stat and the pressure files."""
    lines = (line.split() for line in (text or "").splitlines())
    return {
        line[0]: {name: value for name, _, value in (pair.partition("=") for pair in line[1:])}
        for line in lines
        if line
    }


def pressure(text: str | None) -> Pressure | None:
    """Read a pressure file; None if it says nothing."""
    lines = nested_keyed(text)
    some, full = _stall(lines.get("some")), _stall(lines.get("full"))
    return None if some is full is None else Pressure(some=some, full=full)


def _stall(values: Mapping[str, str] | None) -> Stall | None:
    if values is None:
        return None
    return Stall(
        avg10=_percent(values.get("avg10")),
        avg60=_percent(values.get("avg60")),
        avg300=_percent(values.get("avg300")),
        total_seconds=microseconds(values.get("total")),
    )


def _percent(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
