"""inotify(7) and timerfd(2), which Python 3.11 does not have."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

IN_MODIFY = 0x2
IN_DELETE = 0x200
_CLOCK_MONOTONIC = 1


def _call(name: str, *args: Any) -> int:
    import ctypes  # here: it takes longer than all of pyns to import, and few watch events

    function: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    result = function(*args)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_inotify() -> int:
    """Return an inotify fd, non-blocking.

    Raises:
        OSError: the user has too many of them (EMFILE; fs.inotify.max_user_instances).
    """
    return _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def add_watch(inotify: int, directory: int, name: str, mask: int) -> None:
    """Have an inotify fd report what happens in a directory that is open.

    Args:
        inotify: the fd.
        directory: an fd of the directory.
        name: "." for the directory itself, ".." for that above it.
        mask: of IN_ bits.
    """
    path = f"/proc/self/fd/{directory}/{name}"
    _call("inotify_add_watch", inotify, path.encode(), mask)


def open_timer() -> int:
    """Return a timer's fd, non-blocking."""
    return _call("timerfd_create", _CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)


def set_timer(timer: int, seconds: float) -> None:
    """Have a timer's fd become readable once, so many seconds from now."""
    import ctypes

    nanoseconds = round(seconds * 10**9)
    # struct itimerspec: interval, then value, each seconds and nanoseconds
    when = (ctypes.c_long * 4)(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
    _call("timerfd_settime", timer, 0, when, None)


def drain(fd: int) -> bool:
    """Read all that is there from a non-blocking fd; return whether there was anything."""
    found = False
    with suppress(BlockingIOError):
        while os.read(fd, 65536):
            found = True
    return found
