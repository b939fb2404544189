"""The steps that fill mounts, put them together out of sight, and cover what is not to be seen.

A mount is *in hand* from when it is made until it is attached: nobody else can reach it. A *stage*
is one that overlayfs has to look into: it lies over the root until it is unmounted again.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from pyns.steps import TOO_MANY_MOUNTS, Operands, Step, attribute_names, quoted

IN_HAND = 0x1000000  # csrc/plan.h
ASIDE_MAX = 256  # csrc/shim.h: how many mounts can be set aside at once
RESOLVE_NO_XDEV, RESOLVE_NO_SYMLINKS = 0x01, 0x04  # openat2(2)


class MakeEntry(Step):
    """Makes something by a name, in the mount in hand or in the new root (openat2(2))."""

    kind: ClassVar[str] = ""
    path: bytes
    in_hand: bool

    @property
    def resolve(self) -> int:
        """How the path is resolved: in hand through no link, in the root to no other mount."""
        return IN_HAND | RESOLVE_NO_SYMLINKS if self.in_hand else RESOLVE_NO_XDEV

    @property
    def place(self) -> str:
        """The path, and where it begins."""
        return f"{quoted(self.path)} in it" if self.in_hand else f"{quoted(self.path)} in the root"

    def hint(self, error: int) -> str | None:
        return {
            errno.EXDEV: "It would lie on another mount than the root's own: it is to be listed "
            "after a Tmpfs, Overlay or Dev with a target above it",
            errno.EROFS: "The new root lies on a read-only filesystem",
            errno.ENOSPC: "The filesystem that it is to be on is full: of a Tmpfs, size or inodes",
        }.get(error)


class MakeDirectory(MakeEntry):
    """Makes a directory, and those above it, unless it is there already (mkdir(2))."""

    kind = "make_directory"
    calls = "umask openat openat2 mkdirat"
    mode: int = 0o755

    def describe(self) -> str:
        return f"make the directory {self.place}, mode {self.mode:o}"

    def operands(self) -> Operands:
        return Operands((self.path,), flags=self.resolve, value=self.mode)

    def hint(self, error: int) -> str | None:
        if error == errno.ENOTDIR:
            return "There is something else of that name, or on the way to it"
        return super().hint(error)


class MakeSymlink(MakeEntry):
    """Makes a symbolic link, unless the same is there already (symlink(2))."""

    kind = "make_symlink"
    calls = "umask openat openat2 mkdirat symlinkat readlinkat"
    to: bytes = b""

    def describe(self) -> str:
        return f"make the link {self.place} to {quoted(self.to)}"

    def operands(self) -> Operands:
        return Operands((self.path, self.to), flags=self.resolve)

    def hint(self, error: int) -> str | None:
        if error == errno.EEXIST:
            return "There is something else of that name"
        return super().hint(error)


class WriteFile(Step):
    """Writes a new file in the mount in hand (openat2(2), write(2))."""

    kind = "write_file"
    calls = "openat2 write fchmod"
    path: bytes
    mode: int
    content: bytes = b""

    def describe(self) -> str:
        return (
            f"write the file {quoted(self.path)} in it, {len(self.content)} bytes, "
            f"mode {self.mode:o}"
        )

    def operands(self) -> Operands:
        return Operands((self.path,), self.mode, len(self.content), data=self.content)


class SendMount(Step):
    """Gives the caller the mount in hand, through a socket (unix(7))."""

    kind = "send_mount"
    calls = "sendmsg"
    fd: int = -1

    def describe(self) -> str:
        return "give it to the caller"

    def operands(self) -> Operands:
        return Operands(fd=self.fd)


class OpenWithin(Step):
    """Takes a copy of the mount in hand that begins at a path in it (open_tree(2))."""

    kind = "open_within"
    calls = "open_tree openat move_mount fchdir umount2"
    path: bytes

    def describe(self) -> str:
        return f"take {quoted(self.path)} in it for a mount"

    def operands(self) -> Operands:
        return Operands((self.path,))


class TakeMount(Step):
    """Takes a copy of what is mounted, made by the parent with other ids (mount_setattr(2))."""

    kind = "take_mount"
    calls = "fcntl"
    source: bytes
    recursive: bool
    id_map: tuple[str, ...]  # inside, outside, count; empty: those of the user namespace
    fd: int = -1

    def made(self, fd: int) -> TakeMount:
        """Return it with the copy that was made."""
        return TakeMount(self.source, self.recursive, self.id_map, fd)

    def describe(self) -> str:
        ids = f"ids {', '.join(self.id_map)}" if self.id_map else "the ids of the user namespace"
        below = ", with all mounts below it" if self.recursive else ""
        return f"take a copy of the mount at {quoted(self.source)}{below}, which maps {ids}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd)

    def hint(self, error: int) -> str | None:
        return {
            errno.EPERM: "It takes CAP_SYS_ADMIN in the user namespace that the filesystem was "
            "mounted in: for the host's, root on the host. What is mapped is not mapped again",
            errno.EINVAL: "Not every filesystem has idmapped mounts: proc, sysfs and devtmpfs have "
            "none, tmpfs since Linux 6.3. What is mounted below counts, unless recursive=False",
        }.get(error)


class SetAside(Step):
    """Keeps the mount in hand for a later step."""

    kind = "set_aside"

    def describe(self) -> str:
        return "set it aside"


class TakeUp(Step):
    """Takes the mount in hand that was set aside first."""

    kind = "take_up"

    @property
    def takes(self) -> int:
        return 1

    def describe(self) -> str:
        return "take up the mount that was set aside first"


class Stage(Step):
    """Mounts the mount in hand where overlayfs finds it, with those aside in it (move_mount(2))."""

    kind = "stage"
    calls = "openat move_mount fchdir openat2"
    places: tuple[bytes, ...] = ()

    @property
    def takes(self) -> int:
        return len(self.places)

    def describe(self) -> str:
        if not self.places:
            return "mount it over the root for a moment"
        places = ", ".join(map(quoted, self.places))
        return f"mount it over the root for a moment, and what was set aside on {places}"

    def operands(self) -> Operands:
        return Operands(self.places)

    def hint(self, error: int) -> str | None:
        return {
            errno.EINVAL: "Each lower layer is a directory",
            errno.ENOSPC: TOO_MANY_MOUNTS,
        }.get(error)


class CopyMode(Step):
    """Gives a directory of the stage the mode and owner of another (fchmod(2), fchown(2))."""

    kind = "copy_mode"
    calls = "openat statx fchown fchmod"
    source: bytes
    target: bytes

    def describe(self) -> str:
        return f"give {quoted(self.target)} the mode and owner of {quoted(self.source)}"

    def operands(self) -> Operands:
        return Operands((self.source, self.target))


class Unstage(Step):
    """Unmounts the stage; what was made of it stays (umount(2))."""

    kind = "unstage"
    calls = "umount2 fchdir"

    def describe(self) -> str:
        return "unmount what lies over the root"


class AttachRoot(Step):
    """Makes the mount in hand the new root, once it is attached somewhere (move_mount(2))."""

    kind = "attach_root"
    calls = "openat move_mount"
    # pivot_root takes only a mount that is attached; here it hides nothing that anybody would bind
    place: bytes = b"/proc/self/fdinfo"

    def describe(self) -> str:
        return f"mount it on {quoted(self.place)} for now, as the new root"

    def operands(self) -> Operands:
        return Operands((self.place,))

    def hint(self, error: int) -> str | None:
        return {
            errno.ENOENT: "The caller has to have a /proc",
            errno.ENOSPC: TOO_MANY_MOUNTS,
        }.get(error)


class SetRootAttributes(Step):
    """Gives attributes to the root's mount, or to all below it but itself (mount_setattr(2))."""

    kind = "set_root_attributes"
    calls = "fstatfs mount_setattr"
    attributes: int
    below: bool

    def describe(self) -> str:
        what = "every mount below the root" if self.below else "the root"
        return f"make {what} {attribute_names(self.attributes)}"

    def operands(self) -> Operands:
        return Operands(flags=self.attributes, value=int(self.below))


