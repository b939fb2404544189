"""What `pyns cgroup` does: show cgroups and what they use."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import click

from pyns.cgroups import Cgroup, Stats, hierarchies
from pyns.cgroups.files import Directory
from pyns.cgroups.placing import default_bases
from pyns.cli.failing import Command
from pyns.cli.table import NO_RICH, has_rich, show, size, table
from pyns.errors import CgroupError

_EPILOG = """\b
Examples:
  pyns cgroup tree                 # the groups that pyns has made
  pyns cgroup tree --all --watch   # all of this host, as top shows processes
  pyns cgroup tree system.slice
"""
_HEADINGS = ("CGROUP", "PROCS", "CPU", "MEMORY", "PEAK", "PIDS", "OOM", "FIRST")
_NUMBERS = _HEADINGS[1:-1]


class Seen(NamedTuple):
    """A group, when it was looked at."""

    path: str  # below where the tree begins
    processes: list[int]
    stats: Stats
    at: float


def tree(top: str | None = None, *, everything: bool = False) -> Iterator[Seen]:
    """Yield the groups below a place, those above before those below.

    Args:
        top: path of a group, from the root of the hierarchies; None for where pyns makes groups.
        everything: all groups of the host.
    """
    bases = {
        hierarchy: hierarchy.mount_point if top is None else f"{hierarchy.mount_point}/{top}"
        for hierarchy in hierarchies()
    }
    if top is None and not everything:
        bases = {h: "/".join((base, *above)) for h, (base, above) in default_bases().items()}
    paths = sorted({
        os.path.relpath(path, base) for base in bases.values() for path, _, _ in os.walk(base)
    }, key=lambda path: path.split("/"))  # fmt: skip
    for path in paths:
        directories = {}
        for hierarchy, base in bases.items():
            with suppress(CgroupError):
                directories[hierarchy] = Directory(os.path.normpath(f"{base}/{path}"))
        group = Cgroup(directories)
        try:
            yield Seen(path, group.processes, group.stats(), time.monotonic())
        except CgroupError:  # removed meanwhile
            continue
        finally:
            group.close()


def rows(seen: list[Seen], before: dict[str, Seen]) -> list[list[str]]:
    """Return what is shown of groups; CPU time in percent, if they were seen before."""
    shown = []
    for each in seen:
        depth = 0 if each.path == "." else each.path.count("/") + 1
        name = "/" if depth == 0 else "  " * depth + os.path.basename(each.path)
        first = ""
        if each.processes:
            with suppress(OSError), open(f"/proc/{each.processes[0]}/comm") as file:
                first = f"{each.processes[0]} {file.read().strip()}"
        stats = each.stats
        shown.append([
            name, str(len(each.processes) or ""), _cpu(each, before.get(each.path)),
            size(stats.memory_current), size(stats.memory_peak), _number(stats.pids_current),
            _number(stats.oom_kills), first,
        ])  # fmt: skip
    return shown


def _number(value: int | None) -> str:
    return "" if not value else str(value)


def _cpu(now: Seen, before: Seen | None) -> str:
    used = now.stats.cpu_seconds
    if used is None:
        return ""
    if before is None or before.stats.cpu_seconds is None:
        return f"{used:.2f}s"
    return f"{(used - before.stats.cpu_seconds) / (now.at - before.at):.0%}"


def _watch(top: str | None, interval: float, *, everything: bool) -> None:
    if not has_rich():
        raise click.ClickException(NO_RICH)
    if not sys.stdout.isatty():
        raise click.ClickException("--watch shows it on a terminal, and stdout is none")
    from rich.console import Console
    from rich.live import Live

    before: dict[str, Seen] = {}
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            seen = list(tree(top, everything=everything))
            room = live.console.height - 2
            live.update(table(_HEADINGS, rows(seen, before)[:room], _NUMBERS), refresh=True)
            before = {each.path: each for each in seen}
            time.sleep(interval)


@click.group("cgroup", epilog=_EPILOG, short_help="Show cgroups and what they use.")
def command() -> None:
    """Show cgroups and what they use."""


@command.command("tree", cls=Command, epilog=_EPILOG, short_help="Show groups and what they use.")
@click.argument("path", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="All groups of this host.")
@click.option("-w", "--watch", is_flag=True, help="Go on, as top does; ^C ends it.")
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
def tree_command(path: str | None, everything: bool, watch: bool, interval: float) -> None:
    """Show the groups below PATH, each with what it uses and its first process.

    By default those that pyns has made. A group is one line, whatever hierarchies it is in. CPU is
    the time since it was made, and with --watch the share of one CPU since the last look.
    """
    if interval <= 0:
        raise click.BadParameter("--interval is above 0")
    if watch:
        _watch(path, interval, everything=everything)
    found = rows(list(tree(path, everything=everything)), {})
    if path is not None and not found:
        raise click.BadParameter(f"there is no group {path!r}", param_hint="PATH")
    show(_HEADINGS, found, _NUMBERS)
