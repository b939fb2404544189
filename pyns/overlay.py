"""Directories laid over each other, of which only the uppermost is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyns.mount_steps import CopyMode, MakeDirectory, SetAside, Stage, Unstage
from pyns.mounts import (
    Entry,
    Filesystem,
    StrPath,
    attributes_of,
    check_bools,
    encode_path,
    encode_target,
    tmpfs_limits,
)
from pyns.steps import NewMount, OpenTree, SetAttributes, Step

_LAYERS_MAX = 64  # so that several can be set aside, ASIDE_MAX of csrc/shim.h


@dataclass(frozen=True)
class Overlay(Filesystem):
    """Directories laid over each other; what is written goes to the uppermost.

    Args:
        target: where, inside; "/" as `Container.root`.
        lower: directories of the caller's, never written; the first lies on top. At most 64.
            Mounts below them are not part of it; in a user namespace there may be none.
        upper: directory of the caller's, an absolute path, that takes what is written and keeps it.
            None: it goes to memory that nobody else can reach, and is gone with the container.
        work: empty directory of the caller's on the same mount as `upper`, for overlayfs alone.
        size: what may be written to memory at most, bytes or "64M"; None for the kernel's
            default, half of the RAM.
        inodes: how many files may be written to memory at most.
        userxattr: keep its marks in user.* attributes, which works in user namespaces; trusted.*
            does not. In memory they are possible since Linux 6.6.
        read_only: nothing can be written, once the `Dir` and `Symlink` that lie in it are made.
        nosuid: set-user-ID, set-group-ID and file capabilities are without effect.
        nodev: devices can't be opened.
        noexec: nothing can be executed.

    Raises:
        ValueError: no lower, or upper without work, or size with upper; the target is not absolute,
            or contains "..".

    Needs: CAP_SYS_ADMIN in the mount namespace; in a user namespace Linux 5.11.
    Source: mount(8) on overlay, filesystems/overlayfs of the kernel's documentation.

    Example:
        >>> Overlay("/usr", lower=["/usr"], size="64M").upper is None
        True
    """

    can_be_root = True

    target: StrPath
    lower: Sequence[StrPath]
    upper: StrPath | None = None
    work: StrPath | None = None
    size: int | str | None = None
    inodes: int | None = None
    userxattr: bool = False
    read_only: bool = False
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False

    def __post_init__(self) -> None:
        encode_target(self.target, or_root=True)
        if isinstance(self.lower, (str, bytes, os.PathLike)):
            raise TypeError(f"lower={self.lower!r}: give a sequence of directories")
        object.__setattr__(self, "lower", tuple(self.lower))
        if not 0 < len(self.lower) <= _LAYERS_MAX:
            raise ValueError(f"lower has {len(self.lower)} directories: 1 to {_LAYERS_MAX}")
        for path in self.lower:
            encode_path("lower", path)
        self._check_upper()
        tmpfs_limits(self.size, self.inodes)
        check_bools(self, "userxattr", "read_only", "nosuid", "nodev", "noexec")

    @property
    def names_paths(self) -> bool:
        """Whether the kernel looks paths of the caller's up when it is made."""
        return self.upper is not None

    def _check_upper(self) -> None:
        if (self.upper is None) != (self.work is None):
            raise ValueError("upper and work belong together: give both or none")
        if self.upper is not None and (self.size is not None or self.inodes is not None):
            raise ValueError("size and inodes limit the memory that is used without an upper")
        for name in ("upper", "work"):
            path = getattr(self, name)
            if path is not None and not encode_path(name, path).startswith(b"/"):
                raise ValueError(f"{name}={path!r} is not absolute")

    def make(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        """Yield: gather the layers on a private tmpfs, make the overlay of them, let go of it."""
        # first: nothing of the caller's can be looked up while the stage lies over the root
        for path in self.lower:
            yield OpenTree(os.fsencode(path), recursive=False)
            yield SetAside()
        places = [b"%d" % n for n in range(len(self.lower))]
        limits = tmpfs_limits(self.size, self.inodes) or ()
        yield NewMount(b"tmpfs", limits if self.upper is None else ((b"size", b"4096"),))
        # short names of our own: no escapes, and no path of the caller's to be read inside
        own = [b"upper", b"work"] if self.upper is None else []
        for name in (*places, *own):
            yield MakeDirectory(b"/" + name, in_hand=True)
        yield Stage(tuple(places))
        if self.upper is None:
            yield CopyMode(b"0", b"upper")
        yield NewMount(b"overlay", self._options(places))
        yield Unstage()
        yield from self.fill(entries)
        if attributes := attributes_of(self):
            yield SetAttributes(attributes)

    def _options(self, places: Sequence[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        upper, work = b"upper", b"work"
        if self.upper is not None and self.work is not None:
            # a backslash would take the meaning of what follows it
            upper, work = (
                os.fsencode(path).replace(b"\\", b"\\\\") for path in (self.upper, self.work)
            )
        layers = [(b"lowerdir", b":".join(places)), (b"upperdir", upper), (b"workdir", work)]
        return (*layers, *([(b"userxattr", b"")] if self.userxattr else []))
