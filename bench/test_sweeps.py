"""How the cost of a start grows: with the parent, the host's mounts, the plan, the spawners."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from bench.apart import have_mounts, in_child, processes, threads
from bench.floor import FloorMount, Start
from bench.isolation import BASE, HOSTNAME
from bench.kinds import prepare_floor, prepare_pyns, pyns_start
from bench.memory import available_megabytes, hold
from bench.rounds import Rounds
from bench.suite import Record, Scene, Suite
from pyns import Bind, IdMap, Namespace

pytestmark = pytest.mark.timeout(1800)

RANGES = (IdMap(0, 0, 1), IdMap(1, 100_000, 65_536))
USER = BASE | Namespace.NET | Namespace.USER
MEMORY_CYCLES = 5  # memory can't be had and let go in every round
PER_ROUND = 10  # starts of each spawner


def with_ranges(suite: Suite) -> dict[str, Start]:
    """Return bare C and pyns with a user namespace of two ranges, which the parent has to map."""
    argv = [suite.place.probe(USER)]
    text = "\n".join(map(str, RANGES))
    floor = suite.place.floor.prepare(
        argv,
        namespaces=USER,
        root=suite.place.root,
        hostname=HOSTNAME,
        id_maps=(text, text),
        maps_by_parent=True,
        mounts=[FloorMount("PROC", "/proc")],
    )
    container = replace(suite.place.container(USER), uid_map=RANGES, gid_map=RANGES)
    return {"bare C, id ranges": floor, "pyns, id ranges": pyns_start(container, argv)}


def by_memory(suite: Suite) -> dict[int, Scene]:
    """Measure with each size of the parent, the sizes in turn."""
    starts = suite.ready(BASE, "bare C", "pyns", "preexec_fn") | with_ranges(suite)
    sizes = [size for size in suite.scale.axes["megabytes"] if size <= available_megabytes()]
    scenes: dict[int, Scene] = {size: {name: Rounds() for name in starts} for size in sizes}
    for _ in range(min(MEMORY_CYCLES, suite.scale.rounds)):
        for size in sizes:
            with hold(size):
                scene = suite.in_turn(f"parent of {size} MB", starts, share=1 / MEMORY_CYCLES)
            for name, rounds in scene.items():
                scenes[size][name].add(rounds)
    return scenes


@pytest.mark.parametrize(
    "subject", ["bare C", "pyns", "bare C, id ranges", "pyns, id ranges", "preexec_fn"]
)
def test_parent(suite: Suite, record: Record, megabytes: int, subject: str) -> None:
    scenes = suite.once("memory", lambda: by_memory(suite))
    if megabytes not in scenes:
        pytest.skip(f"{available_megabytes()} MB are available")
    scene = scenes[megabytes]
    floor = scene["bare C, id ranges" if "ranges" in subject else "bare C"]
    record(f"parent of {megabytes} MB", subject, scene[subject], floor, sweep="memory", x=megabytes)


def with_host_mounts(suite: Suite, count: int) -> tuple[int, Scene]:
    """Measure in a process whose mount namespace, of its own, has so many mounts."""
    starts = suite.ready(BASE, "bare C", "pyns", "unshare(1)", "bwrap")

    def measure() -> tuple[int, Scene]:
        there = have_mounts(count, suite.place.work)
        return there, suite.in_turn(f"host with {there} mounts", starts, share=1 / 3)

    found: tuple[int, Scene] = in_child(measure)
    return found


@pytest.mark.parametrize("subject", ["bare C", "pyns", "unshare(1)", "bwrap"])
def test_host_mounts(suite: Suite, record: Record, host_mounts: int, subject: str) -> None:
    suite.subject(subject)
    there, scene = suite.once(f"{host_mounts} mounts", lambda: with_host_mounts(suite, host_mounts))
    record(
        f"host with {host_mounts} mounts",
        subject,
        scene[subject],
        scene["bare C"],
        sweep="host mounts",
        x=there,
    )


def with_binds(suite: Suite, count: int) -> Scene:
    """Measure plans with so many mounts, each on a directory of its own."""
    suite.need(BASE)
    place, source = suite.place, str(suite.place.work)
    argv = [place.probe(BASE)]
    for number in range(count):
        (place.root / "m" / str(number)).mkdir(exist_ok=True)
    targets = [f"/m/{number}" for number in range(count)]
    starts = {
        "bare C": prepare_floor(place, argv, *(FloorMount("BIND", t, source) for t in targets)),
        "pyns": prepare_pyns(place, argv, *(Bind(source, t, recursive=True) for t in targets)),
    }
    return suite.in_turn(f"plan with {count} binds", starts, share=1 / 3)


@pytest.mark.parametrize("subject", ["bare C", "pyns"])
def test_plan(suite: Suite, record: Record, binds: int, subject: str) -> None:
    scene = suite.once(f"{binds} binds", lambda: with_binds(suite, binds))
    record(
        f"plan with {binds} binds", subject, scene[subject], scene["bare C"], sweep="plan", x=binds
    )


def side_by_side(suite: Suite, count: int) -> Scene:
    """Measure spawners side by side: what a start takes of the time of all."""
    starts = suite.ready(BASE, "bare C", "pyns", "unshare(1)")
    scene = {}
    for name, start in starts.items():
        for kind in (threads, processes):

            def work(start: Start = start) -> None:
                for _ in range(PER_ROUND):
                    start()

            rounds = scene[f"{name}, {kind.__name__}"] = Rounds()
            with kind(count, work) as go:
                go()
                for _ in range(max(1, suite.scale.rounds // 10)):
                    begin = time.monotonic()
                    go()
                    rounds.total.append((time.monotonic() - begin) / (count * PER_ROUND))
    return scene


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("subject", ["bare C", "pyns", "unshare(1)"])
def test_spawners(suite: Suite, record: Record, spawners: int, subject: str, kind: str) -> None:
    suite.subject(subject)
    scene = suite.once(f"{spawners} spawners", lambda: side_by_side(suite, spawners))
    name = f"{subject}, {kind}"
    record(f"{spawners} spawners", name, scene[name], sweep="spawners", x=spawners)
