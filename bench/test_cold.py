"""What the first start costs: of an interpreter, and when the CPU's caches hold other things."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest

from bench.floor import expect_success
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

COMMANDS = {
    "python": ["-c", "pass"],
    "import subprocess": ["-c", PROGRAMS["subprocess"]],
    "import pyns": ["-c", "import pyns"],
    "import what starts, a Container": ["-c", PROGRAMS["pyns"]],
    "pyns run": ["-m", "pyns", "run", "--"],
}


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


def of_commands(suite: Suite) -> Scene:
    """Measure interpreters from their start to their end."""
    suite.need(BASE)
    program = str(suite.place.root / "probe")  # the others don't look at it
    starts = {
        name: partial(start_command, [sys.executable, "-I", *arguments, program])
        for name, arguments in COMMANDS.items()
    }
    return suite.in_turn("commands", starts, share=1 / 3)


def start_command(command: list[str]) -> None:
    """Start it, and wait for its end."""
    expect_success(subprocess.run(command, check=False).returncode)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("subject", COMMANDS)
def test_command(suite: Suite, record: Record, subject: str) -> None:
    scene = suite.once("commands", lambda: of_commands(suite))
    record("an interpreter", subject, scene[subject], scene["python"], sweep="commands")


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