class TakeMasks(Step):
    """Keeps the mount in hand to mask directories with, and the one aside for files (null(4))."""

    kind = "take_masks"
    calls = "statx"

    @property
    def takes(self) -> int:
        return 1

    def describe(self) -> str:
        return "keep it and the null device that was set aside to mask with"

    def hint(self, error: int) -> str | None:
        if error == errno.ENODEV:
            return "The caller's /dev/null has to be the null device, 1:3"
        return None


class Mask(Step):
    """Mounts emptiness over a path beneath the root, if there is one (openat2(2))."""

    kind = "mask"
    calls = "openat2 statx open_tree move_mount"
    path: bytes

    def describe(self) -> str:
        return f"mask {quoted(self.path)}"

    def operands(self) -> Operands:
        return Operands((self.path,))

    def hint(self, error: int) -> str | None:
        return {
            errno.ELOOP: "A symlink lies on the way: name the place that it leads to",
            errno.ENOSPC: TOO_MANY_MOUNTS,
        }.get(error)


class MakeReadOnly(Step):
    """Makes a path beneath the root read-only, with all mounts below (mount_setattr(2))."""

    kind = "make_read_only"
    calls = "openat2 statx open_tree mount_setattr move_mount"
    path: bytes

    def describe(self) -> str:
        return f"make {quoted(self.path)} read-only"

    def operands(self) -> Operands:
        return Operands((self.path,))

    def hint(self, error: int) -> str | None:
        return {
            errno.ELOOP: "It is a symlink to the root, or a magic link of /proc",
            errno.ENOSPC: TOO_MANY_MOUNTS,
        }.get(error)
