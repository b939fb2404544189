"""What the first start costs: of an interpreter, and when the CPU's caches hold other things."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.isolation import BASE
from bench.rounds import Rounds
from bench.suite import Record, Scene, Suite

OTHER_THINGS = bytearray(64 << 20)  # more than the last level of most

# Each prints what the import took, the first start and the second one, in seconds.
PROGRAMS = {
    "pyns": "from pyns import Container, Namespace, clone_into; box = Container()",
    "subprocess": "import subprocess",
}
STARTS = {"pyns": "clone_into(box, argv).wait()", "subprocess": "subprocess.run(argv)"}
PHASES = ("import", "first start", "second start")


def empty_caches() -> None:
    """Write over what the CPU's caches hold."""
    OTHER_THINGS[::64] = b"\1" * (len(OTHER_THINGS) // 64)


def of_interpreters(suite: Suite) -> Scene:
    """Measure in interpreters of their own; Python's start is not in it."""
    suite.need(BASE)
    scene = {f"{name}, {phase}": Rounds() for name in PROGRAMS for phase in PHASES}
    for _ in range(max(1, suite.scale.rounds // 10)):
        for name, program in PROGRAMS.items():
            code = (
                "import json, sys, time; argv = sys.argv[1:]; moments = [time.monotonic()]\n"
                f"{program}\nmoments.append(time.monotonic())\n"
                f"{STARTS[name]}\nmoments.append(time.monotonic())\n"
                f"{STARTS[name]}\nmoments.append(time.monotonic())\n"
                "print(json.dumps(moments))"
            )
            # -I: pyns as it is installed
            command = [sys.executable, "-I", "-c", code, str(suite.place.root / "probe")]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            moments = json.loads(done.stdout)
            for phase, begin, end in zip(PHASES, moments, moments[1:], strict=False):
                scene[f"{name}, {phase}"].total.append(end - begin)
    return scene


@pytest.mark.timeout(600)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("subject", PROGRAMS)
def test_first(suite: Suite, record: Record, subject: str, phase: str) -> None:
    scene = suite.once("first", lambda: of_interpreters(suite))
    name = f"{subject}, {phase}"
    record("first start of an interpreter", name, scene[name], sweep="cold")


def cold(suite: Suite) -> Scene:
    """Measure as always, but with other things in the caches before each start."""
    starts = suite.ready(BASE, "bare C", "pyns", "unshare(1)", "bwrap")
    return suite.in_turn("cold caches", starts, share=1 / 3, between=empty_caches)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", ["bare C", "pyns", "unshare(1)", "bwrap"])
def test_cold(suite: Suite, record: Record, subject: str) -> None:
    suite.subject(subject)
    scene = suite.once("cold caches", lambda: cold(suite))
    record("cold caches", subject, scene[subject], scene["bare C"], sweep="cold")
