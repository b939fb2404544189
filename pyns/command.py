"""The program to start: what subprocess.Popen lets a caller say about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyns.mounts import StrPath, encode_path
from pyns.steps import CloseRange, Duplicate, ExecuteInit, Step, Strings
from pyns.terminal_steps import OpenTerminal

# the caller's environment when it was last looked at, and as strings
_own: tuple[Mapping[bytes, bytes], Strings] = ({}, Strings())

_AS_IT_IS = ((-1, -1, -1), -1, -1)

Arguments = StrPath | Sequence[StrPath]
Environment = Mapping[str, StrPath] | Mapping[bytes, StrPath]


@dataclass(slots=True)  # frozen, to make one would take 7 us, not 2
class Command:
    """A program, its arguments and what it inherits; -1 and None mean as the caller has it.

    Attributes:
        arguments: argv.
        candidates: paths to try in turn.
        environment: strings KEY=value.
        cwd: working directory.
        stdio: fds for stdin, stdout and stderr.
        pass_fds: number inside and fd of the further ones; see `pyns.descriptors.arrange`.
        close_fds: whether all others are closed.
        restore_signals: whether the signals that Python ignores get their default action.
        umask: file mode creation mask.
        start_new_session: setsid(2).
        process_group: pgid to join, 0 to lead one.
        groups, gid, uid: credentials.
        name, cwd_name: what the caller called the program and the cwd, for errors.

    Raises:
        OverflowError: a number is larger than the kernel takes; ValueError of groups, and of one
            below 0. As subprocess says it, but that takes such a umask or process group for none.
    """

    arguments: tuple[bytes, ...]
    candidates: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    cwd: bytes | None = None
    stdio: tuple[int, int, int] = (-1, -1, -1)
    pass_fds: tuple[tuple[int, int], ...] = ()
    close_fds: bool = True
    restore_signals: bool = True
    umask: int = -1
    start_new_session: bool = False
    process_group: int = -1
    groups: tuple[int, ...] | None = None
    gid: int | None = None
    uid: int | None = None
    name: object = None
    cwd_name: object = None

    def __post_init__(self) -> None:
        if (self.stdio, self.umask, self.process_group) == _AS_IT_IS and (
            self.uid is None and self.gid is None and self.groups is None
        ):
            return  # as it is nearly always, which each spawn would pay for
        # an id of 2**32 - 1 means "leave it as it is" to the kernel
        for what, numbers, low, high in (
            ("user", (self.uid,), 0, 2**32 - 2),
            ("group", (self.gid,), 0, 2**32 - 2),
            ("extra_groups", self.groups or (), 0, 2**32 - 2),
            ("umask", (self.umask,), -1, 2**31 - 1),
            ("process_group", (self.process_group,), -1, 2**31 - 1),
            ("stdin, stdout, stderr", self.stdio, -1, 2**31 - 1),
        ):
            for number in numbers:
                if number is None:
                    continue
                if not isinstance(number, int):
                    raise TypeError(f"{what}: {number!r} is not an int")
                if not low <= number <= high:
                    is_value = what == "extra_groups" or number < 0
                    error = ValueError if is_value else OverflowError
                    raise error(f"{what}: {number} is out of range: {low} to {high}")

    @property
    def setup(self) -> tuple[object, ...]:
        """All that decides about the steps before the program's own."""
        return (
            self.cwd,
            self.stdio,
            self.pass_fds,
            self.close_fds,
            self.restore_signals,
            self.umask,
            self.start_new_session,
            self.process_group,
            self.groups,
            self.gid,
            self.uid,
        )

    @property
    def numbers(self) -> set[int]:
        """The numbers of the fds that the program gets or may get."""
        return {0, 1, 2, *(number for number, _ in self.pass_fds)}

    def fd_steps(
        self,
        init: ExecuteInit | None = None,
        terminal: OpenTerminal | None = None,
        lent: Sequence[int] = (),
    ) -> Iterator[Step]:
        """Yield the steps after which the program's fds are exactly those that were asked for.

        Args:
            init: has fds that it needs, and closes.
            terminal: takes the place of stdio that is not given.
            lent: those that the init's child needs, and closes.
        """
        for number, fd in enumerate(self.stdio):
            given = fd if fd != -1 or terminal is None else terminal.fd
            if given != -1:
                yield Duplicate(given, number)
        needed = (*lent, *(() if init is None else init.fds))
        for fd in lent:
            yield Duplicate(fd, fd)
        if not self.close_fds:
            return
        for number, fd in sorted(self.pass_fds):
            yield Duplicate(fd, number)
        first = 3
        kept = sorted({*dict(self.pass_fds), *needed})
        for fd in [fd for fd in kept if fd >= 3]:
            if fd > first:
                yield CloseRange(first, fd - 1)
            first = fd + 1
        yield CloseRange(first, CloseRange.LAST)


