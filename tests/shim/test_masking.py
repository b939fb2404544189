"""What covers paths beneath the root, and makes the root read-only."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns.mount_steps import MakeReadOnly, Mask, SetAside, SetRootAttributes, TakeMasks
from pyns.namespaces import Namespace
from pyns.steps import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    Attach,
    Clone,
    HostRoot,
    NewMount,
    NewRoot,
    OpenTree,
    SetAttributes,
    SetPropagation,
    SetUid,
    Step,
)

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
MOUNTS = (Clone(Namespace.MOUNT), SetPropagation())
NOBODY = 65534
TMPFS = NewMount(b"tmpfs", ((b"size", b"1048576"), (b"mode", b"755")))
NULL = (OpenTree(b"/dev/null", False), SetAttributes(MOUNT_ATTR_RDONLY), SetAside())
MASKS = (*NULL, NewMount(b"tmpfs", ((b"mode", b"555"),), MOUNT_ATTR_RDONLY), TakeMasks())

pytestmark = pytest.mark.usefixtures("root_only")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with something to hide, and a neighbour that a link could lead to."""
    path = tmp_path / "root"
    for name in ("dir", "other"):
        (path / name).mkdir(parents=True)
        (path / name / "secret").write_text("secret")
    (path / "file").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    return path


def in_root(path: Path) -> tuple[Step, ...]:
    return (*MOUNTS, NewRoot(os.fsencode(path)))


class TestMask:
    def test_hides_files_and_directories_and_passes_over_what_is_missing(
        self, root: Path, output: Output
    ) -> None:
        paths = (b"/dir", b"/missing", b"/file", b"/missing/below", b"/other", b"/file")
        inside = output(
            *in_root(root),
            *MASKS,
            *map(Mask, paths),
            script=f"cd {root}; ls -A dir other; cat file; stat -c %t:%T file; touch dir/x 2>&1;"
            "chmod 0 file 2>&1; echo gone > file; true",
        )
        assert inside.splitlines()[:4] == ["dir:", "", "other:", "1:3"]
        assert inside.count("Read-only file system") == 2
        assert (root / "file").read_text() == "secret"

    def test_one_that_is_masked_can_not_be_made_as_big_as_memory(
        self, root: Path, output: Output
    ) -> None:
        script = f"grep -c ' {root}/dir ro,' /proc/self/mountinfo"
        assert output(*in_root(root), *MASKS, Mask(b"/dir"), script=script) == "1"

    @pytest.mark.parametrize("link", ["file", "/file", "../outside/file", "/dev/null"])
    def test_through_a_link_fails(self, root: Path, failure: Failure, link: str) -> None:
        (root / "link").symlink_to(link)
        (root / "way").symlink_to(".")
        for path in (b"/link", b"/way/file"):
            assert failure(*in_root(root), *MASKS, Mask(path)) == (8, errno.ELOOP)

    def test_without_masks_fails(self, root: Path, failure: Failure) -> None:
        for path in (b"/file", b"/dir"):
            assert failure(*in_root(root), Mask(path)) == (3, errno.EBADF)

    def test_without_privilege_fails(self, root: Path, failure: Failure) -> None:
        os.chmod(root.parent, 0o755)
        steps = (*in_root(root), *MASKS, SetUid(NOBODY), Mask(b"/file"))
        assert failure(*steps)[1] in (errno.EPERM, errno.EACCES)


class TestTakeMasks:
    def test_without_a_mount_in_hand_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, HostRoot(), TakeMasks()) == (3, errno.EBADF)
        assert failure(*MOUNTS, HostRoot(), *NULL, TakeMasks()) == (6, errno.EBADF)

    def test_without_a_mount_aside_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, HostRoot(), TMPFS, TakeMasks()) == (4, errno.EBADF)

    @pytest.mark.parametrize("null", ["/dev/zero", "/etc/passwd", "/dev", "link"])
    def test_of_what_is_not_the_null_device_fails(
        self, tmp_path: Path, failure: Failure, null: str
    ) -> None:
        (tmp_path / "link").symlink_to("/dev/zero")
        opened = OpenTree(os.fsencode(tmp_path / null), recursive=False)
        steps = (*MOUNTS, HostRoot(), opened, SetAside(), TMPFS, TakeMasks())
        assert failure(*steps) == (6, errno.ENODEV)

    def test_of_a_null_device_that_a_link_leads_to_is_the_device(
        self, root: Path, output: Output
    ) -> None:
        (root.parent / "null").symlink_to("/dev/null")
        opened = OpenTree(os.fsencode(root.parent / "null"), recursive=False)
        steps = (*in_root(root), opened, SetAside(), TMPFS, TakeMasks(), Mask(b"/file"))
        assert output(*steps, script=f"stat -c %t:%T {root}/file") == "1:3"


