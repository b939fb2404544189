"""Who runs short programs under limits on memory and processes, and what each does for it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from bench.calls import BenchExec
from bench.floor import FloorMount, Start, compile_c, expect_success
from bench.isolation import BASE, HOSTNAME, Place
from bench.kinds import pyns_start
from bench.suite import Suite
from bench.tools import FIRST_BOX, Bwrap, Isolate, Nsjail
from pyns import Container, Limits, Namespace
from pyns.cgroups import Cgroup, Hierarchy, hierarchies, limiting

MEGABYTES, PIDS = 64, 16
LIMITS = Limits(memory_max=f"{MEGABYTES}M", pids_max=PIDS)

# name → what it does for its limits; how it isolates stands with the subjects
JUDGES = {
    "bare C": "judge.c makes a group, starts the program in it, removes it, and reads nothing.",
    "pyns": "limits=: a group is made, looked at and removed for each run.",
    "pyns, init=True": "The same; the init is outside of the program's group.",
    "pyns, one group": "cgroup=: one group for all runs, which are limited together.",
    "bwrap, in bare C's group": "judge.c starts bwrap in the group: it is limited, too.",
    "nsjail": (
        "Its --cgroup options: a group is made for each run, entered by a write from outside, "
        "removed; nothing is read."
    ),
    "isolate": (
        "Without --cg, which takes v2 and a service of its own: --mem and --processes are rlimits, "
        "of each process and of the box's uid. A box for each worker, which is not emptied "
        "between runs; what was used is measured, of the program alone."
    ),
    "BenchExec": (
        "RunExecutor, in processes only: it forks Python, which threads could have left locked. "
        "Memory by a group, no limit on processes; what was used is read until it has not "
        "changed for 0.1 s; output goes to a file."
    ),
}


def places_of(paths: Sequence[str]) -> dict[Hierarchy, str]:
    """Return the hierarchy of each directory of a group."""
    return {h: p for h in hierarchies() for p in paths if p.startswith(f"{h.mount_point}/")}


def whichever_is_free(starts: Sequence[Start]) -> Start:
    """Return what starts with one that nobody else is using: workers are threads or processes."""
    free, unused = os.pipe()
    os.write(unused, bytes(range(len(starts))))

    def start() -> None:
        number = os.read(free, 1)
        try:
            starts[number[0]]()
        finally:
            os.write(unused, number)

    return start


class BareC:
    """judge.c, with a group of its own for each worker."""

    def __init__(self, suite: Suite, parent: Cgroup, workers: int) -> None:
        sources = ["judge.c", "group.c", "limit.c", "limit_helper.c", "limit_mounts.c"]
        library = compile_c(suite.place.work / "judge.so", sources, "-shared", "-fPIC", "-pthread")
        self._judge = ctypes.CDLL(str(library)).judge
        self._judge.argtypes = (ctypes.c_void_p,) * 6
        with Cgroup.create(parent=parent, limits=LIMITS) as like:
            paths = like.paths
        self._groups = [_group_of(paths, f"floor-{number}") for number in range(workers)]

    def prepare(self, request: ctypes.Structure) -> Start:
        """Return what starts a program in a group that is made for it."""
        return whichever_is_free([partial(self._start, request, group) for group in self._groups])

    def _start(self, request: ctypes.Structure, group: Sequence[Any]) -> None:
        status = self._judge(ctypes.addressof(request), *group)
        if status < 0:
            raise OSError(-status, os.strerror(-status), "judge.c")
        expect_success(status)


def _group_of(paths: Sequence[str], name: str) -> list[Any]:
    """Return what judge.c is told of a group of this name, beside one with these paths."""
    own = [f"{os.path.dirname(path)}/{name}" for path in paths]
    places = places_of(own)
    writes = limiting.writes_to_fresh(LIMITS, tuple(places))
    birth = next((os.fsencode(p) for h, p in places.items() if h.version == 2), None)
    strings = [
        [os.fsencode(path) for path in own],
        [os.fsencode(f"{places[hierarchy]}/{write.file}") for hierarchy, write in writes],
        [write.value.encode() for _, write in writes],
        [os.fsencode(f"{p}/tasks") for h, p in places.items() if h.version == 1],
    ]
    arrays = [(ctypes.c_char_p * (len(each) + 1))(*each, None) for each in strings]
    return [*arrays, ctypes.c_char_p(birth)]


class NsjailInGroup(Nsjail):
    """nsjail, with the groups that it makes itself."""

    @staticmethod
    def fits(parent: Cgroup) -> bool:
        """Whether it can: it takes v1 or v2 for all, and a hybrid host may have some in each."""
        there = places_of(parent.paths)
        return len({h.version for h in there if {"memory", "pids"} & set(h.controllers)}) == 1

    def __init__(self, place: Place, parent: Cgroup) -> None:
        super().__init__(place)
        self._parent = parent

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        options = ["--cgroup_mem_max", str(MEGABYTES << 20), "--cgroup_pids_max", str(PIDS)]
        for hierarchy, path in places_of(self._parent.paths).items():
            mount, name = os.path.split(path)
            for controller, word in (("memory", "mem"), ("pids", "pids")):
                if controller not in hierarchy.controllers:
                    continue
                if hierarchy.version == 1:
                    options += [f"--cgroup_{word}_mount", mount, f"--cgroup_{word}_parent", name]
                else:
                    options += ["--use_cgroupv2", "--cgroupv2_mount", path]
        return [*options, *super().options(namespaces, argv)]


class IsolateInBoxes(Isolate):
    """isolate, with a box for each worker."""

    limits: ClassVar[Sequence[str]] = (f"--processes={PIDS}", f"--mem={MEGABYTES << 10}")

    def start(self, argv: Sequence[str], boxes: int) -> Start:
        """Return what starts a program in a box that is free."""
        path, *_ = self.command(BASE, argv)
        options = [self.options_of(FIRST_BOX + 1 + box, argv) for box in range(boxes)]
        prepare = self.place.floor.prepare
        return whichever_is_free([prepare([path, "--share-net", *each]) for each in options])


class BenchExecWithLimits(BenchExec):
    """BenchExec as it measures runs."""

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:  # noqa: ARG002
        from benchexec.runexecutor import RunExecutor

        executor = RunExecutor(uid=os.geteuid(), gid=os.getegid(), network_access=True)
        root = str(self.place.root)

        def start() -> None:
            done = executor.execute_run(
                list(argv), os.devnull, workingDir="/", root_dir=root, memlimit=MEGABYTES << 20,
                write_header=False,
            )  # fmt: skip
            expect_success(done["exitcode"].raw)

        return start


def boxes(place: Place, group: Cgroup) -> dict[str, Container]:
    """Return the containers of pyns's."""
    box = replace(place.container(BASE), limits=LIMITS)
    return {
        "pyns": box,
        "pyns, init=True": replace(box, init=True),
        "pyns, one group": replace(box, limits=None, cgroup=group),
    }


def judges(suite: Suite, group: Cgroup, argv: Sequence[str], workers: int) -> dict[str, Start]:
    """Return what starts a program with each of JUDGES that is here."""
    place, floor = suite.place, BareC(suite, group, workers)
    request = place.floor.request(
        argv,
        namespaces=BASE,
        root=place.root,
        hostname=HOSTNAME,
        mounts=[FloorMount("PROC", "/proc")],
    )
    found = {"bare C": floor.prepare(request)}
    found |= {name: pyns_start(box, list(argv)) for name, box in boxes(place, group).items()}
    if "bwrap" not in suite.missing:
        command = Bwrap(place).command(BASE, argv)
        found["bwrap, in bare C's group"] = floor.prepare(place.floor.request(command))
    if "nsjail" not in suite.missing and NsjailInGroup.fits(group):
        found["nsjail"] = NsjailInGroup(place, group).prepare(BASE, argv)
    if "isolate" not in suite.missing:
        found["isolate"] = IsolateInBoxes(place).start(argv, workers)
    if "BenchExec" not in suite.missing:
        found["BenchExec"] = BenchExecWithLimits(place).prepare(BASE, argv)
    return found
