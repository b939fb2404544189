"""Which fds a program gets, under which numbers, when some have each other's."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Container, Mapping
from contextlib import ExitStack

_STREAMS = ("stdin", "stdout", "stderr")

Stdio = tuple[int, int, int]  # -1 for one that stays the caller's


def parse_pass_fds(pass_fds: Collection[int]) -> dict[int, int]:
    """Return number inside → fd; ValueError for what can't be one."""
    if isinstance(pass_fds, Mapping):
        pairs = {int(number): int(fd) for number, fd in pass_fds.items()}
    else:
        pairs = {int(fd): int(fd) for fd in pass_fds}
    if any(not 0 <= fd < 2**31 for fd in (*pairs, *pairs.values())):
        raise ValueError("bad value(s) in pass_fds")
    return pairs


def arrange(
    stdio: Stdio, pass_fds: Collection[int], opened: ExitStack
) -> tuple[Stdio, dict[int, int]]:
    """Have no fd overwritten before the child has copied it.

    Args:
        stdio: what becomes stdin, stdout and stderr; -1 for one that was not given.
        pass_fds: fds that keep their numbers, or a mapping of number inside to fd.
        opened: gets what is to be closed once the program runs.

    Returns:
        What becomes stdin, stdout and stderr, and the other fds by their numbers inside.

    Raises:
        ValueError: a number is none, or is given to two fds.
        OSError: an fd is not open (EBADF), or there are none left (EMFILE).
    """
    pairs, standard = parse_pass_fds(pass_fds), list(stdio)
    if isinstance(pass_fds, Mapping):
        for number in sorted(pairs.keys() & {0, 1, 2}):
            if standard[number] != -1:
                raise ValueError(f"pass_fds says what {number} is, and so does {_STREAMS[number]}")
            standard[number] = pairs.pop(number)
    # all, before any is copied: a number that is free now could be given to a copy
    for fd in (*standard, *pairs.values()):
        _check_open(fd)
    overwritten = {*pairs, *(number for number, fd in enumerate(standard) if fd != -1)}
    for number, fd in enumerate(standard):
        if fd in overwritten - {number}:
            standard[number] = copy_clear_of(overwritten, fd, opened)
    for number, fd in pairs.items():
        if fd in overwritten - {number}:
            pairs[number] = copy_clear_of(overwritten, fd, opened)
    stdin, stdout, stderr = standard
    return (stdin, stdout, stderr), pairs


def _check_open(fd: int) -> None:
    if fd == -1:
        return
    try:
        os.get_inheritable(fd)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: fd {fd}") from None


def copy_clear_of(numbers: Container[int], fd: int, opened: ExitStack) -> int:
    """Copy an fd to a number from 3 on that is not among those; `opened` closes it."""
    copy = 2
    while True:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, copy + 1)
        opened.callback(os.close, copy)
        if copy not in numbers:
            return copy
