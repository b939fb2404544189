"""How rows are shown: plain columns, which other programs can read, or a table on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

Row = Sequence[str | int | None]

NO_RICH = "this needs rich: pip install 'pyns-linux[rich]'"


def has_rich() -> bool:
    """Whether the terminal library is installed."""
    return find_spec("rich") is not None


def show(headings: Sequence[str], rows: Iterable[Row], numbers: Sequence[str] = ()) -> None:
    """Print rows: on a terminal with rich, if that is installed.

    Args:
        headings: of the columns.
        rows: of values; None is shown as nothing.
        numbers: headings of those columns that are flush right.
    """
    cells = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ and has_rich():
        from rich.console import Console

        Console(highlight=False).print(table(headings, cells, numbers))
        return
    for line in plain(headings, cells, numbers):
        click.echo(line)


def plain(
    headings: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[str] = ()
) -> list[str]:
    """Return lines of columns, as those of ps(1).

    Example:
        >>> plain(["PID", "NAME"], [["1", "init"], ["12", "sh"]], ["PID"])
        ['PID  NAME', '  1  init', ' 12  sh']
    """
    lines = [list(headings), *map(list, cells)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(headings))]
    return [
        "  ".join(
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        ).rstrip()
        for line in lines
    ]


def table(
    headings: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[str] = ()
) -> Table:
    """Return a table of rich."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left", overflow="fold")
    for row in cells:
        made.add_row(*(Text(cell) for cell in row))
    return made


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def size(count: int | None) -> str:
    """Return a number of bytes for people.

    Example:
        >>> size(1536), size(100 << 20), size(None)
        ('1.5K', '100.0M', '')
    """
    if count is None:
        return ""
    number = float(count)
    for unit in ("", "K", "M", "G"):
        if number < 1024:
            return f"{number:.1f}{unit}" if unit else str(count)
        number /= 1024
    return f"{number:.1f}T"
