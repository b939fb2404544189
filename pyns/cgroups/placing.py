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

from pyns.cgroups import delegation, moving
from pyns.cgroups.delegation import NOT_ALLOWED
from pyns.cgroups.files import NOT_THERE, Directory
from pyns.cgroups.hierarchy import Hierarchy, current, hierarchies
from pyns.errors import CgroupError

# what statistics come from: a group has these where it may, limits or not
_COUNTING = {"cpu", "cpuacct", "memory", "pids"}
# and without which it has not: there is none here, others' processes are in the way (EBUSY; EINVAL:
# with realtime priority), the group is threaded (EOPNOTSUPP)
_WHERE_IT_MAY_NOT = (*NOT_ALLOWED, errno.ENOENT, errno.EBUSY, errno.EINVAL, errno.EOPNOTSUPP)
DEFAULT_PARENT = "pyns"


class Place(NamedTuple):
    """Where a group's directory goes in one hierarchy."""

    hierarchy: Hierarchy
    base: str  # a directory that is there, and not ours
    above: tuple[str, ...]  # groups between the base and the new one, made when missing
    parent: str  # the directory of the last of these, in which the new one is made
    needed: bool  # some limit needs it; otherwise it only counts


def places(
    needed: set[str], above: tuple[str, ...], parents: Mapping[Hierarchy, str] | None
) -> list[Place]:
    """Return the places of a new group.

    Args:
        needed: the controllers that it must have.
        above: the groups above it, below the parent.
        parents: directory of the parent in each of its hierarchies; None for the default parent.

    Raises:
        CgroupError: a controller that is needed is not there (EOPNOTSUPP).
    """
    if parents is None and not above:
        return _default_places(needed)
    bases = default_bases() if parents is None else {h: (path, ()) for h, path in parents.items()}
    return _places(needed, above, bases, is_default=parents is None)


# what was found, and the directory of each place's parent
_Found = tuple[list[Place], list[tuple[int, int]]]
_found: dict[tuple[int, frozenset[str]], _Found] = {}


def _default_places(needed: set[str]) -> list[Place]:
    """Return the places below the default parent, as long as they stand without reading mountinfo.

    While the group `pyns` is the directory that it was, its path leads to its hierarchy; and while
    there is such a group, the kernel leaves the hierarchy its controllers.
    """
    key = os.geteuid(), frozenset(needed)
    places, parents = _found.get(key, ([], []))
    if not places or _parents(places) != parents:
        places = _places(needed, (), default_bases(), is_default=True)
        # who works in his own group may be in another one the next time
        if all(place.above for place in places) and (parents := _parents(places)):
            _found[key] = places, parents
    return places


def _parents(places: list[Place]) -> list[tuple[int, int]]:
    """Return what each parent is; nothing if one is missing."""
    try:
        return [(s.st_dev, s.st_ino) for s in [os.stat(place.parent) for place in places]]
    except OSError:
        return []


def forget() -> None:
    """Have the places looked for anew, because something is wrong with them."""
    _found.clear()


def _places(
    needed: set[str],
    above: tuple[str, ...],
    bases: Mapping[Hierarchy, tuple[str, tuple[str, ...]]],
    *,
    is_default: bool,
) -> list[Place]:
    check_offered(needed, tuple(bases), None if is_default else "The parent")
    wanted = needed | _COUNTING
    if not any(hierarchy.version == 2 for hierarchy in bases):
        wanted = wanted | {"freezer"}  # to kill; v2 has cgroup.kill
    return [
        Place(
            hierarchy,
            base,
            (*first, *above),
            "/".join((base, *first, *above)),
            needed=not needed.isdisjoint(hierarchy.controllers),
        )
        for hierarchy, (base, first) in bases.items()
        # below a parent in all of its hierarchies: else the child would be out of the limits there
        if not is_default or hierarchy.version == 2 or wanted.intersection(hierarchy.controllers)
    ]


def default_bases() -> dict[Hierarchy, tuple[str, tuple[str, ...]]]:
    """Return the default parent in each hierarchy: a directory, and the groups to make below it.

    That is `pyns` at the root of the hierarchy for who may write there, else the caller's own
    group.
    """
    found: dict[Hierarchy, tuple[str, tuple[str, ...]]] = {}
    own: dict[Hierarchy, str] = {}
    for hierarchy in hierarchies():
        if os.access(hierarchy.mount_point, os.W_OK, effective_ids=True):
            found[hierarchy] = (hierarchy.mount_point, (DEFAULT_PARENT,))
            continue
        own = own or current()
        path = own.get(hierarchy)  # something may be mounted over it since
        directory = None if path is None else hierarchy.directory(path)
        if directory is not None:
            is_in_leaf = hierarchy.version == 2 and is_leaf(directory)
            found[hierarchy] = (os.path.dirname(directory) if is_in_leaf else directory, ())
    return found


