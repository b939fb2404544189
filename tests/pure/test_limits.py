"""Limits are checked when they are said."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

from pyns import Limits


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("memory_max", "100M", 104857600),
        ("memory_max", 0, 0),
        ("memory_max", "max", "max"),
        ("memory_swap_max", 0, 0),
        ("memory_swap_max", "1.5GiB", 1610612736),
        ("memory_swap_max", "max", "max"),
        ("pids_max", 1, 1),
        ("pids_max", 4194304, 4194304),
        ("pids_max", "max", "max"),
        ("cpu_max", 0.01, 0.01),
        ("cpu_max", 2, 2),
        ("cpu_weight", 1, 1),
        ("cpu_weight", 10000, 10000),
        ("cpuset_cpus", "0-3,6", "0-3,6"),
        ("cpuset_cpus", "5-5", "5-5"),
        ("cpuset_cpus", [0, 2, 3], "0,2,3"),
        ("cpuset_cpus", range(2), "0,1"),
    ],
    ids=str,
)
def test_limit_is_kept_in_one_form(name: str, value: Any, kept: Any) -> None:
    limits = Limits(**{name: value})
    assert getattr(limits, name) == kept
    assert limits.given() == {name: kept}


@pytest.mark.parametrize(
    ("name", "value", "error", "said"),
    [
        ("memory_max", "100X", ValueError, "memory_max='100X' is not a size: give bytes, or"),
        ("memory_max", -1, ValueError, "memory_max=-1 is out of range: 0 to"),
        ("memory_max", 1.5, TypeError, "memory_max=1.5: a size is an int (bytes) or a str"),
        ("memory_swap_max", "x", ValueError, "memory_swap_max='x' is not a size: give bytes"),
        ("memory_swap_max", True, TypeError, "memory_swap_max=True: a size is an int"),
        ("pids_max", 0, ValueError, "pids_max=0 is out of range: 1 to 4194304"),
        ("pids_max", 4194305, ValueError, "pids_max=4194305 is out of range: 1 to 4194304"),
        ("pids_max", "64", TypeError, "pids_max='64' is not an int"),
        ("pids_max", True, TypeError, "pids_max=True is not an int"),
        ("pids_max", 1.0, TypeError, "pids_max=1.0 is not an int"),
        ("cpu_max", 0, ValueError, "cpu_max=0 is out of range: 0.01 to 1000000 cores"),
        ("cpu_max", 0.009, ValueError, "cpu_max=0.009 is out of range: 0.01 to"),
        ("cpu_max", -1, ValueError, "cpu_max=-1 is out of range: 0.01 to"),
        ("cpu_max", 1000001, ValueError, "cpu_max=1000001 is out of range"),
        ("cpu_max", float("nan"), ValueError, "cpu_max=nan is out of range"),
        ("cpu_max", float("inf"), ValueError, "cpu_max=inf is out of range"),
        ("cpu_max", "50%", TypeError, "cpu_max='50%' is not a number of cores, as 0.5"),
        ("cpu_max", True, TypeError, "cpu_max=True is not a number of cores, as 0.5"),
        ("cpu_weight", 0, ValueError, "cpu_weight=0 is out of range: 1 to 10000"),
        ("cpu_weight", 10001, ValueError, "cpu_weight=10001 is out of range: 1 to 10000"),
        ("cpu_weight", 1.5, TypeError, "cpu_weight=1.5 is not an int"),
        ("cpuset_cpus", "", ValueError, "cpuset_cpus='' is not a list of CPUs, as \"0-3,6\""),
        ("cpuset_cpus", [], ValueError, "cpuset_cpus='' is not a list of CPUs"),
        ("cpuset_cpus", "0,", ValueError, "cpuset_cpus='0,' is not a list of CPUs"),
        ("cpuset_cpus", "3-1", ValueError, "cpuset_cpus='3-1' is not a list of CPUs"),
        ("cpuset_cpus", "1-2-3", ValueError, "cpuset_cpus='1-2-3' is not a list of CPUs"),
        ("cpuset_cpus", "-1", ValueError, "cpuset_cpus='-1' is not a list of CPUs"),
        ("cpuset_cpus", "\N{SUPERSCRIPT TWO}", ValueError, "is not a list of CPUs"),
        ("cpuset_cpus", "all", ValueError, "cpuset_cpus='all' is not a list of CPUs"),
        ("cpuset_cpus", [-1], ValueError, "cpuset_cpus=-1 is out of range: 0 to 65536"),
        ("cpuset_cpus", ["0"], TypeError, "cpuset_cpus='0' is not an int"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_value_that_makes_no_sense_is_refused(
    name: str, value: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        Limits(**{name: value})


def test_unknown_limits_are_refused_with_those_that_there_are() -> None:
    fields: dict[str, Any] = {"memory": 1, "cpus": 2}
    said = (
        "unknown limit cpus, memory; there are memory_max, memory_swap_max, pids_max, "
        "cpu_max, cpu_weight, cpuset_cpus"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        Limits(**fields)


def test_nothing_is_limited_by_default() -> None:
    assert Limits().given() == {}
    assert Limits().controllers() == set()


@pytest.mark.parametrize(
    ("limits", "controllers"),
    [
        (Limits(memory_max=1, memory_swap_max=0), {"memory"}),
        (Limits(pids_max=1), {"pids"}),
        (Limits(cpu_max=1, cpu_weight=1), {"cpu"}),
        (Limits(cpuset_cpus="0"), {"cpuset"}),
        (Limits(pids_max="max", memory_swap_max=0), {"pids", "memory"}),
    ],
    ids=["memory", "pids", "cpu", "cpuset", "two"],
)
def test_controllers_are_those_that_the_limits_need(limits: Limits, controllers: set[str]) -> None:
    assert limits.controllers() == controllers


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [
        ({"memory"}, Limits(memory_max=1, memory_swap_max=0)),
        ({"cpu", "cpuacct"}, Limits(cpu_max=1)),
        ((), Limits()),
    ],
    ids=["memory", "cpu", "none"],
)
def test_only_leaves_out_what_other_controllers_have(
    controllers: set[str], expected: Limits
) -> None:
    given = Limits(memory_max=1, memory_swap_max=0, pids_max=5, cpu_max=1)
    assert given.only(controllers) == expected


def test_cpus_may_come_from_an_iterator() -> None:
    assert Limits(cpuset_cpus=iter([1, 2])).cpuset_cpus == "1,2"


def test_equal_limits_said_differently_are_equal() -> None:
    assert Limits(memory_max="1K", cpuset_cpus=[1]) == Limits(memory_max=1024, cpuset_cpus="1")
    assert hash(Limits(memory_max="1K")) == hash(Limits(memory_max=1024))


def test_limits_survive_pickling_and_copying() -> None:
    limits = Limits(memory_max="1G", cpu_max=0.5)
    assert pickle.loads(pickle.dumps(limits)) == limits
    assert copy.deepcopy(limits) == limits
