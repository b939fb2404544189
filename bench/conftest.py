"""What a run has: how much is measured, who is measured, and where the figures go."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from itertools import chain
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import expected, table
from bench.floor import Floor, compile_c
from bench.isolation import Place
from bench.rounds import Rounds, quotient
from bench.scales import SCALES, Scale
from bench.suite import Record, Suite

MEASURED = pytest.StashKey[list[table.Entry]]()
SUITE = pytest.StashKey[Suite]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("how much is measured")
    group.addoption("--short", action="store_true", help="in two minutes; ratios are checked")
    group.addoption("--full", action="store_true", help="with more rounds")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []


def scale_of(config: pytest.Config) -> Scale:
    """Return how much is measured."""
    if config.getoption("benchmark_disable"):
        return SCALES["once"]
    return SCALES[next((s for s in ("short", "full") if config.getoption(s)), "normal")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for axis, values in scale_of(metafunc.config).axes.items():
        if axis in metafunc.fixturenames:
            metafunc.parametrize(axis, values)


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The subjects that are here, and what was measured of them."""
    root, work = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("work")
    for directory in ("proc", "dev", "m"):  # pyns would make them, but only the first time
        (root / directory).mkdir()
    (root / "f").touch()
    root.chmod(0o755)  # for one who gives the program another uid
    try:
        compile_c(root / "probe", ["probe.c"], "-static")
        sources = ["limit.c", "limit_helper.c", "limit_mounts.c"]
        library = compile_c(work / "limit.so", sources, "-shared", "-fPIC", "-pthread")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    made = Suite(pytestconfig, scale_of(pytestconfig), Place(root, work, Floor(library)))
    pytestconfig.stash[SUITE] = made
    return made


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Report what was measured of a subject as a benchmark of pytest-benchmark."""

    def record(
        group: str,
        subject: str,
        measured: Rounds,
        floor: Rounds | None = None,
        beside: Mapping[str, Rounds] = {},  # name of the quotient → what it is with
        **more: Any,
    ) -> None:
        # The rounds have been run, in turn with those of others: they are told to the plugin by
        # a clock that plays them back.
        clock = chain.from_iterable((0.0, seconds) for seconds in measured.total)
        request.node.add_marker(pytest.mark.benchmark(timer=lambda: next(clock)))
        benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
        benchmark.group = group
        figures = measured.figures(floor)
        for name, other in beside.items():
            figures[name] = quotient(measured.total, other.total)
        entry = {"group": group, "subject": subject, "figures": figures, **more}
        benchmark.extra_info.update(entry, **machine())
        benchmark.pedantic(  # type: ignore[no-untyped-call]  # the plugin is typed only in part
            lambda: None, rounds=len(measured.total)
        )
        request.config.stash[MEASURED].append(entry)
        if scale_of(request.config).checked:
            expected.check(group, subject, figures)

    return record


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    measured = config.stash[MEASURED]
    if measured and not config.getoption("benchmark_disable"):
        terminalreporter.section("µs; ratio to bare C (marginal: to none), round by round")
        for line in table.lines(measured):
            terminalreporter.write_line(line)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    suite = config.stash.get(SUITE, None)
    if suite is not None:
        output_json["subjects"] = suite.told()


@cache
def machine() -> dict[str, str]:
    """What the figures depend on."""
    with open("/proc/self/mountinfo") as file:
        mounts = len(file.readlines())
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {_model()}",
        "kernel": platform.release(),
        "mounts": str(mounts),  # a new mount namespace is a copy of them
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pyns": version("pyns-linux"),
    }


def _model() -> str:
    with open("/proc/cpuinfo") as file:
        lines = [line.partition(":") for line in file]
    return next((value.strip() for key, _, value in lines if key.strip() == "model name"), "?")
