"""The program to start: what subprocess.Popen lets a caller say about it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyns.mounts import StrPath
from pyns.steps import CloseRange, Duplicate, Step

Arguments = StrPath | Sequence[StrPath]
Environment = Mapping[str, StrPath] | Mapping[bytes, StrPath]


@dataclass(frozen=True)
class Command:
    """A program, its arguments and what it inherits; -1 and None mean as the caller has it.

    Attributes:
        arguments: argv.
        candidates: paths to try in turn.
        environment: strings KEY=value.
        cwd: working directory.
        stdio: fds for stdin, stdout and stderr.
        pass_fds: further fds that stay open, under their numbers.
        close_fds: whether all others are closed.
        restore_signals: whether the signals that Python ignores get their default action.
        umask: file mode creation mask.
        start_new_session: setsid(2).
        process_group: pgid to join, 0 to lead one.
        groups, gid, uid: credentials.
    """

    arguments: tuple[bytes, ...]
    candidates: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    cwd: bytes | None = None
    stdio: tuple[int, int, int] = (-1, -1, -1)
    pass_fds: tuple[int, ...] = ()
    close_fds: bool = True
    restore_signals: bool = True
    umask: int = -1
    start_new_session: bool = False
    process_group: int = -1
    groups: tuple[int, ...] | None = None
    gid: int | None = None
    uid: int | None = None

    def fd_steps(self) -> Iterator[Step]:
        """Yield the steps after which the program's fds are exactly those that were asked for."""
        for number, fd in enumerate(self.stdio):
            if fd != -1:
                yield Duplicate(fd, number)
        if not self.close_fds:
            return
        passed = sorted(set(self.pass_fds))
        for fd in passed:
            yield Duplicate(fd, fd)
        first = 3
        for fd in [fd for fd in passed if fd >= 3]:
            if fd > first:
                yield CloseRange(first, fd - 1)
            first = fd + 1
        yield CloseRange(first, CloseRange.LAST)


def split_arguments(args: Arguments, shell: bool, executable: StrPath | None) -> list[StrPath]:
    """Return argv as subprocess makes it of its arguments; ValueError when there is none."""
    if isinstance(args, (str, bytes)):
        args = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    else:
        args = list(args)
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    if not args:
        raise ValueError("args is empty: its first item is the program")
    return args


def encode_arguments(args: Sequence[StrPath]) -> tuple[bytes, ...]:
    """Return argv as the kernel takes it; ValueError for a NUL, TypeError for what is no string."""
    return tuple(_without_nul("args", os.fsencode(arg)) for arg in args)


def encode_environment(env: Environment | None) -> tuple[bytes, ...]:
    """Return KEY=value strings, the caller's for None; ValueError for a NUL, or '=' in a key."""
    if env is None:
        # what came from the kernel has no NUL, and putenv(3) takes none
        return tuple(key + b"=" + value for key, value in os.environb.items())
    strings = []
    for name, value in env.items():
        key = os.fsencode(name)
        if b"=" in key:
            raise ValueError("illegal environment variable name")
        strings.append(_without_nul("env", key + b"=" + os.fsencode(value)))
    return tuple(strings)


def find_candidates(executable: StrPath, env: Environment | None) -> tuple[bytes, ...]:
    """Return the paths where execvp(3) would look, by the PATH that the program will have."""
    encoded = _without_nul("executable", os.fsencode(executable))
    if not encoded:
        raise ValueError("the program's name is empty")
    if os.path.dirname(encoded):
        return (encoded,)
    directories = os.get_exec_path(env)  # type: ignore[arg-type]  # takes bytes as well
    return tuple(os.path.join(os.fsencode(directory), encoded) for directory in directories)


def _without_nul(what: str, encoded: bytes) -> bytes:
    if b"\0" in encoded:
        raise ValueError(f"embedded null byte in {what}")
    return encoded


def check_pass_fds(pass_fds: Collection[int]) -> tuple[int, ...]:
    """Return the fds as numbers; ValueError for one that can't be one."""
    fds = tuple(int(fd) for fd in pass_fds)
    if any(not 0 <= fd < 2**31 for fd in fds):
        raise ValueError("bad value(s) in pass_fds")
    return fds