class TestMakeReadOnly:
    def test_holds_for_the_mounts_below_and_passes_over_what_is_missing(
        self, root: Path, output: Output
    ) -> None:
        (root / "link").symlink_to("/../file")
        script = (
            f"cd {root}; for f in dir/x dir/below/x other/x file; do echo > $f; done 2>&1; true"
        )
        inside = output(
            *in_root(root),
            TMPFS,
            Attach(b"/dir/below"),
            *map(MakeReadOnly, (b"/dir", b"/missing", b"/link")),
            script=script,
        )
        assert inside.count("Read-only file system") == 3
        assert (root / "other/x").exists()
        assert (root / "file").read_text() == "secret"

    @pytest.mark.parametrize("link", ["/", ".."])
    def test_of_the_root_fails(self, root: Path, failure: Failure, link: str) -> None:
        (root / "link").symlink_to(link)
        assert failure(*in_root(root), MakeReadOnly(b"/link")) == (3, errno.ELOOP)

    def test_below_a_file_fails(self, root: Path, failure: Failure) -> None:
        assert failure(*in_root(root), MakeReadOnly(b"/file/x")) == (3, errno.ENOTDIR)


class TestSetRootAttributes:
    def attributes(self, root: Path, mountinfo: str) -> dict[str, list[str]]:
        lines = [line.split() for line in mountinfo.splitlines()]
        return {
            line[4].removeprefix(str(root)): line[5].split(",")
            for line in lines
            if line[4].startswith(str(root))
        }

    @pytest.mark.parametrize("below", [True, False], ids=["below", "alone"])
    def test_are_those_of_the_root_or_of_what_is_below(
        self, root: Path, output: Output, below: bool
    ) -> None:
        inner = (*MOUNTS, HostRoot(), TMPFS, Attach(os.fsencode(root / "dir")))
        inside = output(
            *inner,
            NewRoot(os.fsencode(root)),
            SetRootAttributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, below),
            script="cat /proc/self/mountinfo",
        )
        found = self.attributes(root, inside)
        changed, same = ("/dir", "") if below else ("", "/dir")
        assert {"ro", "nodev"} <= set(found[changed])
        assert not {"ro", "nodev"} & set(found[same])

    def test_below_leave_the_root_what_it_had(self, root: Path, output: Output) -> None:
        inside = output(
            *in_root(root),
            SetRootAttributes(MOUNT_ATTR_RDONLY, False),
            SetRootAttributes(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, True),
            script="cat /proc/self/mountinfo",
        )
        found = self.attributes(root, inside)[""]
        assert "ro" in found
        assert "nodev" not in found

    def test_that_the_kernel_does_not_know_fail(self, root: Path, failure: Failure) -> None:
        for below in (True, False):
            assert failure(*in_root(root), SetRootAttributes(1 << 40, below)) == (3, errno.EINVAL)

    def test_without_a_root_fail(self, failure: Failure) -> None:
        for below in (True, False):
            assert failure(*MOUNTS, SetRootAttributes(1, below)) == (2, errno.EBADF)


# a slave has a master only where the host's mount is shared
@pytest.mark.parametrize(
    ("propagation", "seen"),
    [("private", set()), ("slave", set()), ("shared", {"shared"}), ("unbindable", {"unb"})],
)
def test_propagation_is_what_is_asked_for(propagation: str, seen: set[str], output: Output) -> None:
    steps = (Clone(Namespace.MOUNT), SetPropagation("shared"), SetPropagation(propagation))
    inside = output(*steps, script="grep -E '^([^ ]+ ){4}/ ' /proc/self/mountinfo")
    fields = inside.split(" - ")[0].split()[6:]
    found = {field.split(":")[0][:6].replace("unbind", "unb") for field in fields}
    assert found - {"master"} == seen


def test_an_unbindable_mount_can_not_be_copied(failure: Failure) -> None:
    steps = (*MOUNTS, SetPropagation("unbindable"), OpenTree(b"/tmp", False))
    assert failure(*steps) == (3, errno.EINVAL)
