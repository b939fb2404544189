"""How one says which process or namespace is meant, and makes sure that it still is that one."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from pyns import linux
from pyns.errors import noted
from pyns.namespaces.kinds import FILES, Namespace

_NS_GET_NSTYPE = 0xB703  # ioctl_nsfs(2)

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class HasFileno(Protocol):
    """An open file, or what is like one."""

    def fileno(self) -> int:
        """Return its fd."""
        ...


# a file of the filesystem (/run/netns/x), a pid, or an open file (of the former, or a pidfd)
Target = StrPath | int | HasFileno


@dataclass(frozen=True)
class Fd:
    """An fd that is only a number, where a bare int would be a pid.

    Whatever has `fileno()` can be given as it is: a `Process` (its pidfd), a file.

    Args:
        number: of a pidfd, or of a namespace's file. It stays the caller's to close.

    Raises:
        TypeError, ValueError: it is no fd.

    Needs: nothing.
    Source: pidfd_open(2), setns(2).

    Example:
        >>> pidfd = os.pidfd_open(os.getpid())
        >>> Fd(pidfd).fileno() == pidfd
        True
        >>> os.close(pidfd)
    """

    number: int

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int):
            raise TypeError(f"number={self.number!r} is not an int")
        if self.number < 0:
            raise ValueError(f"number={self.number} is not an fd")

    def fileno(self) -> int:
        """Return the number."""
        return self.number


def is_path(target: Target) -> TypeGuard[StrPath]:
    """Whether it is a path."""
    return isinstance(target, (str, bytes, os.PathLike))


def name_of(target: Target, pid: int | None = None) -> str:
    """Return what it is called in messages; `pid` if that is known."""
    if isinstance(target, (str, bytes, os.PathLike)):
        return os.fsdecode(target)
    number = target if isinstance(target, int) else pid
    return f"process {number}" if number else repr(target)


def check_target(what: str, target: object) -> None:
    """Raise TypeError or ValueError for what can be neither a process nor a namespace.

    Args:
        what: how a message begins, to be followed by the target.
        target: anything.
    """
    if not isinstance(target, (str, bytes, os.PathLike)):
        check_process(what, target, "a path, a Process, a pid or an open file")


def check_process(what: str, process: object, allowed: str) -> None:
    """Raise TypeError or ValueError for what can't be a process; `allowed` says what can."""
    if isinstance(process, bool) or not (isinstance(process, int) or hasattr(process, "fileno")):
        raise TypeError(f"{what}{process!r} is not {allowed}")
    if isinstance(process, int) and process < 1:
        raise ValueError(f"{what}{process} is not a pid")


@contextmanager
def opened(target: Target) -> Iterator[int]:
    """Open what is meant: the fd of a namespace's file, or a pidfd.

    Raises:
        FileNotFoundError, ProcessLookupError, PermissionError: it can't be opened.
    """
    if isinstance(target, int):
        with noted(f"open a pidfd of process {target}"):
            fd = linux.pidfd_open(target)
    elif isinstance(target, (str, bytes, os.PathLike)):
        fd = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    else:
        yield target.fileno()
        return
    try:
        yield fd
    finally:
        os.close(fd)


def pid_of(fd: int) -> int | None:
    """Return the pid of a pidfd's process, as /proc has it; None for any other file.

    It is 0 if /proc does not show the PID namespace that the process is in. What is read in /proc
    under another number is about this process if `check_alive` says so *afterwards*: until a
    process ends, its pid is no other's.

    Raises:
        ProcessLookupError: the process has ended.
        OSError: the fd is not open (EBADF).
    """
    os.fstat(fd)
    # not by ioctl (PIDFD_GET_INFO): the number has to be that of the mounted /proc
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        numbers = [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
    if not numbers:
        return None
    if numbers[0] < 0:
        raise ProcessLookupError(errno.ESRCH, "the process has ended")
    return numbers[0]


def check_in_proc(pid: int) -> None:
    """Raise ProcessLookupError for the pid 0 of `pid_of`."""
    if pid == 0:
        raise ProcessLookupError(errno.ESRCH, "/proc does not show the process's PID namespace")


def check_alive(pidfd: int) -> None:
    """Raise ProcessLookupError if the process has ended, whether it is reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise ProcessLookupError(errno.ESRCH, "the process has ended")


@contextmanager
def opened_namespace(target: Target | None, kind: Namespace) -> Iterator[int]:
    """Open the file of one namespace: of a process, of a path, or of the calling thread (None).

    Raises:
        ValueError: it is none, or of another kind.
        FileNotFoundError, ProcessLookupError, PermissionError: it can't be opened.
    """
    path = f"/proc/thread-self/ns/{FILES[kind]}"
    with opened(path if target is None else target) as fd:
        pid = None if target is None or is_path(target) else pid_of(fd)
        if pid is None:
            check_kind(fd, kind)
            yield fd
            return
        check_in_proc(pid)
        with opened(f"/proc/{pid}/ns/{FILES[kind]}") as file:
            check_alive(fd)
            yield file


def kind_of(fd: int) -> Namespace | None:
    """Return the kind of namespace that an open file is of; None if of none."""
    try:
        return Namespace(fcntl.ioctl(fd, _NS_GET_NSTYPE))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return None


def check_kind(fd: int, kind: Namespace) -> None:
    """Raise ValueError if an open file is not that of a namespace of this kind."""
    found = kind_of(fd)
    if found != kind:
        what = "no namespace" if found is None else f"the {found.words()} namespace"
        raise ValueError(f"{what} is in this file, not {kind.words()}")
