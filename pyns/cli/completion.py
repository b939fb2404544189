"""What `pyns completion` does: print what has a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pyns.cli.failing import Command

_EPILOG = """\b
Examples:
  eval "$(pyns completion bash)"                                    # in ~/.bashrc
  eval "$(pyns completion zsh)"                                     # in ~/.zshrc
  pyns completion fish > ~/.config/fish/completions/pyns.fish
"""


@click.command(
    "completion",
    cls=Command,
    epilog=_EPILOG,
    short_help="Print what has a shell complete commands and options.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what has a shell complete commands, options and their values."""
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(ctx.find_root().command, {}, "pyns", "_PYNS_COMPLETE").source())
