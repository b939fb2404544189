"""How the cost of a start grows: with the parent, the host's mounts, the plan, the spawners."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

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
CYCLES = 5  # neither memory nor mounts can be had and let go in every round
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
    starts |= {f"{who}, user": start for who, start in suite.ready(USER, "bare C", "pyns").items()}
    sizes = [size for size in suite.scale.axes["megabytes"] if size <= available_megabytes()]
    scenes: dict[int, Scene] = {size: {name: Rounds() for name in starts} for size in sizes}
    for _ in range(min(CYCLES, suite.scale.rounds)):
        for size in sizes:
            with hold(size):
                scene = suite.in_turn(f"parent of {size} MB", starts, share=1 / CYCLES)
            for name, rounds in scene.items():
                scenes[size][name].add(rounds)
    return scenes


@pytest.mark.parametrize(
    "subject",
    [f"{who}{kind}" for kind in ("", ", user", ", id ranges") for who in ("bare C", "pyns")]
    + ["preexec_fn"],
)
def test_parent(suite: Suite, record: Record, megabytes: int, subject: str) -> None:
    scenes = suite.once("memory", lambda: by_memory(suite))
    if megabytes not in scenes:
        pytest.skip(f"{available_megabytes()} MB are available")
    scene = scenes[megabytes]
    _, comma, kind = subject.partition(",")
    floor = scene[f"bare C{comma}{kind}"]
    first = next(iter(scenes.values()))[subject]
    group = f"parent of {megabytes} MB"
    record(
        group,
        subject,
        scene[subject],
        floor,
        {"growth": first},
        sweep="memory",
        x=megabytes,
    )


def by_host_mounts(suite: Suite) -> dict[int, tuple[int, Scene]]:
    """Measure in processes whose mount namespaces, of their own, have so many mounts, in turn.

    Returns:
        How many there were, and the scene, by how many were wanted.
    """
    starts = suite.ready(BASE, "bare C", "pyns", "unshare(1)", "bwrap")

    def measure(count: int) -> tuple[int, Scene]:
        there = have_mounts(count, suite.place.work)
        return there, suite.in_turn(f"host with {there} mounts", starts, share=1 / 3 / CYCLES)

    found: dict[int, tuple[int, Scene]] = {}
    for _ in range(min(CYCLES, suite.scale.rounds)):
        for count in suite.scale.axes["host_mounts"]:
            there, scene = in_child(partial(measure, count))
            _, all_of_them = found.setdefault(count, (there, {name: Rounds() for name in starts}))
            for name, rounds in scene.items():
                all_of_them[name].add(rounds)
    return found


@pytest.mark.parametrize("subject", ["bare C", "pyns", "unshare(1)", "bwrap"])
def test_host_mounts(suite: Suite, record: Record, host_mounts: int, subject: str) -> None:
    suite.subject(subject)
    found = suite.once("host mounts", lambda: by_host_mounts(suite))
    (there, scene), (_, first) = found[host_mounts], next(iter(found.values()))
    record(
        f"host with {host_mounts} mounts",
        subject,
        scene[subject],
        scene["bare C"],
        {"growth": first[subject]},
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


SPAWNERS = ("bare C", "pyns", "unshare(1)")
KINDS = (processes, threads)  # in this order: a process that has threads is not to be forked


def side_by_side(suite: Suite) -> dict[tuple[str, int], Rounds]:
    """Measure so many spawners side by side, in turn: what a start takes of the time of all."""
    starts = suite.ready(BASE, *SPAWNERS)
    rounds = max(1, suite.scale.rounds // 10)
    shuffled = random.Random(0)
    with ExitStack() as workers, suite.progress.of("spawners", rounds) as tell:
        go = {
            (f"{name}, {kind.__name__}", count): workers.enter_context(
                kind(count, partial(several, starts[name]))
            )
            for kind in KINDS
            for name in starts
            for count in suite.scale.axes["spawners"]
        }
        measured = {who: Rounds() for who in go}
        order = list(go)
        for number in range(-1, rounds):
            tell(number)
            shuffled.shuffle(order)
            for who in order:
                begin = time.monotonic()
                go[who]()
                took = time.monotonic() - begin
                if number >= 0:
                    measured[who].total.append(took / (who[1] * PER_ROUND))
    return measured


def several(start: Start) -> None:
    """Start what a spawner starts in a round."""
    for _ in range(PER_ROUND):
        start()


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("subject", SPAWNERS)
def test_spawners(suite: Suite, record: Record, spawners: int, subject: str, kind: str) -> None:
    suite.subject(subject)
    scene = suite.once("spawners", lambda: side_by_side(suite))
    name, one = f"{subject}, {kind}", suite.scale.axes["spawners"][0]
    record(
        f"{spawners} spawners",
        name,
        scene[name, spawners],
        scene[f"bare C, {kind}", spawners],
        {"growth": scene[name, one]},
        sweep="spawners",
        x=spawners,
    )
