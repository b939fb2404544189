"""From the saved figures of a run to docs/benchmarks.md: tables, and plots beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import expected, plot
from bench.page import FIGURES, Page, Run
from bench.table import Entry

PROJECT = Path(__file__).parent.parent
STAGE_NAMES = {
    "CLONE": "stack, clone3",
    "CGROUPS": "cgroups",
    "ID_MAPS": "id maps, time",
    "NAMES": "hostname, loopback",
    "NEW_ROOT": "private, new root",
    "MOUNTS": "/proc",
    "PIVOT": "pivot_root",
    "DEFAULTS": "signals, fds",
    "EXECUTE": "execve",
    "END": "program, exit, wait",
}


def about(page: Page, run: Run) -> None:
    first, commit = run.entries[0], run.saved["commit_info"]
    page.say(
        "# Benchmarks",
        f"Measured at {run.saved['datetime'][:10]}, commit {commit['id'][:12]}"
        f"{' with changes' if commit.get('dirty') else ''}: {first['machine']}; "
        f"Linux {first['kernel']}; {first['mounts']} mounts; {first['python']}; "
        f"pyns {first['pyns']}. How, and how to do it yourself: `bench/README.md`.",
        "All subjects of a table start the same small static program, once a round and in another "
        "order each round. Times are in µs, from before the start to where the end is known; "
        "*to its start* ends with the program's first statement "
        "(not known of who puts a pipe before its stdout). *In the kernel* and *faults* "
        "(minor page faults) are of the starter and the program. *Times the floor* is the median, "
        "over the rounds, of the quotient with bare C in the same round; *times pyns* likewise.",
    )


def peers(page: Page, run: Run) -> None:
    page.say("## The same isolation, by who does it")
    groups: dict[str, list[Entry]] = {}
    for entry in run.sweep("peers"):
        groups.setdefault(entry["x"], []).append(entry)
    for number, (name, entries) in enumerate(groups.items()):
        title = f"Start to reaped: {name}"
        rows = [plot.Row(e["subject"], *_microseconds(e, "min", "median", "p99")) for e in entries]
        page.say(f"### {name}")
        page.show(f"peers-{number}", title, plot.dots(title, "µs: min, median, p99", rows))
        page.figures(entries)


def _microseconds(entry: Entry, *columns: str) -> list[float]:
    return [entry["figures"][column] * 1e6 for column in columns]


def _lines(entries: Sequence[Entry], figure: Callable[[Entry], float]) -> dict[str, list[Any]]:
    series: dict[str, list[Any]] = {}
    for entry in entries:
        series.setdefault(entry["subject"], []).append((entry["x"], figure(entry)))
    return series


def growth(page: Page, run: Run, sweep: str, heading: str, axis: str, text: str) -> None:
    """Show how the median grows along an axis: a plot, and a table of subject by point."""
    entries = run.sweep(sweep)
    if not entries:
        return
    series = _lines(entries, lambda entry: _microseconds(entry, "median")[0])
    page.say(f"## {heading}", text)
    page.show(sweep.replace(" ", "-"), heading, plot.lines(heading, axis, "µs, median", series))
    _by_point(page, f"µs, by {axis}", series)
    if "growth" in entries[0]["figures"]:
        page.say("Times what it is at the first point, pair by pair:")
        _by_point(page, axis, _lines(entries, lambda entry: entry["figures"]["growth"]), ".2f")
    page.say("Times the floor at the same point:")
    _by_point(page, axis, _lines(entries, lambda entry: entry["figures"]["ratio"]), ".2f")


def _by_point(page: Page, axis: str, series: dict[str, list[Any]], shape: str = ".0f") -> None:
    points = list(dict.fromkeys(x for line in series.values() for x, _ in line))
    rows = (
        [name, *(format(dict(line)[x], shape) if x in dict(line) else "" for x in points)]
        for name, line in series.items()
    )
    page.table([axis, *map(str, points)], rows)


def spawners(page: Page, run: Run) -> None:
    entries = run.sweep("spawners")
    if not entries:
        return
    series = _lines(entries, lambda entry: entry["figures"]["per_second"])
    heading = "Side by side"
    page.say(f"## {heading}", "Starts per second of all spawners together.")
    page.show(
        "spawners",
        heading,
        plot.lines(heading, "spawners", "starts per second", series, logarithmic=False),
    )
    _by_point(page, "per second, by spawners", series)
    page.say("Times what one does, pair by pair:")
    _by_point(
        page, "spawners", _lines(entries, lambda entry: 1 / entry["figures"]["growth"]), ".2f"
    )
    page.say("Time of a start, times the floor's of the same number and kind:")
    _by_point(page, "spawners", _lines(entries, lambda entry: entry["figures"]["ratio"]), ".2f")


def marginal(page: Page, run: Run, sweep: str, heading: str, text: str) -> None:
    """Show what each kind adds to a start without it, by who does it."""
    entries = run.sweep(sweep)
    if not entries:
        return
    rows: dict[str, dict[str, float]] = {}
    for entry in entries:
        who = entry["subject"].partition(",")[0]
        rows.setdefault(entry["x"], {})[who] = _microseconds(entry, "extra")[0]
    page.say(f"## {heading}", text)
    page.show(sweep, heading, plot.bars(heading, "µs more than without it", rows))
    names = list(next(iter(rows.values())))
    page.table(
        ["µs", *names],
        ([name, *(f"{row[who]:.0f}" for who in names)] for name, row in rows.items()),
    )


def stages(page: Page, run: Run) -> None:
    found = {entry["subject"]: entry for entry in run.sweep("stages")}
    if not found:
        return
    floor = {
        STAGE_NAMES[name]: seconds * 1e6 for name, seconds in found["bare C"]["stages"].items()
    }
    python = _microseconds(found["pyns"], "extra")[0]
    rows = {"bare C": floor, "pyns": floor | {"Python, plan, checks": max(python, 0)}}
    heading = "Where the time goes"
    page.say(
        f"## {heading}",
        "One start with all namespaces. bare C stamps the end of each stage (by the vdso: 30 ns, "
        "no system call); medians. pyns makes the same calls; what it takes longer in "
        "the same rounds is on top, as one piece.",
    )
    page.show("stages", heading, plot.stack(heading, "µs", rows))
    page.table(
        ["µs", *rows],
        ([part, *(f"{row.get(part, 0):.0f}" for row in rows.values())] for part in rows["pyns"]),
    )


def others(page: Page, run: Run) -> None:
    for sweep, heading, text, columns in (
        (
            "cgroups",
            "In a cgroup",
            "By how a group is entered that exists, and with one made for the run. *More*: than "
            "the same without a group, in the same round.",
            ("min", "median", "p99", "extra"),
        ),
        ("group", "Making and removing a cgroup", "With limits on memory, pids and cpu.", FIGURES),
        ("init", "With an init", "The program is its child, not PID 1 itself.", FIGURES),
        (
            "workers",
            "Many workers, under limits",
            "16 workers, each with 100 short programs that have limits on memory and processes. "
            "*Per second* is of all; *times the floor* what a run takes of their time, against "
            "bare C's (for asyncio: in threads), batch by batch. A tick of 10 ms: how late it was, "
            "with 50 runs in flight in its loop, a third of them cancelled.",
            FIGURES,
        ),
        (
            "commands",
            "The command line",
            "From the start of an interpreter to its end. *More*: than one that does nothing, in "
            "the same round.",
            ("min", "median", "p99", "extra"),
        ),
        (
            "cold",
            "The first start",
            "Of a new interpreter, beside the import (pyns: a default container); and with other "
            "things in the CPU's caches before each start.",
            FIGURES,
        ),
    ):
        entries = run.sweep(sweep)
        if entries:
            page.say(f"## {heading}", text)
        for group in dict.fromkeys(entry["group"] for entry in entries):
            if sweep in ("workers", "cold"):
                page.say(f"### {group}")
            page.figures([entry for entry in entries if entry["group"] == group], columns)
        latest = {e["subject"]: e["latest"] * 1000 for e in entries if "latest" in e}
        if latest:
            told = (f"{name} {milliseconds:.0f} ms" for name, milliseconds in latest.items())
            page.say(f"The latest of all ticks: {'; '.join(told)}.")
        does = {entry["subject"]: entry["does"] for entry in entries if "does" in entry}
        if does:
            page.lines += [*(f"- **{name}**: {text}" for name, text in does.items()), ""]


def subjects(page: Page, run: Run) -> None:
    page.say(
        "## The subjects", "Tools are started by bare C, so that only their own work is added."
    )
    for name, told in run.saved["subjects"].items():
        what = told["missing"] or told["version"]
        page.lines.append(f"- **{name}** ({what}): {told['differences']}")
    page.lines.append("")


def write(run: Run, docs: Path) -> None:
    """Write docs/benchmarks.md and the plots in docs/benchmarks/."""
    page = Page()
    about(page, run)
    peers(page, run)
    growth(
        page, run, "memory", "By what the parent holds", "MB",
        "Anonymous memory in small pages, touched. *user*: with net and user namespaces as well, "
        "and the caller's own id; *id ranges*: with two ranges, which a thread of the parent "
        "writes.",
    )  # fmt: skip
    growth(
        page, run, "host mounts", "By the host's mounts", "mounts",
        "A new mount namespace is a copy of them.",
    )  # fmt: skip
    growth(page, run, "plan", "By the size of the plan", "binds", "Bind mounts, each on its own.")
    marginal(
        page, run, "namespaces", "One namespace",
        "What one new namespace adds to a start with none: with the loopback interface brought up "
        "(net), an id map written (user), mounts made private (mount).",
    )  # fmt: skip
    marginal(
        page, run, "mounts", "One mount",
        "What one mount adds to a start with pid, mount, uts and ipc namespaces, a root and /proc.",
    )  # fmt: skip
    stages(page, run)
    spawners(page, run)
    others(page, run)
    subjects(page, run)
    (docs / "benchmarks").mkdir(exist_ok=True)
    for old in (docs / "benchmarks").glob("*.svg"):
        old.unlink()
    for name, svg in page.plots.items():
        (docs / "benchmarks" / name).write_text(svg)
    (docs / "benchmarks.md").write_text("\n".join(page.lines).rstrip() + "\n")


def newest() -> Path:
    """Return the run that was saved last."""
    saved = sorted(
        (PROJECT / ".benchmarks").glob("*/*.json"), key=lambda file: file.stat().st_mtime
    )
    if not saved:
        raise SystemExit("no saved run: pytest bench/ --benchmark-autosave")
    return saved[-1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="saved by pytest-benchmark; the newest")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs", help="where it goes")
    parser.add_argument("--expect", action="store_true", help="keep the ratios, write no report")
    options = parser.parse_args()
    run = Run.read(options.file or newest())
    if options.expect:
        expected.write(run.entries)
    else:
        write(run, options.docs)


if __name__ == "__main__":
    main()
