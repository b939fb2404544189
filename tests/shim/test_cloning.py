"""The parent's steps, and those that put the child where it belongs: cgroups, namespaces."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import namespaces
from pyns.namespaces import Namespace
from pyns.steps import BirthInCgroup, Clone, EnterCgroup, SetUid, ShowCgroups, Unshare

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
NOTHING_NEW = Clone(Namespace(0))
FILES = {
    Namespace.MOUNT: "mnt",
    Namespace.CGROUP: "cgroup",
    Namespace.UTS: "uts",
    Namespace.IPC: "ipc",
    Namespace.USER: "user",
    Namespace.PID: "pid",
    Namespace.NET: "net",
    Namespace.TIME: "time",
}
NOBODY = 65534


def birth(group: Path) -> tuple[BirthInCgroup, int]:
    fd = os.open(group, os.O_PATH | os.O_DIRECTORY)
    return BirthInCgroup(str(group), fd), fd


@pytest.mark.parametrize("namespace", list(Namespace), ids=lambda n: str(n.words()))
@pytest.mark.usefixtures("root_only")
def test_the_clone_makes_exactly_the_namespaces_of_its_flags(
    namespace: Namespace, output: Output
) -> None:
    here = namespaces.of()
    if namespace not in here:
        pytest.skip(f"/proc/self/ns/{FILES[namespace]}: the kernel has no such namespace")
    links = output(
        Clone(namespace), script="cd /proc/self/ns; readlink " + " ".join(FILES.values())
    )
    inodes = [int(line.partition(":[")[2].rstrip("]")) for line in links.splitlines()]
    there = dict(zip(FILES, inodes, strict=True))
    assert {n for n in FILES if there[n] != here[n]} == {namespace}


@pytest.mark.usefixtures("root_only")
def test_the_program_is_pid_1_of_a_new_pid_namespace(output: Output) -> None:
    assert output(Clone(Namespace.PID), script="echo $$") == "1"


def test_without_a_pid_namespace_the_program_is_a_child_of_the_caller(output: Output) -> None:
    assert output(NOTHING_NEW, script="echo $PPID") == str(os.getpid())


def test_clone_fails_with_eperm_for_an_ordinary_user(python: Output) -> None:
    code = """
        report = spawn(Plan((Clone(Namespace.UTS), RestoreSignalMask(), program)))
        print(report.pid, report.pidfd, report.index, errno.errorcode[report.error])
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED)
        except ChildProcessError:
            print("no child")
    """
    assert python(code, uid=NOBODY) == "-1 -1 0 EPERM\nno child"


def test_the_child_is_born_in_the_v2_cgroup(v2_cgroup: Path, output: Output) -> None:
    step, fd = birth(v2_cgroup)
    try:
        memberships = output(step, NOTHING_NEW, script="cat /proc/self/cgroup")
    finally:
        os.close(fd)
    # what comes before the name depends on the cgroup namespace that one is in
    [unified] = [line for line in memberships.splitlines() if line.startswith("0::")]
    assert unified.endswith(f"/{v2_cgroup.name}")


def test_birth_in_a_removed_cgroup_fails_at_the_clone_with_enoent(
    v2_cgroup: Path, failure: Failure
) -> None:
    group = v2_cgroup / "removed"
    group.mkdir()
    step, fd = birth(group)
    group.rmdir()
    try:
        assert failure(step, NOTHING_NEW) == (1, errno.ENOENT)
    finally:
        os.close(fd)


def test_birth_in_what_is_no_cgroup_fails_with_ebadf(tmp_path: Path, failure: Failure) -> None:
    step, fd = birth(tmp_path)
    try:
        assert failure(step, NOTHING_NEW) == (1, errno.EBADF)
    finally:
        os.close(fd)


def test_birth_in_an_invalid_domain_fails_with_eopnotsupp(
    v2_cgroup: Path, failure: Failure
) -> None:
    # one child threaded: its sibling is neither a domain any more nor threaded itself
    for name in ("threaded", "sibling"):
        (v2_cgroup / name).mkdir()
    (v2_cgroup / "threaded/cgroup.type").write_text("threaded")
    assert (v2_cgroup / "sibling/cgroup.type").read_text() == "domain invalid\n"
    step, fd = birth(v2_cgroup / "sibling")
    try:
        assert failure(step, NOTHING_NEW) == (1, errno.EOPNOTSUPP)
    finally:
        os.close(fd)


def test_birth_in_an_inner_node_fails_with_ebusy(v2_cgroup: Path, failure: Failure) -> None:
    # Only a controller that can't be threaded makes an inner node (cgroups(7)).
    offered = (v2_cgroup.parent / "cgroup.controllers").read_text().split()
    controller = next(
        (c for c in ("memory", "io", "hugetlb", "misc", "rdma") if c in offered), None
    )
    if controller is None:
        pytest.skip(f"cgroup.controllers of the root has only {offered}: none is for domains only")
    handed_down = v2_cgroup.parent / "cgroup.subtree_control"
    was_there = controller in handed_down.read_text().split()
    if not was_there:
        try:
            handed_down.write_text(f"+{controller}")
        except OSError as error:
            pytest.skip(f"+{controller} to {handed_down}: {error}")
    step, fd = birth(v2_cgroup)
    try:
        (v2_cgroup / "child").mkdir()
        (v2_cgroup / "cgroup.subtree_control").write_text(f"+{controller}")
        assert failure(step, NOTHING_NEW) == (1, errno.EBUSY)
    finally:
        os.close(fd)
        (v2_cgroup / "cgroup.subtree_control").write_text(f"-{controller}")
        if not was_there:
            handed_down.write_text(f"-{controller}")


def test_birth_fails_with_eacces_where_the_caller_may_not_write(
    v2_cgroup: Path, python: Output
) -> None:
    code = """
        fd = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
        report = spawn(Plan((BirthInCgroup(sys.argv[1], fd), Clone(Namespace(0)), program)))
        print(report.pid, report.pidfd, report.index, errno.errorcode[report.error])
    """
    assert python(code, v2_cgroup, uid=NOBODY) == "-1 -1 1 EACCES"
    assert (v2_cgroup / "cgroup.procs").read_text() == ""


def test_the_child_enters_the_v1_cgroup(v1_cgroup: Path, output: Output) -> None:
    with (v1_cgroup / "tasks").open("wb") as tasks:
        step = EnterCgroup(str(v1_cgroup), tasks.fileno())
        memberships = output(NOTHING_NEW, step, script="cat /proc/self/cgroup")
    # in a container without a cgroup namespace the path begins with those of its own
    assert any(line.endswith(f"/{v1_cgroup.name}") for line in memberships.splitlines())


def test_entering_a_removed_v1_cgroup_fails_with_enodev(v1_cgroup: Path, failure: Failure) -> None:
    group = v1_cgroup / "removed"
    group.mkdir()
    with (group / "tasks").open("wb") as tasks:
        group.rmdir()
        step = EnterCgroup(str(group), tasks.fileno())
        assert failure(NOTHING_NEW, step) == (1, errno.ENODEV)


def test_entering_a_cgroup_through_an_fd_that_is_not_open_fails_with_ebadf(
    failure: Failure,
) -> None:
    assert failure(NOTHING_NEW, EnterCgroup("/nowhere", -1)) == (1, errno.EBADF)


@pytest.mark.usefixtures("root_only")
def test_unshare_makes_the_namespace_after_the_clone(output: Output) -> None:
    there = output(
        NOTHING_NEW, Unshare(Namespace.UTS), script="readlink /proc/self/ns/uts /proc/self/ns/net"
    )
    here = [os.readlink(f"/proc/self/ns/{name}") for name in ("uts", "net")]
    assert there.splitlines()[0] != here[0]
    assert there.splitlines()[1] == here[1]


def test_a_cgroup_namespace_unshared_after_the_entry_has_the_group_for_its_root(
    v1_cgroup: Path, output: Output
) -> None:
    with (v1_cgroup / "tasks").open("wb") as tasks:
        enter = EnterCgroup(str(v1_cgroup), tasks.fileno())
        memberships = output(
            NOTHING_NEW, enter, Unshare(Namespace.CGROUP), script="cat /proc/self/cgroup"
        )
    assert v1_cgroup.name not in memberships


@pytest.mark.usefixtures("root_only")
def test_a_cgroup_namespace_can_show_groups_that_one_is_not_in(
    v1_cgroup: Path, v2_cgroup: Path, output: Output
) -> None:
    _, fd = birth(v2_cgroup)
    try:
        with (v1_cgroup / "tasks").open("wb") as tasks:
            paths = (str(v1_cgroup), str(v2_cgroup))
            show = ShowCgroups(paths, fd, (tasks.fileno(),), 2)
            # the child that went there was not the next pid
            script = "cat /proc/self/cgroup; sh -c 'echo $$'"
            said = output(Clone(Namespace.PID), show, script=script).splitlines()
    finally:
        os.close(fd)
    assert said[-1] == "3"  # after cat
    # from the other groups the child has not moved; from these two it leads to where one is
    shown = [line.split(":", 2)[2] for line in said[:-1] if not line.endswith(":/")]
    for group, path in zip((v1_cgroup, v2_cgroup), shown, strict=True):
        assert str(os.getpid()) in Path(f"{group}{path}/cgroup.procs").read_text().split()
    assert (v1_cgroup / "tasks").read_text() == (v2_cgroup / "cgroup.procs").read_text() == ""


@pytest.mark.usefixtures("root_only")
def test_showing_cgroups_fails_as_entering_them_would(
    v2_cgroup: Path, tmp_path: Path, failure: Failure
) -> None:
    assert failure(NOTHING_NEW, ShowCgroups(("/nowhere",), -1, (-1,))) == (1, errno.EBADF)
    with tmp_path.joinpath("file").open("w") as file:
        show = ShowCgroups((str(tmp_path),), file.fileno())
        assert failure(NOTHING_NEW, show) == (1, errno.EBADF)
    _, fd = birth(v2_cgroup)
    try:
        show = ShowCgroups((str(v2_cgroup),), fd)
        assert failure(NOTHING_NEW, SetUid(NOBODY), show) == (2, errno.EACCES)
    finally:
        os.close(fd)


@pytest.mark.usefixtures("root_only")
def test_unshare_fails_with_eperm_without_privilege(failure: Failure) -> None:
    assert failure(NOTHING_NEW, SetUid(NOBODY), Unshare(Namespace.UTS)) == (2, errno.EPERM)
