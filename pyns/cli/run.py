"""What `pyns run` does: run a program in a new container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from pyns.cgroups import Limits
from pyns.cli import options, running
from pyns.cli.program import ProgramCommand, given_of

_EPILOG = """\b
Examples:
  pyns run -- sh                              # new namespaces, the host's files
  pyns run --sandbox --timeout 10 -- python3 script.py
  pyns run -m 100M --pids 64 --cpus 0.5 -- make -j4
  pyns run --root /srv/box --ro-bind /usr /usr --tmpfs /tmp -- /usr/bin/id
  pyns run --net user -- curl https://example.org
  pyns run ./bundle                           # of runc: its own program
  pyns run box.toml -- sh                     # `pyns plan --toml` writes such a file
  pyns run -r --hostname demo -t -- bash      # root inside, on its own terminal

\b
Exit status: that of the program; 128 + n if signal n ended it; 124 if its time was up;
125 if pyns failed; 126 if the program can't be executed; 127 if there is none.
"""


@click.pass_context
def _run(ctx: click.Context, /, **about: Any) -> None:
    """Run a program in a new container.

    Without options it is PID 1 of new mount, cgroup, uts, ipc, pid and net namespaces, with a fresh
    /proc, and for the rest as it would be outside. FILE describes a container, in TOML or JSON, or
    is an OCI bundle; the options change it.
    """
    given = given_of(ctx)
    if not ctx.meta["program"]:
        raise click.UsageError("what is to be run? pyns run [OPTIONS] -- PROGRAM", ctx)
    box = given.container()
    if about["cpu_time"] is not None and box.limits is None and box.cgroup is None:
        box = replace(box, limits=Limits())  # a group of its own, which counts
    running.carry_out(ctx, box, options=given.process, **about)


command = ProgramCommand(
    "run",
    before="[FILE]",
    callback=_run,
    params=[*running.options(), *options.options()],
    help=_run.__doc__,
    short_help="Run a program in a new container.",
    epilog=_EPILOG,
)
