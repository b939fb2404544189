"""What the caller's own place in a hierarchy means for a group."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy, current
from pyns.cgroups.placing import NOT_ALLOWED, delegation_hint, is_leaf, mark_leaf, split_name
from pyns.errors import CgroupError


def refuse_if_inside(paths: Mapping[Hierarchy, str]) -> None:
    """Raise ValueError if the caller is in one of these groups or below: it would kill itself."""
    if not paths:
        return
    for hierarchy, path in current().items():
        own = hierarchy.directory(path)
        group = paths.get(hierarchy)
        if own is not None and group is not None and f"{own}/".startswith(f"{group}/"):
            raise ValueError(f"the caller itself is in {own}: it would be killed")


def is_inside(path: str) -> bool:
    """Whether the caller is in the group of this directory or below."""
    own = [hierarchy.directory(cgroup) for hierarchy, cgroup in current().items()]
    return any(f"{directory}/".startswith(f"{path}/") for directory in own if directory)


def move_into_leaf(path: str, leaf: str, everyone: bool) -> str:
    """Move the caller from a v2 group into a child of it; return the group that it has left.

    The child is marked: whoever is in it, also after an exec, has the group above for its own.
    """
    if len(split_name(leaf)) != 1:
        raise ValueError(f"leaf={leaf!r} is a path: give one component")
    if is_leaf(path):
        return os.path.dirname(path)
    with Directory(path) as group:
        others = [pid for pid in group.pids() if pid != os.getpid()]
        if others and not everyone:
            raise CgroupError(
                errno.EBUSY,
                f"leave the cgroup {path} for its child {leaf}",
                file=path,
                hint=f"There are other processes in it: {_name(others)}; everyone=True moves them "
                "along",
            )
        _make_leaf(path, leaf)
        with Directory(f"{path}/{leaf}") as child:
            _move(os.getpid(), child)
            while everyone and (pids := group.pids()):  # some may fork meanwhile
                for pid in pids:
                    _move(pid, child)
    return path


def _make_leaf(path: str, leaf: str) -> None:
    try:
        with suppress(FileExistsError):
            os.mkdir(f"{path}/{leaf}", 0o755)
        mark_leaf(f"{path}/{leaf}")
    except OSError as error:
        raise CgroupError(
            error.errno or 0,
            f"make the cgroup {path}/{leaf}",
            file=f"{path}/{leaf}",
            hint=delegation_hint(path) if error.errno in NOT_ALLOWED else None,
        ) from None


def _move(pid: int, child: Directory) -> None:
    try:
        child.write("cgroup.procs", str(pid))
    except CgroupError as error:
        if error.errno != errno.ESRCH:  # it has ended
            error.hint = error.hint or entry_hint(error.errno, child)
            raise


def _name(pids: list[int]) -> str:
    names = []
    for pid in pids[:5]:
        try:
            names.append(f"{pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
        except OSError:
            names.append(str(pid))
    return ", ".join(names) + (", ..." if len(pids) > 5 else "")


def entry_hint(error: int | None, directory: Directory) -> str | None:
    """Return what to do when the kernel lets no process into a group."""
    if error == errno.EOPNOTSUPP:
        kind = (directory.read_if_there("cgroup.type") or "").strip()
        return f"Its cgroup.type is {kind!r}: only a domain takes processes"
    if error == errno.EBUSY:
        return "It hands controllers down, so the kernel allows processes only in its children"
    if error in NOT_ALLOWED:
        return (
            "A process is moved by who may write the cgroup.procs of both groups and of the one "
            "above them: delegation hands over whole subtrees (cgroups(7))"
        )
    return {
        errno.ENOSPC: "The group has no CPUs or no memory nodes (cpuset.cpus, cpuset.mems)",
        errno.ESRCH: "There is no such process",
    }.get(error or 0)
