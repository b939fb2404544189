"""What a run has saved, and the page in the making that tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.table import Entry, cell

FIGURES = ("min", "median", "p99", "started", "kernel", "faults", "per_second", "ratio", "to_pyns")
HEADINGS = {
    "started": "to its start, median",
    "kernel": "in the kernel",
    "per_second": "per second",
    "ratio": "times the floor",
    "to_pyns": "times pyns",
    "extra": "more",
}


class Run(NamedTuple):
    """What a run has saved."""

    saved: dict[str, Any]
    entries: list[Entry]

    @classmethod
    def read(cls, file: Path) -> Run:
        """Read the JSON of pytest-benchmark."""
        saved = json.loads(file.read_text())
        return cls(saved, [benchmark["extra_info"] for benchmark in saved["benchmarks"]])

    def sweep(self, name: str) -> list[Entry]:
        """Return what one sweep has measured."""
        return [entry for entry in self.entries if entry["sweep"] == name]


class Page:
    """The page in the making, and the plots that it shows."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.plots: dict[str, str] = {}

    def say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self.lines += [paragraph, ""]

    def show(self, name: str, title: str, svg: str) -> None:
        self.plots[f"{name}.svg"] = svg
        self.say(f"![{title}](benchmarks/{name}.svg)")

    def table(self, headings: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
        self.lines.append("| " + " | ".join(headings) + " |")
        self.lines.append("|---|" + "---:|" * (len(headings) - 1))
        self.lines += ["| " + " | ".join(row) + " |" for row in rows]
        self.lines.append("")

    def figures(self, entries: Sequence[Entry], columns: Sequence[str] = FIGURES) -> None:
        """Show a row for each entry, with the columns that any of them has."""
        there = [c for c in columns if any(c in entry["figures"] for entry in entries)]
        headings = [HEADINGS.get(column, column) for column in there]
        self.table(
            ["", *headings],
            (
                [entry["subject"], *(cell(entry["figures"], column) for column in there)]
                for entry in entries
            ),
        )
