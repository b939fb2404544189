"""How a program gets into namespaces that are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pyns import namespaces
from pyns.errors import noted
from pyns.idmap import Caller, IdMap
from pyns.mounts import StrPath, encode_path
from pyns.namespaces import Namespace


class HasFileno(Protocol):
    """An open file, or what is like one."""

    def fileno(self) -> int:
        """Return its fd."""


# a file of the filesystem (/run/netns/x), a pid, or an open file (of the former, or a pidfd)
Target = StrPath | int | HasFileno


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
        if isinstance(target, bool) or not (
            isinstance(target, (int, str, bytes, os.PathLike)) or hasattr(target, "fileno")
        ):
            raise TypeError(f"join: {target!r} is not a path, a pid or an open file")
        if isinstance(target, (str, bytes, os.PathLike)):
            encode_path("join", target)
            if len(kinds) != 1:
                raise ValueError(f"join: {target!r} is one namespace, not {kinds.words()}")
        elif isinstance(target, int) and target < 1:
            raise ValueError(f"join: {target} is not a pid")
    return tuple(join.items())


def named(join: tuple[tuple[Namespace, Target], ...]) -> tuple[Joined, ...]:
    """Return what would be joined, opening nothing: for a dry run."""
    return tuple(Joined(kinds, _name(target)) for kinds, target in join)


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
            uid = gid = None
            if isinstance(target, int):
                with noted(f"join the namespaces of process {target}"):
                    fd = os.pidfd_open(target)
                files.callback(os.close, fd)
                if Namespace.USER in kinds:
                    uid = _id_inside(target, "uid", caller.uid)
                    gid = _id_inside(target, "gid", caller.gid)
            elif isinstance(target, (str, bytes, os.PathLike)):
                fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
                files.callback(os.close, fd)
            else:
                fd = target.fileno()
            found.append(Joined(kinds, _name(target), fd, uid, gid))
        yield tuple(found)


def _name(target: Target) -> str:
    if isinstance(target, (str, bytes, os.PathLike)):
        return os.fsdecode(target)
    return f"process {target}" if isinstance(target, int) else repr(target)


def _id_inside(pid: int, kind: str, own: int) -> int | None:
    """Return the id to take in a process's user namespace: none if the caller's own is there."""
    lines = Path(f"/proc/{pid}/{kind}_map").read_text().splitlines()
    maps = [IdMap(*map(int, line.split())) for line in lines if not line.endswith("4294967295")]
    if not maps or any(m.outside <= own < m.outside + m.count for m in maps):
        return None
    return maps[0].inside


def foreign(pid: int) -> Namespace:
    """Return the kinds of namespaces in which a process differs from the caller."""
    own = namespaces.of()
    kinds = Namespace(0)
    for kind, inode in namespaces.of(pid).items():
        if own.get(kind) != inode:
            kinds |= kind
    return kinds
