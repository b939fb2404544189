"""What `pyns enter` does: run another program in a container that is running."""

from __future__ import annotations

from typing import Any

import click

from pyns.cli import options, running
from pyns.cli.program import ProgramCommand, given_of

_EPILOG = """\b
Examples:
  pyns ps                           # which there are, and the pids
  pyns enter 4711 -- ps -ef
  pyns enter 4711 -t -- bash
"""
_SETS = {"process.cwd", "process.umask", "process.user", "process.extra_groups", "env"}


@click.pass_context
def _enter(ctx: click.Context, /, **about: Any) -> None:
    """Run a program in the container of a process.

    It is in all namespaces of that process but the one of time, in its cgroups, with its root.
    The exit status is that of `pyns run`.
    """
    first = ctx.meta["first"]
    if first is None or not first.isdigit():
        raise click.UsageError("which process? pyns enter PID -- PROGRAM", ctx)
    if not ctx.meta["program"]:
        raise click.UsageError("what is to be run? pyns enter PID -- PROGRAM", ctx)
    ctx.meta["first"] = None  # no file
    given = given_of(ctx)
    process = given.process
    if given.environment:
        process["env"] = given.changed_environment(None)
    running.carry_out(ctx, int(first), options=process, **about)


command = ProgramCommand(
    "enter",
    before="PID",
    callback=_enter,
    params=[
        *running.options(),
        *(option for option in options.options() if _SETS.intersection(option.sets)),
    ],
    help=_enter.__doc__,
    short_help="Run a program in a container that is running.",
    epilog=_EPILOG,
)
