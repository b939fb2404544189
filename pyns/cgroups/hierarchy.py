"""Which hierarchies are mounted where, and which cgroups a process is in.

A controller (the article that pyns grew from says *subsystem*) is attached to at most one
hierarchy; a v1 hierarchy may have several controllers; a process is in exactly one cgroup of each
hierarchy. The version belongs to the hierarchy, not to the machine: a hybrid host has both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Hierarchy:
    """A tree of cgroups, as it is mounted.

    Attributes:
        version: 1 or 2.
        controllers: its controllers. Those of v2 are the ones that its topmost visible group has.
        mount_point: directory where it is mounted.
        root: the cgroup that this directory is; "/" but inside containers.
        path: the cgroup of the calling process in it.
        name: of a v1 hierarchy without a controller ("systemd"), else "".
    """

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    root: str
    path: str
    name: str = ""

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
    own = read_membership(proc)
    found: dict[str, Hierarchy] = {}
    for hierarchy in _mounted(proc, own):
        key = "2" if hierarchy.version == 2 else f"{hierarchy.controllers}{hierarchy.name}"
        if key not in found or len(hierarchy.root) < len(found[key].root):
            found[key] = hierarchy
    return tuple(sorted(found.values(), key=lambda h: h.version))


def read_membership(proc: str = "/proc", pid: int | str = "self") -> dict[str, str]:
    """Return the path of a process's cgroup in each hierarchy.

    The keys are the controllers as the kernel lists them; "" for v2, "name=..." for a named one.
    """
    with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return {names: path for _, names, path in lines}


def _mounted(proc: str, own: dict[str, str]) -> Iterator[Hierarchy]:
    with open(f"{proc}/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        # a host may have thousands of mounts; few of them are cgroups
        lines = [line for line in file if " - cgroup" in line]
    for line in lines:
        before, after = line.rstrip("\n").split(" - ", 1)
        root, mount_point = (_unescape(field) for field in before.split(" ")[3:5])
        fstype, _, options = after.split(" ", 2)
        if fstype == "cgroup2" and "" in own:
            controllers = _v2_controllers(mount_point)
            if controllers is not None:
                yield Hierarchy(2, controllers, mount_point, root, own[""])
        elif fstype == "cgroup":
            yield from _v1(mount_point, root, set(options.split(",")), own)


def _v1(mount_point: str, root: str, options: set[str], own: dict[str, str]) -> Iterator[Hierarchy]:
    for names, path in own.items():
        if names and options.issuperset(names.split(",")):
            # "cpu,cpuacct", "name=systemd", or both
            before, _, name = names.partition("name=")
            controllers = tuple(filter(None, before.split(",")))
            yield Hierarchy(1, controllers, mount_point, root, path, name)


def _v2_controllers(mount_point: str) -> tuple[str, ...] | None:
    # never /proc/cgroups: it lists v1's, and on some kernels those that were not even built
    try:
        with open(os.path.join(mount_point, "cgroup.controllers")) as file:
            return tuple(file.read().split())
    except (FileNotFoundError, PermissionError):  # something else is mounted over it
        return None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
