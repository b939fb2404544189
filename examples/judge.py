"""A judge: compiles each submission of a directory, runs it on each test, tells the verdicts.

    python examples/judge.py SUBMISSIONS TESTS [--cpu-time SECONDS] [--json FILE]

SUBMISSIONS has programs (`.c`, `.py`, `.sh`), TESTS pairs of `NAME.in` and `NAME.out`. Each run is
a sandbox of its own. tqdm shows the progress where it is installed. docs/judge.md explains.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pyns import Judged, Limits, Reason, judge

# suffix → how it is compiled, if it is, and run; the source is SOURCE there
LANGUAGES: dict[str, tuple[list[str] | None, list[str]]] = {
    ".c": (["cc", "-O2", "-o", "program", "source.c"], ["./program"]),
    ".py": (None, ["python3", "source.py"]),
    ".sh": (None, ["sh", "source.sh"]),
}
LIMITS = Limits(memory_max="256M", memory_swap_max=0, pids_max=16)
WORDS = {
    Reason.TIMEOUT: "time limit",
    Reason.CPU_TIME: "time limit",
    Reason.OOM_KILLED: "memory limit",
    Reason.OUTPUT: "output limit",
    Reason.SIGNALED: "crash",
    Reason.NOT_STARTED: "not started",
}


class Verdict(NamedTuple):
    """What a run is worth, and what it took."""

    submission: str
    test: str
    word: str
    cpu_seconds: float
    memory_peak: int


def prepare(source: Path) -> tuple[list[str], dict[str, bytes]] | Judged:
    """Return how a submission is run and with which files, or how its compilation failed."""
    compile_it, run_it = LANGUAGES[source.suffix]
    files = {f"source{source.suffix}": source.read_bytes()}
    if compile_it is None:
        return run_it, files
    done = judge(compile_it, files=files, outputs={"program": 16 << 20}, timeout=30, cpu_time=20)
    return (run_it, dict(done.files)) if "program" in done.files else done


def word_of(done: Judged, expected: bytes) -> str:
    """Return the verdict in words. Only the end of a run that is one may be compared."""
    if done.reason is not Reason.EXITED:
        return WORDS[done.reason]
    if done.returncode != 0:
        return f"exit status {done.returncode}"
    return "ok" if done.stdout.split() == expected.split() else "wrong answer"


def verdicts_of(source: Path, tests: list[Path], cpu_time: float) -> Iterator[Verdict]:
    """Yield a verdict for each test; one for all where there is nothing to run."""
    prepared = prepare(source)
    if isinstance(prepared, Judged):
        print(f"{source.name}:\n{prepared.stderr.decode(errors='replace')}", file=sys.stderr)
        yield Verdict(source.name, "-", "compile error", *used(prepared))
        return
    command, files = prepared
    for test in tests:
        done = judge(
            command,
            files=files,
            input=test.read_bytes(),
            timeout=5 * cpu_time,
            cpu_time=cpu_time,
            output_max=1 << 20,
            limits=LIMITS,
        )
        word = word_of(done, test.with_suffix(".out").read_bytes())
        yield Verdict(source.name, test.stem, word, *used(done))


def used(done: Judged) -> tuple[float, int]:
    """Return CPU seconds and bytes of memory."""
    if done.usage is None:
        return 0.0, 0
    return done.usage.cpu_seconds or 0.0, done.usage.memory_peak or 0


def with_progress(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Show how many there were, where there is somebody to look, and tqdm to show it."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[Any] = tqdm(items, total=total, disable=None, unit="submission")
    return bar


def main() -> None:
    """Judge a directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("submissions", type=Path)
    parser.add_argument("tests", type=Path)
    parser.add_argument("--cpu-time", type=float, default=1, help="seconds for each run: 1")
    parser.add_argument("--json", type=Path, help="write the verdicts there as well")
    options = parser.parse_args()
    sources = sorted(path for path in options.submissions.iterdir() if path.suffix in LANGUAGES)
    tests = sorted(options.tests.glob("*.in"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = pool.map(lambda each: list(verdicts_of(each, tests, options.cpu_time)), sources)
        verdicts = [v for each in with_progress(runs, len(sources)) for v in each]
    for v in verdicts:
        took = f"{v.cpu_seconds:6.2f} s {v.memory_peak / (1 << 20):7.1f} MiB"
        print(f"{v.submission:20} {v.test:8} {v.word:16} {took}")
    if options.json:
        options.json.write_text(json.dumps([v._asdict() for v in verdicts], indent=1) + "\n")


if __name__ == "__main__":
    main()
