"""Reading what a group has used: since it was made, or by one run in it."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyns.cgroups import stats_v1, stats_v2
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy
from pyns.cgroups.stats import Source, Stats, chosen, collect, cpu_count, integer
from pyns.errors import CgroupError

_SOURCES = {1: stats_v1.SOURCES, 2: stats_v2.SOURCES}

_V1_PEAK, _V2_PEAK = "memory.max_usage_in_bytes", "memory.peak"

_CPU = frozenset({"cpu_seconds"})
# those that may be used, since Linux 4.4 in v1
_CPUS = {1: "cpuset.effective_cpus", 2: "cpuset.cpus.effective"}

# what the usage of a process consists of
USAGE = frozenset(
    {"cpu_seconds", "user_seconds", "system_seconds", "memory_peak", "oom_kills", "pids_peak"}
)


class Texts:
    """The files of a group in one hierarchy, and which of them are there.

    Args:
        text: gives the text of one; None if it is not there.
        names: gives the names of all.
    """

    def __init__(
        self, text: Callable[[str], str | None], names: Callable[[], Collection[str]]
    ) -> None:
        self._text = text
        self.names = names
        self.found: list[str] = []
        self.is_any_missing = False

    def text(self, name: str) -> str | None:
        """Return the text of a file."""
        text = self._text(name)
        if text is None:
            self.is_any_missing = True
        else:
            self.found.append(name)
        return text


# what some files said at one time, newest version first
Snapshot = list[tuple[Hierarchy, dict[str, str]]]


class Meter:
    """Reads the statistics of one group.

    Args:
        directories: those of the group, as they are at each reading.

    Attributes:
        runs: those that have not ended.
        earlier_peak: of memory, from before v1's record was last reset.
    """

    def __init__(self, directories: Mapping[Hierarchy, Directory]) -> None:
        self.directories = directories
        self.runs: list[Run] = []
        self.earlier_peak = 0
        self._usage_files: list[tuple[Hierarchy, list[str]]] = []

    def read(self, wanted: frozenset[str]) -> Stats:
        """Return the fields that are wanted, and those that come with them.

        Args:
            wanted: names of fields of Stats.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        return _stats(self._tell(wanted)[0], self.earlier_peak)

    def cpu_seconds(self) -> float | None:
        """Return the CPU time since it was made; None if nothing counts it.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        return self.read(_CPU).cpu_seconds

    def cpus(self) -> int:
        """Return how many CPUs its processes can use at the same time, at most."""
        count = os.cpu_count() or 1
        for hierarchy, directory in list(self.directories.items()):
            if "cpuset" in hierarchy.controllers:
                with suppress(CgroupError):
                    listed = cpu_count(directory.text(_CPUS[hierarchy.version]))
                    count = min(count, listed or count)
        return count

    def snapshot(self) -> Snapshot:
        """Return the texts that tell USAGE; understanding them takes as long and can wait.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        if not self._usage_files:
            self._usage_files = self._tell(USAGE)[1]
        result: Snapshot = []
        for hierarchy, names in self._usage_files:
            directory = self.directories.get(hierarchy)
            texts = {}
            for name in names:
                text = None if directory is None else directory.kept_text(name)
                if text is None:  # it was there before
                    raise _removed(directory)
                texts[name] = text
            result.append((hierarchy, texts))
        return result

    def _tell(
        self, wanted: frozenset[str]
    ) -> tuple[dict[str, Any], list[tuple[Hierarchy, list[str]]]]:
        """Return what the files tell, and the names of those files."""
        if not self.directories:
            raise _removed(None)
        told: dict[str, Any] = {}
        found = []
        # v2 first: its cpu.stat divides user and system exactly, v1 by the timer tick
        for hierarchy, directory in sorted(self.directories.items(), key=lambda d: -d[0].version):
            texts = Texts(directory.text, directory.names)
            _add(told, hierarchy, texts, wanted)
            if texts.is_any_missing and not directory.is_there:
                raise _removed(directory)
            found.append((hierarchy, texts.found))
        return told, found


