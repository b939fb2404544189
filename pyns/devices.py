"""The few devices that every program expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyns.kernelfs import Devpts, Mqueue
from pyns.mount_steps import MakeDirectory, MakeSymlink, SetAside, TakeUp, WriteFile
from pyns.mounts import (
    Entry,
    Filesystem,
    StrPath,
    Tmpfs,
    check_bools,
    encode_path,
    encode_target,
    tmpfs_limits,
)
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

_NODES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_LINKS = (
    (b"ptmx", b"pts/ptmx"),
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
)
_EXTRA_MAX = 32


@dataclass(frozen=True)
class Dev(Filesystem):
    """A minimal /dev: null zero full random urandom tty, pts and ptmx, shm, fd, stdin to stderr.

    The devices are the caller's own nodes, bound, so that it works in user namespaces too; they can
    be used, and not be changed (chmod). There is no console. All of it is nosuid and noexec, and
    devices made with mknod can't be opened.

    Args:
        target: where, inside.
        extra: further nodes of the caller's /dev, such as "fuse" or "net/tun". At most 32.
        mqueue: with the message queues of the new IPC namespace at mqueue.
        size: what can be written beside shm, bytes or "64K".
        shm_size: what can be written to shm.
        inodes: how many files, directories and links at most, and as many in shm.
        pts_gid: group of a new terminal, see `Devpts`.
        pts_max: how many terminals at most. None: all that the host has for its containers.
        read_only: nothing can be made in it; shm and pts stay writable.

    Raises:
        ValueError: the target is not absolute, is "/" or contains ".."; a size is not one; a name
            leads out of /dev.

    Needs: CAP_SYS_ADMIN in the mount namespace; the nodes, in the caller's /dev.
    Source: null(4), random(4), tty(4), pts(4), shm_overview(7).

    Example:
        >>> Dev(extra=("fuse",)).shm_size
        '64M'
    """

    target: StrPath = "/dev"
    extra: Sequence[str | bytes] = ()
    mqueue: bool = False
    size: int | str = "1M"
    shm_size: int | str = "64M"
    inodes: int = 4096
    pts_gid: int | None = None
    pts_max: int | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        encode_target(self.target)
        if isinstance(self.extra, (str, bytes)):
            raise TypeError(f"extra={self.extra!r}: give a sequence of names")
        object.__setattr__(self, "extra", tuple(self.extra))
        check_bools(self, "mqueue", "read_only")
        nodes = [*_NODES, *(name for name, _ in _LINKS), *map(_node, self.extra)]
        for name in self.extra:
            if nodes.count(_node(name)) > 1:
                raise ValueError(f"extra={name!r} is in it already")
        if len(self.extra) > _EXTRA_MAX:
            raise ValueError(f"extra has {len(self.extra)} names: {_EXTRA_MAX} at most")
        tmpfs_limits(self.size, self.inodes)
        tmpfs_limits(self.shm_size, None, "shm_size")
        _ = self._pts

    def steps(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        """Yield: take the nodes, make a tmpfs with places for them, attach it, mount all on it."""
        nodes = (*_NODES, *(_node(name) for name in self.extra))
        # first: the target may be the very /dev that they are taken from
        for name in nodes:
            yield OpenTree(b"/dev/" + name, recursive=False)
            # no bar to reading and writing a device, but to chmod: it is the host's own node
            yield SetAttributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
            yield SetAside()
        options = ((b"mode", b"755"), *tmpfs_limits(self.size, self.inodes))
        yield NewMount(b"tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
        yield from self._places(nodes)
        yield from self.fill(entries)
        if self.read_only:
            yield SetAttributes(MOUNT_ATTR_RDONLY)
        yield Attach(self.place)
        for name in nodes:
            yield TakeUp()
            yield Attach(self.place + b"/" + name)
        yield from self._pts.steps()
        shm = Tmpfs(self.place + b"/shm", self.shm_size, inodes=self.inodes, noexec=True)
        yield from shm.steps()
        if self.mqueue:
            yield from Mqueue(self.place + b"/mqueue").steps()

    @property
    def _pts(self) -> Devpts:
        return Devpts(self.place + b"/pts", gid=self.pts_gid, max=self.pts_max)

    def _places(self, nodes: Sequence[bytes]) -> Iterator[Step]:
        for name in nodes:
            above, slash, _ = name.rpartition(b"/")
            if slash:
                yield MakeDirectory(b"/" + above, in_hand=True)
            yield WriteFile(name, 0o666)
        for name in (b"pts", b"shm", *((b"mqueue",) if self.mqueue else ())):
            yield MakeDirectory(b"/" + name, in_hand=True)
        for name, to in _LINKS:
            yield MakeSymlink(b"/" + name, in_hand=True, to=to)


def _node(name: str | bytes) -> bytes:
    encoded = encode_path("extra", name)
    parts = encoded.split(b"/")
    if any(part in (b"", b".", b"..") for part in parts):
        raise ValueError(f'extra={name!r} is not the name of a node below /dev, as "net/tun"')
    return encoded
