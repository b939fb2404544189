"""What a start costs, by who does it: the same isolation, in turn."""

from __future__ import annotations

import pytest

from bench.isolation import SETS
from bench.subjects import pairs
from bench.suite import Record, Suite


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("isolation", "subject"), pairs())
def test_spawn(suite: Suite, record: Record, isolation: str, subject: str) -> None:
    suite.subject(subject)
    scene = f"spawn {isolation}"
    measured = suite.once(scene, lambda: suite.in_turn(scene, suite.ready(SETS[isolation])))
    own, floor, pyns = (measured[name] for name in (subject, "bare C", "pyns"))
    record(scene, subject, own, floor, {"to_pyns": pyns}, sweep="peers", x=isolation)
