"""What to mount: frozen values, each of which becomes a few steps.

A target is an absolute path inside the container. It is resolved beneath the new root, whatever
symlinks lie on the way, and made when it is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from pyns.sizes import parse_size
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    Attach,
    NewMount,
    OpenTree,
    SetAttributes,
    Step,
)

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def encode_path(what: str, path: StrPath) -> bytes:
    """Return a path as the kernel takes it; ValueError for one that no kernel takes."""
    encoded = os.fsencode(path)
    if not encoded:
        raise ValueError(f"{what} is empty: give a path")
    if b"\0" in encoded:
        raise ValueError(f"{what}={path!r} contains a NUL")
    return encoded


def encode_target(path: StrPath) -> bytes:
    """Return a target without needless slashes; ValueError if it is not below the root."""
    encoded = encode_path("target", path)
    parts = [part for part in encoded.split(b"/") if part not in (b"", b".")]
    if not encoded.startswith(b"/"):
        raise ValueError(f"target={path!r} is not absolute: it is a path inside the container")
    if b".." in parts:
        raise ValueError(f"target={path!r} contains '..': name the place itself")
    if not parts:
        raise ValueError("target='/' is the root: that is Container(root=...)")
    return b"/" + b"/".join(parts)


@dataclass(frozen=True)
class Mount:
    """Something to mount."""

    def steps(self) -> Iterator[Step]:
        """Yield the steps that mount it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Bind(Mount):
    """A file or directory of the caller's, visible in the container (bind mount).

    Args:
        source: a path of the caller's, outside; symlinks are followed. It is looked up when its
            turn comes: the mounts before it are there already, at their targets below the root.
        target: where, inside; None for the same path.
        read_only: nothing can be written through it, nor through the mounts below it.
        recursive: with the mounts below the source.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: CAP_SYS_ADMIN in the mount namespace.
    Source: open_tree(2), mount_setattr(2), move_mount(2).

    Example:
        >>> Bind("/usr", read_only=True)
        Bind(source='/usr', target=None, read_only=True, recursive=True)
    """

    source: StrPath
    target: StrPath | None = None
    read_only: bool = False
    recursive: bool = True

    def __post_init__(self) -> None:
        for name in ("read_only", "recursive"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} is not a bool")
        encode_path("source", self.source)
        encode_target(self.source if self.target is None else self.target)

    def steps(self) -> Iterator[Step]:
        """Yield: take a copy of the source, make it read-only, attach it."""
        yield OpenTree(os.fsencode(self.source), self.recursive)
        if self.read_only:
            # before it can be reached, so that it is never writable
            yield SetAttributes(MOUNT_ATTR_RDONLY)
        yield Attach(encode_target(self.source if self.target is None else self.target))


@dataclass(frozen=True)
class Tmpfs(Mount):
    """An empty filesystem in memory, nosuid and nodev.

    Args:
        target: where, inside.
        size: bytes or "64M"; None for the kernel's default, half of the RAM. Its pages are charged
            to the cgroup of who writes them.
        mode: permission bits of its root directory.

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; the size is not one.

    Needs: CAP_SYS_ADMIN in the mount namespace.
    Source: tmpfs(5).

    Example:
        >>> Tmpfs("/tmp", size="64M").size
        '64M'
    """

    target: StrPath
    size: int | str | None = None
    mode: int = 0o1777

    def __post_init__(self) -> None:
        encode_target(self.target)
        if self.size is not None and parse_size("size", self.size) == 0:
            raise ValueError("size=0 would mean unlimited to tmpfs: leave it out, or give a size")
        if isinstance(self.mode, bool) or not isinstance(self.mode, int):
            raise TypeError(f"mode={self.mode!r} is not an int, as 0o1777")
        if not 0 <= self.mode <= 0o7777:
            raise ValueError(f"mode={self.mode!r} is out of range: 0 to 0o7777")

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        options = [(b"mode", b"%o" % self.mode)]
        if self.size is not None:
            options.append((b"size", b"%d" % parse_size("size", self.size)))
        yield NewMount(b"tmpfs", tuple(options), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        yield Attach(encode_target(self.target))


@dataclass(frozen=True)
class Proc(Mount):
    """The process filesystem of the new PID namespace, nosuid, nodev and noexec.

    Args:
        target: where, inside.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: CAP_SYS_ADMIN in the mount and PID namespaces.
    Source: proc(5).

    Example:
        >>> Proc()
        Proc(target='/proc')
    """

    target: StrPath = "/proc"

    def __post_init__(self) -> None:
        encode_target(self.target)

    def steps(self) -> Iterator[Step]:
        """Yield: make it, attach it."""
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        yield NewMount(b"proc", (), attributes)
        yield Attach(encode_target(self.target))
