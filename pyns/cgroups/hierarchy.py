"""Which hierarchies are mounted where, and which cgroups a process is in.

A controller (the article that pyns grew from says *subsystem*) is attached to at most one
hierarchy; a v1 hierarchy may have several controllers; a process is in exactly one cgroup of each
hierarchy. The version belongs to the hierarchy, not to the machine: a hybrid host has both.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Hierarchy:
    """A tree of cgroups, as it is mounted.

    Attributes:
        version: 1 or 2.
        controllers: its controllers. Those of v2 are the ones that its topmost visible group has.
        mount_point: directory where it is mounted.
        root: the cgroup that this directory is; "/" but inside containers.
        name: of a v1 hierarchy that was given one ("systemd"), else "".
    """

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    root: str
    name: str = ""

    def __hash__(self) -> int:  # of all of it would take four times as long
        return hash(self.mount_point)

    @classmethod
    def mount(
        cls, path: str, *, controllers: Iterable[str] = (), name: str = "", version: int = 1
    ) -> Self:
        """Mount a hierarchy, which makes it unless it is there already.

        Args:
            path: directory to mount it on.
            controllers: v1: those to attach to it; none for one that only groups processes.
            name: v1: needed without controllers.
            version: 1 or 2. There is one v2 hierarchy, with all controllers that no v1 one has.

        Returns:
            The hierarchy. It is the caller's to unmount.

        Raises:
            ValueError: the arguments say nothing that could be mounted.
            CgroupError: a controller is attached to another hierarchy (EBUSY), or unknown (EINVAL);
                no such directory (ENOENT); not allowed (EPERM).

        Needs: CAP_SYS_ADMIN.
        Source: cgroups(7), mount(2).

        Example:
            >>> Hierarchy.mount("/mnt", version=3)
            Traceback (most recent call last):
            ValueError: version=3: there are 1 and 2
        """
        from pyns.cgroups import mounting

        path = os.path.abspath(path)
        mounting.mount(path, tuple(controllers), name, version)
        try:
            return cls._at(path)
        except BaseException:
            mounting.unmount(path)
            raise

    def unmount(self) -> None:
        """Unmount it; a v1 hierarchy without groups of its own ceases to be.

        Raises:
            CgroupError: it is in use (EBUSY), or not mounted there (EINVAL).

        Needs: CAP_SYS_ADMIN.
        Source: umount(2).

        Example:
            >>> Hierarchy(1, (), "/does/not/exist", "/", "demo").unmount()
            Traceback (most recent call last):
            pyns.errors.CgroupError: unmount /does/not/exist: No such file or directory (ENOENT)
        """
        from pyns.cgroups import mounting

        mounting.unmount(self.mount_point)

    @classmethod
    def _at(cls, path: str) -> Self:
        found = [h for h in _mounted("/proc", read_membership()) if h.mount_point == path]
        return cls(**vars(found[-1]))  # the last one lies on top

    def directory(self, path: str) -> str | None:
        """Return the directory of the cgroup `path`; None if it is outside of what is mounted."""
        if path == "/.." or path.startswith("/../"):
            return None  # not below the root of the caller's cgroup namespace
        if self.root == "/":
            return self.mount_point + path.rstrip("/")
        if path == self.root or path.startswith(self.root + "/"):
            return self.mount_point + path[len(self.root) :]
        return None


def hierarchies(proc: str = "/proc") -> tuple[Hierarchy, ...]:
    """Return the hierarchies that are mounted, as the calling process sees them.

    Args:
        proc: where the process filesystem is mounted.

    Returns:
        One entry each, v1 before v2, in the order of their mounts. A hierarchy that is mounted
        several times is there once, from its topmost group.

    Raises:
        FileNotFoundError: no process filesystem there (ENOENT).

    Needs: a mounted /proc.
    Source: cgroups(7), proc_pid_mountinfo(5).

    Example:
        >>> all(h.version in (1, 2) for h in hierarchies())
        True
    """
    found: dict[str, Hierarchy] = {}
    for hierarchy in _mounted(proc, read_membership(proc)):
        key = _membership_key(hierarchy)
        if key not in found or len(hierarchy.root) < len(found[key].root):
            found[key] = hierarchy
    return tuple(sorted(found.values(), key=lambda h: h.version))


def current(pid: int | None = None, proc: str = "/proc") -> dict[Hierarchy, str]:
    """Return the cgroup that a process is in, one in each hierarchy.

    Args:
        pid: the process; None for the calling one.
        proc: where the process filesystem is mounted.

    Returns:
        Hierarchy → path of the cgroup, from the root of the hierarchy.

    Raises:
        FileNotFoundError: no such process (ENOENT).

    Needs: a mounted /proc.
    Source: cgroups(7).

    Example:
        >>> all(path.startswith("/") for path in current().values())
        True
    """
    membership = read_membership(proc, "self" if pid is None else pid)
    return {
        hierarchy: membership[key]
        for hierarchy in hierarchies(proc)
        if (key := _membership_key(hierarchy)) in membership
    }


def _membership_key(hierarchy: Hierarchy) -> str:
    """Return what /proc/PID/cgroup calls a hierarchy."""
    if hierarchy.version == 2:
        return ""
    name = [f"name={hierarchy.name}"] if hierarchy.name else []
    return ",".join([*hierarchy.controllers, *name])


def read_membership(proc: str = "/proc", pid: int | str = "self") -> dict[str, str]:
    """Return the path of a process's cgroup in each hierarchy.

    The keys are the controllers as the kernel lists them; "" for v2, "name=..." for a named one.
    """
    lines = [line.split(":", 2) for line in read_lines(f"{proc}/{pid}/cgroup")]
    return {names: path for _, names, path in lines}


def read_lines(path: str) -> list[str]:
    """Return the lines of a file of the kernel's, without their ends.

    Only a newline ends one: what it says of paths may have a carriage return.
    """
    text = read_text(path)
    return text.removesuffix("\n").split("\n") if text else []


def read_text(path: str) -> str:
    """Return what a file of the kernel's says; what is no UTF-8 stays as os.fsdecode has it."""
    # a start with limits reads three of them: without what `open` asks of a file first
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _mounted(proc: str, own: dict[str, str]) -> Iterator[Hierarchy]:
    # a host may have thousands of mounts; few of them are cgroups
    lines = tuple([line for line in read_lines(f"{proc}/self/mountinfo") if " - cgroup" in line])
    for hierarchy in _parse(lines, tuple(own)):
        if hierarchy.version == 1:
            yield hierarchy
        elif (controllers := _v2_controllers(hierarchy.mount_point)) is not None:
            yield Hierarchy(2, controllers, hierarchy.mount_point, hierarchy.root)


