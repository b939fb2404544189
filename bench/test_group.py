"""What it costs to make and remove a cgroup with limits, against the same system calls in C."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pyns import CgroupError, Limits
from pyns.cgroups import Cgroup, hierarchies, limiting

LIMITS = Limits(memory_max="100M", pids_max=64, cpu_max=1)
GROUP = "group with memory, pids and cpu limits"

Run = Callable[[], object]
Measure = Callable[[str, Run], None]
Interleave = Callable[[Mapping[str, Run]], None]


@pytest.fixture
def parent() -> Iterator[Cgroup]:
    try:
        made = Cgroup.create("bench", limits=LIMITS)
    except CgroupError as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture
def floor(parent: Cgroup, group_library: Path) -> Run:
    """group.c: mkdir, write and rmdir of what pyns makes, writes and removes."""
    call = ctypes.CDLL(str(group_library)).make_and_remove
    call.argtypes = (ctypes.c_void_p,) * 3
    with Cgroup.create("floor", parent=parent, limits=LIMITS) as group:
        paths = group.paths
    places = {h: p for h in hierarchies() for p in paths if p.startswith(f"{h.mount_point}/")}
    writes = limiting.writes_to_fresh(LIMITS, tuple(places))
    lists = [
        [os.fsencode(path) for path in paths],
        [os.fsencode(f"{places[hierarchy]}/{write.file}") for hierarchy, write in writes],
        [write.value.encode() for _, write in writes],
    ]
    arrays = [(ctypes.c_char_p * (len(strings) + 1))(*strings, None) for strings in lists]

    def make_and_remove() -> None:
        result = call(*arrays)
        if result < 0:
            raise OSError(-result, os.strerror(-result), "group.c")

    return make_and_remove


@pytest.fixture
def pyns_below(parent: Cgroup) -> Run:
    """Cgroup.create below a parent that is at hand."""
    return lambda: Cgroup.create(limits=LIMITS, parent=parent).remove()


def pyns_default() -> None:
    """Cgroup.create below the default parent: the hierarchies are looked up each time."""
    Cgroup.create(limits=LIMITS).remove()


@pytest.mark.benchmark(group=GROUP)
class TestGroup:
    def test_bare_c(self, measure: Measure, floor: Run) -> None:
        measure("bare C", floor)

    def test_pyns_below(self, measure: Measure, pyns_below: Run) -> None:
        measure("pyns, parent=", pyns_below)

    @pytest.mark.usefixtures("parent")
    def test_pyns_default(self, measure: Measure) -> None:
        measure("pyns", pyns_default)

    def test_in_turn(self, interleave: Interleave, floor: Run, pyns_below: Run) -> None:
        interleave({"bare C": floor, "pyns, parent=": pyns_below, "pyns": pyns_default})
