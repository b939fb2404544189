"""The mount steps but Attach: what they make, seen from inside; what the kernel refuses."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import marshal
from pyns.mount_steps import AttachRoot, MakeSymlink, TakeMount
from pyns.namespaces import Namespace
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_REC,
    Attach,
    ChangeDirectory,
    Clone,
    Duplicate,
    HostRoot,
    MakePrivate,
    NewMount,
    NewRoot,
    OpenTree,
    Operands,
    PivotRoot,
    SetAttributes,
    SetUid,
    Step,
)

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
MOUNTS = (Clone(Namespace.MOUNT), MakePrivate())
NOBODY = 65534
TMPFS = NewMount(b"tmpfs")

pytestmark = pytest.mark.usefixtures("root_only")


class MakeShared(MakePrivate):
    """What MakePrivate has to undo; on a host with systemd every mount is like that."""

    def operands(self) -> Operands:
        return Operands(flags=MS_REC | 1 << 20)


def mount_points(mountinfo: str) -> list[str]:
    return [line.split()[4] for line in mountinfo.splitlines()]


def line_of(mountinfo: str, mount_point: Path | str) -> str:
    (line,) = [s for s in mountinfo.splitlines() if s.split()[4] == str(mount_point)]
    return line


def two_mounts(at: Path) -> tuple[Step, ...]:
    """Mount a tmpfs, and another in it, at "below"."""
    below = os.fsencode(at / "below")
    return (*MOUNTS, HostRoot(), TMPFS, Attach(os.fsencode(at)), TMPFS, Attach(below))


def root_steps(root: Path) -> tuple[Step, ...]:
    """Make a root in which the host's /bin/sh runs, without the last step."""
    steps: list[Step] = [*MOUNTS, NewRoot(os.fsencode(root))]
    for name in ("bin", "sbin", "lib", "lib64", "usr", "proc"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
        elif Path("/", name).exists():
            steps += [OpenTree(b"/%b" % name.encode(), True), Attach(b"/%b" % name.encode())]
    return tuple(steps)


def test_propagation_becomes_private(output: Output) -> None:
    script = "cat /proc/self/mountinfo"
    clone = Clone(Namespace.MOUNT)
    shared = output(clone, MakeShared(), script=script).splitlines()
    assert all(" shared:" in line for line in shared)
    private = output(clone, MakeShared(), MakePrivate(), script=script).splitlines()
    assert private
    assert not any(" shared:" in line or " master:" in line for line in private)


def test_propagation_fails_with_eperm_without_privilege(failure: Failure) -> None:
    assert failure(Clone(Namespace.MOUNT), SetUid(NOBODY), MakePrivate()) == (2, errno.EPERM)


def test_mounts_below_the_host_root_are_seen_inside_only(tmp_path: Path, output: Output) -> None:
    target = os.fsencode(tmp_path)
    inside = output(*MOUNTS, HostRoot(), TMPFS, Attach(target), script="cat /proc/self/mountinfo")
    assert str(tmp_path) in mount_points(inside)
    assert str(tmp_path) not in mount_points(Path("/proc/self/mountinfo").read_text())


def test_host_root_fails_with_emfile_when_no_fd_is_free(failure: Failure) -> None:
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # one is left, for the pidfd
    try:
        result = failure(*MOUNTS, Duplicate(0, free), HostRoot())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result == (3, errno.EMFILE)


def test_the_new_root_is_all_that_is_left_after_the_pivot(tmp_path: Path, output: Output) -> None:
    (tmp_path / "marker").touch()
    script = "pwd; [ -e /marker ] && echo marker; cat /proc/self/mountinfo"
    lines = output(*root_steps(tmp_path), PivotRoot(), script=script).splitlines()
    assert lines[:2] == ["/", "marker"]
    points = mount_points("\n".join(lines[2:]))
    first_level = {point.split("/")[1] for point in points}
    assert points.count("/") == 1
    assert first_level <= {"", "bin", "sbin", "lib", "lib64", "usr", "proc"}


def test_the_new_root_brings_the_mounts_below_it(tmp_path: Path, output: Output) -> None:
    root = tmp_path / "root"
    root.mkdir()
    steps = root_steps(root)
    below = [HostRoot(), TMPFS, Attach(os.fsencode(root / "below"))]
    new_root = steps.index(NewRoot(os.fsencode(root)))
    inside = output(
        *steps[:new_root], *below, *steps[new_root:], PivotRoot(), script="cat /proc/self/mountinfo"
    )
    assert "/below" in mount_points(inside)


@pytest.mark.parametrize(
    ("path", "error"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)], ids=["none", "a file"]
)
def test_a_new_root_that_is_no_directory_fails(
    path: str, error: int, tmp_path: Path, failure: Failure
) -> None:
    (tmp_path / "file").touch()
    assert failure(*MOUNTS, NewRoot(os.fsencode(tmp_path / path))) == (2, error)


