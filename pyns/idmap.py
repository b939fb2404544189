"""Which ids inside a user namespace are which outside."""

from __future__ import annotations

import errno
import itertools
import os
import pwd
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pyns.steps import Keep, SetGid, SetGroups, SetUid, Step, WaitForParent, WriteProc

Kind = Literal["uid", "gid"]
_LAST = 2**32 - 2  # 2**32 - 1 is no id: it means "leave it"


@dataclass(frozen=True)
class IdMap:
    """A range of ids: `count` of them from `inside` on are those from `outside` on.

    Args:
        inside: the first id in the user namespace, 0 to 2**32 - 2.
        outside: the first id in the caller's.
        count: how many.

    Raises:
        ValueError: a number is out of range.

    Needs: for more than the caller's own id, CAP_SETUID (CAP_SETGID) or an entry in /etc/subuid
        (/etc/subgid).
    Source: user_namespaces(7).

    Example:
        >>> IdMap(0, 100000, 65536)
        IdMap(inside=0, outside=100000, count=65536)
    """

    inside: int
    outside: int
    count: int = 1

    def __post_init__(self) -> None:
        for name in ("inside", "outside", "count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r} is not an int")
            if not (name == "count") <= value <= _LAST:
                raise ValueError(f"{name}={value!r} is out of range: 0 to {_LAST}, count from 1 on")
        if max(self.inside, self.outside) + self.count - 1 > _LAST:
            raise ValueError(f"{self} ends after the last id, {_LAST}")

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"

    @property
    def all_inside(self) -> range:
        """The ids inside."""
        return range(self.inside, self.inside + self.count)

    @classmethod
    def current(cls, kind: Kind, inside: int | None = None) -> tuple[IdMap, ...]:
        """Map the caller's own id, and no other: what anybody may.

        Args:
            kind: "uid" or "gid".
            inside: which id it is inside; None for the same, 0 to be root there.

        Returns:
            A value for `uid_map` or `gid_map` of a container.

        Raises:
            ValueError: the kind is unknown.

        Needs: nothing.
        Source: user_namespaces(7).

        Example:
            >>> IdMap.current("uid", 0)[0].inside
            0
        """
        outside = os.geteuid() if _checked(kind) == "uid" else os.getegid()
        return (cls(outside if inside is None else inside, outside),)

    @classmethod
    def subordinate(
        cls, kind: Kind, user: str | int | None = None, *, file: str | None = None
    ) -> tuple[IdMap, ...]:
        """Map the caller to root and, from 1 on, the ids that the administrator lends to the user.

        Args:
            kind: "uid" or "gid".
            user: name or uid; None for the caller.
            file: where ranges are listed, as in /etc/subuid or /etc/subgid. None asks getsubids(1),
                which knows those of other databases (subid in nsswitch.conf), too; without that
                program it is one of these files.

        Returns:
            A value for `uid_map` or `gid_map` of a container.

        Raises:
            ValueError: no range is listed for the user; the message has the line to add.
            KeyError: there is no such user.

        Needs: the programs newuidmap and newgidmap, unless the caller is privileged.
        Source: subuid(5), subgid(5), getsubids(1), newuidmap(1).

        Example:
            >>> IdMap.subordinate("uid", 4_000_000, file="/dev/null")
            Traceback (most recent call last):
            ValueError: /dev/null has no range for 4000000: add 4000000:100000:65536 to /dev/null
        """
        names = _names(os.geteuid() if user is None else user)
        who = sorted(names)[-1]
        usual = f"/etc/sub{_checked(kind)}"
        source, found = "getsubids", None if file else _ask_getsubids(kind, who)
        if found is None:
            source = file or usual
            listed = _read_ranges(source)
            found = [(start, count) for name, start, count in listed if name in names]
        if not found:
            line = f"{who}:100000:65536"
            raise ValueError(f"{source} has no range for {who}: add {line} to {file or usual}")
        own = os.geteuid() if kind == "uid" else os.getegid()
        maps, inside = [cls(0, own)], 1
        for start, count in found:
            maps.append(cls(inside, start, count))
            inside += count
        return tuple(maps)


def map_text(maps: Iterable[IdMap | str]) -> str:
    """Return what is written to uid_map or gid_map."""
    return "\n".join(map(str, maps))


def _checked(kind: str) -> str:
    if kind not in ("uid", "gid"):
        raise ValueError(f'kind={kind!r}: give "uid" or "gid"')
    return kind