_LEAF = "user.pyns.leaf"


def mark_leaf(path: str) -> None:
    """Mark a v2 group as one that only keeps processes out of the group above (xattr(7))."""
    os.setxattr(path, _LEAF, b"")


def is_leaf(path: str) -> bool:
    """Whether a v2 group is marked so."""
    try:
        os.getxattr(path, _LEAF)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, *NOT_THERE):
            return False
        what = f"look whether the cgroup {path} is a leaf"
        raise CgroupError(error.errno or 0, what, file=path) from None
    return True


def check_offered(needed: set[str], offered: Sequence[Hierarchy], where: str | None) -> None:
    """Raise CgroupError (EOPNOTSUPP) for a controller that none of the hierarchies has.

    Args:
        needed: the controllers.
        offered: the hierarchies.
        where: what they are those of, in words; None for this host.
    """
    controllers = {controller for h in offered for controller in h.controllers}
    for controller in sorted(needed - controllers):
        there = f"{where or 'This host'} has: {', '.join(sorted(controllers)) or 'none'}"
        if where is None:
            there += f". {delegation.why_not_on_this_host(controller)}"
        raise CgroupError(
            errno.EOPNOTSUPP,
            f"use the cgroup controller {controller}",
            controller=controller,
            hint=there,
        )


def make(place: Place, name: str, needed: set[str]) -> Directory:
    """Make a group's directory, and those above it that are missing.

    Raises:
        CgroupError: the caller may not (NOT_ALLOWED), it is there (EEXIST), or a controller can't
            be handed down to it.
    """
    path = f"{place.parent}/{name}"
    try:
        _make_directory(place, path, needed)
        try:
            directory = Directory(path)
        except BaseException:
            os.rmdir(path)
            raise
    except BaseException:
        remove_above(path)
        raise
    try:
        _inherit_cpus(place.hierarchy, place.parent, directory)
    except BaseException:
        directory.remove()
        remove_above(path)
        raise
    return directory


def _make_directory(place: Place, path: str, needed: set[str]) -> None:
    is_simple = _is_simple(place.hierarchy, needed)
    while True:
        try:
            if not is_simple:
                _make_above(place, needed)
            _mkdir(path)
            return
        except CgroupError as error:
            # those above go when the last process that uses them ends; where there is no
            # cgroup.procs, there is no hierarchy to try again in
            if not place.above or error.errno not in NOT_THERE or not _is_group(place.base):
                raise
            is_simple = False


def _is_group(path: str) -> bool:
    with Directory(path) as directory:
        return directory.is_there


def _is_simple(hierarchy: Hierarchy, needed: set[str]) -> bool:
    """Whether the groups above have nothing to hand down, if they are there."""
    if hierarchy.version == 1:
        return "cpuset" not in hierarchy.controllers
    return not _handed_down(hierarchy, needed)


# the groups that this process made above others: each goes with the last one in it
_made_above: set[str] = set()


def _make_above(place: Place, needed: set[str]) -> None:
    path = place.base
    for name in place.above:
        _hand_down(place.hierarchy, path, needed)
        below = f"{path}/{name}"
        if not os.path.isdir(below) and _mkdir(below, exist_ok=True):
            if not _made_above:
                atexit.register(_remove_all_above)
            _made_above.add(below)
        if "cpuset" in place.hierarchy.controllers:
            # also when it is there: whoever made it may be about to fill it
            with Directory(below) as directory:
                _inherit_cpus(place.hierarchy, path, directory)
        path = below
    _hand_down(place.hierarchy, path, needed)


def remove_above(path: str) -> None:
    """Remove the groups above that were made for it and are empty now; `pyns` stays till the exit.

    The default parent would be made anew for the next one.
    """
    parent = path.rpartition("/")[0]
    while parent in _made_above and not parent.endswith(f"/{DEFAULT_PARENT}"):
        try:
            os.rmdir(parent)
        except OSError:
            return  # others use it
        _made_above.discard(parent)
        parent = os.path.dirname(parent)


def _remove_all_above() -> None:
    for path in sorted(_made_above, reverse=True):  # those below first
        with suppress(OSError):
            os.rmdir(path)


def _mkdir(path: str, *, exist_ok: bool = False) -> bool:
    try:
        os.mkdir(path, 0o755)
    except OSError as error:
        if exist_ok and error.errno == errno.EEXIST:
            return False
        raise CgroupError(
            error.errno or 0,
            f"make the cgroup {path}",
            file=path,
            hint=_mkdir_hint(error.errno, path),
        ) from None
    return True


