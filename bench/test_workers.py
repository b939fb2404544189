"""Many workers that run short programs under limits: threads, processes, asyncio; and a ticker."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bench.apart import processes, threads
from bench.floor import Start, expect_success
from bench.isolation import BASE
from bench.judges import JUDGES, LIMITS, boxes, judges
from bench.rounds import Rounds, quotient
from bench.seen import cgroups_of_caller, report
from bench.suite import Record, Suite
from pyns import CgroupError, Container, Limits, aio
from pyns.cgroups import Cgroup

pytestmark = pytest.mark.timeout(1800)

WORKERS, RUNS = 16, 100
CYCLES = 5  # that the runs are shared out to
FEWER = 5  # times fewer runs of one that takes a tenth of a second for each
FOR_ALL = Limits(memory_max="1G", pids_max=1024)
IN_FLIGHT, TICK = 50, 0.01
PAIRS = [
    (name, kind)
    for kind in ("threads", "processes", "asyncio")
    for name in JUDGES
    if (name.startswith("pyns") if kind == "asyncio" else (name, kind) != ("BenchExec", "threads"))
]


@dataclass
class Batch(Rounds):
    """Rounds that went on side by side.

    Attributes:
        walls: of each batch, the seconds of all workers that one run took.
    """

    walls: list[float] = field(default_factory=list)

    def add(self, more: Rounds) -> None:
        """Take a batch in that was measured later."""
        assert isinstance(more, Batch)
        super().add(more)
        self.walls += more.walls

    def figures(self, floor: Rounds | None = None) -> dict[str, float]:
        """Return what one run took, and how many there were in a second; beside the floor's."""
        figures = super().figures()
        figures["per_second"] = 1 / statistics.mean(self.walls)
        if isinstance(floor, Batch):
            figures["ratio"] = quotient(self.walls, floor.walls)
            figures["ratio_of_minima"] = min(self.walls) / min(floor.walls)
        return figures


@pytest.fixture(scope="module")
def group() -> Iterator[Cgroup]:
    try:
        made = Cgroup.create("bench", limits=FOR_ALL)
    except CgroupError as error:
        pytest.skip(str(error))
    with made:
        yield made


def check(suite: Suite, group: Cgroup) -> None:
    """Assert that each judge has its program where its limits are."""
    argv = [suite.place.probe(BASE), "/report"]
    for name, start in judges(suite, group, argv, 1).items():
        cgroups = cgroups_of(suite, start)
        assert (cgroups != cgroups_of_caller()) == (name != "isolate"), f"{name}: {cgroups}"


def cgroups_of(suite: Suite, start: Start) -> str:
    """Return what the program that this starts says of its cgroups."""
    return report(suite.place, BASE, lambda _: start)["cgroups"]


def batches(suite: Suite, group: Cgroup) -> dict[tuple[str, str], Batch]:
    """Measure each judge with all workers at once, of each kind; the batches in turn."""
    suite.need(BASE)
    check(suite, group)
    argv = [suite.place.probe(BASE)]
    starts = judges(suite, group, argv, WORKERS)
    containers = boxes(suite.place, group)
    cycles = min(CYCLES, suite.scale.rounds)
    count = min(RUNS, suite.scale.rounds) // cycles
    scene = {(name, kind): Batch() for name, kind in PAIRS if name in starts}
    order, shuffled = list(scene), random.Random(0)
    with suite.progress.of("workers", cycles) as tell:
        for cycle in range(cycles):
            tell(cycle)
            shuffled.shuffle(order)
            for name, kind in order:
                if kind == "asyncio":
                    batch = in_a_loop(containers[name], argv, count)
                else:
                    runs = count if name != "BenchExec" else max(1, count // FEWER)
                    batch = side_by_side(starts[name], kind, runs)
                scene[name, kind].add(batch)
    return scene


def side_by_side(start: Start, kind: str, count: int) -> Batch:
    """Measure all workers, threads or processes, at once."""
    is_forked = kind == "processes"
    how = processes if is_forked else threads
    reading, writing = os.pipe()
    with open(reading, "rb") as file:
        with how(WORKERS, timed(start, count, writing, settle=is_forked)) as go:
            if is_forked:
                go()
            begin = time.monotonic()
            go()
            wall = time.monotonic() - begin
        os.close(writing)
        took = [seconds for (seconds,) in struct.iter_unpack("d", file.read())]
    assert len(took) == WORKERS * count
    return Batch(took, walls=[wall / len(took)])


def timed(start: Start, count: int, writing: int, *, settle: bool) -> Start:
    """Return what a worker does: so many starts, and tells what each took.

    A process that was forked has pages to copy first: there, the first time is one start, untold.
    """

    def work() -> None:
        nonlocal settle
        if settle:
            settle = False
            start()
            return
        took = []
        for _ in range(count):
            begin = time.monotonic()
            start()
            took.append(time.monotonic() - begin)
        os.write(writing, struct.pack(f"{count}d", *took))  # at once: it is less than PIPE_BUF

    return work


def in_a_loop(box: Container, argv: list[str], count: int) -> Batch:
    """Measure all workers as tasks of one loop."""
    took: list[float] = []

    async def work() -> None:
        for _ in range(count):
            begin = time.monotonic()
            process = await aio.create_subprocess_exec(box, *argv)
            expect_success(await process.wait())
            took.append(time.monotonic() - begin)

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(WORKERS)))

    begin = time.monotonic()
    asyncio.run(all_of_them())
    return Batch(took, walls=[(time.monotonic() - begin) / len(took)])


@pytest.mark.parametrize(("subject", "kind"), PAIRS)
def test_workers(suite: Suite, record: Record, group: Cgroup, subject: str, kind: str) -> None:
    scene = suite.once("workers", lambda: batches(suite, group))
    if (subject, kind) not in scene:
        pytest.skip(f"{subject} is not here, or not for these hierarchies")
    # a loop is one thread: beside the floor in threads
    floor = scene["bare C", "threads" if kind == "asyncio" else kind]
    record(
        f"{WORKERS} workers, {kind}",
        subject,
        scene[subject, kind],
        floor,
        sweep="workers",
        does=JUDGES[subject],
    )


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