class Run:
    """A stretch of time in the life of a group; to be closed."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._peak_fd = -1
        self._memory: Directory | None = None  # whose record was reset
        meter.runs.append(self)
        try:
            self._before, self._earlier_peak = meter.snapshot(), meter.earlier_peak
            self._reset_peak()
        except BaseException:
            self.close()
            raise

    def cpu_seconds(self) -> float | None:
        """Return the CPU time since it began, as `Meter.cpu_seconds`."""
        now = self._meter.cpu_seconds()
        before = _understand(self._before, self._earlier_peak).cpu_seconds
        return None if now is None or before is None else now - before

    def cpus(self) -> int:
        """Return how many CPUs can be used at the same time, at most."""
        return self._meter.cpus()

    def end(self) -> Callable[[], Stats]:
        """Look at what the group has used since; return what understands it, which can wait.

        That is `after - before`, and the peak if it was reset.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        before, after = self._before, self._meter.snapshot()
        earlier_peak, later_peak = self._earlier_peak, self._meter.earlier_peak
        peak = None
        if self._memory is not None and self._peak_fd >= 0:
            peak = self._memory.text_of(self._peak_fd, _V2_PEAK)
        elif self._memory is not None:
            peak = self._memory.kept_text(_V1_PEAK)

        def used() -> Stats:
            stats = _understand(after, later_peak) - _understand(before, earlier_peak)
            return stats if peak is None else replace(stats, memory_peak=integer(peak))

        return used

    def _reset_peak(self) -> None:
        # The record is one for all, so it is left to the run that finds nobody there. On v2 each fd
        # is said to have its own, but when another is reset, the kernel raises it to what is used
        # at that moment, and forgets what was used before (Linux 6.12, 7.3)
        if self._meter.runs != [self]:
            return
        for hierarchy, texts in self._before:
            directory = self._meter.directories[hierarchy]
            if "memory" not in hierarchy.controllers or directory.kept_text("cgroup.procs"):
                continue
            if hierarchy.version == 2:
                self._peak_fd = _own_peak(directory)
                self._memory = directory if self._peak_fd >= 0 else None
            else:
                record = integer(texts.get(_V1_PEAK)) or 0
                self._meter.earlier_peak = max(self._meter.earlier_peak, record)
                with suppress(OSError):  # read only: then as if others were there
                    os.write(directory.kept(_V1_PEAK, os.O_RDWR), b"0")
                    self._memory = directory

    def close(self) -> None:
        """Stop counting; harmless when that is done."""
        fd, self._peak_fd = self._peak_fd, -1
        if fd >= 0:
            os.close(fd)
        with suppress(ValueError):
            self._meter.runs.remove(self)


def _own_peak(directory: Directory) -> int:
    """Return an fd of memory.peak that counts from now on; -1 without any.

    Linux 6.12; before, the file can't be written (EINVAL). Not everybody may (EACCES).
    """
    try:
        fd = directory.open(_V2_PEAK, os.O_RDWR)
    except CgroupError:
        return -1
    try:
        os.write(fd, b"0")
    except OSError:
        os.close(fd)
        return -1
    return fd


def _add(told: dict[str, Any], hierarchy: Hierarchy, texts: Texts, wanted: frozenset[str]) -> None:
    """Add what these files tell of the fields that are wanted and were not told."""
    sources = _chosen(hierarchy.version, hierarchy.controllers, wanted.difference(told))
    for name, value in collect(sources, texts).items():
        told.setdefault(name, value)


@functools.lru_cache
def _chosen(
    version: int, controllers: tuple[str, ...], wanted: frozenset[str]
) -> tuple[Source, ...]:
    return chosen(_SOURCES[version], controllers, wanted)


def _understand(snapshot: Snapshot, earlier_peak: int) -> Stats:
    told: dict[str, Any] = {}
    for hierarchy, texts in snapshot:
        _add(told, hierarchy, Texts(texts.get, texts.keys), USAGE)
    return _stats(told, earlier_peak)


def _stats(told: dict[str, Any], earlier_peak: int) -> Stats:
    if "memory_peak" in told:
        told["memory_peak"] = max(told["memory_peak"], earlier_peak)
    return Stats(**told)


def _removed(directory: Directory | None) -> CgroupError:
    path = None if directory is None else directory.path
    action = "read the statistics of a cgroup that is removed"
    return CgroupError(errno.ENODEV, action if path is None else f"{action}, {path}", file=path)
