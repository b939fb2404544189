"""What `pyns doctor` does: try what works on this machine."""

from __future__ import annotations

import click

from pyns.cli.failing import Command, for_the_shell
from pyns.cli.running import slow
from pyns.diagnosis import doctor

_EPILOG = """\b
Examples:
  pyns doctor
  pyns doctor --json > doctor.json      # for a bug report
"""


@click.command(
    "doctor",
    cls=Command,
    epilog=_EPILOG,
    short_help="Try what works on this machine, and say what to do about the rest.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Try what works on this machine for you, and say what to do about the rest.

    Each thing is done once and undone. The exit status is 0 if programs can be started in
    namespaces of their own, and else 1.
    """
    with slow("trying"):
        report = doctor()
    if as_json:
        import json

        click.echo(json.dumps([finding._asdict() for finding in report], indent=2))
    else:
        for line in for_the_shell(str(report)).splitlines():
            word, space, rest = line.partition(" ")
            colour = {"yes": "green", "no": "red"}.get(word)
            click.echo(click.style(word, fg=colour) + space + rest)
    click.get_current_context().exit(0 if report["namespace: pid"].works else 1)
