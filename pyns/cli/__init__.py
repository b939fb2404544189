"""The command `pyns`: which subcommands there are; each is imported when it is called."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import sys
from typing import NoReturn

import click

from pyns.cli.failing import FAILED, complain

_COMMANDS = {
    "run": "Run a program in a new container.",
    "enter": "Run a program in a container that is running.",
    "plan": "Say what `run` would do, and do nothing.",
    "doctor": "Try what works on this machine, and say what to do about the rest.",
    "ps": "Show containers: which process shares which namespaces.",
    "cgroup": "Show cgroups and what they use.",
    "demo": "Make a container step by step, with a commentary.",
    "completion": "Print what has a shell complete commands and options.",
}
_EPILOG = """\b
Examples:
  pyns run -- ps                             # PID 1, and alone
  pyns run --sandbox --timeout 10 -- python3 script.py
  pyns run -m 100M --cpus 0.5 --json out.json -- make
  pyns plan --root /srv/box -- sh            # what would be done
"""


class Commands(click.Group):
    """The subcommands, without a look at what is in them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return their names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return one of them; None if there is no such."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pyns.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the names, each with a sentence."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=Commands,
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pyns-linux", prog_name="pyns")
def pyns() -> None:
    """Start programs in Linux namespaces and cgroups.

    `pyns COMMAND --help` says more, with examples.
    """


def main(arguments: list[str] | None = None) -> int:
    """Carry out a command line.

    Args:
        arguments: without the name of the command; None for those of this process.

    Returns:
        The exit status.
    """
    color = False if "NO_COLOR" in os.environ else None
    try:
        status = pyns.main(arguments, prog_name="pyns", standalone_mode=False, color=color)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = FAILED
    except click.UsageError as error:
        complain(_sentence_of(error), hint=_help_for(error))
        status = FAILED
    except click.ClickException as error:
        complain(_sentence_of(error))
        status = FAILED
    except (click.Abort, KeyboardInterrupt):
        status = 130
    return status if isinstance(status, int) else 0


def script() -> NoReturn:
    """Carry out the command line of this process, and end it.

    Without taking the interpreter apart, which would take 9 ms of the 60 that a run may, and
    without looking for garbage while modules are imported, which make none: 2 ms.
    """
    if hasattr(gc, "set_threshold"):  # not PyPy, whose garbage is found otherwise
        gc.set_threshold(50_000)
    status = main()
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BrokenPipeError:
        status = status or 128 + signal.SIGPIPE
    os._exit(status)


def _sentence_of(error: click.ClickException) -> str:
    return " ".join(error.format_message().split())  # click lists choices one a line


def _help_for(error: click.UsageError) -> str | None:
    path = None if error.ctx is None else error.ctx.command_path
    return None if path is None else f"`{path} --help` tells what there is"
