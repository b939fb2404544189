"""Reading what a group has used: since it was made, or by one run in it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyns.cgroups import stats_v1, stats_v2
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy
from pyns.cgroups.stats import Stats, collect, integer
from pyns.errors import CgroupError

_SOURCES = {1: stats_v1.SOURCES, 2: stats_v2.SOURCES}

_V1_PEAK = "memory.max_usage_in_bytes"

# what the usage of a process consists of
USAGE = frozenset(
    {"cpu_seconds", "user_seconds", "system_seconds", "memory_peak", "oom_kills", "pids_peak"}
)


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

    def read(self, wanted: frozenset[str], *, often: bool = False) -> Stats:
        """Return the fields that are wanted, and those that come with them.

        Args:
            wanted: names of fields of Stats.
            often: keep the files open for the next time.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        if not self.directories:
            raise _removed(None)
        told: dict[str, Any] = {}
        # v2 first: its cpu.stat divides user and system exactly, v1 by the timer tick
        for hierarchy in sorted(self.directories, key=lambda h: -h.version):
            directory = self.directories[hierarchy]
            files = _Files(directory, often)
            sources = _SOURCES[hierarchy.version]
            told = collect(sources, hierarchy.controllers, wanted - told.keys(), files) | told
            if files.is_any_missing and not directory.is_there:
                raise _removed(directory.path)
        if "memory_peak" in told:
            told["memory_peak"] = max(told["memory_peak"], self.earlier_peak)
        return Stats(**told)


class Run:
    """A stretch of time in the life of a group; to be closed."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._peak_fd = -1
        self._v1_memory: Directory | None = None
        meter.runs.append(self)
        try:
            self._before = meter.read(USAGE, often=True)
            self._reset_peak()
        except BaseException:
            self.close()
            raise

    def end(self) -> Stats:
        """Return what the group has used since: `after - before`, and the peak if it was reset.

        Raises:
            CgroupError: the group is removed (ENODEV).
        """
        used = self._meter.read(USAGE, often=True) - self._before
        peak = None
        if self._peak_fd >= 0:
            with suppress(OSError):
                peak = os.pread(self._peak_fd, 32, 0).decode()
        elif self._v1_memory is not None:
            peak = self._v1_memory.kept_text(_V1_PEAK)
        return used if peak is None else replace(used, memory_peak=integer(peak))

    def _reset_peak(self) -> None:
        for hierarchy, directory in self._meter.directories.items():
            if "memory" in hierarchy.controllers and self._before.memory_peak is not None:
                if hierarchy.version == 2:
                    self._peak_fd = _own_peak(directory)
                # the record is one for all: it is left to the run that found nobody there
                elif self._meter.runs == [self] and directory.kept_text("cgroup.procs") == "":
                    self._meter.earlier_peak = self._before.memory_peak
                    with suppress(CgroupError):  # read only: then as if others were there
                        directory.write(_V1_PEAK, "0", "memory")
                        self._v1_memory = directory

    def close(self) -> None:
        """Stop counting; harmless when that is done."""
        fd, self._peak_fd = self._peak_fd, -1
        if fd >= 0:
            os.close(fd)
        with suppress(ValueError):
            self._meter.runs.remove(self)


def _own_peak(directory: Directory) -> int:
    """Return an fd of memory.peak that counts from now on, for itself alone; -1 without any.

    Linux 6.12; before, the file can't be opened for writing (EINVAL). Others may not (EACCES).
    """
    try:
        fd = directory.open("memory.peak", os.O_RDWR)
    except CgroupError:
        return -1
    try:
        os.write(fd, b"0")
    except OSError:
        os.close(fd)
        return -1
    return fd


class _Files:
    """The files of a group's directory, as `collect` wants them."""

    def __init__(self, directory: Directory, often: bool) -> None:
        self._read = directory.kept_text if often else directory.text
        self._directory = directory
        self.is_any_missing = False

    def text(self, name: str) -> str | None:
        text = self._read(name)
        self.is_any_missing |= text is None
        return text

    def names(self) -> list[str]:
        return self._directory.names()


def _removed(path: str | None) -> CgroupError:
    action = "read the statistics of a cgroup that is removed"
    return CgroupError(errno.ENODEV, action if path is None else f"{action}, {path}", file=path)
