"""cgroup v2: which writes limits become, and what its files say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from pyns import Limits
from pyns.cgroups import Stats, v2

CPU_STAT = """\
usage_usec 2500000
user_usec 2000000
system_usec 500000
nice_usec 0
core_sched.force_idle_usec 0
nr_periods 12
nr_throttled 3
throttled_usec 90000
nr_bursts 0
burst_usec 0
"""
MEMORY_EVENTS = """\
low 0
high 0
max 41
oom 2
oom_kill 1
oom_group_kill 0
"""


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


STAT_FILES: list[tuple[str, str, dict[str, Any]]] = [
    ("cpu.stat", CPU_STAT, {"cpu_seconds": 2.5, "user_seconds": 2.0, "system_seconds": 0.5}),
    ("memory.current", "409600\n", {"memory_current": 409600}),
    ("memory.peak", "819200\n", {"memory_peak": 819200}),
    ("memory.events", MEMORY_EVENTS, {"oom_kills": 1}),
    ("pids.current", "2\n", {"pids_current": 2}),
    ("pids.peak", "7\n", {"pids_peak": 7}),
]


@pytest.mark.parametrize(
    ("file", "text", "expected"), STAT_FILES, ids=[f for f, _, _ in STAT_FILES]
)
def test_statistics_are_read(file: str, text: str, expected: dict[str, Any]) -> None:
    assert v2.parse_stat(file, text) == expected


def test_files_together_fill_the_statistics() -> None:
    told = {name for _, _, values in STAT_FILES for name in values}
    assert told == {field.name for field in fields(Stats)}


@pytest.mark.parametrize(
    ("controllers", "files"),
    [
        ((), ["cpu.stat"]),
        (("cpu",), ["cpu.stat"]),
        (("cpuset", "io"), ["cpu.stat"]),
        (("memory",), ["cpu.stat", "memory.current", "memory.peak", "memory.events"]),
        (("pids",), ["cpu.stat", "pids.current", "pids.peak"]),
    ],
    ids=str,
)
def test_statistics_come_from_the_files_of_the_controllers(
    controllers: tuple[str, ...], files: list[str]
) -> None:
    assert v2.stat_files(controllers) == files


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
