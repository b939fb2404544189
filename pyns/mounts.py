"""What to mount: frozen values, each of which becomes a few steps.

A target is an absolute path inside the container. It is resolved beneath the new root, whatever
symlinks lie on the way, and made when it is missing. Here are the kinds for the caller's files and
for new ones; `kernelfs`, `devices`, `overlay` and `entries` have the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pyns.idmap import IdMap, check_maps
from pyns.mount_steps import TakeMount
from pyns.namespaces import Namespace
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


def encode_target(path: StrPath, what: str = "target", *, or_root: bool = False) -> bytes:
    """Return a target without needless slashes; ValueError if it is not below the root."""
    encoded = encode_path(what, path)
    parts = [part for part in encoded.split(b"/") if part not in (b"", b".")]
    if not encoded.startswith(b"/"):
        raise ValueError(f"{what}={path!r} is not absolute: it is a path inside the container")
    if b".." in parts:
        raise ValueError(f"{what}={path!r} contains '..': name the place itself")
    if not parts and not or_root:
        raise ValueError(f"{what}='/' is the root: that is Container(root=...)")
    return b"/" + b"/".join(parts)


def check_bools(mount: object, *names: str) -> None:
    """Raise TypeError for a field that is to be True or False and is neither."""
    for name in names:
        if not isinstance(getattr(mount, name), bool):
            raise TypeError(f"{name}={getattr(mount, name)!r} is not a bool")


def check_mode(mode: int, largest: int = 0o7777) -> None:
    """Raise TypeError or ValueError for what are no permission bits."""
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"mode={mode!r} is not an int, as 0o1777")
    if not 0 <= mode <= largest:
        raise ValueError(f"mode={mode!r} is out of range: 0 to 0o{largest:o}")


def tmpfs_limits(
    size: int | str | None, inodes: int | None, what: str = "size"
) -> tuple[tuple[bytes, bytes], ...]:
    """Return the mount options; ValueError for one that would be no limit."""
    options: list[tuple[bytes, bytes]] = []
    if size is not None:
        if parse_size(what, size) == 0:
            raise ValueError(
                f"{what}=0 would mean unlimited to tmpfs: leave it out, or give a size"
            )
        options.append((b"size", b"%d" % parse_size(what, size)))
    if inodes is not None:
        if isinstance(inodes, bool) or not isinstance(inodes, int):
            raise TypeError(f"inodes={inodes!r} is not an int")
        if not 0 < inodes < 2**31:
            raise ValueError(f"inodes={inodes!r} is out of range: 1 to {2**31 - 1}")
        options.append((b"nr_inodes", b"%d" % inodes))
    return tuple(options)


def attributes_of(mount: object) -> int:
    """Return the MOUNT_ATTR_... that its fields read_only, nosuid, nodev and noexec ask for."""
    bits = {
        "read_only": MOUNT_ATTR_RDONLY,
        "nosuid": MOUNT_ATTR_NOSUID,
        "nodev": MOUNT_ATTR_NODEV,
        "noexec": MOUNT_ATTR_NOEXEC,
    }
    return sum(bit for name, bit in bits.items() if getattr(mount, name, False))


@dataclass(frozen=True)
class Mount:
    """Something to mount."""

    can_be_root: ClassVar[bool] = False

    @property
    def is_constant(self) -> bool:
        """Whether the steps are the same each time."""
        return True

    @property
    def names_paths(self) -> bool:
        """Whether the kernel looks paths of the caller's up when it is made."""
        return False

    @property
    def place(self) -> bytes:
        """The target, as a path beneath the root without needless slashes."""
        return encode_target(getattr(self, "target"))  # noqa: B009  the fields are the subclasses'

    def steps(self) -> Iterator[Step]:
        """Yield the steps that mount it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Entry(Mount):
    """Something that is made in a filesystem rather than mounted."""

    def make(self, path: bytes, *, in_hand: bool) -> Step:
        """Return the step that makes it, in the mount in hand or beneath the root."""
        raise NotImplementedError

    def steps(self) -> Iterator[Step]:
        """Yield: make it beneath the root."""
        yield self.make(self.place, in_hand=False)


@dataclass(frozen=True)
class Filesystem(Mount):
    """A filesystem of the container's own: entries can be made in it before anybody sees it."""

    @property
    def place(self) -> bytes:
        """The target; "/" for what is to be the root itself."""
        return encode_target(getattr(self, "target"), or_root=True)  # noqa: B009

    def make(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        """Yield the steps after which it is in hand, with these entries in it."""
        raise NotImplementedError

    def steps(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        """Yield: make it, attach it."""
        yield from self.make(entries)
        yield Attach(self.place)

    def fill(self, entries: Sequence[Entry]) -> Iterator[Step]:
        """Yield the steps that make the entries, while it is in hand."""
        for entry in entries:
            yield entry.make(entry.place.removeprefix(self.place), in_hand=True)


@dataclass(frozen=True)
class Bind(Mount):
    """A file or directory of the caller's, visible in the container (bind mount).

    Args:
        source: a path of the caller's, outside; symlinks are followed. It is looked up when its
            turn comes. Without a root of its own, the container's earlier mounts are part of what
            is looked up: `Tmpfs("/data")` before `Bind("/data/x", ...)` hides the caller's /data.
        target: where, inside; None for the same path.
        read_only: nothing can be written through it, nor through the mounts below it.
        recursive: with the mounts below the source. Unbindable ones may be left out.
        nosuid: set-user-ID, set-group-ID and file capabilities are without effect, also below.
        nodev: devices can't be opened, also below.
        noexec: nothing can be executed, also below.
        idmap: which ids files have, also below (an idmapped mount): uid or gid `inside` on the disk
            is `outside` here, as the caller counts. What an id without a range has is nobody's, and
            can't be written. `Namespace.USER`: the ids on the disk are those in the container,
            whatever its `uid_map` and `gid_map` make of them outside. The caller looks the source
            up, before the container is there; its mounts are private.

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; two ranges overlap.

    Needs: CAP_SYS_ADMIN in the mount namespace. For `idmap` in the user namespace that the
        filesystem was mounted in, as root on the host has it, and a filesystem that allows it.
    Source: open_tree(2), mount_setattr(2), move_mount(2).

    Example:
        >>> [step.describe() for step in Bind("/usr", nosuid=True, recursive=False).steps()]
        ["take a copy of the mount at '/usr'", 'make it nosuid', "mount it on '/usr'"]
        >>> Bind("/srv/box", "/data", idmap=[IdMap(1000, 0)]).place  # of 1000 there, root's here
        b'/data'
    """

    source: StrPath
    target: StrPath | None = None
    read_only: bool = False
    recursive: bool = True
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False
    idmap: Sequence[IdMap] | Namespace | None = None

    def __post_init__(self) -> None:
        check_bools(self, "read_only", "recursive", "nosuid", "nodev", "noexec")
        encode_path("source", self.source)
        if isinstance(self.idmap, Namespace):
            if self.idmap != Namespace.USER:
                raise ValueError(f"idmap={self.idmap!r}: only Namespace.USER has ids")
        elif self.idmap is not None:
            object.__setattr__(self, "idmap", tuple(self.idmap))
            if not all(isinstance(item, IdMap) for item in self.idmap):
                raise TypeError(f"idmap={self.idmap!r}: give IdMap(inside, outside, count), ...")
            if not self.idmap:
                raise ValueError("idmap is empty: all files would be nobody's")
            check_maps("idmap", self.idmap)
        _ = self.place

    @property
    def place(self) -> bytes:
        """The target, or the source where none is given."""
        return encode_target(self.source if self.target is None else self.target)

    def steps(self) -> Iterator[Step]:
        """Yield: take a copy of the source, give it attributes, attach it."""
        source = os.fsencode(self.source)
        if self.idmap is None:
            yield OpenTree(source, self.recursive)
        else:
            ids = () if isinstance(self.idmap, Namespace) else tuple(map(str, self.idmap))
            yield TakeMount(source, self.recursive, ids)
        if attributes := attributes_of(self):
            # before it can be reached, so that it is never writable
            yield SetAttributes(attributes)
        yield Attach(self.place)


@dataclass(frozen=True)
class Tmpfs(Filesystem):
    """An empty filesystem in memory, nosuid and nodev.

    Args:
        target: where, inside; "/" as `Container.root`.
        size: bytes or "64M"; None for the kernel's default, half of the RAM. Its pages are charged
            to the cgroup of who writes them.
        mode: permission bits of its root directory.
        inodes: how many files, directories and links at most, its own root included; None for the
            kernel's default, half of the number of pages of RAM.
        noexec: nothing can be executed from it.
        read_only: nothing can be written, once the `Dir` and `Symlink` that lie in it are made.

    Raises:
        ValueError: the target is not absolute, or contains ".."; the size is not one.

    Needs: CAP_SYS_ADMIN in the mount namespace.
    Source: tmpfs(5).

    Example:
        >>> Tmpfs("/tmp", size="64M", inodes=10_000).size
        '64M'
    """

    can_be_root = True

    target: StrPath
    size: int | str | None = None
    mode: int = 0o1777
    inodes: int | None = None
    noexec: bool = False
    read_only: bool = False

    def __post_init__(self) -> None:
        encode_target(self.target, or_root=True)
        check_bools(self, "noexec", "read_only")
        tmpfs_limits(self.size, self.inodes)
        check_mode(self.mode)

    def make(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        """Yield: make it, fill it, make it read-only."""
        options = ((b"mode", b"%o" % self.mode), *tmpfs_limits(self.size, self.inodes))
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        if self.noexec:
            attributes |= MOUNT_ATTR_NOEXEC
        yield NewMount(b"tmpfs", options, attributes)
        yield from self.fill(entries)
        if self.read_only:
            yield SetAttributes(MOUNT_ATTR_RDONLY)
