"""Where a new group goes, and which names it may have."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from pyns import CgroupError
from pyns.cgroups import Hierarchy, hierarchies, placing


def v1(*controllers: str) -> Hierarchy:
    return Hierarchy(1, controllers, f"/v1/{','.join(controllers)}", "/")


def v2(*controllers: str) -> Hierarchy:
    return Hierarchy(2, controllers, "/v2", "/")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the component ''"),
        (".", "the component '.'"),
        ("..", "the component '..'"),
        ("../x", "the component '..'"),
        ("a/../b", "the component '..'"),
        ("a//b", "the component ''"),
        ("a/", "the component ''"),
        ("/", "is absolute"),
        ("/a", "is absolute"),
        ("a\0b", "a newline or a NUL"),
        ("a\n", "a newline or a NUL"),
        ("docker/a\nb", "a newline or a NUL"),
        ("x" * 300, "more than 255 bytes"),
        ("ä" * 128, "more than 255 bytes"),
    ],
    ids=lambda value: repr(value[:9]),
)
def test_name_that_no_group_can_have_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        placing.split_name(name)


@pytest.mark.parametrize("name", ["a", "...", "a b", ".hidden", "user@1000.service", "-", "a/b/c"])
def test_name_is_split_into_its_components(name: str) -> None:
    assert placing.split_name(name) == tuple(name.split("/"))


def test_private_names_differ_and_say_whose_they_are() -> None:
    first, second = placing.private_name(), placing.private_name()
    assert first != second
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    namespace = os.stat("/proc/self/ns/pid").st_ino
    assert first.rpartition("-")[0] == f"{os.getpid()}-{start}-{namespace}"


HYBRID = (v1("cpu", "cpuacct"), v1("cpuset"), v1("memory"), v1("freezer"), v2())


@pytest.mark.parametrize(
    ("offered", "needed", "expected"),
    [
        ((v2("cpu", "memory", "pids"),), {"memory"}, ["/v2"]),
        ((v2("memory"),), set(), []),
        (HYBRID, {"memory"}, ["/v1/memory"]),
        (HYBRID, {"cpuset", "cpu"}, ["/v1/cpu,cpuacct", "/v1/cpuset"]),
        (HYBRID[:-1], set(), []),
    ],
    ids=["v2", "v2 counting", "hybrid", "hybrid cpuset", "v1"],
)
def test_group_below_a_parent_is_in_all_of_its_hierarchies(
    offered: tuple[Hierarchy, ...], needed: set[str], expected: list[str]
) -> None:
    parents = {hierarchy: f"{hierarchy.mount_point}/parent" for hierarchy in offered}
    places = placing.places(needed, (), parents)
    assert [place.hierarchy for place in places] == list(offered)
    assert [place.parent for place in places] == list(parents.values())
    assert [p.hierarchy.mount_point for p in places if p.needed] == expected


def test_group_below_the_default_parent_is_where_limits_statistics_and_killing_need_it() -> None:
    offered = hierarchies()
    has_v2 = any(hierarchy.version == 2 for hierarchy in offered)
    useful = {"cpu", "cpuacct", "memory", "pids"} | (set() if has_v2 else {"freezer"})
    assert {place.hierarchy for place in placing.places(set(), (), None)} == {
        h for h in offered if h.version == 2 or useful.intersection(h.controllers)
    }


def test_groups_above_are_below_the_parent() -> None:
    hierarchy = v2("memory")
    [place] = placing.places(set(), ("docker", "x"), {hierarchy: "/v2/parent"})
    assert (place.base, place.parent) == ("/v2/parent", "/v2/parent/docker/x")


def test_missing_controller_is_named_with_those_that_there_are() -> None:
    parents = {v1("memory"): "/v1/memory/a", v1("cpu", "cpuacct"): "/v1/cpu,cpuacct/a"}
    with pytest.raises(CgroupError) as raised:
        placing.places({"memory", "cpuset"}, (), parents)
    error = raised.value
    assert (error.errno, error.controller) == (errno.EOPNOTSUPP, "cpuset")
    assert str(error).startswith("use the cgroup controller cpuset: Operation not supported (")
    assert error.hint == "The parent has: cpu, cpuacct, memory"


def test_a_parent_without_controllers_is_said_to_have_none() -> None:
    with pytest.raises(CgroupError, match=r"has: none$"):
        placing.check_offered({"cpu"}, [], "the parent")


@pytest.mark.timeout(2)
def test_making_a_group_ends_where_no_cgroup_is_mounted(tmp_path: Path) -> None:
    # as below a v2 hierarchy that something was mounted over since
    hierarchy = Hierarchy(2, ("memory",), str(tmp_path), "/")
    base = str(tmp_path)
    place = placing.Place(hierarchy, base, ("pyns",), f"{base}/pyns", needed=False)
    with pytest.raises(CgroupError, match="ENOENT"):
        placing.make(place, "group", set())
