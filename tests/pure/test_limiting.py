"""Each limit goes to the hierarchy that has its controller; a kernel may lack a file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pyns import CgroupError, Limits
from pyns.cgroups import Hierarchy, limiting
from pyns.cgroups.files import Directory
from pyns.cgroups.limits import Write


def hierarchy(version: int, *controllers: str) -> Hierarchy:
    return Hierarchy(version, controllers, f"/x/{version}/{','.join(controllers)}", "/", "/")


V2 = hierarchy(2, "memory", "io", "pids")
EMPTY_V2 = hierarchy(2)
MEMORY, BLKIO, DEVICES = (hierarchy(1, name) for name in ("memory", "blkio", "devices"))


@pytest.mark.parametrize(
    ("limits", "offered", "needed"),
    [
        (Limits(memory_max=1), [V2], {"memory"}),
        (Limits(io_weight=1), [V2], {"io"}),
        (Limits(io_weight=1), [BLKIO, EMPTY_V2], {"blkio"}),
        (Limits(io_weight=1), [MEMORY], {"io"}),
        (Limits(devices=()), [V2], set()),
        (Limits(devices=()), [DEVICES, EMPTY_V2], {"devices"}),
        (Limits(devices=()), [MEMORY], {"devices"}),
        (Limits(extra={"cgroup.max.depth": 1}), [V2], set()),
    ],
    ids=str,
)
def test_controllers_go_by_the_name_that_they_have(
    limits: Limits, offered: list[Hierarchy], needed: set[str]
) -> None:
    assert limiting.needed_controllers(limits, offered) == needed


@pytest.mark.parametrize(
    ("offered", "files"),
    [
        (
            [V2],
            ["memory.max", "io.weight", "BPF_CGROUP_DEVICE", "cgroup.max.depth"],
        ),
        (
            [MEMORY, BLKIO, DEVICES, EMPTY_V2],
            [
                "memory.limit_in_bytes",
                "blkio.bfq.weight",
                "devices.deny",
                "cgroup.max.depth",
            ],
        ),
        (
            [MEMORY, BLKIO, EMPTY_V2],
            ["memory.limit_in_bytes", "blkio.bfq.weight", "BPF_CGROUP_DEVICE", "cgroup.max.depth"],
        ),
    ],
    ids=["v2", "hybrid", "hybrid without devices"],
)
def test_each_hierarchy_gets_its_own(offered: list[Hierarchy], files: list[str]) -> None:
    limits = Limits(memory_max=1, io_weight=5, devices=(), extra={"cgroup.max.depth": 1})
    writes = limiting.writes_to_fresh(limits, tuple(offered))
    assert [write.file for _, write in writes] == files


def test_files_of_v2_need_v2() -> None:
    with pytest.raises(ValueError, match=r"files cgroup\.\* are v2's"):
        limiting.writes_to_fresh(Limits(extra={"cgroup.max.depth": 1}), (MEMORY,))


@pytest.fixture
def lacking(tmp_path: Path) -> Path:
    """Make what looks like a group of a kernel that has few files."""
    (tmp_path / "cgroup.procs").touch()
    return tmp_path


WEIGHT = Write("io", "io.weight", "100", also=("io.bfq.weight", "99"))


def test_missing_file_says_what_the_kernel_lacks(lacking: Path) -> None:
    write = Write("memory", "memory.memsw.limit_in_bytes", "5")
    with Directory(str(lacking)) as directory, pytest.raises(CgroupError) as caught:
        limiting.put(MEMORY, directory, write)
    error = caught.value
    assert (error.errno, error.controller, error.value) == (errno.EOPNOTSUPP, "memory", "5")
    assert error.file == f"{lacking}/memory.memsw.limit_in_bytes"
    assert "swapaccount=1" in str(error)


def test_group_that_is_gone_is_not_a_kernel_that_lacks_something(tmp_path: Path) -> None:
    with Directory(str(tmp_path)) as directory, pytest.raises(CgroupError) as caught:
        limiting.put(V2, directory, Write("cpu", "cpu.idle", "1"))
    assert (caught.value.errno, caught.value.hint) == (errno.ENOENT, None)


@pytest.mark.parametrize(
    "there", [["io.weight"], ["io.bfq.weight"], ["io.weight", "io.bfq.weight"]]
)
def test_of_two_files_those_that_are_there_are_written(lacking: Path, there: list[str]) -> None:
    for file in there:
        (lacking / file).touch()
    with Directory(str(lacking)) as directory:
        limiting.put(V2, directory, WEIGHT)
    written = {file: (lacking / file).read_text() for file in there}
    assert written == {
        f: v for f, v in {"io.weight": "100", "io.bfq.weight": "99"}.items() if f in there
    }


def test_of_two_files_none_is_an_error(lacking: Path) -> None:
    with Directory(str(lacking)) as directory, pytest.raises(CgroupError, match="modprobe bfq"):
        limiting.put(V2, directory, WEIGHT)


def test_of_two_files_a_refusal_is_an_error(lacking: Path) -> None:
    (lacking / "io.weight").touch()
    (lacking / "io.bfq.weight").mkdir()  # EISDIR
    with Directory(str(lacking)) as directory, pytest.raises(CgroupError) as caught:
        limiting.put(V2, directory, WEIGHT)
    assert caught.value.errno == errno.EISDIR
