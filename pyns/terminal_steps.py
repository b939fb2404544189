"""The steps that give a program a controlling terminal of its own."""

from __future__ import annotations

import errno
from typing import ClassVar

from pyns.steps import Operands, Step


class OpenTerminal(Step):
    """Opens a new terminal (pts(4)): its master goes through a socket, whose fd the slave takes."""

    kind = "open_terminal"
    calls = "openat2 fstatfs ioctl sendmsg dup3"
    rows: int
    columns: int
    fd: int = -1

    PLACES: ClassVar[tuple[bytes, bytes]] = (b"/dev/pts", b"/dev/ptmx")

    def describe(self) -> str:
        return f"open a terminal of {self.rows} rows and {self.columns} columns in /dev/pts"

    def operands(self) -> Operands:
        return Operands(self.PLACES, fd=self.fd, value=self.rows << 16 | self.columns)

    def hint(self, error: int) -> str | None:
        missing = "There is no /dev/pts inside: add Dev() to the mounts"
        return {
            errno.ENOENT: missing,
            errno.ENODEV: missing,
            errno.ENOSPC: "The limit of terminals is reached: kernel.pty.max (sysctl), or `max` of "
            "its Devpts",
        }.get(error)


class SetTerminalOwner(Step):
    """Gives the terminal to the user that the program will be (chown(2))."""

    kind = "set_terminal_owner"
    calls = "fchown"
    uid: int
    fd: int = -1

    def describe(self) -> str:
        return f"give the terminal to the user {self.uid}"

    def operands(self) -> Operands:
        return Operands(fd=self.fd, value=self.uid)


class SetControllingTerminal(Step):
    """Makes the terminal that of the session, and of its foreground (TIOCSCTTY(2const))."""

    kind = "set_controlling_terminal"
    calls = "ioctl"
    fd: int = -1

    def describe(self) -> str:
        return "make the terminal the controlling one of the session"

    def operands(self) -> Operands:
        return Operands(fd=self.fd)
