"""Groups of one run and groups of many: each run has its own figures, and no group piles up."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Limits, Namespace, run
from pyns.cgroups import Cgroup

pytestmark = pytest.mark.usefixtures("limits")

LIMITS = Limits(memory_max="64M", memory_swap_max=0, pids_max=8)
SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
TOUCH = "x = bytearray(40 << 20)"
HOG = "x = bytearray(200 << 20)"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with Cgroup.create(limits=LIMITS) as group:
        yield group


def used(group: Cgroup, code: str, *, init: bool) -> Any:
    kinds = Namespace.PID | Namespace.MOUNT if init else Namespace(0)
    box = Container(namespaces=kinds, cgroup=group, init=init)
    return run(box, [sys.executable, "-S", "-c", code]).usage


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("init", [False, True])
def test_a_run_in_a_group_has_nothing_of_the_one_before(init: bool, group: Cgroup) -> None:
    for _ in range(2):
        hog, spin, touch, plain = (
            used(group, code, init=init) for code in (HOG, SPIN, TOUCH, "pass")
        )
        assert [usage.oom_kills for usage in (hog, spin, touch, plain)] == [1, 0, 0, 0]
        assert spin.cpu_seconds >= 0.3
        assert plain.cpu_seconds < spin.cpu_seconds
        if touch.memory_peak is not None:
            assert touch.memory_peak >= 40 << 20
        if plain.memory_peak is not None:
            assert plain.memory_peak < 40 << 20


def memory_groups() -> int:
    for line in Path("/proc/cgroups").read_text().splitlines():
        name, _, number, _ = line.split("\t")
        if name == "memory":
            return int(number)
    pytest.skip("/proc/cgroups has no line for memory")


def test_no_memory_group_of_a_run_stays() -> None:
    before = memory_groups()
    box = Container(namespaces=Namespace(0), limits=LIMITS)
    for _ in range(100):
        run(box, ["true"])
    deadline = time.monotonic() + 30
    # the kernel lets go of them when it gets to it; others on this host make and remove some too
    while memory_groups() >= before + 80:
        assert time.monotonic() < deadline, f"{before} before 100 runs, now {memory_groups()}"
        time.sleep(0.1)
