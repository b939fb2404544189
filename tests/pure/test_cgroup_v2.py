"""cgroup v2: which writes limits become, and when it is frozen."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from pyns import Limits
from pyns.cgroups import v2


@pytest.mark.parametrize(
    ("limits", "writes"),
    [
        (Limits(), []),
        (Limits(memory_max="1M"), [("memory", "memory.max", "1048576")]),
        (Limits(memory_max=0), [("memory", "memory.max", "0")]),
        (Limits(memory_max="max"), [("memory", "memory.max", "max")]),
        (Limits(memory_swap_max=0), [("memory", "memory.swap.max", "0")]),
        (
            Limits(memory_swap_max="1M", memory_max="2M"),
            [("memory", "memory.max", "2097152"), ("memory", "memory.swap.max", "1048576")],
        ),
        (Limits(pids_max=64), [("pids", "pids.max", "64")]),
        (Limits(pids_max="max"), [("pids", "pids.max", "max")]),
        (Limits(cpu_max=0.5), [("cpu", "cpu.max", "50000 100000")]),
        (Limits(cpu_max=2), [("cpu", "cpu.max", "200000 100000")]),
        (Limits(cpu_max=0.01), [("cpu", "cpu.max", "1000 100000")]),
        (Limits(cpu_max=0.29), [("cpu", "cpu.max", "29000 100000")]),
        (Limits(cpu_weight=1), [("cpu", "cpu.weight", "1")]),
        (Limits(cpuset_cpus=[0, 3]), [("cpuset", "cpuset.cpus", "0,3")]),
        (
            Limits(cpuset_cpus="0", cpu_weight=5, cpu_max=1, pids_max=1, memory_max=4096),
            [
                ("memory", "memory.max", "4096"),
                ("pids", "pids.max", "1"),
                ("cpu", "cpu.max", "100000 100000"),
                ("cpu", "cpu.weight", "5"),
                ("cpuset", "cpuset.cpus", "0"),
            ],
        ),
    ],
    ids=str,
)
def test_limits_become_writes(limits: Limits, writes: list[tuple[str, str, str]]) -> None:
    assert v2.writes(limits) == writes


def test_every_limit_has_its_write() -> None:
    everything: dict[str, Any] = {field.name: 1 for field in fields(Limits)} | {"cpuset_cpus": "1"}
    assert len(v2.writes(Limits(**everything))) == len(everything)


@pytest.mark.parametrize(
    ("events", "frozen"),
    [
        ("populated 1\nfrozen 0\n", False),
        ("populated 1\nfrozen 1\n", True),
        ("populated 0\nfrozen 1\n", True),
        ("populated 0\nfrozen 0\n", False),
        (None, False),
    ],
    ids=["running", "frozen", "empty and frozen", "empty", "the root has no such file"],
)
def test_frozen_is_what_the_events_say(events: str | None, frozen: bool) -> None:
    assert v2.is_frozen({"cgroup.events": events}.get) is frozen
