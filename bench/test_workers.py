"""Many workers that run short programs under limits: threads, processes, asyncio; and a ticker."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bench.apart import processes, threads
from bench.floor import FloorMount, Start, compile_c, expect_success
from bench.isolation import BASE, HOSTNAME
from bench.kinds import pyns_start
from bench.rounds import Rounds
from bench.suite import Record, Suite
from pyns import CgroupError, Container, Limits, aio
from pyns.cgroups import Cgroup, hierarchies, limiting

pytestmark = pytest.mark.timeout(1800)

WORKERS, RUNS = 16, 100
LIMITS = Limits(memory_max="64M", pids_max=16)
FOR_ALL = Limits(memory_max="1G", pids_max=1024)
IN_FLIGHT, TICK = 50, 0.01
SUBJECTS = ("bare C", "pyns", "pyns, init=True", "pyns, one group", "bwrap, in bare C's group")


@dataclass
class Batch(Rounds):
    """Rounds that went on side by side.

    Attributes:
        wall: seconds that all of them took.
    """

    wall: float = 0.0

    def figures(self, floor: Rounds | None = None) -> dict[str, float]:
        """Return what one run took, and how many there were in a second; beside the floor's."""
        figures = super().figures()
        figures["per_second"] = len(self.total) / self.wall
        if isinstance(floor, Batch):
            ratio = (self.wall / len(self.total)) / (floor.wall / len(floor.total))
            figures |= {"ratio": ratio, "ratio_of_minima": ratio}
        return figures


@pytest.fixture(scope="module")
def group() -> Iterator[Cgroup]:
    try:
        made = Cgroup.create("bench", limits=FOR_ALL)
    except CgroupError as error:
        pytest.skip(str(error))
    with made:
        yield made


class BareC:
    """judge.c, with a group of its own for each worker."""

    def __init__(self, suite: Suite, parent: Cgroup) -> None:
        sources = ["judge.c", "group.c", "limit.c", "limit_helper.c", "limit_mounts.c"]
        library = compile_c(suite.place.work / "judge.so", sources, "-shared", "-fPIC", "-pthread")
        self._judge = ctypes.CDLL(str(library)).judge
        self._judge.argtypes = (ctypes.c_void_p,) * 6
        self._parent = parent
        self._lists: dict[tuple[int, int], list[Any]] = {}

    def start(self, request: ctypes.Structure) -> Start:
        """Return what starts a program in a group that is made for it."""

        def start() -> None:
            worker = os.getpid(), threading.get_ident()
            lists = self._lists.get(worker)
            if lists is None:
                lists = self._lists[worker] = self._of(f"{worker[0]}-{worker[1]}")
            status = self._judge(ctypes.addressof(request), *lists)
            if status < 0:
                raise OSError(-status, os.strerror(-status), "judge.c")
            expect_success(status)

        return start

    def _of(self, name: str) -> list[Any]:
        with Cgroup.create(parent=self._parent, limits=LIMITS) as like:
            own = [f"{os.path.dirname(path)}/{name}" for path in like.paths]
        places = {h: p for h in hierarchies() for p in own if p.startswith(f"{h.mount_point}/")}
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


def boxes(suite: Suite, group: Cgroup) -> dict[str, Container]:
    """Return the containers of pyns's subjects."""
    box = replace(suite.place.container(BASE), limits=LIMITS)
    return {
        "pyns": box,
        "pyns, init=True": replace(box, init=True),
        "pyns, one group": replace(box, limits=None, cgroup=group),
    }


def starts(suite: Suite, group: Cgroup) -> dict[str, Start]:
    """Return what starts each subject that is here."""
    suite.need(BASE)
    place, floor = suite.place, BareC(suite, group)
    argv = [place.probe(BASE)]
    request = place.floor.request(
        argv,
        namespaces=BASE,
        root=place.root,
        hostname=HOSTNAME,
        mounts=[FloorMount("PROC", "/proc")],
    )
    found = {"bare C": floor.start(request)}
    found |= {name: pyns_start(box, argv) for name, box in boxes(suite, group).items()}
    if "bwrap" not in suite.missing:
        bwrap: Any = suite.subject("bwrap")
        found["bwrap, in bare C's group"] = floor.start(
            place.floor.request(bwrap.command(BASE, argv))
        )
    return found


