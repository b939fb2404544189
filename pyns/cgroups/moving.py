"""Why a process may not enter a group, and which ones have to leave one."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from pyns.cgroups.delegation import NOT_ALLOWED, hierarchy_of, is_refused, why_read_only
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import current


def why_not_moved(error: int | None, directory: Directory, pid: int) -> str | None:
    """Say why the kernel lets a process not enter a group."""
    if error == errno.EOPNOTSUPP:
        kind = (directory.read_if_there("cgroup.type") or "").strip()
        return f"Its cgroup.type is {kind!r}: only a domain takes processes"
    if error == errno.EBUSY:
        return "It hands controllers down, so the kernel allows processes only in its children"
    if error == errno.EROFS:
        return why_read_only(directory.path)
    if error in NOT_ALLOWED:
        return _entry_refused(directory.path, pid)
    return {
        errno.ENOSPC: "The group has no CPUs or no memory nodes (cpuset.cpus, cpuset.mems)",
        errno.ESRCH: "There is no such process",
    }.get(error or 0)


def _entry_refused(path: str, pid: int) -> str:
    said = (
        "A process is moved by who may write the cgroup.procs of its new group and, on v2, of the "
        "one above both groups: delegation hands over whole subtrees (cgroups(7))"
    )
    hierarchy = hierarchy_of(path)
    if hierarchy is None:
        return said
    try:
        left = hierarchy.directory(current(pid)[hierarchy])
    except (FileNotFoundError, KeyError):  # it has ended
        return said
    if left is None:
        return said
    above = os.path.commonpath([path, left])
    asked = [path] if hierarchy.version == 1 else [path, above]
    for file in (f"{group}/cgroup.procs" for group in asked):
        if is_refused(file):
            return f"{said}. {file} belongs to uid {os.stat(file).st_uid}; it comes from {left}"
    return f"{said}. It comes from {left}"


def why_occupied(path: str) -> str:
    """Say which processes keep a v2 group from handing controllers down, and how to move them."""
    said = "v2 hands controllers only to the children of groups without processes of their own. "
    with Directory(path) as directory:
        pids = directory.pids()
    others = [pid for pid in pids if pid != os.getpid()]
    if not others:
        return f'{said}The caller is in it: Cgroup.own(leaf="main") moves it into a child'
    said += f"There are other processes in it: {name_processes(others)}"
    if len(others) == len(pids):
        return f"{said}. Move them into a child, or give another parent"
    return f'{said}. Cgroup.own(leaf="main", everyone=True) moves them with the caller into a child'


def name_processes(pids: Sequence[int]) -> str:
    """Return pids and names of the first five processes."""
    names = []
    for pid in pids[:5]:
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                names.append(f"{pid} ({file.read().strip()})")
        except OSError:
            names.append(str(pid))
    return ", ".join(names) + (", ..." if len(pids) > 5 else "")
