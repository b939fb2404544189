"""What it costs to start in a cgroup, by how it is entered; and in one made for the run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest

from bench.floor import FloorMount, Start, expect_success
from bench.isolation import BASE, HOSTNAME
from bench.kinds import pyns_start
from bench.seen import cgroups_of_caller, report
from bench.suite import Record, Scene, Suite
from pyns import CgroupError, Limits
from pyns.cgroups import Cgroup, hierarchies
from pyns.cgroups.files import Directory

LIMITS = Limits(memory_max="100M", pids_max=64, cpu_max=1)
CONTROLLERS = {"memory", "pids", "cpu"}
MISSING = {"v1": "no v1 hierarchies of memory, pids and cpu", "v2": "no v2 hierarchy"}

# what is measured → what without a cgroup it is held against
SUBJECTS = {
    "bare C": "bare C",
    "bare C, v1: tasks": "bare C",
    "bare C, v2: CLONE_INTO_CGROUP": "bare C",
    "pyns": "pyns",
    "pyns, v1: tasks": "pyns",
    "pyns, v2: CLONE_INTO_CGROUP": "pyns",
    "pyns, limits= (made and removed)": "pyns",
    "preexec_fn": "preexec_fn",
    "preexec_fn, v1: cgroup.procs": "preexec_fn",
    "preexec_fn, v2: cgroup.procs": "preexec_fn",
}


def parts(group: Cgroup) -> dict[str, Cgroup]:
    """Return the group in the v1 hierarchies of three controllers alone, and in v2 alone."""
    there = {h: p for h in hierarchies() for p in group.paths if p.startswith(f"{h.mount_point}/")}
    v1 = {h: p for h, p in there.items() if h.version == 1 and CONTROLLERS & set(h.controllers)}
    v2 = {h: p for h, p in there.items() if h.version == 2}
    return {
        name: Cgroup({h: Directory(path) for h, path in part.items()})
        for name, part in (("v1", v1), ("v2", v2))
        if part
    }


@pytest.fixture(scope="module")
def group() -> Iterator[Cgroup]:
    try:
        made = Cgroup.create(limits=LIMITS)
    except CgroupError as error:
        pytest.skip(str(error))
    with made:
        yield made


def entering(suite: Suite, group: Cgroup, opened: ExitStack) -> dict[str, Start]:
    """Return what starts the program in no group, and in each part of the group."""
    starts = suite.ready(BASE, "bare C", "pyns")
    place, argv = suite.place, [suite.place.probe(BASE)]
    container = place.container(BASE)
    starts["pyns, limits= (made and removed)"] = pyns_start(replace(container, limits=LIMITS), argv)
    starts["preexec_fn"] = prepare_preexec(suite, [])
    for name, part in parts(group).items():
        how = "CLONE_INTO_CGROUP" if name == "v2" else "tasks"
        entry = part.open_entry((), opened)
        inside = replace(container, cgroup=part)
        seen = report(place, BASE, partial(pyns_start, inside))
        assert seen["cgroups"] != cgroups_of_caller()
        starts[f"pyns, {name}: {how}"] = pyns_start(inside, argv)
        starts[f"bare C, {name}: {how}"] = place.floor.prepare(
            argv,
            namespaces=BASE,
            root=place.root,
            hostname=HOSTNAME,
            mounts=[FloorMount("PROC", "/proc")],
            tasks=[fd for _, fd in entry.tasks],
            birth=-1 if entry.birth is None else entry.birth[1],
        )
        starts[f"preexec_fn, {name}: cgroup.procs"] = prepare_preexec(suite, part.paths)
    return starts


def prepare_preexec(suite: Suite, paths: list[str]) -> Start:
    """Return what starts it isolated in nothing else, and writes itself into the groups."""
    program = str(suite.place.root / "probe")

    def enter() -> None:
        for path in paths:
            fd = os.open(f"{path}/cgroup.procs", os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)

    return lambda: expect_success(subprocess.Popen([program], preexec_fn=enter).wait())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_entry(suite: Suite, record: Record, group: Cgroup, subject: str) -> None:
    def measure() -> Scene:
        with ExitStack() as opened:
            return suite.in_turn("cgroups", entering(suite, group, opened))

    scene = suite.once("cgroups", measure)
    if subject not in scene:
        pytest.skip(MISSING["v1" if "v1" in subject else "v2"])
    record("in a cgroup", subject, scene[subject], scene[SUBJECTS[subject]], sweep="cgroups")
