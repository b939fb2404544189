"""What each namespace and each kind of mount adds to a start, with pyns and in bare C."""

from __future__ import annotations

import pytest

from bench.isolation import BASE, EVERY, own_id_maps
from bench.kinds import MOUNTS, mount_kinds, prepare_floor, prepare_pyns, pyns_start
from bench.suite import Record, Scene, Suite
from pyns import Container, Namespace

pytestmark = pytest.mark.timeout(900)

WHO = ("bare C", "pyns")


def by_namespace(suite: Suite) -> Scene:
    """Measure one new namespace at a time, and none."""
    suite.need(BASE)
    starts, argv = {}, [str(suite.place.root / "probe")]
    for kind in (Namespace(0), *EVERY):
        id_maps = own_id_maps() if kind is Namespace.USER else None
        container = Container(namespaces=kind)
        starts[f"bare C, {kind.words()}"] = suite.place.floor.prepare(
            argv, namespaces=kind, id_maps=id_maps
        )
        starts[f"pyns, {kind.words()}"] = pyns_start(container, argv)
    return suite.in_turn("namespaces", starts)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("kind", [kind.words() for kind in EVERY])
def test_namespace(suite: Suite, record: Record, kind: str, who: str) -> None:
    scene = suite.once("namespaces", lambda: by_namespace(suite))
    record(
        "one namespace", f"{who}, {kind}", scene[f"{who}, {kind}"], scene[f"{who}, "],
        sweep="namespaces", x=kind,
    )  # fmt: skip


def by_mount(suite: Suite) -> Scene:
    """Measure one mount at a time besides root and /proc, and none."""
    suite.need(BASE)
    place, argv = suite.place, [suite.place.probe(BASE)]
    starts = {
        "bare C, ": prepare_floor(place, argv),
        "pyns, ": prepare_pyns(place, argv),
    }
    for name, kind in mount_kinds(place).items():
        starts[f"bare C, {name}"] = prepare_floor(place, argv, kind.floor)
        starts[f"pyns, {name}"] = prepare_pyns(place, argv, *kind.pyns)
    return suite.in_turn("mounts", starts)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("kind", MOUNTS)
def test_mount(suite: Suite, record: Record, kind: str, who: str) -> None:
    scene = suite.once("mounts", lambda: by_mount(suite))
    if f"{who}, {kind}" not in scene:
        pytest.skip("no cgroup2 is mounted")
    record(
        "one mount", f"{who}, {kind}", scene[f"{who}, {kind}"], scene[f"{who}, "],
        sweep="mounts", x=kind,
    )  # fmt: skip