def timed(start: Start, count: int, writing: int) -> Start:
    """Return what a worker does: so many starts, and tells what each took."""

    def work() -> None:
        took = []
        for _ in range(count):
            begin = time.monotonic()
            start()
            took.append(time.monotonic() - begin)
        os.write(writing, struct.pack(f"{count}d", *took))  # at once: it is less than PIPE_BUF

    return work


def side_by_side(suite: Suite, group: Cgroup, kind: str) -> dict[str, Batch]:
    """Measure each subject with all workers, threads or processes, at once."""
    count = min(RUNS, suite.scale.rounds)
    how = threads if kind == "threads" else processes
    scene = {}
    for name, start in starts(suite, group).items():
        reading, writing = os.pipe()
        with open(reading, "rb") as file:
            with how(WORKERS, timed(start, count, writing)) as go:
                begin = time.monotonic()
                go()
                wall = time.monotonic() - begin
            os.close(writing)
            took = [seconds for (seconds,) in struct.iter_unpack("d", file.read())]
        assert len(took) == WORKERS * count
        scene[name] = Batch(took, wall=wall)
    return scene


def in_a_loop(suite: Suite, group: Cgroup) -> dict[str, Batch]:
    """Measure pyns's with all workers as tasks of one loop."""
    suite.need(BASE)
    argv, count = [suite.place.probe(BASE)], min(RUNS, suite.scale.rounds)

    async def work(box: Container, took: list[float]) -> None:
        for _ in range(count):
            begin = time.monotonic()
            process = await aio.create_subprocess_exec(box, *argv)
            expect_success(await process.wait())
            took.append(time.monotonic() - begin)

    async def all_of_them(box: Container, took: list[float]) -> None:
        await asyncio.gather(*(work(box, took) for _ in range(WORKERS)))

    scene = {}
    for name, box in boxes(suite, group).items():
        took: list[float] = []
        begin = time.monotonic()
        asyncio.run(all_of_them(box, took))
        scene[name] = Batch(took, wall=time.monotonic() - begin)
    return scene


@pytest.mark.parametrize("kind", ["threads", "processes", "asyncio"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_workers(suite: Suite, record: Record, group: Cgroup, subject: str, kind: str) -> None:
    # a loop is one thread: beside the floor in threads
    of_floor = "threads" if kind == "asyncio" else kind
    floor = suite.once(f"workers, {of_floor}", lambda: side_by_side(suite, group, of_floor))
    scene = floor
    if kind == "asyncio":
        scene = suite.once("workers, asyncio", lambda: in_a_loop(suite, group))
    if subject not in scene:
        pytest.skip(f"{subject} is not here, or runs in no loop")
    name = f"{WORKERS} workers, {kind}"
    record(name, subject, scene[subject], floor["bare C"], sweep="workers")


async def service(box: Container, runs: int) -> list[float]:
    """Keep runs in flight, cancel a third of them; return how late each tick of the loop was."""
    late: list[float] = []
    left = runs

    async def tick() -> None:
        while left:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            late.append(max(0.0, time.monotonic() - due))

    async def one(number: int, free: asyncio.Semaphore) -> None:
        nonlocal left
        async with free:
            run = asyncio.create_task(aio.run(box, ["sleep", "0.3"]))
            if number % 3 == 0:
                await asyncio.sleep(0.1)
                run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        left -= 1

    free = asyncio.Semaphore(IN_FLIGHT)
    await asyncio.gather(tick(), *(one(number, free) for number in range(runs)))
    return late


@pytest.mark.parametrize("subject", ["pyns", "pyns, init=True"])
def test_ticker(suite: Suite, record: Record, subject: str) -> None:
    suite.need(BASE)
    box = Container(namespaces=BASE, limits=LIMITS, init=subject != "pyns")
    late = asyncio.run(service(box, 2 * min(RUNS, 2 * suite.scale.rounds)))
    name = f"lateness of a tick, {IN_FLIGHT} runs in flight"
    record(name, subject, Rounds(late), sweep="workers", latest=max(late))
