"""What can be watched for, as it is described."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pyns.cgroups import Event, Trigger
from pyns.cgroups.watch import _counts

MEMORY = {"memory_high": "high", "oom_kill": "oom_kill"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"resource": "cpu", "stall_seconds": 0.15}, "some 150000 2000000"),
        (
            {"resource": "memory", "stall_seconds": 0.15, "window_seconds": 1, "full": True},
            "full 150000 1000000",
        ),
        ({"resource": "io", "stall_seconds": 1e-6, "window_seconds": 0.5}, "some 1 500000"),
        ({"resource": "io", "stall_seconds": 10, "window_seconds": 10}, "some 10000000 10000000"),
        ({"resource": "cpu", "stall_seconds": 0.29}, "some 290000 2000000"),
    ],
    ids=str,
)
def test_trigger_becomes_what_the_kernel_reads(fields: dict[str, Any], text: str) -> None:
    assert Trigger(**fields).text() == text


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"resource": "irq", "stall_seconds": 0.1}, "resource='irq'"),
        ({"resource": "cpu", "stall_seconds": 0}, "stall_seconds=0"),
        ({"resource": "cpu", "stall_seconds": -1}, "stall_seconds=-1"),
        ({"resource": "cpu", "stall_seconds": 2.1}, "stall_seconds=2.1"),
        ({"resource": "cpu", "stall_seconds": float("nan")}, "stall_seconds=nan"),
        ({"resource": "cpu", "stall_seconds": 0.1, "window_seconds": 0.4}, "window_seconds=0.4"),
        ({"resource": "cpu", "stall_seconds": 0.1, "window_seconds": 11}, "window_seconds=11"),
    ],
    ids=str,
)
def test_trigger_that_makes_no_sense_is_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Trigger(**fields)


def test_event_is_a_value() -> None:
    event = Event(kind="oom")
    assert event == Event(kind="oom", count=1, trigger=None)
    with pytest.raises(FrozenInstanceError):
        event.count = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("low 0\nhigh 3\nmax 1\noom 2\noom_kill 1\n", {"memory_high": 3, "oom_kill": 1}),
        ("high 3\n", {"memory_high": 3}),
        ("high x\noom_kill\nlater 1 2\n\0", {}),
        ("", {}),
    ],
    ids=repr,
)
def test_counts_are_those_that_can_be_read(text: str, counts: dict[str, int]) -> None:
    assert _counts(text, MEMORY) == counts  # type: ignore[arg-type]


def test_end_of_a_state_counts_as_well() -> None:
    lines = {"populated": "populated", "frozen": "frozen"}
    assert _counts("populated 1\nfrozen 0\n", lines) == {  # type: ignore[arg-type]
        "populated": 1,
        "empty": 0,
        "frozen": 0,
        "thawed": 1,
    }
