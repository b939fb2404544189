"""An empty filesystem for one run, which the caller can read when the program has ended."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pyns import marshal
from pyns.handing import receive_fd
from pyns.mount_steps import SendMount
from pyns.mounts import Entry, StrPath, Tmpfs, encode_path
from pyns.steps import Step

if TYPE_CHECKING:
    from socket import socket


@dataclass(frozen=True)
class _Given(Tmpfs):
    """A Tmpfs that the caller is given: what is in it stays as long as he has it."""

    socket: int = -1

    def make(self, entries: Sequence[Entry] = ()) -> Iterator[Step]:
        yield from super().make(entries)
        yield SendMount(self.socket)


def encode_name(name: StrPath) -> bytes:
    """Return a path below a target; ValueError for one that is absolute or leads upwards."""
    path = encode_path("name", name)
    if path.startswith(b"/") or b".." in path.split(b"/"):
        raise ValueError(f"name={name!r}: give a path below the target")
    return path


class Scratch:
    r"""An empty filesystem in memory for one run, whose files can be read after it.

    A context manager; at the end of the `with` the files are gone. What the program makes of them
    can't lead anywhere else: they are looked up beneath the filesystem's own directory, which is
    on no disk, and through no link.

    Args:
        target: where, inside.
        size: bytes or "64M"; its pages are charged to the program.
        inodes: how many files, directories and links at most.

    Attributes:
        mount: what to mount, in one container, for one run.

    Raises:
        ValueError: as for a Tmpfs.
        OSError: there are no fds left (EMFILE).

    Needs: as a Tmpfs.
    Source: tmpfs(5), openat2(2).

    Example:
        >>> from pyns import Container, run
        >>> with Scratch("/tmp", "1M") as scratch:
        ...     box = Container.sandbox(limits=None, mounts=[scratch.mount])
        ...     done = run(box, ["sh", "-c", "echo 42 > /tmp/answer"])
        ...     scratch.read("answer", size=100)
        b'42\n'
    """

    def __init__(self, target: StrPath, size: int | str, *, inodes: int = 65536) -> None:
        import socket  # not needed otherwise: a millisecond of each start of the interpreter

        Tmpfs(target, size=size, inodes=inodes)  # ValueError before there is anything to close
        self._directory = -1
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs.setblocking(False)  # many runs would fill it, and the child wait for ever
        self.mount = _Given(target, size=size, inodes=inodes, socket=self._theirs.fileno())

    def read(self, name: StrPath, *, size: int) -> bytes:
        """Return the content of a file that the program has left.

        Args:
            name: a path below the target, without "..".
            size: bytes that it may have.

        Raises:
            ValueError: the name is absolute or leads upwards, or the Scratch is closed.
            FileNotFoundError: there is no such file, or nothing was started.
            OSError: it is larger (EFBIG); it, or what is above it, is a link (ELOOP) or a mount
                (EXDEV); it is a directory, a device, a FIFO or a socket (EISDIR, EINVAL, ENXIO); it
                may not be read (EACCES).

        Needs: to be allowed to read it: root, or the user that the program was.
        Source: openat2(2).

        Example:
            >>> with Scratch("/tmp", "1M") as scratch:
            ...     scratch.read("answer", size=100)
            Traceback (most recent call last):
            FileNotFoundError: [Errno 2] No such file or directory: 'answer'
        """
        path = encode_name(name)
        try:
            fd = marshal.open_beneath(self._received(), path)
            try:
                return _content(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(name)) from None

    def _received(self) -> int:
        if self._directory < 0:
            self._directory = _receive(self._ours)
        return self._directory

    def close(self) -> None:
        """Let go of the files; harmless when that is done.

        Needs: nothing.
        Source: close(2).

        Example:
            >>> Scratch("/tmp", "1M").close()
        """
        self._ours.close()
        self._theirs.close()
        fd, self._directory = self._directory, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _receive(ours: socket) -> int:
    if ours.fileno() < 0:
        raise ValueError("the Scratch is closed")
    try:
        return receive_fd(ours)
    except BlockingIOError:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None


def _content(fd: int, size: int) -> bytes:
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        error = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(error, os.strerror(error))
    parts, left = [], size + 1
    while left and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return b"".join(parts)
