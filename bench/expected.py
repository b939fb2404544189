"""The ratios to the floor that are kept in the repository, and whether one has doubled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.table import Entry

FILE = Path(__file__).parent / "expected.json"


def read() -> dict[str, dict[str, float]]:
    """Return them, by group and subject."""
    found: dict[str, dict[str, float]] = json.loads(FILE.read_text())
    return found


def write(entries: Iterable[Entry]) -> None:
    """Keep those of a run."""
    ratios: dict[str, dict[str, float]] = {}
    for entry in entries:
        if entry["sweep"] == "peers":
            ratio = round(entry["figures"]["ratio"], 2)
            ratios.setdefault(entry["group"], {})[entry["subject"]] = ratio
    FILE.write_text(json.dumps(ratios, indent=1, sort_keys=True) + "\n")


def check(group: str, subject: str, figures: Mapping[str, float]) -> None:
    """Assert that a ratio is less than twice what is kept; one that is not kept is not checked.

    What is really slower is so by the median of the quotients and by the quotient of the minima.
    """
    kept = read().get(group, {}).get(subject)
    if kept is not None:
        ratio = min(figures["ratio"], figures["ratio_of_minima"])
        assert ratio < 2 * kept, (
            f"{subject}, {group}: {ratio:.2f} times the floor, where {kept:.2f} is usual. "
            "If that is right, keep it: python -m bench.report --expect"
        )