def split_arguments(args: Arguments, shell: bool, executable: StrPath | None) -> list[StrPath]:
    """Return argv as subprocess makes it of its arguments; ValueError when there is none."""
    argv: list[StrPath]
    if isinstance(args, (str, bytes)):
        argv = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        argv = [args]
    else:
        argv = list(args)
    if shell:
        argv = [executable or "/bin/sh", "-c", *argv]
    if not argv:
        raise ValueError("args is empty: its first item is the program")
    return argv


def encode_arguments(args: Sequence[StrPath]) -> tuple[bytes, ...]:
    """Return argv as the kernel takes it; ValueError for a NUL, TypeError for what is no string."""
    encoded = tuple([os.fsencode(arg) for arg in args])
    _without_nul("args", b"".join(encoded))
    return encoded


def encode_environment(env: Environment | None) -> Strings:
    """Return KEY=value strings, the caller's for None; ValueError for a NUL, or '=' in a key."""
    if env is None:
        # What came from the kernel has no NUL, and putenv(3) takes none. environb calls four
        # functions for each item; what it keeps them in costs a fifth, at every spawn, and to see
        # that it is what it was before a tenth of that.
        global _own
        kept = getattr(os.environ, "_data", os.environb)
        own = _own
        if kept != own[0]:
            copied = dict(kept)  # at once: other threads may change it
            own = _own = (copied, Strings([key + b"=" + value for key, value in copied.items()]))
        return own[1]
    strings = []
    for name, value in env.items():
        key = os.fsencode(name)
        if b"=" in key:
            raise ValueError("illegal environment variable name")
        strings.append(_without_nul("env", key + b"=" + os.fsencode(value)))
    return Strings(strings)


def find_candidates(executable: StrPath, env: Environment | None) -> tuple[bytes, ...]:
    """Return the paths where execvp(3) would look, by the PATH that the program will have."""
    encoded = _without_nul("executable", os.fsencode(executable))
    if not encoded:
        raise ValueError("the program's name is empty")
    if b"/" in encoded:
        return (encoded,)
    if env is None:  # as below, but ten times as fast, which each spawn would pay
        directories = os.environb.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    else:
        paths = os.get_exec_path(env)  # type: ignore[arg-type]  # takes bytes as well
        directories = [os.fsencode(path) for path in paths]
    return tuple([os.path.join(directory, encoded) for directory in directories])


def _without_nul(what: str, encoded: bytes) -> bytes:
    if b"\0" in encoded:
        raise ValueError(f"embedded null byte in {what}")
    return encoded


def encode_cwd(cwd: StrPath | None, *, may_be_hidden: bool) -> bytes | None:
    """Return the working directory to enter; None to stay in the caller's.

    Args:
        cwd: as the caller gave it.
        may_be_hidden: whether mounts may cover the caller's directory. To stay in it would be a
            way to what lies below them; then it is entered by its path.
    """
    encoded = None if cwd is None else encode_path("cwd", cwd)
    if not may_be_hidden:
        return encoded
    if encoded is None:
        return os.getcwdb()
    return encoded if encoded.startswith(b"/") else os.path.join(os.getcwdb(), encoded)
