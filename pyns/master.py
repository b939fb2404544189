"""What the caller has of a program's terminal: its master end."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pyns.handing import receive_fd
from pyns.terminal_steps import OpenTerminal

if TYPE_CHECKING:
    from socket import socket

# True, rows and columns, or what os.get_terminal_size says
Size = bool | tuple[int, int] | os.terminal_size

_DEFAULT = 24, 80
_LARGEST = 2**16 - 1  # struct winsize
_CHUNK = 65536


class Terminal(io.FileIO):
    """The master end of a program's terminal: read what it shows, write what is typed.

    The end is `b""`, once nobody has the terminal open any more (the kernel says EIO). Closing it
    hangs up: the session's leader and the foreground get SIGHUP.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "r+")

    def read(self, size: int | None = -1) -> bytes:
        """Read at most so many bytes, by default all until the end."""
        if size is None or size < 0:
            return self.readall()
        with _hung_up_is_the_end():
            return super().read(size)
        return b""

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; 0 is the end."""
        with _hung_up_is_the_end():
            return super().readinto(buffer)
        return 0

    def readall(self) -> bytes:
        """Read until the end."""
        return b"".join(iter(lambda: self.read(_CHUNK) or b"", b""))


@contextmanager
def _hung_up_is_the_end() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def parse_size(terminal: Size) -> tuple[int, int] | None:
    """Return rows and columns; None for no terminal.

    Raises:
        TypeError, ValueError: it is not a size.
    """
    if terminal is False:
        return None
    if terminal is True:
        return size_of(0, 1, 2) or _DEFAULT
    if isinstance(terminal, os.terminal_size):  # a tuple as well, but the other way round
        return check_size(terminal.lines, terminal.columns)
    if not isinstance(terminal, tuple) or len(terminal) != 2:
        raise TypeError(f"terminal={terminal!r}: give True, (rows, columns) or os.terminal_size")
    return check_size(*terminal)


def check_size(rows: int, columns: int) -> tuple[int, int]:
    """Return them; TypeError or ValueError if they are no window's."""
    for name, number in (("rows", rows), ("columns", columns)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name}={number!r} is not an int")
        if not 1 <= number <= _LARGEST:
            raise ValueError(f"{name}={number} is out of range: 1 to {_LARGEST}")
    return rows, columns


def size_of(*fds: int) -> tuple[int, int] | None:
    """Return rows and columns of the first that is a terminal and knows them."""
    for fd in fds:
        try:
            rows, columns = termios.tcgetwinsize(fd)
        except termios.error:
            continue
        if rows and columns:
            return rows, columns
    return None


def open_handover(size: tuple[int, int], opened: ExitStack) -> tuple[OpenTerminal, socket]:
    """Return the step that opens a terminal, and the socket through which its master comes.

    Args:
        size: rows and columns.
        opened: gets what is to be closed once the child runs.
    """
    import socket  # not needed otherwise: a millisecond of each start of the interpreter

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened.enter_context(ours)
    with theirs:  # out of the way of the numbers that the child is about to overwrite
        fd = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)
    opened.callback(os.close, fd)
    return OpenTerminal(*size, fd), ours


def receive(ours: socket) -> Terminal:
    """Return the master of the terminal that the child has opened; OSError (EMFILE) without fds."""
    return Terminal(receive_fd(ours))
