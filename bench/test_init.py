"""What an init as PID 1 costs, beside a program that is PID 1 itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from bench.isolation import BASE
from bench.kinds import pyns_start
from bench.seen import report
from bench.suite import Record, Scene, Suite
from bench.tools import Bwrap
from pyns import Namespace


class BwrapWithInit(Bwrap):
    """bwrap as it is by default: PID 1 is a process of its own."""

    pid = 2

    def options(self, namespaces: Namespace, argv: Sequence[str]) -> list[str]:
        return [o for o in super().options(namespaces, argv) if o != "--as-pid-1"]


def with_and_without(suite: Suite) -> Scene:
    """Measure both, of pyns and of bwrap."""
    starts = suite.ready(BASE, "bare C", "pyns", "bwrap")
    place, argv = suite.place, [suite.place.probe(BASE)]
    container = replace(place.container(BASE), init=True)
    seen = report(place, BASE, partial(pyns_start, container))
    assert seen["getpid"] == "2"
    starts["pyns, init=True"] = pyns_start(container, argv)
    if "bwrap" in starts:
        starts["bwrap, with its init"] = BwrapWithInit(place).prepare(BASE, argv)
    return suite.in_turn("init", starts)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "subject", ["bare C", "pyns", "pyns, init=True", "bwrap", "bwrap, with its init"]
)
def test_init(suite: Suite, record: Record, subject: str) -> None:
    suite.subject(subject.partition(",")[0])
    scene = suite.once("init", lambda: with_and_without(suite))
    record("with and without an init", subject, scene[subject], scene["bare C"], sweep="init")
