"""How a failure is told: one sentence on stderr, the hint below it, and an exit status."""

from __future__ import annotations

import os
import signal
from typing import Any

import click

from pyns.errors import in_words

# those of env(1), timeout(1) and docker(1)
TIMED_OUT = 124
FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127

# what is told in a sentence; anything else is a fault of pyns, and shows where
TOLD = (OSError, ValueError, TypeError, ImportError)


def complain(sentence: str, *, hint: str | None = None) -> None:
    """Write an error to stderr, in colour if that is a terminal."""
    click.echo(click.style("pyns: ", fg="red", bold=True) + sentence, err=True)
    if hint:
        click.echo(click.style("hint: ", fg="cyan") + hint, err=True)


def sentence_of(error: BaseException) -> tuple[str, str | None]:
    """Return what went wrong in one sentence, and the hint apart.

    Example:
        >>> sentence_of(FileNotFoundError(2, "No such file or directory", "/x"))
        ('/x: No such file or directory (ENOENT)', None)
    """
    hint = getattr(error, "hint", None)
    said = str(error)
    if isinstance(error, OSError) and said.startswith("[Errno") and error.errno:
        said = in_words(error.errno)
        if error.filename is not None:
            said = f"{os.fsdecode(error.filename)}: {said}"
    if hint:
        said = said.removesuffix(f". {hint}")
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    if hint is None and len(notes) > 1:  # of what can't be executed: the step, what to do
        hint = notes.pop()
    return ", ".join((said, *notes)), hint


def for_the_shell(hint: str) -> str:
    """Return a hint with the shell that called pyns for pyns, which is gone when it is read.

    Example:
        >>> for_the_shell(f"As root: echo {os.getpid()} >$d/cgroup.procs").split()[3:] == [
        ...     str(os.getppid()), ">$d/cgroup.procs"
        ... ]
        True
    """
    return hint.replace(f"echo {os.getpid()} >", f"echo {os.getppid()} >")


def tell(error: BaseException, *, debug: bool) -> None:
    """Write what went wrong; with `debug` the traceback."""
    if debug:
        import traceback

        traceback.print_exception(error)
    else:
        sentence, hint = sentence_of(error)
        complain(sentence, hint=hint and for_the_shell(hint))


class Command(click.Command):
    """A subcommand, which has --debug and tells what went wrong."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        about = "Show a traceback if something goes wrong."
        self.params.append(
            click.Option(["--debug"], is_flag=True, help=about, expose_value=False, callback=_note)
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Carry it out."""
        try:
            return super().invoke(ctx)
        except TOLD as error:
            if isinstance(error, BrokenPipeError) and error.filename is None:
                ctx.exit(128 + signal.SIGPIPE)  # who reads has enough, as head
            tell(error, debug=ctx.meta.get("pyns.debug", False))
            ctx.exit(FAILED)


def _note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["pyns.debug"] = value
