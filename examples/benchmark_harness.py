"""A benchmark harness: runs a program 20 times on one core and tells time, memory and their spread.

    python examples/benchmark_harness.py [--runs 20] [--cpu N] PROGRAM [ARGUMENT ...]

Wall, user and system time and the peak of memory are those of all its processes, whether anybody
waited for them or not. docs/benchmark_harness.md explains.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from pyns import Container, Limits, Usage, run

COLUMNS = {
    "wall": ("wall_seconds", 1e3, "ms"),
    "user": ("user_seconds", 1e3, "ms"),
    "system": ("system_seconds", 1e3, "ms"),
    "peak": ("memory_peak", 2**-20, "MiB"),
}


def measure(command: list[str], cpu: int, runs: int) -> list[Usage]:
    """Return what each run has used; SystemExit if one fails."""
    # its own group counts its memory from zero each time; a network or a hostname it needs not
    box = Container(cpu_affinity=[cpu], limits=Limits())
    used = []
    for number in range(runs + 1):
        done = run(box, command, stdout=subprocess.DEVNULL)
        if done.returncode != 0 or done.usage is None:
            sys.exit(f"run {number}: {done.reason}, status {done.returncode}")
        if number > 0:  # the first one reads the program from the disk
            used.append(done.usage)
    return used


def row(name: str, used: list[Usage]) -> str:
    """Return a line: the median, the smallest, the largest, and how far the middle half spreads."""
    field, scale, unit = COLUMNS[name]
    told = [getattr(usage, field) for usage in used]
    if None in told:
        return f"{name:8} the kernel does not tell"
    values = [value * scale for value in told]
    low, median, high = statistics.quantiles(values, n=4)
    spread = (high - low) / median * 100 if median else 0.0
    return (
        f"{name:8} {median:10.2f} {unit:4} ({min(values):.2f} to {max(values):.2f}, "
        f"spread {spread:.1f} %)"
    )


def main() -> None:
    """Measure a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command or options.runs < 2:
        parser.error("give a program, and at least 2 runs")
    used = measure(options.command, options.cpu, options.runs)
    print(f"{len(used)} runs on CPU {options.cpu}")
    for name in COLUMNS:
        print(row(name, used))


if __name__ == "__main__":
    main()
