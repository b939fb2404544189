"""What it costs to make and remove a cgroup with limits, against the same system calls in C."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from bench.floor import Start, compile_c
from bench.suite import Record, Suite
from pyns import CgroupError, Limits
from pyns.cgroups import Cgroup, hierarchies, limiting

LIMITS = Limits(memory_max="100M", pids_max=64, cpu_max=1)


@pytest.fixture(scope="module")
def parent() -> Iterator[Cgroup]:
    try:
        made = Cgroup.create("bench", limits=LIMITS)
    except CgroupError as error:
        pytest.skip(str(error))
    with made:
        yield made


def prepare_floor(suite: Suite, parent: Cgroup) -> Start:
    """Return group.c's mkdir, write and rmdir of what pyns makes, writes and removes."""
    library = compile_c(suite.place.work / "group.so", ["group.c"], "-shared", "-fPIC")
    call = ctypes.CDLL(str(library)).make_and_remove
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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", ["bare C", "pyns, parent=", "pyns"])
def test_group(suite: Suite, record: Record, parent: Cgroup, subject: str) -> None:
    def subjects() -> dict[str, Start]:
        return {
            "bare C": prepare_floor(suite, parent),
            "pyns, parent=": lambda: Cgroup.create(limits=LIMITS, parent=parent).remove(),
            # below the default parent: the hierarchies are looked up each time
            "pyns": lambda: Cgroup.create(limits=LIMITS).remove(),
        }

    scene = suite.once("make and remove", lambda: suite.in_turn("make and remove", subjects()))
    record("make and remove a cgroup", subject, scene[subject], scene["bare C"], sweep="group")
