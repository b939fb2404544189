"""What `pyns ps` does: show which process is in which namespaces and cgroups."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from typing import NamedTuple

import click

from pyns import namespaces
from pyns.cgroups import current
from pyns.cli.failing import Command
from pyns.cli.table import show
from pyns.joining import differing, status_of
from pyns.namespaces import Namespace

_EPILOG = """\b
Examples:
  pyns ps                    # the containers
  pyns ps --namespaces       # each namespace, as lsns
  pyns ps 4711               # what a process shares, and with whom
"""


class Entry(NamedTuple):
    """A process, as /proc shows it."""

    pid: int
    user: str
    command: str
    spaces: dict[Namespace, int]
    pid_inside: int


def processes(proc: str = "/proc") -> Iterator[Entry]:
    """Yield the processes that the caller may look at, but for the kernel's own threads."""
    for name in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        try:
            spaces = namespaces.of(int(name))
            with open(f"{proc}/{name}/cmdline", "rb") as file:
                words = file.read().rstrip(b"\0").split(b"\0")
            fields = status_of(name, proc)
        except OSError:  # it has ended, or is another's
            continue
        if words == [b""] and not fields.get("VmSize"):
            continue
        command = os.fsdecode(b" ".join(words)) or fields["Name"]
        inside = int(fields.get("NSpid", name).split()[-1])
        yield Entry(int(name), _user(fields["Uid"].split()[1]), _clean(command), spaces, inside)


def _clean(text: str) -> str:
    """Return what a terminal shows as it is."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _user(uid: str) -> str:
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return uid


def group_of(pid: int) -> str:
    """Return the cgroup of a process: the longest path that it has in any hierarchy."""
    try:
        return max(current(pid).values(), key=len, default="")
    except OSError:
        return ""


class Space(NamedTuple):
    """Processes that are in the same namespaces."""

    first: Entry
    kinds: Namespace  # in which they differ from the caller
    members: int


def containers(entries: list[Entry], own: dict[Namespace, int]) -> list[Space]:
    """Return those who are in other namespaces than the caller, together by what they share."""
    found: dict[tuple[tuple[Namespace, int], ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault(tuple(entry.spaces.items()), []).append(entry)
    spaces = []
    for members in found.values():
        kinds = differing(members[0].spaces, own)
        if kinds:
            spaces.append(Space(members[0], kinds, len(members)))
    return spaces


def _show_containers(entries: list[Entry]) -> None:
    rows = [
        (s.first.pid, s.members, s.first.user, s.kinds.words().replace(" ", ""),
         group_of(s.first.pid), s.first.command)
        for s in containers(entries, namespaces.of())
    ]  # fmt: skip
    headings = ("PID", "PROCS", "USER", "OWN NAMESPACES", "CGROUP", "COMMAND")
    show(headings, rows, numbers=("PID", "PROCS"))


def _show_namespaces(entries: list[Entry]) -> None:
    found: dict[tuple[Namespace, int], list[Entry]] = {}
    for entry in entries:
        for kind, inode in entry.spaces.items():
            found.setdefault((kind, inode), []).append(entry)
    own = namespaces.of()
    rows = [
        (inode, kind.words(), "yes" if own.get(kind) == inode else "", len(members),
         members[0].pid, members[0].user, members[0].command)
        for (kind, inode), members in sorted(
            found.items(), key=lambda each: (each[0][0].words(), each[0][1])
        )
    ]  # fmt: skip
    headings = ("NAMESPACE", "TYPE", "CALLER'S", "PROCS", "PID", "USER", "COMMAND")
    show(headings, rows, numbers=("NAMESPACE", "PROCS", "PID"))


def _show_process(entries: list[Entry], pid: int) -> None:
    asked = next((entry for entry in entries if entry.pid == pid), None)
    if asked is None:
        raise ProcessLookupError(f"no process {pid}, or the caller may not look at it")
    click.echo(f"{asked.command}: PID {pid}, {asked.pid_inside} inside, user {asked.user}")
    own = namespaces.of()
    rows = []
    for kind, inode in asked.spaces.items():
        others = [e.pid for e in entries if e.spaces.get(kind) == inode and e.pid != pid]
        if own.get(kind) == inode:
            shared = f"the caller and {len(others)} processes"
        else:
            shared = ", ".join(map(str, others[:8])) + (", ..." if len(others) > 8 else "")
        rows.append((kind.words(), inode, shared or "nobody"))
    show(("TYPE", "NAMESPACE", "SHARED WITH"), rows, numbers=("NAMESPACE",))
    click.echo()
    groups = [
        (f"v{h.version}", ",".join(h.controllers) or h.name, path)
        for h, path in current(pid).items()
    ]
    show(("HIERARCHY", "CONTROLLERS", "CGROUP"), groups)


@click.command(
    "ps",
    cls=Command,
    epilog=_EPILOG,
    short_help="Show containers: which process shares which namespaces.",
)
@click.argument("pid", type=int, required=False)
@click.option("-n", "--namespaces", "each", is_flag=True, help="Each namespace, as lsns does.")
def command(pid: int | None, each: bool) -> None:
    """Show containers: processes that are in other namespaces than you.

    With PID, what this process shares and with whom, and its cgroups. As an ordinary user, of the
    processes that one may look at.
    """
    entries = list(processes())
    if pid is not None:
        _show_process(entries, pid)
    elif each:
        _show_namespaces(entries)
    else:
        _show_containers(entries)
