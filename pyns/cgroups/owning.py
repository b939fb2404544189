"""What the caller's own place in a hierarchy means for a group."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from pyns.cgroups import delegation, moving
from pyns.cgroups.files import Directory
from pyns.cgroups.hierarchy import Hierarchy, current
from pyns.cgroups.placing import is_leaf, mark_leaf, split_name
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
        delegation.check_writable(group)  # before it is said who else is to leave it
        if others and not everyone:
            named = moving.name_processes(others)
            raise CgroupError(
                errno.EBUSY,
                f"leave the cgroup {path} for its child {leaf}",
                file=path,
                hint=f"There are other processes in it: {named}; everyone=True moves them along",
            )
        with _leaf(path, leaf) as child:
            _move(os.getpid(), child)
            while everyone and (pids := group.pids()):  # some may fork meanwhile
                for pid in pids:
                    _move(pid, child)
    return path


@contextmanager
def _leaf(path: str, leaf: str) -> Iterator[Directory]:
    """Have a child that is marked, made if it is missing; one that nobody gets into is removed."""
    directory, made = f"{path}/{leaf}", False
    try:
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)
            made = True
        mark_leaf(directory)
        with Directory(directory) as child:
            yield child
    except BaseException as failure:
        if made:
            with suppress(OSError):  # the caller is in it already
                os.rmdir(directory)
        if not isinstance(failure, OSError) or isinstance(failure, CgroupError):
            raise
        raise CgroupError(
            failure.errno or 0,
            f"make the cgroup {directory}",
            file=directory,
            hint=delegation.why_not_writable(path, failure.errno),
        ) from None


def _move(pid: int, child: Directory) -> None:
    try:
        child.write("cgroup.procs", str(pid))
    except CgroupError as error:
        if error.errno != errno.ESRCH:  # it has ended
            error.hint = error.hint or moving.why_not_moved(error.errno, child, pid)
            raise
