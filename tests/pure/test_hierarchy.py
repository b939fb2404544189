"""Which hierarchies are mounted where, read from a process filesystem."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyns.cgroups import Hierarchy, current, hierarchies
from pyns.cgroups.hierarchy import read_membership

OTHER_MOUNTS = """\
22 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
23 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
27 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
31 22 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
"""
V1_MOUNTS = """\
33 31 0:29 / /sys/fs/cgroup/systemd rw,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
36 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:16 - cgroup cgroup rw,cpu,cpuacct
37 31 0:33 / /sys/fs/cgroup/cpuset rw,relatime shared:17 - cgroup cgroup rw,cpuset
38 31 0:34 / /sys/fs/cgroup/memory rw,relatime shared:18 - cgroup cgroup rw,memory
"""
V1_CGROUP = """\
4:memory:/user.slice
3:cpuset:/
2:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/session-1.scope
"""


class Proc:
    """A process filesystem of our own, and v2 hierarchies to be mounted in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "self").mkdir()

    def v2(self, name: str, controllers: str | None = "cpu memory pids") -> str:
        """Make a directory that looks like a v2 hierarchy; None: something else hides it."""
        directory = self.path / name
        directory.mkdir()
        if controllers is not None:
            (directory / "cgroup.controllers").write_text(controllers + "\n")
        return str(directory)

    def hierarchies(self, mountinfo: str, cgroup: str | bytes) -> tuple[Hierarchy, ...]:
        (self.path / "self" / "mountinfo").write_text(mountinfo)
        text = cgroup.encode() if isinstance(cgroup, str) else cgroup
        (self.path / "self" / "cgroup").write_bytes(text)
        return hierarchies(str(self.path))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_pure_v2_is_one_hierarchy_with_the_controllers_of_its_top(proc: Proc) -> None:
    top = proc.v2("unified", "cpuset cpu io memory pids")
    mountinfo = f"{OTHER_MOUNTS}30 22 0:26 / {top} rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert proc.hierarchies(mountinfo, "0::/user.slice/user-0.slice\n") == (
        Hierarchy(
            version=2,
            controllers=("cpuset", "cpu", "io", "memory", "pids"),
            mount_point=top,
            root="/",
        ),
    )


def test_v2_without_controllers_is_a_hierarchy_all_the_same(proc: Proc) -> None:
    top = proc.v2("unified", "")
    found = proc.hierarchies(f"30 22 0:26 / {top} rw - cgroup2 cgroup2 rw\n", "0::/\n")
    assert found == (Hierarchy(2, (), top, "/"),)


def test_v1_has_one_hierarchy_for_each_set_of_controllers(proc: Proc) -> None:
    top = "/sys/fs/cgroup"
    assert proc.hierarchies(OTHER_MOUNTS + V1_MOUNTS, V1_CGROUP) == (
        Hierarchy(1, (), f"{top}/systemd", "/", "systemd"),
        Hierarchy(1, ("cpu", "cpuacct"), f"{top}/cpu,cpuacct", "/"),
        Hierarchy(1, ("cpuset",), f"{top}/cpuset", "/"),
        Hierarchy(1, ("memory",), f"{top}/memory", "/"),
    )


def test_controllers_have_the_names_and_the_order_of_the_membership(proc: Proc) -> None:
    line = "36 31 0:32 / /cg rw - cgroup cgroup rw,cpuacct,cpu,release_agent=/x\n"
    [found] = proc.hierarchies(line, "2:cpu,cpuacct:/\n1:cpuset:/\n")
    assert found.controllers == ("cpu", "cpuacct")


def test_hybrid_has_v1_before_v2(proc: Proc) -> None:
    top = proc.v2("unified", "hugetlb")
    mountinfo = f"32 31 0:28 / {top} rw shared:10 - cgroup2 cgroup2 rw\n{OTHER_MOUNTS}{V1_MOUNTS}"
    found = proc.hierarchies(mountinfo, V1_CGROUP + "0::/user.slice\n")
    assert [(h.version, h.controllers, h.name) for h in found] == [
        (1, (), "systemd"),
        (1, ("cpu", "cpuacct"), ""),
        (1, ("cpuset",), ""),
        (1, ("memory",), ""),
        (2, ("hugetlb",), ""),
    ]
    assert found[-1].mount_point == top
    assert list(current(proc=str(proc.path)).values()) == [
        "/user.slice/session-1.scope",
        "/user.slice",
        "/",
        "/user.slice",
        "/user.slice",
    ]


def test_v2_that_the_process_is_no_member_of_is_left_out(proc: Proc) -> None:
    top = proc.v2("unified")
    assert proc.hierarchies(f"32 31 0:28 / {top} rw - cgroup2 cgroup2 rw\n", V1_CGROUP) == ()


def test_a_host_without_cgroups_has_none(proc: Proc) -> None:
    assert proc.hierarchies(OTHER_MOUNTS, "0::/\n") == ()


