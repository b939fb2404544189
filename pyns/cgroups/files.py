"""The one reader and the one writer of cgroup files.

Everything goes through an fd of the directory: a group that was removed and made again under the
same name is another group, and is not touched.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, Self

from pyns.errors import CgroupError

# ENODEV: the group was removed while we held it open
NOT_THERE = (errno.ENOENT, errno.ENODEV)


def is_there(fd: int, path: str) -> bool:
    """Whether a group has not been removed, whose directory is open.

    Args:
        fd: of the directory.
        path: of the directory, for errors.

    Raises:
        CgroupError: it can't be looked at.
    """
    try:
        os.stat("cgroup.procs", dir_fd=fd)
    except OSError as error:
        if error.errno in NOT_THERE:
            return False
        raise CgroupError(error.errno or 0, f"look at the cgroup {path}", file=path) from None
    return True


class Directory:
    """A cgroup's directory in one hierarchy, held open."""

    __slots__ = ("_kept", "fd", "path")

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.path = path
        self._kept: dict[tuple[str, int], int] = {}
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CgroupError(error.errno or 0, f"open the cgroup {path}", file=path) from None

    def close(self) -> None:
        """Let go of the fds; the group stays."""
        while self._kept:
            os.close(self._kept.popitem()[1])
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a cgroup's open directory can't be copied or pickled")

    def remove(self) -> None:
        """Remove it, which needs no further fd, and let go of it; it has to be empty."""
        with suppress(FileNotFoundError):
            os.rmdir(self.path)
        self.close()

    def open(self, name: str, flags: int) -> int:
        """Return an fd of a file in it, which the caller owns; never makes one."""
        if self.fd < 0:
            raise ValueError(f"the cgroup {self.path} is closed")
        try:
            return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        except OSError as error:
            path = f"{self.path}/{name}"
            raise CgroupError(error.errno or 0, f"open {path}", file=path) from None

    def read(self, name: str) -> str:
        """Return the text of a file."""
        fd = self.open(name, os.O_RDONLY)
        try:
            parts = []
            while part := os.read(fd, 65536):
                parts.append(part)
        except OSError as error:
            path = f"{self.path}/{name}"
            raise CgroupError(error.errno or 0, f"read {path}", file=path) from None
        finally:
            os.close(fd)
        return b"".join(parts).decode()

    def read_if_there(self, name: str) -> str | None:
        """Return the text of a file, or None if this kernel has no such file."""
        try:
            return self.read(name)
        except CgroupError as error:
            if error.errno in NOT_THERE:
                return None
            raise

    def text(self, name: str) -> str | None:
        """Return the text of a file that the kernel writes in one piece; None as above."""
        try:
            fd = self.open(name, os.O_RDONLY)
        except CgroupError as error:
            if error.errno in NOT_THERE:
                return None
            raise
        try:
            return self.text_of(fd, name)
        finally:
            os.close(fd)

    def kept_text(self, name: str) -> str | None:
        """Return it as `text`, and keep the file open for the next time: 1 us instead of 5."""
        try:
            return self.text_of(self.kept(name, os.O_RDONLY), name)
        except CgroupError as error:
            if error.errno in NOT_THERE:
                return None
            raise

    def kept(self, name: str, flags: int) -> int:
        """Return an fd of a file in it, as `open`, but for all to use until the directory's end."""
        key = name, flags
        if key not in self._kept:
            fd = self.open(name, flags)
            if self._kept.setdefault(key, fd) != fd:  # another thread was faster
                os.close(fd)
        return self._kept[key]

    def text_of(self, fd: int, name: str) -> str | None:
        """Return the text of a file in it that is open; None as above."""
        size = 8192
        try:
            while len(data := os.pread(fd, size, 0)) == size:
                size *= 4
        except OSError as error:
            if error.errno in NOT_THERE:
                return None
            path = f"{self.path}/{name}"
            raise CgroupError(error.errno or 0, f"read {path}", file=path) from None
        return data.decode(errors="replace")

    def names(self) -> list[str]:
        """Return the names of the files in it."""
        with self._listed() as entries:
            return [entry.name for entry in entries]

    @contextmanager
    def _listed(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            with os.scandir(self.fd) as entries:
                yield entries
        except OSError as error:
            raise CgroupError(
                error.errno or 0, f"list the cgroup {self.path}", file=self.path
            ) from None

    @property
    def is_there(self) -> bool:
        """Whether the group has not been removed."""
        return self.fd >= 0 and is_there(self.fd, self.path)

    def write(self, name: str, value: str, controller: str | None = None) -> None:
        """Put a value into a file with a single write, as the kernel wants it."""
        try:
            fd = self.open(name, os.O_WRONLY)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            path = f"{self.path}/{name}"
            raise CgroupError(
                error.errno or 0,
                f"write {value!r} to {path}",
                controller=controller,
                file=path,
                value=value,
            ) from None

    def pids(self) -> list[int]:
        """Return the processes in it, without those of its children."""
        return [int(pid) for pid in self.read("cgroup.procs").split()]

    def children(self) -> Iterator[Directory]:
        """Yield the groups below it, each to be closed by the caller."""
        if (
            self.fd >= 0 and os.fstat(self.fd).st_nlink == 2
        ):  # its own two; one more for each that is below
            return
        with self._listed() as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for name in names:
            try:
                yield Directory(f"{self.path}/{name}")
            except CgroupError as error:
                if error.errno not in NOT_THERE:
                    raise
