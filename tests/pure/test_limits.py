"""Limits are checked when they are said."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from typing import Any

import pytest

from pyns import IoMax, Limits


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
        ("cpuset_cpus", "0, 2", "0,2"),
        ("cpuset_cpus", "max", "max"),
        ("cpuset_mems", "0-1", "0-1"),
        ("cpuset_mems", [1], "1"),
        ("memory_high", "1K", 1024),
        ("memory_low", "max", "max"),
        ("memory_min", 0, 0),
        ("memory_oom_group", False, False),
        ("cpu_max", "max", "max"),
        ("cpu_max_burst", 0, 0),
        ("cpu_max_burst", 0.5, 0.5),
        ("cpu_idle", True, True),
        ("io_weight", 1, 1),
        ("io_weight", {"8:16": 10000, "08:0": "default"}, (("8:0", "default"), ("8:16", 10000))),
        ("io_max", [IoMax("8:0", rbps=2)], (IoMax("8:0", rbps=2),)),
        ("io_max", IoMax("8:0", rbps=2), (IoMax("8:0", rbps=2),)),
        ("hugetlb_max", {"2MB": "1M", "1GB": "max"}, (("1GB", "max"), ("2MB", 1048576))),
        ("devices", [], ()),
        ("devices", "max", "max"),
        ("devices", ["c 1:3 r", "/dev/null mw", "b *:* m"], ("b *:* m", "c 1:3 rwm")),
        ("extra", {"b.z": 1, "a.y": "x"}, (("b.z", "1"), ("a.y", "x"))),
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
        ("cpuset_mems", "all", ValueError, "cpuset_mems='all' is not a list of memory nodes"),
        ("memory_high", "x", ValueError, "memory_high='x' is not a size"),
        ("memory_low", -1, ValueError, "memory_low=-1 is out of range"),
        ("memory_min", 0.5, TypeError, "memory_min=0.5: a size is an int"),
        ("memory_oom_group", 1, TypeError, "memory_oom_group=1 is not True or False"),
        ("cpu_max_burst", -1, ValueError, "cpu_max_burst=-1 is out of range: 0 to 1000000 cores"),
        ("cpu_max_burst", "max", TypeError, "cpu_max_burst='max' is not a number of cores"),
        ("cpu_idle", 0, TypeError, "cpu_idle=0 is not True or False"),
        ("io_max", 5, TypeError, "io_max=5: give a sequence of IoMax(...)"),
        ("io_max", ["8:0"], TypeError, "io_max: '8:0' is not an IoMax"),
        (
            "io_max",
            [IoMax("8:0", rbps=2), IoMax("8:0", wbps=2)],
            ValueError,
            "io_max names 8:0 twice",
        ),
        ("io_weight", 0, ValueError, "io_weight=0 is out of range: 1 to 10000"),
        ("io_weight", True, TypeError, "io_weight=True is not an int"),
        ("io_weight", "100", TypeError, "io_weight='100': give an int, or a mapping"),
        ("io_weight", {"8:0": 10001}, ValueError, "io_weight['8:0']=10001 is out of range"),
        ("io_weight", {"vda": 1}, ValueError, "io_weight='vda' is not a disk, as \"/dev/vda\""),
        ("io_weight", {8: 1}, TypeError, 'io_weight=8 is not a str, as "/dev/vda"'),
        ("hugetlb_max", 5, TypeError, "hugetlb_max=5: give a mapping page size → bytes"),
        ("hugetlb_max", {"2M": 1}, ValueError, "hugetlb_max: '2M' is not a page size, as \"2MB\""),
        ("hugetlb_max", {2: 1}, TypeError, "hugetlb_max: 2 is not a page size"),
        ("hugetlb_max", {"2MB": "x"}, ValueError, "hugetlb_max['2MB']='x' is not a size"),
        ("devices", "c 1:3 r", TypeError, "devices='c 1:3 r' is one string: give a sequence"),
        ("devices", 5, TypeError, "devices=5: give a sequence of rules"),
        ("devices", [5], TypeError, 'devices: 5 is not a str, as "c 1:3 rwm"'),
        ("devices", ["a"], ValueError, "devices: 'a' is not a rule, as \"c 1:3 rwm\""),
        ("extra", "x", TypeError, "extra='x': give a mapping file → value"),
        ("extra", {"memory": "1"}, ValueError, "extra: 'memory' is not a file of a controller"),
        ("extra", {"a.b/../c": "1"}, ValueError, "extra: 'a.b/../c' is not a file"),
        ("extra", {"a..": "1"}, ValueError, "extra: 'a..' is not a file"),
        ("extra", {1: "1"}, TypeError, "extra: 1 is not a file's name"),
        ("extra", {"a.b": 1.5}, TypeError, "extra['a.b']=1.5 is not a str or an int"),
        ("extra", {"a.b": ""}, ValueError, "extra['a.b']='': the kernel wants at least one"),
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
        "unknown limit cpus, memory; there are memory_max, memory_high, memory_low, memory_min, "
        "memory_swap_max, memory_oom_group, pids_max, cpu_max, cpu_max_burst, cpu_weight, "
        "cpu_idle, cpuset_cpus, cpuset_mems, io_max, io_weight, hugetlb_max, devices, extra"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        Limits(**fields)


def test_signature_shows_every_limit() -> None:
    shown = inspect.signature(Limits).parameters
    assert list(shown) == [field.name for field in dataclasses.fields(Limits)]
    assert {p.kind for p in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"cpu_max": 0.5, "cpu_max_burst": 0.6}, "cpu_max_burst=0.6 can't be above cpu_max=0.5"),
        ({"cpu_idle": True, "cpu_weight": 5}, "cpu_idle=True: an idle group has no cpu_weight"),
    ],
    ids=["burst", "idle"],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Limits(**limits)


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
        (Limits(io_weight=1), {"io"}),
        (Limits(hugetlb_max={"2MB": 0}), {"hugetlb"}),
        (Limits(devices=()), {"devices"}),
        (Limits(extra={"net_cls.classid": 1, "cgroup.max.depth": 1}), {"net_cls"}),
    ],
    ids=["memory", "pids", "cpu", "cpuset", "two", "io", "hugetlb", "devices", "extra"],
)
def test_controllers_are_those_that_the_limits_need(limits: Limits, controllers: set[str]) -> None:
    assert limits.controllers() == controllers


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [
        ({"memory"}, Limits(memory_max=1, memory_swap_max=0)),
        ({"cpu", "cpuacct"}, Limits(cpu_max=1)),
        ((), Limits()),
        ({"cgroup"}, Limits(extra={"cgroup.max.depth": 1})),
        ({"devices", "io"}, Limits(devices=(), io_weight=5, extra={"io.max": "x"})),
    ],
    ids=["memory", "cpu", "none", "files of v2", "extra"],
)
def test_only_leaves_out_what_other_controllers_have(
    controllers: set[str], expected: Limits
) -> None:
    given = Limits(
        memory_max=1,
        memory_swap_max=0,
        pids_max=5,
        cpu_max=1,
        io_weight=5,
        devices=(),
        extra={"io.max": "x", "cgroup.max.depth": 1},
    )
    assert given.only(controllers) == expected


def test_cpus_may_come_from_an_iterator() -> None:
    assert Limits(cpuset_cpus=iter([1, 2])).cpuset_cpus == "1,2"


def test_equal_limits_said_differently_are_equal() -> None:
    assert Limits(memory_max="1K", cpuset_cpus=[1]) == Limits(memory_max=1024, cpuset_cpus="1")
    assert hash(Limits(memory_max="1K")) == hash(Limits(memory_max=1024))


def test_empty_collections_limit_nothing_but_devices() -> None:
    nothing = Limits(io_max=[], io_weight={}, hugetlb_max={}, extra={})
    assert nothing == Limits()
    assert Limits(devices=[]) != Limits()


EVERY_KIND = Limits(
    memory_max="1G",
    cpu_max=0.5,
    cpuset_cpus=[0],
    io_max=[IoMax("8:0", rbps="1M")],
    io_weight={"8:0": 5},
    hugetlb_max={"2MB": 0},
    devices=["c 1:3 r"],
    extra={"a.b": 1},
)


def test_limits_survive_pickling_and_copying() -> None:
    assert pickle.loads(pickle.dumps(EVERY_KIND)) == EVERY_KIND
    assert copy.deepcopy(EVERY_KIND) == EVERY_KIND
    assert hash(pickle.loads(pickle.dumps(EVERY_KIND))) == hash(EVERY_KIND)


def test_limits_can_be_replaced() -> None:
    assert dataclasses.replace(EVERY_KIND) == EVERY_KIND
    assert dataclasses.replace(EVERY_KIND, cpu_max="max").cpu_max == "max"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"device": "8:0"}, ValueError, "IoMax('8:0') limits nothing: give rbps"),
        ({"device": "8", "rbps": 2}, ValueError, "device='8' is not a disk, as \"/dev/vda\""),
        ({"device": 8, "rbps": 2}, TypeError, 'device=8 is not a str, as "/dev/vda"'),
        ({"device": "4096:0", "rbps": 2}, ValueError, "device: '4096:0' is out of range"),
        ({"device": "8:1048576", "rbps": 2}, ValueError, "device: '8:1048576' is out of range"),
        ({"device": "/dev/null", "rbps": 2}, ValueError, "device: /dev/null is not a block device"),
        ({"device": "/dev/nix", "rbps": 2}, ValueError, "device: '/dev/nix' can't be looked up"),
        ({"device": "8:0", "rbps": 0}, ValueError, "rbps=0 is out of range: from 2 bytes"),
        ({"device": "8:0", "wbps": 1}, ValueError, "wbps=1 is out of range: from 2 bytes"),
        ({"device": "8:0", "wbps": "x"}, ValueError, "wbps='x' is not a size"),
        ({"device": "8:0", "riops": 1}, ValueError, "riops=1 is out of range: 2 to 4294967294"),
        ({"device": "8:0", "wiops": 2**32 - 1}, ValueError, "is out of range: 2 to 4294967294"),
        ({"device": "8:0", "wiops": "1K"}, TypeError, "wiops='1K' is not an int"),
    ],
    ids=str,
)
def test_limit_of_a_disk_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=re.escape(said)):
        IoMax(**arguments)


def test_limit_of_a_disk_is_kept_in_one_form() -> None:
    assert IoMax("08:00", rbps="10M", wbps="max", riops=4294967294) == IoMax(
        device="8:0", rbps=10485760, wbps="max", riops=4294967294
    )
