"""What `pyns demo` does: make the container of docs/article.md, one step after the other."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import textwrap
from typing import NamedTuple

import click

from pyns.cli.failing import TOLD, Command, tell
from pyns.cli.program import given_of
from pyns.cli.run import command as run
from pyns.reason import Reason
from pyns.starting import clone_into

_EPILOG = """\b
Examples:
  pyns demo              # on a terminal it waits for Enter
  pyns demo --no-wait | less
"""
# stress(1)'s, in a few lines; -S as it needs no packages
_HOG = 'memory = bytearray(200 << 20); print("I got 200 MB")'


class Scene(NamedTuple):
    """One step of the demonstration."""

    text: str
    options: str
    program: list[str]


_LOOK = ["sh", "-c", "echo I am PID $$ on $(uname -n)"]
_COUNT = [
    *("sh", "-c"),
    'echo "I am PID $$"; cd /proc; set -- [0-9]*; echo "/proc shows $# processes"',
]
SCENES = (
    Scene(
        "A program without a container. It is a process among all others, with the host's name.",
        '--namespaces ""',
        _LOOK,
    ),
    Scene(
        "A UTS namespace has a host name of its own. clone3(2) makes it with the child, and the "
        "child sets the name before it executes the program: the host's stays what it is.",
        "--namespaces uts --hostname container",
        _LOOK,
    ),
    Scene(
        "In a PID namespace the program is PID 1. But /proc is still the host's, and says so: it "
        "shows whoever the mount was made for.",
        "--namespaces uts,pid --hostname container",
        _COUNT,
    ),
    Scene(
        "With a mount namespace as well there is a fresh /proc. Before it is mounted, the "
        "propagation of all mounts is made private: else it would replace the host's.",
        "--namespaces uts,pid,mount --hostname container",
        _COUNT,
    ),
    Scene(
        "A network namespace has a loopback interface, and nothing else.",
        "--namespaces uts,pid,mount,net --hostname container",
        ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1"],
    ),
    Scene(
        "And a limit: 100 MB of memory for a program that takes 200. It is born in its cgroup, so "
        "the limit holds before its first instruction; then the OOM killer comes.",
        "--namespaces uts,pid,mount,net --hostname container -m 100M --memory-swap-max 0",
        [sys.executable, "-S", "-c", _HOG],
    ),
)


@click.command(
    "demo",
    cls=Command,
    epilog=_EPILOG,
    short_help="Make a container step by step, with a commentary.",
)
@click.option("--wait/--no-wait", default=None, help="Wait for Enter between the steps.")
def command(wait: bool | None) -> None:
    """Make a container step by step, with a commentary.

    It is the container of the article that pyns grew from: namespaces, one after the other, then a
    limit that holds. What you see are real runs; the last one needs a cgroup that you may write.
    """
    if wait is None:
        wait = sys.stdin.isatty() and sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns, 90)
    for number, scene in enumerate(SCENES, 1):
        click.echo()
        text = textwrap.fill(f"{number}. {scene.text}", width, subsequent_indent="   ")
        click.echo(click.style(text, bold=True))
        _play(scene)
        if wait and number < len(SCENES):
            click.pause(click.style("Enter for the next step", dim=True))
    click.echo(
        "\nWhat was done: pyns plan, with the same options. What comes next: docs/tutorial.md"
    )


def _play(scene: Scene) -> None:
    """Show a command line, run it, and show what became of it."""
    words = [*shlex.split(scene.options), "--", *scene.program]
    short = ["python3" if word == sys.executable else word for word in words]
    click.echo(click.style(f"   $ pyns run {shlex.join(short)}", fg="cyan"))
    context = run.make_context("run", words)
    try:
        box = given_of(context).container()
        with clone_into(
            box, scene.program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                click.echo(f"   {line}", nl=False)
    except TOLD as error:
        tell(error, debug=False)
        return
    usage = process.usage
    if process.reason == Reason.OOM_KILLED and usage is not None and usage.memory_peak is not None:
        click.echo(
            f"   (killed by the OOM killer, with {usage.memory_peak / 2**20:.0f} MiB charged; its "
            "cgroup is gone)"
        )
    elif process.returncode:
        click.echo(f"   (it ended with {process.returncode}: {process.reason})")
