"""Which kinds of namespaces there are, and which ones a process is in."""

from __future__ import annotations

import enum
import os


class Namespace(enum.Flag):
    """A set of namespaces; the values are the kernel's clone flags (namespaces(7))."""

    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000
    TIME = 0x00000080

    @classmethod
    def parse(cls, names: str) -> Namespace:
        """Read a set from names separated by commas.

        Args:
            names: "pid,mount"; the names of /proc/PID/ns ("mnt") do as well. "" is the empty set.

        Returns:
            The set.

        Raises:
            ValueError: a name is unknown.

        Example:
            >>> Namespace.parse("pid,mnt") == Namespace.PID | Namespace.MOUNT
            True
        """
        namespaces = cls(0)
        for name in filter(None, (part.strip().lower() for part in names.split(","))):
            member = _BY_NAME.get(name)
            if member is None:
                known = ", ".join(sorted(_BY_NAME))
                raise ValueError(f"unknown namespace {name!r}; there are {known}")
            namespaces |= member
        return namespaces

    def words(self) -> str:
        """Return the names, comma separated, as `parse` reads them.

        Example:
            >>> (Namespace.UTS | Namespace.PID).words()
            'uts, pid'
        """
        return ", ".join(m.name.lower() for m in type(self) if m in self and m.name)


# what each is called in /proc/PID/ns
FILES = {
    Namespace.MOUNT: "mnt",
    Namespace.CGROUP: "cgroup",
    Namespace.UTS: "uts",
    Namespace.IPC: "ipc",
    Namespace.USER: "user",
    Namespace.PID: "pid",
    Namespace.NET: "net",
    Namespace.TIME: "time",
}
_BY_NAME = {m.name.lower(): m for m in Namespace if m.name} | {f: m for m, f in FILES.items()}


def of(pid: int | None = None) -> dict[Namespace, int]:
    """Return the namespaces that a process is in.

    Args:
        pid: the process, in the caller's PID namespace; None for the calling thread.

    Returns:
        The inode number of each namespace: two processes share one if the numbers are equal.
        Kinds that the kernel was built without are missing.

    Raises:
        ProcessLookupError: there is no such process (ESRCH).
        PermissionError: the caller may not look at it (EACCES, EPERM).

    Needs: the right to ptrace the process (PTRACE_MODE_READ).
    Source: namespaces(7).

    Example:
        >>> Namespace.PID in of()
        True
    """
    directory = f"/proc/{'thread-self' if pid is None else pid}/ns"
    inodes = {}
    for namespace, name in FILES.items():
        try:
            inodes[namespace] = os.stat(f"{directory}/{name}").st_ino
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise ProcessLookupError(f"no process {pid}") from None
    return inodes