@functools.lru_cache(maxsize=4)
def _parse(lines: tuple[str, ...], own: tuple[str, ...]) -> tuple[Hierarchy, ...]:
    """Return what lines of mountinfo say; a spawn asks each time, and they hardly ever change."""
    found: list[Hierarchy] = []
    for line in lines:
        before, after = line.split(" - ", 1)
        root, mount_point = (_unescape(field) for field in before.split(" ")[3:5])
        fstype, _, options = after.split(" ", 2)
        if fstype == "cgroup2" and "" in own:
            found.append(Hierarchy(2, (), mount_point, root))
        elif fstype == "cgroup":
            found += _v1(mount_point, root, set(options.split(",")), own)
    return tuple(found)


def _v1(mount_point: str, root: str, options: set[str], own: Iterable[str]) -> Iterator[Hierarchy]:
    for names in own:
        if names and options.issuperset(names.split(",")):
            # "cpu,cpuacct", "name=systemd", or both
            before, _, name = names.partition("name=")
            controllers = tuple(filter(None, before.split(",")))
            yield Hierarchy(1, controllers, mount_point, root, name)


def _v2_controllers(mount_point: str) -> tuple[str, ...] | None:
    # never /proc/cgroups: it lists v1's, and on some kernels those that were not even built
    try:
        return tuple(read_text(f"{mount_point}/cgroup.controllers").split())
    except (FileNotFoundError, PermissionError):  # something else is mounted over it
        return None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
