"""How a hierarchy is mounted and unmounted."""

from __future__ import annotations

import ctypes
import errno
import os

from pyns.cgroups.hierarchy import hierarchies, read_lines
from pyns.errors import CgroupError

_FLAGS = 0x2 | 0x4 | 0x8  # MS_NOSUID, MS_NODEV, MS_NOEXEC


def mount(path: str, controllers: tuple[str, ...], name: str, version: int) -> None:
    """Mount a hierarchy on a directory; see `Hierarchy.mount`."""
    _check(controllers, name, version)
    if version == 2:
        options = _v2_options()
    else:
        options = [*(controllers or ["none"]), *([f"name={name}"] if name else [])]
    fstype = b"cgroup2" if version == 2 else b"cgroup"
    data = ",".join(options).encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"cgroup", os.fsencode(path), fstype, ctypes.c_ulong(_FLAGS), data) != 0:
        error = ctypes.get_errno()
        raise CgroupError(
            error,
            f"mount the cgroup hierarchy {'v2' if version == 2 else ','.join(options)} on {path}",
            file=path,
            hint=_mount_hint(error, controllers),
        )


def _check(controllers: tuple[str, ...], name: str, version: int) -> None:
    if version not in (1, 2):
        raise ValueError(f"version={version!r}: there are 1 and 2")
    if version == 2 and (controllers or name):
        raise ValueError("v2 has one hierarchy, without a name, with all controllers not in v1")
    if version == 1 and not controllers and not name:
        raise ValueError("a v1 hierarchy without controllers needs a name")
    for word in (*controllers, name):
        if not all(c.isalnum() or c in "_.-" for c in word) or word == "none":
            raise ValueError(f"{word!r} is no name of a controller: letters, digits and _.-")


def _v2_options() -> list[str]:
    """Return the options (nsdelegate, ...) that v2 has where it is mounted.

    They belong to the hierarchy, not to the mount: one without them takes them away from all.
    """
    for line in read_lines("/proc/self/mountinfo"):
        fstype, _, options = line.partition(" - ")[2].split(" ", 2)
        if fstype == "cgroup2":
            return [word for word in options.split(",") if word not in ("rw", "ro")]
    return []


def _mount_hint(error: int, controllers: tuple[str, ...]) -> str | None:
    if error == errno.EBUSY:
        for hierarchy in hierarchies():
            taken = sorted(set(controllers).intersection(hierarchy.controllers))
            if taken:
                return (
                    f"{', '.join(taken)} is attached to the hierarchy at {hierarchy.mount_point}: "
                    "a controller is attached to at most one. A mount with exactly that "
                    "hierarchy's controllers would show it a second time"
                )
    if error == errno.EPERM:
        return "It needs CAP_SYS_ADMIN, and in a user namespace only v2 can be mounted"
    if error == errno.EINVAL and controllers:
        return "The kernel lacks one of these controllers (/proc/cgroups), or it is for v2 only"
    return None


def unmount(path: str) -> None:
    """Unmount the hierarchy on a directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), 0) != 0:
        raise CgroupError(ctypes.get_errno(), f"unmount {path}", file=path)