def test_the_new_root_fails_with_eperm_without_privilege(failure: Failure) -> None:
    assert failure(*MOUNTS, SetUid(NOBODY), NewRoot(b"/")) == (3, errno.EPERM)


def test_a_new_mount_becomes_the_root(output: Output) -> None:
    usr = (OpenTree(b"/usr", True), Attach(b"/usr"))
    links = (MakeSymlink(b"/bin", False, b"usr/bin"), MakeSymlink(b"/lib64", False, b"usr/lib64"))
    libraries = MakeSymlink(b"/lib", False, b"usr/lib")
    steps = (*MOUNTS, TMPFS, AttachRoot(), *usr, *links, libraries, PivotRoot())
    assert output(*steps, script="echo /*; pwd") == "/bin /lib /lib64 /usr\n/"


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ((AttachRoot(),), errno.EBADF),
        ((TMPFS, AttachRoot(b"/nonexistent")), errno.ENOENT),
        ((TMPFS, AttachRoot(b"/dev/null")), errno.ENOTDIR),
    ],
    ids=["nothing in hand", "no such place", "a file"],
)
def test_a_root_that_can_not_be_attached_fails(
    steps: tuple[Step, ...], error: int, failure: Failure
) -> None:
    assert failure(*MOUNTS, *steps) == (1 + len(steps), error)


