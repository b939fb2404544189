"""How a child gets into a cgroup, and its init past those that are the program's alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
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


def is_later(hierarchy: Hierarchy, later: Collection[int]) -> bool:
    """Whether a program enters its group there itself, as its init would take from its limits.

    Args:
        hierarchy: where.
        later: the versions in which it can.
    """
    return hierarchy.version in later and not _TAKEN.isdisjoint(hierarchy.controllers)


def closed_entry(groups: Iterable[tuple[Hierarchy, str]], later: Collection[int]) -> Entry:
    """Return how a child would enter groups, without fds: for a dry run."""
    return _entry([(h, path, -1) for h, path in groups], later, lambda *_: -1, was_killed=False)


def open_entry(
    directories: Mapping[Hierarchy, Directory],
    later: Collection[int],
    files: ExitStack,
    *,
    was_killed: bool,
) -> Entry:
    """Open what a child needs to enter groups.

    Args:
        directories: those of the group.
        later: as for `is_later`.
        files: closes it.
        was_killed: whether cgroup.kill was used. Since Linux 6.14 (and what was ported back of it)
            the kernel takes that for a kill of whoever is born there from then on.
    """

    def open_file(hierarchy: Hierarchy, name: str) -> int:
        fd = directories[hierarchy].open(name, os.O_WRONLY)
        files.callback(os.close, fd)
        return fd

    groups = [(hierarchy, d.path, d.fd) for hierarchy, d in directories.items()]
    return _entry(groups, later, open_file, was_killed=was_killed)


def _entry(
    groups: Iterable[tuple[Hierarchy, str, int]],
    later: Collection[int],
    open_file: Callable[[Hierarchy, str], int],
    *,
    was_killed: bool,
) -> Entry:
    birth = later_birth = None
    tasks: list[tuple[str, int]] = []
    afterwards: list[tuple[str, int]] = []
    for hierarchy, path, directory in groups:
        comes_later, name = is_later(hierarchy, later), "tasks"
        if hierarchy.version == 2:
            name = "cgroup.procs"
            if not was_killed and comes_later:
                later_birth = path, directory
            elif not was_killed:
                birth = path, directory
                continue
        (afterwards if comes_later else tasks).append((path, open_file(hierarchy, name)))
    return Entry(birth, tuple(tasks), tuple(afterwards), later_birth)
