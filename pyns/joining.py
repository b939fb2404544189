"""How a program gets into namespaces that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pyns import namespaces
from pyns.cgroups.hierarchy import read_lines
from pyns.idmap import Caller, IdMap
from pyns.mounts import encode_path
from pyns.namespaces import Namespace
from pyns.namespaces.targets import (
    Target,
    check_alive,
    check_in_proc,
    check_target,
    is_path,
    name_of,
    pid_of,
)
from pyns.namespaces.targets import opened as opened_target


@dataclass(frozen=True)
class Joined:
    """Namespaces to join, and who one is to be in them.

    Attributes:
        namespaces: of what kinds.
        path: what they are called in errors.
        fd: of a namespace's file, or a pidfd; -1 in a dry run.
        uid, gid: ids to take; None to stay who one is.
    """

    namespaces: Namespace
    path: str
    fd: int = -1
    uid: int | None = None
    gid: int | None = None


def check_join(join: Mapping[Namespace, Target]) -> tuple[tuple[Namespace, Target], ...]:
    """Return the pairs; TypeError or ValueError for what can't be joined."""
    seen = Namespace(0)
    for kinds, target in join.items():
        if not isinstance(kinds, Namespace):
            raise TypeError(f"join: {kinds!r} is not a Namespace")
        if not kinds or kinds & seen:
            raise ValueError(f"join: {kinds.words() or 'none'} is named twice, or not at all")
        seen |= kinds
        check_target("join: ", target)
        if is_path(target):
            encode_path("join", target)
            if len(kinds) != 1:
                raise ValueError(f"join: {target!r} is one namespace, not {kinds.words()}")
    return tuple(join.items())


def named(join: tuple[tuple[Namespace, Target], ...]) -> tuple[Joined, ...]:
    """Return what would be joined, opening nothing: for a dry run."""
    return tuple(Joined(kinds, name_of(target)) for kinds, target in join)


@contextmanager
def opened(
    join: tuple[tuple[Namespace, Target], ...], caller: Caller
) -> Iterator[tuple[Joined, ...]]:
    """Open what is to be joined; closed at the end of the `with`.

    Raises:
        FileNotFoundError, ProcessLookupError, PermissionError: it can't be opened.
    """
    with ExitStack() as files:
        found = []
        for kinds, target in join:
            fd = files.enter_context(opened_target(target))
            pid = None if is_path(target) else pid_of(fd)
            uid = gid = None
            if pid is not None and Namespace.USER in kinds:
                check_in_proc(pid)
                uid = _id_inside(pid, "uid", caller.uid)
                gid = _id_inside(pid, "gid", caller.gid)
                check_alive(fd)
            found.append(Joined(kinds, name_of(target, pid), fd, uid, gid))
        yield tuple(found)


def _id_inside(pid: int, kind: str, own: int) -> int | None:
    """Return the id to take in a process's user namespace: none if the caller's own is there."""
    lines = read_lines(f"/proc/{pid}/{kind}_map")
    maps = [IdMap(*map(int, line.split())) for line in lines if not line.endswith("4294967295")]
    if not maps or any(m.outside <= own < m.outside + m.count for m in maps):
        return None
    return maps[0].inside


def foreign(pid: int) -> Namespace:
    """Return the kinds of namespaces in which a process differs from the caller."""
    return differing(namespaces.of(pid), namespaces.of())


def differing(one: Mapping[Namespace, int], other: Mapping[Namespace, int]) -> Namespace:
    """Return the kinds of namespaces, of those that the one has, that the other has not."""
    kinds = Namespace(0)
    for kind, inode in one.items():
        if other.get(kind) != inode:
            kinds |= kind
    return kinds


def status_of(pid: int | str = "self", proc: str = "/proc") -> dict[str, str]:
    """Return what /proc says of a process: name → value (proc_pid_status(5))."""
    lines = (line.partition(":\t") for line in read_lines(f"{proc}/{pid}/status"))
    return {name: value for name, _, value in lines}