@pytest.mark.parametrize("recursive", [False, True])
def test_a_tree_is_copied_with_the_mounts_below_it_only_if_recursive(
    recursive: bool, tmp_path: Path, output: Output
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    steps = (OpenTree(os.fsencode(source), recursive), Attach(os.fsencode(copy)))
    inside = output(*two_mounts(source), *steps, script="cat /proc/self/mountinfo")
    expected = [copy, copy / "below"] if recursive else [copy]
    assert [p for p in mount_points(inside) if p.startswith(str(copy))] == [
        str(p) for p in expected
    ]


@pytest.mark.parametrize(
    ("path", "error"), [("missing", errno.ENOENT), ("file/below", errno.ENOTDIR)]
)
def test_a_tree_that_is_not_there_fails(
    path: str, error: int, tmp_path: Path, failure: Failure
) -> None:
    (tmp_path / "file").touch()
    source = OpenTree(os.fsencode(tmp_path / path), recursive=True)
    assert failure(*MOUNTS, HostRoot(), source) == (3, error)


def test_read_only_holds_for_every_mount_below_and_not_for_the_source(
    tmp_path: Path, output: Output
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    steps = (
        OpenTree(os.fsencode(source), recursive=True),
        SetAttributes(MOUNT_ATTR_RDONLY),
        Attach(os.fsencode(copy)),
    )
    script = "for d in source source/below copy copy/below; do touch $d/new 2>&1 && echo $d; done"
    result = output(
        *two_mounts(source),
        *steps,
        ChangeDirectory(os.fsencode(tmp_path)),
        script=f"{{ {script}; }} | grep -v Read-only",
    )
    assert result.splitlines() == ["source", "source/below"]


def test_a_mount_of_the_parents_is_taken(tmp_path: Path, output: Output) -> None:
    (tmp_path / "file").touch()
    tree = marshal.open_tree(os.fsencode(tmp_path), recursive=False)
    try:
        take = TakeMount(os.fsencode(tmp_path), False, (), tree)
        assert output(*MOUNTS, HostRoot(), take, Attach(b"/mnt"), script="ls /mnt") == "file"
    finally:
        os.close(tree)


def test_a_mount_of_the_parents_that_is_not_open_fails_with_ebadf(failure: Failure) -> None:
    assert failure(*MOUNTS, HostRoot(), TakeMount(b"/", False, ())) == (3, errno.EBADF)


def test_attributes_without_a_mount_in_hand_fail_with_ebadf(failure: Failure) -> None:
    assert failure(*MOUNTS, HostRoot(), SetAttributes(MOUNT_ATTR_RDONLY)) == (3, errno.EBADF)


def test_attributes_that_the_kernel_does_not_know_fail_with_einval(failure: Failure) -> None:
    steps = (*MOUNTS, OpenTree(b"/tmp", recursive=False), SetAttributes(1 << 40))
    assert failure(*steps) == (3, errno.EINVAL)


def test_a_new_mount_has_its_options_and_attributes(tmp_path: Path, output: Output) -> None:
    attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    mount = NewMount(b"tmpfs", ((b"size", b"65536"), (b"mode", b"0751")), attributes)
    steps = (*MOUNTS, HostRoot(), mount, Attach(os.fsencode(tmp_path)))
    script = f"stat -c %a {tmp_path}; cat /proc/self/mountinfo"
    mode, _, mountinfo = output(*steps, script=script).partition("\n")
    line = line_of(mountinfo, tmp_path)
    assert mode == "751"
    assert line.split()[5].split(",")[:4] == ["rw", "nosuid", "nodev", "noexec"]
    assert {"size=64k", "mode=751"} <= set(line.split()[-1].split(","))


def test_a_new_proc_shows_the_new_pid_namespace(tmp_path: Path, output: Output) -> None:
    clone = Clone(Namespace.MOUNT | Namespace.PID)
    mount = (MakePrivate(), HostRoot(), NewMount(b"proc"), Attach(os.fsencode(tmp_path)))
    script = f"cd {tmp_path}; echo [0-9]*"
    assert output(clone, *mount, script=script) == "1"


@pytest.mark.parametrize(
    ("mount", "error"),
    [
        (NewMount(b"nosuchfs"), errno.ENODEV),
        (NewMount(b"tmpfs", ((b"nosuchoption", b"1"),)), errno.EINVAL),
        (NewMount(b"tmpfs", ((b"size", b"many"),)), errno.EINVAL),
        (NewMount(b"tmpfs", ((b"mode", b"700"), (b"size", b"many"))), errno.EINVAL),
        (NewMount(b"tmpfs", (), 1 << 31), errno.EINVAL),
    ],
    ids=["fstype", "option", "value", "second value", "attribute"],
)
def test_a_new_mount_that_can_not_be_fails(mount: NewMount, error: int, failure: Failure) -> None:
    assert failure(*MOUNTS, HostRoot(), mount) == (3, error)


def test_a_new_mount_fails_with_eperm_without_privilege(failure: Failure) -> None:
    assert failure(*MOUNTS, SetUid(NOBODY), TMPFS) == (3, errno.EPERM)


def test_no_fd_of_the_mount_steps_reaches_the_program(tmp_path: Path, output: Output) -> None:
    # a tree in hand, a root in hand: both open until the program runs
    steps = (*MOUNTS, HostRoot(), TMPFS, Attach(os.fsencode(tmp_path)), TMPFS)
    script = "ls /proc/self/fd | wc -l"
    assert output(*steps, script=script) == output(*MOUNTS, script=script)


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ((), errno.EBADF),
        ((HostRoot(),), errno.EBUSY),
        ((NewRoot(b"/usr"), SetUid(NOBODY)), errno.EPERM),
        ((NewRoot(b"/usr"), MakeShared()), errno.EINVAL),
    ],
    ids=["no new root", "the root itself", "no privilege", "shared"],
)
def test_pivot_root_fails(steps: tuple[Step, ...], error: int, failure: Failure) -> None:
    assert failure(*MOUNTS, *steps, PivotRoot()) == (len(MOUNTS) + len(steps), error)


def test_what_a_failed_plan_has_made_in_the_new_root_is_no_mount(
    tmp_path: Path, failure: Failure
) -> None:
    new_root = NewRoot(os.fsencode(tmp_path))
    steps = (*MOUNTS, new_root, TMPFS, Attach(b"/made"), OpenTree(b"/nowhere", recursive=True))
    assert failure(*steps) == (5, errno.ENOENT)
    made = tmp_path / "made"
    assert stat.S_ISDIR(made.stat().st_mode)
    assert not made.is_mount()
