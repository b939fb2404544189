"""Files, directories and links that are made for the container.

What a `File` holds never reaches the caller's disk. A `Dir` or `Symlink` is made on the `Tmpfs`,
`Overlay` or `Dev` that was listed before it with a target above; else in the directory that is the
container's root, where it stays, as mount targets do that were missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyns.mount_steps import MakeDirectory, MakeSymlink, OpenWithin, WriteFile
from pyns.mounts import (
    Entry,
    Filesystem,
    Mount,
    StrPath,
    check_bools,
    check_mode,
    encode_path,
    encode_target,
)
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    Attach,
    NewMount,
    SetAttributes,
    Step,
)

_PAGE = 65536  # the largest of any architecture
_CONTENT_MAX = 64 * 1024 * 1024


@dataclass(frozen=True)
class File(Mount):
    r"""A file with this content, mounted on a place; nothing of it is ever on a disk.

    Its mount point is made like any other when there is none: an empty file.

    Args:
        target: where, inside.
        content: a str is encoded as UTF-8. At most 64 MiB: for more, Bind a file.
        mode: permission bits. It belongs to root, or to whom the caller is in its user namespace.
        read_only: it can't be written, by root neither. Otherwise what is written is gone with the
            container, and there is no room to make it longer than a few pages.

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; the content is too long.

    Needs: CAP_SYS_ADMIN in the mount namespace.
    Source: tmpfs(5), open_tree(2).

    Example:
        >>> File("/etc/hostname", "demo\n").mode == 0o644
        True
    """

    target: StrPath
    content: bytes | str
    mode: int = 0o644
    read_only: bool = True

    def __post_init__(self) -> None:
        encode_target(self.target)
        if not isinstance(self.content, (bytes, str)):
            raise TypeError(f"content is a {type(self.content).__name__}: give bytes or a str")
        if len(self._bytes) > _CONTENT_MAX:
            raise ValueError(f"content has {len(self._bytes)} bytes: Bind a file instead")
        check_mode(self.mode)
        check_bools(self, "read_only")

    @property
    def _bytes(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content

    def steps(self) -> Iterator[Step]:
        """Yield: write it on a tmpfs that nobody sees, attach this one file of it."""
        size = (len(self._bytes) // _PAGE + 1) * _PAGE
        limits = ((b"size", b"%d" % size), (b"nr_inodes", b"2"))
        yield NewMount(b"tmpfs", limits, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
        yield WriteFile(b"file", self.mode, self._bytes)
        yield OpenWithin(b"file")
        if self.read_only:
            yield SetAttributes(MOUNT_ATTR_RDONLY)
        yield Attach(self.place)


@dataclass(frozen=True)
class Dir(Entry):
    """A directory, made with those above it unless it is there already.

    On a Tmpfs, Overlay or Dev listed before it, or in the directory that is the container's root:
    there it stays. One that is there is left as it is.

    Args:
        target: where, inside.
        mode: permission bits, whatever the umask; those above it get 0o755.

    Raises:
        ValueError: the target is not absolute, is "/" or contains "..".

    Needs: to be allowed to write there.
    Source: mkdir(2).

    Example:
        >>> Dir("/run/lock", mode=0o1777).target
        '/run/lock'
    """

    target: StrPath
    mode: int = 0o755

    def __post_init__(self) -> None:
        encode_target(self.target)
        check_mode(self.mode, 0o1777)  # mkdir(2) ignores set-user-ID and set-group-ID

    def make(self, path: bytes, *, in_hand: bool) -> Step:
        """Return the step that makes it."""
        return MakeDirectory(path, in_hand, self.mode)


@dataclass(frozen=True)
class Symlink(Entry):
    """A symbolic link, made with the directories above it unless the same is there already.

    On a Tmpfs, Overlay or Dev listed before it, or in the directory that is the container's root:
    there it stays.

    Args:
        target: where, inside.
        to: what it says. Nothing need be there.

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; `to` is empty.

    Needs: to be allowed to write there.
    Source: symlink(2).

    Example:
        >>> Symlink("/bin", "usr/bin")
        Symlink(target='/bin', to='usr/bin')
    """

    target: StrPath
    to: StrPath

    def __post_init__(self) -> None:
        encode_target(self.target)
        if len(encode_path("to", self.to)) > 4095:
            raise ValueError("to is longer than the kernel's 4095 bytes")

    def make(self, path: bytes, *, in_hand: bool) -> Step:
        """Return the step that makes it."""
        return MakeSymlink(path, in_hand, encode_path("to", self.to))


def arrange(mounts: Iterable[Mount], *, has_root: bool) -> list[tuple[Mount, list[Entry]]]:
    """Return the mounts in order, each with the entries that are made in it before it is attached.

    Args:
        mounts: in the order in which they are mounted.
        has_root: whether the container's root is a directory that was given to it.

    Raises:
        ValueError: an entry would be made in what is the caller's, or can't be made.
    """
    arranged: list[tuple[Mount, list[Entry]]] = []
    for mount in mounts:
        if not isinstance(mount, Entry):
            arranged.append((mount, []))
            continue
        owner = _owner_of(mount, arranged)
        if owner is not None:
            owner.append(mount)
        elif has_root:
            arranged.append((mount, []))
        else:
            raise ValueError(
                f"{mount!r} would be made in the caller's own root: list a Tmpfs or Overlay above "
                "it first, or give a root"
            )
    return arranged


def _owner_of(entry: Entry, arranged: Sequence[tuple[Mount, list[Entry]]]) -> list[Entry] | None:
    """Return the entries of the mount that this one will lie in; None for the root."""
    for mount, entries in reversed(arranged):
        if isinstance(mount, Entry):
            continue
        if entry.place == mount.place:
            raise ValueError(f"{entry!r}: {mount!r} is there already")
        if not entry.place.startswith(mount.place + b"/"):
            continue
        if isinstance(mount, Filesystem):
            return entries
        raise ValueError(
            f"{entry!r} would be made in {mount!r}, which is not the container's own: make it "
            "outside, or list a Tmpfs or Overlay above it first"
        )
    return None
