"""How the benchmarks measure, and the table of ratios at the end of a run."""

from __future__ import annotations

import os
import platform
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

BENCH = Path(__file__).parent
ROUNDS = 300
WARMUP_ROUNDS = 5

Timed = Callable[[], object]
Measure = Callable[[str, Timed], None]
Interleave = Callable[[Mapping[str, Timed]], None]


@dataclass
class Results:
    """What this run has measured, in seconds: figure, group, subject.

    Figures:
        median alone: of rounds of the subject alone, one subject after the other.
        median, minimum interleaved: of rounds in turn. What disturbs the machine for seconds
            disturbs all subjects, so the ratio of these medians is the figure to quote. What
            disturbs it for longer than the rounds last leaves the minima as they are.
    """

    figures: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=lambda: {"alone": {}, "interleaved": {}, "minimum": {}}
    )

    def record(self, figure: str, group: str, subject: str, seconds: float) -> None:
        self.figures[figure].setdefault(group, {})[subject] = seconds

    def subjects(self) -> dict[str, list[str]]:
        """Return the subjects of each group; the first is what the others are held against."""
        found: dict[str, list[str]] = {}
        for groups in self.figures.values():
            for group, subjects in groups.items():
                known = found.setdefault(group, [])
                known += [subject for subject in subjects if subject not in known]
        return found


RESULTS = pytest.StashKey[Results]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = Results()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    results = config.stash[RESULTS]
    if not results.subjects():
        return
    terminalreporter.section("µs, and ratios to the first of the group")
    titles = "".join(f"{title:>16}" for title in ("median alone", "interleaved", "its minimum"))
    for group, subjects in results.subjects().items():
        terminalreporter.write_line(f"{group:<44}{titles}", bold=True)
        columns = [groups.get(group, {}) for groups in results.figures.values()]
        for subject in subjects:
            cells = "".join(_cell(column, subject, subjects[0]) for column in columns)
            terminalreporter.write_line(f"  {subject:<42}{cells}".rstrip())


def _cell(seconds: Mapping[str, float], subject: str, first: str) -> str:
    if subject not in seconds:
        return " " * 16
    ratio = f"{seconds[subject] / seconds[first]:.2f}" if first in seconds else ""
    return f"{seconds[subject] * 1e6:>10.0f}{ratio:>6}"


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["pyns"] = config.stash[RESULTS].figures


@pytest.fixture
def measure(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Measure:
    """Measure one subject alone, as a benchmark of pytest-benchmark."""

    def measure(subject: str, start: Timed) -> None:
        benchmark.extra_info.update(machine())
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # the plugin is typed only in part
            start, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS
        )
        if benchmark.stats is not None:  # None with --benchmark-disable
            median = benchmark.stats.stats.median
            pytestconfig.stash[RESULTS].record("alone", str(benchmark.group), subject, median)

    return measure


@pytest.fixture
def interleave(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Interleave:
    """Measure several subjects in turn, for the group that the test's marker names.

    It may be called again, with the same subjects or others: rounds add up.
    """
    marker = request.node.get_closest_marker("benchmark")
    group = marker.kwargs["group"]
    seconds: dict[str, list[float]] = {}
    disabled = pytestconfig.getoption("benchmark_disable")
    shuffled = random.Random(0)

    def interleave(subjects: Mapping[str, Timed]) -> None:
        rounds, warmup = (1, 0) if disabled else (ROUNDS, WARMUP_ROUNDS)
        order = list(subjects.items())
        for number in range(-warmup, rounds):
            # what one leaves behind (the kernel takes namespaces down later) meets all alike
            shuffled.shuffle(order)
            for subject, start in order:
                begin = time.perf_counter()
                start()
                elapsed = time.perf_counter() - begin
                if number >= 0:
                    seconds.setdefault(subject, []).append(elapsed)
        if not disabled:
            results = pytestconfig.stash[RESULTS]
            for name in subjects:  # in the order that they were given in
                results.record("interleaved", group, name, statistics.median(seconds[name]))
                results.record("minimum", group, name, min(seconds[name]))

    return interleave


@cache
def machine() -> dict[str, str]:
    """What the figures depend on."""
    with open("/proc/self/mountinfo") as file:
        mounts = len(file.readlines())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "kernel": platform.release(),
        "mounts": str(mounts),  # a new mount namespace is a copy of them
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pyns": version("pyns-linux"),
        **{tool: _tool_version(tool) for tool in ("cc", "unshare", "bwrap") if shutil.which(tool)},
    }


def _tool_version(tool: str) -> str:
    output = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return output.splitlines()[0]


def _compile(source: str, output: Path, *options: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) in PATH")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{BENCH.parent / 'csrc'}"]
    subprocess.run([compiler, *flags, *options, "-o", output, BENCH / source], check=True)
    return output


@pytest.fixture(scope="session")
def limit_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """limit.c, compiled."""
    directory = tmp_path_factory.mktemp("limit")
    return _compile("limit.c", directory / "limit.so", "-shared", "-fPIC")


@pytest.fixture(scope="session")
def group_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """group.c, compiled."""
    directory = tmp_path_factory.mktemp("group")
    return _compile("group.c", directory / "group.so", "-shared", "-fPIC")


@pytest.fixture(scope="session")
def new_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to be the root: probe.c, compiled, and an empty /proc."""
    root = tmp_path_factory.mktemp("root")
    # pyns would make it, but only the first time
    (root / "proc").mkdir()
    _compile("probe.c", root / "probe", "-static")
    return root
