"""Calls that Linux has and not every Python: not PyPy, nor those that are built for old systems."""

from __future__ import annotations

import os

from pyns._shim import lib

O_PATH = 0o10000000  # of open(2)
ST_NOSUID = 2  # of statvfs(3)
ST_NOEXEC = 8
P_PIDFD = 3  # of waitid(2)
MFD_CLOEXEC = 1


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a pidfd (pidfd_open(2)), to be closed by the caller."""
    return checked(lib.thread_pidfd_open(pid, flags))


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal (pidfd_send_signal(2))."""
    checked(lib.thread_pidfd_send_signal(pidfd, number))


def memfd_create(name: str, flags: int = MFD_CLOEXEC) -> int:
    """Return an fd of a file in memory (memfd_create(2)), to be closed by the caller."""
    return checked(lib.thread_memfd_create(os.fsencode(name), flags))


def checked(result: int) -> int:
    """Return what a call of the shim has, or raise OSError."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
