"""The figures of a run as lines of text, a group after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Entry = Mapping[str, Any]  # group, subject, sweep, figures; and what else a test has recorded

MICROSECONDS = ("min", "median", "p99", "started", "kernel")
QUOTIENTS = ("ratio", "to_pyns")
COLUMNS = (*MICROSECONDS, "faults", "per_second", *QUOTIENTS)


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield them."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry["group"], []).append(entry)
    for group, members in groups.items():
        yield f"{group:<40}" + "".join(f"{column.replace('_', ' '):>11}" for column in COLUMNS)
        for entry in members:
            cells = (cell(entry["figures"], column) for column in COLUMNS)
            yield f"  {entry['subject']:<38}" + "".join(f"{text:>11}" for text in cells)


def cell(figures: Mapping[str, float], column: str) -> str:
    """Return one figure as text; empty if it was not measured."""
    if column not in figures:
        return ""
    if column in MICROSECONDS or column == "extra":
        return f"{figures[column] * 1e6:.0f}"
    return f"{figures[column]:.2f}" if column in QUOTIENTS else f"{figures[column]:.0f}"
