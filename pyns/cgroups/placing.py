"""Where a new group goes in each hierarchy, and how its directories are made."""

from __future__ import annotations

import atexit
import errno
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy, hierarchies
from pyns.errors import CgroupError

# what statistics come from: a group has these where it may, limits or not
_COUNTING = {"cpu", "cpuacct", "memory", "pids"}
_DEFAULT_PARENT = "pyns"
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Place(NamedTuple):
    """Where a group's directory goes in one hierarchy."""

    hierarchy: Hierarchy
    parent: str
    needed: bool  # some limit needs it; otherwise it only counts
    is_default: bool  # the parent is pyns at the root, which others make and remove too


def places(needed: set[str], parents: Mapping[Hierarchy, str] | None) -> list[Place]:
    """Return the places of a new group.

    Args:
        needed: the controllers that it must have.
        parents: directory of the parent in each of its hierarchies; None for the default parent.

    Raises:
        CgroupError: a controller that is needed is not there (EOPNOTSUPP).
    """
    offered = hierarchies() if parents is None else tuple(parents)
    check_offered(needed, offered, "This host" if parents is None else "The parent")
    wanted = needed | _COUNTING
    if not any(hierarchy.version == 2 for hierarchy in offered):
        wanted = wanted | {"freezer"}  # to kill; v2 has cgroup.kill
    result = []
    for hierarchy in offered:
        if hierarchy.version == 2 or wanted.intersection(hierarchy.controllers):
            parent = _default_parent(hierarchy) if parents is None else parents[hierarchy]
            if parent is not None:
                is_needed = bool(needed.intersection(hierarchy.controllers))
                is_default = parent == f"{hierarchy.mount_point}/{_DEFAULT_PARENT}"
                result.append(Place(hierarchy, parent, is_needed, is_default and parents is None))
    return result


def check_offered(needed: set[str], offered: Sequence[Hierarchy], where: str) -> None:
    """Raise CgroupError (EOPNOTSUPP) for a controller that none of the hierarchies has."""
    controllers = {controller for h in offered for controller in h.controllers}
    for controller in sorted(needed - controllers):
        raise CgroupError(
            errno.EOPNOTSUPP,
            f"use the cgroup controller {controller}",
            controller=controller,
            hint=f"{where} has: {', '.join(sorted(controllers)) or 'none'}",
        )


def _default_parent(hierarchy: Hierarchy) -> str | None:
    if os.access(hierarchy.mount_point, os.W_OK, effective_ids=True):
        return f"{hierarchy.mount_point}/{_DEFAULT_PARENT}"
    return hierarchy.directory(hierarchy.path)


def make(place: Place, name: str, needed: set[str]) -> Directory:
    """Make a group's directory.

    Raises:
        CgroupError: the caller may not (NOT_ALLOWED), it is there (EEXIST), or a controller can't
            be handed down to it.
    """
    path = f"{place.parent}/{name}"
    while True:
        try:
            if place.is_default:
                _make_default_parent(place)
            _hand_down(place, needed)
            os.mkdir(path, 0o755)
            break
        except OSError as error:
            # the default parent goes when the last process that uses it ends; where there is no
            # cgroup.procs, there is no hierarchy to try again in
            if (
                error.errno == errno.ENOENT
                and place.is_default
                and os.path.exists(f"{place.hierarchy.mount_point}/cgroup.procs")
            ):
                continue
            if isinstance(error, CgroupError):
                raise
            raise CgroupError(
                error.errno or 0,
                f"make the cgroup {path}",
                file=path,
                hint=_mkdir_hint(error.errno),
            ) from None
    try:
        directory = Directory(path)
        _inherit_cpus(place, directory)
    except BaseException:
        os.rmdir(path)
        raise
    return directory


def _mkdir_hint(error: int | None) -> str | None:
    if error in NOT_ALLOWED:
        return (
            "The caller has no cgroup that it may write: run as root, or in a delegated "
            "one (systemd-run --user --scope -p Delegate=yes ...)"
        )
    return "Another group of that name is there" if error == errno.EEXIST else None


def _make_default_parent(place: Place) -> None:
    with suppress(FileExistsError):
        os.mkdir(place.parent, 0o755)
        atexit.register(functools.partial(_remove_if_empty, place.parent))
    if "cpuset" in place.hierarchy.controllers:
        # also when it is there: whoever made it may be about to fill it
        with Directory(place.parent) as directory:
            _inherit_cpus(place._replace(parent=place.hierarchy.mount_point), directory)


def _remove_if_empty(path: str) -> None:
    with suppress(OSError):
        os.rmdir(path)


def _hand_down(place: Place, needed: set[str]) -> None:
    """Have the v2 groups above hand their controllers down (cgroup.subtree_control)."""
    if place.hierarchy.version == 1:
        return
    above = [place.hierarchy.mount_point] if place.is_default else []
    for path in [*above, place.parent]:
        with Directory(path) as directory:
            handed = directory.read("cgroup.subtree_control").split()
            wanted = (needed | _COUNTING).intersection(place.hierarchy.controllers)
            for controller in sorted(wanted.difference(handed)):
                try:
                    directory.write("cgroup.subtree_control", f"+{controller}", controller)
                except CgroupError as error:
                    if controller in needed:
                        error.hint = _hand_down_hint(error.errno)
                        raise


def _hand_down_hint(error: int | None) -> str | None:
    return {
        errno.EBUSY: "The group has processes of its own, and v2 hands controllers only to the "
        "children of groups without: move them into a child first",
        errno.ENOENT: "The controller was not handed down to this group (cgroup.controllers)",
    }.get(error or 0)


def _inherit_cpus(place: Place, directory: Directory) -> None:
    """Fill in what a new v1 cpuset lacks: without CPUs and memory nodes nothing can enter it."""
    if place.hierarchy.version == 1 and "cpuset" in place.hierarchy.controllers:
        with Directory(place.parent) as parent:
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not directory.read(file).strip():
                    directory.write(file, parent.read(file).strip(), "cpuset")


_numbers = itertools.count(1)


def private_name() -> str:
    """Return a name that says who made the group, so that strays can be told: pid-start-number."""
    with open("/proc/self/stat") as file:
        start = file.read().rpartition(")")[2].split()[19]  # starttime, proc_pid_stat(5)
    return f"{os.getpid()}-{start}-{next(_numbers)}"


def checked_name(name: str) -> str:
    """Return the name if a directory of the hierarchy can have it, else raise ValueError."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or "\n" in name:
        raise ValueError(f"name={name!r}: one path component is needed")
    return name