def _names(user: str | int) -> set[str]:
    entry = pwd.getpwnam(user) if isinstance(user, str) else None
    uid = entry.pw_uid if entry else int(user)
    try:
        return {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:  # an id without a name may have ranges as well
        return {str(uid)}


def _read_ranges(file: str) -> Iterator[tuple[str, int, int]]:
    try:
        with open(file) as lines:
            for line in lines:
                fields = line.split("#")[0].strip().split(":")
                if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
                    yield fields[0], int(fields[1]), int(fields[2])
    except FileNotFoundError:
        return


def _ask_getsubids(kind: Kind, user: str) -> list[tuple[int, int]] | None:
    """Return first id and count of each range; None where the program is not installed."""
    try:
        done = _run(["getsubids", *(["-g"] if kind == "gid" else []), user])
    except FileNotFoundError:
        return None
    # "0: alice 100000 65536"; a user without any is an error, or nothing at all
    lines = [line.rsplit(maxsplit=2)[1:] for line in done.stdout.splitlines()]
    return [(int(start), int(count)) for start, count in lines]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of shadow-utils, which may be setuid root, with nothing of the caller's."""
    return subprocess.run(  # noqa: S603  names of ours, numbers, and a user
        command,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
    )


def check_maps(name: str, maps: Sequence[IdMap]) -> None:
    """Raise ValueError for maps that the kernel would refuse: overlaps, or more than 340."""
    if len(maps) > 340:  # UID_GID_MAP_MAX_EXTENTS
        raise ValueError(f"{name}: {len(maps)} ranges; the kernel takes 340")
    if len(map_text(maps)) >= 4096:
        raise ValueError(f"{name}: the kernel takes the map as a text of less than 4096 bytes")
    for side in ("inside", "outside"):
        ranges = sorted((getattr(m, side), m.count) for m in maps)
        for (first, count), (second, _) in itertools.pairwise(ranges):
            if first + count > second:
                raise ValueError(f"{name}: two ranges overlap {side} at {second}")


_FIRST = 0xEFFFFFFD  # PROC_USER_INIT_INO of the kernel, the user namespace of the host


def in_first_user_namespace() -> bool:
    """Whether the caller is in the user namespace of the host; OSError where there is no /proc."""
    return os.stat("/proc/self/ns/user").st_ino == _FIRST


class Caller(NamedTuple):
    """Who asks: what decides how maps can be written."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> Caller:
        """Return the calling process's."""
        return cls(os.geteuid(), os.getegid())

    @property
    def is_privileged(self) -> bool:
        """Whether it may map any id, and make namespaces without a user namespace."""
        return self.uid == 0

    @property
    def is_root_of_host(self) -> bool:
        """Whether that is so in the first user namespace."""
        return self.uid == 0 and in_first_user_namespace()


class WriteMaps(WaitForParent):
    """Has the parent write id maps that the child may not write itself (user_namespaces(7))."""

    uid_map: tuple[str, ...]
    gid_map: tuple[str, ...]
    privileged: bool  # whether the parent writes the files itself, rather than newuidmap(1)

    def describe(self) -> str:
        how = "" if self.privileged else " with newuidmap and newgidmap"
        maps = [
            f"{kind}s {', '.join(lines[:3])}{', ...' if len(lines) > 3 else ''}"
            for kind, lines in (("uid", self.uid_map), ("gid", self.gid_map))
            if lines
        ]
        return f"have the parent map {' and '.join(maps)}{how}"

    def hint(self, error: int) -> str | None:
        if error == errno.ENOENT and not self.privileged:
            return "It takes newuidmap and newgidmap: the package uidmap or shadow-utils has them"
        if error == errno.EPERM and not self.privileged:
            return "The ranges have to be the user's in /etc/subuid and /etc/subgid"
        return None

    def help_child(self, pid: int, keep: Keep) -> None:  # noqa: ARG002  maps need no keeping
        write_maps(pid, self)


def map_steps(
    uid_map: Sequence[IdMap], gid_map: Sequence[IdMap], caller: Caller, parent_pidfd: int = -1
) -> Iterator[Step]:
    """Yield the steps from no ids at all to those of the maps.

    Args:
        uid_map: of the new user namespace; empty to leave it without.
        gid_map: likewise.
        caller: whose ids the child has outside.
        parent_pidfd: of the thread that clones.
    """
    own = [(uid_map, caller.uid), (gid_map, caller.gid)]
    if all(not maps or [(m.outside, m.count) for m in maps] == [(i, 1)] for maps, i in own):
        # anybody's right, without help; gid_map only when groups can't be dropped any more, with
        # which one could get at files that are closed to a group (CVE-2014-8989)
        if uid_map:
            yield WriteProc("/proc/self/uid_map", str(uid_map[0]))
        if gid_map:
            yield WriteProc("/proc/self/setgroups", "deny")
            yield WriteProc("/proc/self/gid_map", str(gid_map[0]))
        return
    lines = tuple(map(str, uid_map)), tuple(map(str, gid_map))
    yield WriteMaps(parent_pidfd, *lines, caller.is_privileged)
    # an id that is not mapped is nobody's: no file can be made with it (EOVERFLOW)
    if gid_map and not _maps(gid_map, caller.gid):
        yield SetGroups(())
        yield SetGid(gid_map[0].inside)
    if uid_map and not _maps(uid_map, caller.uid):
        yield SetUid(uid_map[0].inside)


def _maps(maps: Sequence[IdMap], number: int) -> bool:
    return any(m.outside <= number < m.outside + m.count for m in maps)


def uid_outside(uid_map: Sequence[IdMap], caller: Caller, uid: int | None) -> int | None:
    """Return what a uid inside is outside, None for nothing; by default the one that is taken."""
    if uid is None:
        return caller.uid if _maps(uid_map, caller.uid) or not uid_map else uid_map[0].outside
    return next((m.outside + uid - m.inside for m in uid_map if uid in m.all_inside), None)


def write_maps(pid: int, step: WriteMaps) -> None:
    """Do the parent's part of a step: write the maps of a child that waits for it.

    Raises:
        OSError: they can't be written (EPERM: not the caller's to map), or the program that may is
            not installed (ENOENT), or refuses (EPERM, with what it said).
    """
    for kind, lines in (("uid", step.uid_map), ("gid", step.gid_map)):
        if not lines:
            continue
        if step.privileged:
            fd = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, map_text(lines).encode())
            finally:
                os.close(fd)
            continue
        program = f"new{kind}map"
        done = _run([program, str(pid), *" ".join(lines).split()])
        if done.returncode != 0:
            raise PermissionError(1, done.stderr.strip() or f"{program} failed")