def _mkdir_hint(error: int | None, path: str) -> str | None:
    if error in NOT_ALLOWED:
        return delegation.why_not_writable(os.path.dirname(path), error)
    return {
        errno.EEXIST: "Another group of that name is there",
        errno.EAGAIN: "cgroup.max.descendants or cgroup.max.depth of a group above is reached",
        errno.ENOSPC: "The kernel has no number left for another memory cgroup; removed ones keep "
        "theirs as long as memory is charged to them",
    }.get(error or 0)


def _handed_down(hierarchy: Hierarchy, needed: set[str]) -> set[str]:
    return (needed | _COUNTING).intersection(hierarchy.controllers)


def _hand_down(hierarchy: Hierarchy, path: str, needed: set[str]) -> None:
    """Have a v2 group hand its controllers down to those below (cgroup.subtree_control)."""
    wanted = _handed_down(hierarchy, needed)
    if hierarchy.version == 1 or not wanted:
        return
    with Directory(path) as directory:
        missing = wanted.difference(directory.read("cgroup.subtree_control").split())
        if missing and _is_occupied(directory):
            _refuse_occupied(directory, missing.intersection(needed))
            return
        for controller in sorted(missing):
            try:
                directory.write("cgroup.subtree_control", f"+{controller}", controller)
            except CgroupError as error:
                if error.errno in NOT_THERE and not directory.is_there:
                    raise
                if controller in needed:
                    raise _not_handed_down(error, controller, directory) from None
                if error.errno not in _WHERE_IT_MAY_NOT:
                    raise


def _is_occupied(directory: Directory) -> bool:
    """Whether the processes in a v2 group keep it from handing controllers down.

    The kernel refuses that itself (EBUSY), but not for cpu, cpuset and pids: with these the group
    becomes a threaded domain, and what is made below takes no processes (EOPNOTSUPP).
    """
    if directory.read_if_there("cgroup.type") in (None, "domain threaded\n", "threaded\n"):
        return False  # the root of the hierarchy, or meant for threads
    return bool(directory.pids())


def _refuse_occupied(directory: Directory, needed: set[str]) -> None:
    for controller in sorted(needed):
        delegation.check_writable(directory, controller)  # or leaving it would not help
        raise CgroupError(
            errno.EBUSY,
            f"hand {controller} down from the cgroup {directory.path}",
            controller=controller,
            file=f"{directory.path}/cgroup.subtree_control",
            value=f"+{controller}",
            hint=moving.why_occupied(directory.path),
        )


def _not_handed_down(error: CgroupError, controller: str, directory: Directory) -> CgroupError:
    return CgroupError(
        # ENOENT is said of a group that is gone
        errno.EOPNOTSUPP if error.errno == errno.ENOENT else error.errno or 0,
        error.action,
        controller=controller,
        file=error.file,
        value=error.value,
        hint=_hand_down_hint(error.errno, controller, directory),
    )


def _hand_down_hint(error: int | None, controller: str, directory: Directory) -> str | None:
    if error == errno.EBUSY:
        return moving.why_occupied(directory.path)
    if error == errno.ENOENT:
        return delegation.why_not_handed_down(controller, directory.path)
    if error == errno.EOPNOTSUPP:
        kind = (directory.read_if_there("cgroup.type") or "").strip()
        return f"The group is {kind}: only a domain hands {controller} down"
    return delegation.why_not_writable(directory.path, error)


def _inherit_cpus(hierarchy: Hierarchy, parent: str, directory: Directory) -> None:
    """Fill in what a new v1 cpuset lacks: without CPUs and memory nodes nothing can enter it."""
    if hierarchy.version == 1 and "cpuset" in hierarchy.controllers:
        with Directory(parent) as above:
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not directory.read(file).strip():
                    directory.write(file, above.read(file).strip(), "cpuset")


_numbers = itertools.count(1)


def private_name() -> str:
    """Return a name that says who made the group, so that strays can be told: see `sweeping`."""
    return f"{_owner(os.getpid())}-{next(_numbers)}"


@functools.lru_cache(maxsize=1)
def _owner(pid: int) -> str:
    return f"{pid}-{start_time(pid)}-{os.stat('/proc/self/ns/pid').st_ino}"


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; with the pid, it is unique."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])  # proc_pid_stat(5)


def split_name(name: str) -> tuple[str, ...]:
    """Return the components of a name, each of which a directory of a hierarchy can have.

    Raises:
        ValueError: it is absolute, leads upwards, or has a component that no group can have.
    """
    if name.startswith("/"):
        raise ValueError(f"name={name!r} is absolute: it is a path below the parent")
    parts = tuple(name.split("/"))
    for part in parts:
        if part in ("", ".", ".."):
            raise ValueError(f"name={name!r} has the component {part!r}: name the group itself")
        if "\n" in part or "\0" in part:
            raise ValueError(f"name={name!r} has a newline or a NUL, which no group can have")
        if len(os.fsencode(part)) > 255:  # NAME_MAX
            raise ValueError(f"name={name!r} has a component of more than 255 bytes")
    return parts
