"""Where the time of a start goes: the floor stamps the end of each of its stages."""

from __future__ import annotations

import ctypes

import pytest

from bench.floor import STAGES, FloorMount, Start
from bench.isolation import EVERY, HOSTNAME, SETS, own_id_maps
from bench.rounds import Rounds, stage_seconds
from bench.suite import Record, Suite

Moments = list[list[int]]


def stamped_floor(suite: Suite, moments: Moments) -> Start:
    """Return bare C that isolates all, and notes when each stage ended."""
    times = (ctypes.c_uint64 * len(STAGES))()
    start = suite.place.floor.prepare(
        [suite.place.probe(EVERY)],
        namespaces=EVERY,
        root=suite.place.root,
        hostname=HOSTNAME,
        id_maps=own_id_maps(),
        mounts=[FloorMount("PROC", "/proc")],
        times=times,
    )

    def start_and_note() -> None:
        start()
        moments.append(list(times))

    return start_and_note


def measure(suite: Suite) -> tuple[dict[str, Rounds], dict[str, float]]:
    """Measure bare C with its stages, and pyns in turn: what it takes longer is Python's."""
    starts, moments = suite.ready(SETS["all"], "bare C", "pyns"), Moments()
    starts["bare C"] = stamped_floor(suite, moments)
    return suite.in_turn("stages", starts), stage_seconds(moments, STAGES)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", ["bare C", "pyns"])
def test_stages(suite: Suite, record: Record, subject: str) -> None:
    scene, stages = suite.once("stages", lambda: measure(suite))
    record(
        "stages, all namespaces",
        subject,
        scene[subject],
        scene["bare C"],
        sweep="stages",
        stages=stages,
    )
