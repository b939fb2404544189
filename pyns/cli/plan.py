"""What `pyns plan` does: say what a run would do."""

from __future__ import annotations

import click

from pyns.cli import options
from pyns.cli.program import ProgramCommand, given_of

_EPILOG = """\b
Examples:
  pyns plan -- id
  pyns plan --sandbox -m 100M --toml > box.toml     # for `pyns run box.toml`
  pyns plan box.toml --explain -- id
"""


@click.pass_context
def _plan(ctx: click.Context, /, form: str) -> None:
    """Say what `pyns run` with the same options would do, and do nothing.

    By default the steps, with their system calls, and the command lines of unshare and bwrap that
    come nearest.
    """
    box = given_of(ctx).container()
    if form == "toml":
        click.echo(box.to_toml(), nl=False)
    elif form == "json":
        click.echo(box.to_json())
    else:
        plan = box.plan(ctx.meta["program"] or ["PROGRAM"])
        click.echo({"steps": plan.__str__, "explain": plan.explain, "raw": plan.to_json}[form]())


command = ProgramCommand(
    "plan",
    before="[FILE]",
    callback=_plan,
    params=[
        click.Option(
            ["--explain", "form"],
            flag_value="explain",
            default="explain",
            help="Steps, system calls, the nearest lines of others; the default.",
        ),
        click.Option(["--steps", "form"], flag_value="steps", help="The steps alone."),
        click.Option(
            ["--raw", "form"], flag_value="raw", help="The steps in JSON, with all their fields."
        ),
        click.Option(
            ["--toml", "form"], flag_value="toml", help="The container as a file for `pyns run`."
        ),
        click.Option(["--json", "form"], flag_value="json", help="Likewise, in JSON."),
        *options.options(),
    ],
    help=_plan.__doc__,
    short_help="Say what `run` would do, and do nothing.",
    epilog=_EPILOG,
)
