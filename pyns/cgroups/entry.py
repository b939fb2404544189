"""How a child gets into a cgroup, and its init past those that are the program's alone."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy

# of which a process takes some by being there
_TAKEN = {"memory", "pids"}


class Entry(NamedTuple):
    """How a child gets into a cgroup; the default is: not at all.

    Attributes:
        birth: path and fd of a v2 group's directory, for CLONE_INTO_CGROUP; None without one.
        tasks: path of each other group and fd of its tasks (v2: cgroup.procs) file, for the child
            to write itself into.
        later: likewise of those that its init stays out of: for the program, the init's child.
        later_birth: path and fd of the directory of the v2 group among these, if anything may be
            born in it.
    """

    birth: tuple[str, int] | None = None
    tasks: tuple[tuple[str, int], ...] = ()
    later: tuple[tuple[str, int], ...] = ()
    later_birth: tuple[str, int] | None = None

    @property
    def kind(self) -> Entry:
        """The same without what is another one's in each group: paths and fds."""
        no_fd = ("", -1)
        birth = None if self.birth is None else no_fd
        return Entry(birth, (no_fd,) * len(self.tasks), (no_fd,) * len(self.later))


class _Way(NamedTuple):
    hierarchy: Hierarchy
    path: str
    directory: int  # fd
    file: int  # fd, where one is needed
    is_later: bool
    is_born: bool


def is_later(hierarchy: Hierarchy, later: Collection[int]) -> bool:
    """Whether a program enters its group there itself, as its init would take from its limits.

    Args:
        hierarchy: where.
        later: the versions in which it can.
    """
    return hierarchy.version in later and not _TAKEN.isdisjoint(hierarchy.controllers)


def closed_entry(groups: Iterable[tuple[Hierarchy, str]], later: Collection[int]) -> Entry:
    """Return how a child would enter groups, without fds: for a dry run."""
    return _entry(
        _Way(hierarchy, path, -1, -1, is_later(hierarchy, later), hierarchy.version == 2)
        for hierarchy, path in groups
    )


@contextmanager
def open_entry(
    directories: Mapping[Hierarchy, Directory], later: Collection[int], *, was_killed: bool
) -> Iterator[Entry]:
    """Open what a child needs to enter groups; closed at the end of the `with`.

    Args:
        directories: those of the group.
        later: as for `is_later`.
        was_killed: whether cgroup.kill was used. Since Linux 6.14 (and what was ported back of it)
            the kernel takes that for a kill of whoever is born there from then on.
    """
    with ExitStack() as files:
        ways = []
        for hierarchy, directory in directories.items():
            file, comes_later = -1, is_later(hierarchy, later)
            is_born = hierarchy.version == 2 and not was_killed
            if comes_later or not is_born:
                name = "tasks" if hierarchy.version == 1 else "cgroup.procs"
                file = directory.open(name, os.O_WRONLY)
                files.callback(os.close, file)
            ways.append(_Way(hierarchy, directory.path, directory.fd, file, comes_later, is_born))
        yield _entry(ways)


def _entry(ways: Iterable[_Way]) -> Entry:
    entry = Entry()
    for way in ways:
        birth, file = (way.path, way.directory), (way.path, way.file)
        if way.is_later:
            entry = entry._replace(later=(*entry.later, file))
            if way.is_born:
                entry = entry._replace(later_birth=birth)
        elif way.is_born:
            entry = entry._replace(birth=birth)
        else:
            entry = entry._replace(tasks=(*entry.tasks, file))
    return entry