def test_inside_a_container_the_root_is_the_group_that_is_mounted(proc: Proc) -> None:
    # docker on v1, without a cgroup namespace
    group = "/docker/6f2a"
    mountinfo = (
        f"900 899 0:34 {group} /sys/fs/cgroup/memory ro master:18 - cgroup cgroup rw,memory\n"
    )
    [found] = proc.hierarchies(mountinfo, f"4:memory:{group}\n")
    assert found == Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory", group)
    assert found.directory(group) == "/sys/fs/cgroup/memory"
    assert found.directory(f"{group}/below") == "/sys/fs/cgroup/memory/below"
    assert found.directory("/docker") is None
    assert found.directory("/docker/6f2a7") is None


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/", "/cg"),
        ("/a", "/cg/a"),
        ("/a/b.scope", "/cg/a/b.scope"),
        # how a cgroup namespace shows what is not below its root
        ("/..", None),
        ("/../a", None),
        ("/../../a", None),
        ("/..a", "/cg/..a"),
    ],
)
def test_directory_of_a_group_lies_in_what_is_mounted(path: str, directory: str | None) -> None:
    assert Hierarchy(2, (), "/cg", "/", "/").directory(path) == directory


def test_mount_from_outside_of_the_cgroup_namespace_has_no_directory_for_the_own_group() -> None:
    assert Hierarchy(2, (), "/cg", "/..", "/").directory("/") is None


@pytest.mark.parametrize("order", [1, -1], ids=["part first", "top first"])
@pytest.mark.parametrize("options", ["cgroup cgroup rw,memory", "cgroup2 cgroup2 rw"])
def test_a_hierarchy_mounted_twice_counts_from_its_topmost_group(
    proc: Proc, options: str, order: int
) -> None:
    part, top = proc.v2("part"), proc.v2("top")
    lines = [f"40 1 0:34 /docker {part} rw - {options}\n", f"41 1 0:34 / {top} rw - {options}\n"]
    [found] = proc.hierarchies("".join(lines[::order]), "4:memory:/docker/a\n0::/docker/a\n")
    assert (found.mount_point, found.root) == (top, "/")


def test_of_two_equal_mounts_the_first_counts(proc: Proc) -> None:
    line = "4{} 1 0:34 / /{} rw - cgroup cgroup rw,memory\n"
    [found] = proc.hierarchies(line.format(0, "a") + line.format(1, "b"), "4:memory:/\n")
    assert found.mount_point == "/a"


def test_escaped_mount_points_and_roots_are_read(proc: Proc) -> None:
    top = proc.v2("a b\\c")
    escaped = top.replace("\\", "\\134").replace(" ", "\\040")
    mountinfo = (
        f"40 1 0:26 / {escaped} rw - cgroup2 cgroup2 rw\n"
        "41 1 0:27 /x\\011y /mnt/tab\\011 rw - cgroup cgroup rw,pids\n"
    )
    pids, unified = proc.hierarchies(mountinfo, "1:pids:/\n0::/\n")
    assert (unified.mount_point, unified.controllers) == (top, ("cpu", "memory", "pids"))
    assert (pids.mount_point, pids.root) == ("/mnt/tab\t", "/x\ty")


def test_v2_that_something_is_mounted_over_is_left_out(proc: Proc) -> None:
    hidden = proc.v2("cgroup", controllers=None)
    assert proc.hierarchies(f"40 1 0:26 / {hidden} rw - cgroup2 cgroup2 rw\n", "0::/\n") == ()


def test_visible_mount_of_v2_counts_before_a_hidden_one(proc: Proc) -> None:
    hidden, visible = proc.v2("cgroup", controllers=None), proc.v2("unified")
    mountinfo = "".join(
        f"{n} 1 0:26 / {path} rw - cgroup2 cgroup2 rw\n"
        for n, path in ((40, hidden), (41, visible))
    )
    [found] = proc.hierarchies(mountinfo, "0::/\n")
    assert (found.mount_point, found.controllers) == (visible, ("cpu", "memory", "pids"))


def test_named_hierarchy_may_have_controllers_too(proc: Proc) -> None:
    # mount -t cgroup -o cpu,name=mine
    line = "40 1 0:26 / /cg rw - cgroup cgroup rw,cpu,name=mine\n"
    assert proc.hierarchies(line, "2:cpu,name=mine:/\n") == (
        Hierarchy(1, ("cpu",), "/cg", "/", "mine"),
    )


def test_group_whose_name_is_no_utf8_is_read(proc: Proc) -> None:
    line = "40 1 0:26 / /cg rw - cgroup cgroup rw,cpu\n"
    [found] = proc.hierarchies(line, b"2:cpu:/caf\xe9\n")
    assert current(proc=str(proc.path)) == {found: "/caf\udce9"}


def test_without_a_process_filesystem_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hierarchies(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/\n", {"": "/"}),
        (
            "2:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n",
            {"cpu,cpuacct": "/a", "name=systemd": "/b", "": "/c"},
        ),
        ("0::/a:b/c d\n", {"": "/a:b/c d"}),
        ("", {}),
    ],
    ids=["v2", "hybrid", "colon and space", "none"],
)
def test_membership_is_read_by_hierarchy(
    tmp_path: Path, text: str, expected: dict[str, str]
) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cgroup").write_text(text)
    assert read_membership(str(tmp_path), 42) == expected
