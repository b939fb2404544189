"""A command line with a program in it: what stands before `--`, and what after."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from pyns.cli.failing import Command, complain
from pyns.cli.options import ContainerOption, Given
from pyns.container import Container

if TYPE_CHECKING:
    from pyns.oci import Bundle


class ProgramCommand(Command):
    """A subcommand that takes a program, in ctx.meta["program"], and one thing before it.

    Args:
        before: what the one thing is called; with brackets it may be left out.
        attributes: as click has them.
    """

    def __init__(self, *args: Any, before: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.before = before
        self.allow_extra_args = True

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return what follows the name in the help's first line."""
        return [self.before, "[OPTIONS]", "--", "PROGRAM", "[ARGUMENT]..."]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the program off, and carry out the options in their order."""
        head, first, program = list(args), [], []
        if "--" in head:
            at = head.index("--")
            head, program = head[:at], head[at + 1 :]
        else:
            ctx.allow_interspersed_args = False
            may_be_left_out = self.before.startswith("[")
            if head and (_describes(head[0]) if may_be_left_out else head[0][:1] != "-"):
                first = [head.pop(0)]
        # which occurrence comes when, of options that have one list each
        order = self.make_parser(ctx).parse_args(args=list(head))[2]
        super().parse_args(ctx, head)
        rest = ctx.args
        if not first and rest and ("--" in args or _describes(rest[0])):
            first, rest = rest[:1], rest[1:]
        if program and rest:
            raise click.UsageError(
                f"{rest[0]!r}: all of the program stands after --, as in: {ctx.command_path} -- "
                f"{' '.join((*rest, '--', *program))}",
                ctx,
            )
        ctx.meta["first"] = first[0] if first else None
        ctx.meta["program"] = program or rest
        ctx.meta["given"] = [
            (param, value)
            for param, value in _in_order(ctx, order)
            if isinstance(param, ContainerOption)
        ]
        for param in self.params:
            if isinstance(param, ContainerOption):
                ctx.params.pop(str(param.name), None)
        ctx.args = []
        return []

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Return how a word goes on: an option, or the path of a program or of what it is given."""
        from click.shell_completion import CompletionItem

        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under the headings of their sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                section = getattr(param, "section", "This command")
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records, col_max=34)


def _describes(word: str) -> bool:
    """Whether a word can only mean a container: it can't be executed."""
    if word.endswith((".toml", ".json")):
        return os.path.isfile(word) and not os.access(word, os.X_OK)
    return ("/" in word or word in (".", "..")) and os.path.isdir(word)


def _in_order(
    ctx: click.Context, order: list[click.Parameter]
) -> list[tuple[click.Parameter, Any]]:
    """Return each occurrence of an option with its value; the last one alone of what is one."""
    seen: Counter[str] = Counter()
    found = []
    for place, param in enumerate(order):
        name = str(param.name)
        value = ctx.params.get(name)
        if param.multiple and value is not None:
            found.append((param, value[seen[name]]))
            seen[name] += 1
        elif param not in order[place + 1 :]:
            found.append((param, value))
    return found


def base_of(path: str) -> Container | Bundle:
    """Return what a file describes.

    Args:
        path: a file of TOML or JSON; an OCI bundle, or its config.json.

    Raises:
        FileNotFoundError, PermissionError: it can't be read.
        ValueError: it describes nothing.
    """
    from pyns.oci import Bundle, is_oci

    if os.path.isdir(path):
        return Bundle.read(path)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        if path.endswith(".toml"):
            return Container.from_toml(text)
        import json

        if is_oci(json.loads(text)):
            return Bundle.read(path)
        return Container.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def given_of(ctx: click.Context) -> Given:
    """Return what the file and all options have said, in their order."""
    given = Given()
    if ctx.meta["first"] is not None:
        base = base_of(ctx.meta["first"])
        if not isinstance(base, Container):
            for sentence in base.not_honoured:
                complain(f"not honoured: {sentence}")
            ctx.meta["program"] = ctx.meta["program"] or list(base.args)
            ctx.meta["terminal"] = base.terminal
            given.process |= base.options
            base = base.container
        given.base = base
    occurrences: list[tuple[ContainerOption, Any]] = ctx.meta["given"]
    if given.base is not None and any(option.section == "Preset" for option, _ in occurrences):
        raise click.UsageError("--sandbox is instead of a file, not on top of it", ctx)
    # a preset is what the others change, wherever it stands
    for option, value in sorted(occurrences, key=lambda each: each[0].section != "Preset"):
        option.does(given, value)
    return given
