"""A path inside a container is followed from outside, and never out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyns import Bind, Container, Dev, Dir, Namespace, Overlay, Proc, Symlink, Tmpfs
from pyns.cgroups.entry import Entry
from pyns.command import Command
from pyns.idmap import Caller
from pyns.inside import Inside, UnknownError
from pyns.mounts import Mount
from pyns.plan import Plan, build_plan


def planned(box: Container, cwd: bytes | None = None, template: int | None = None) -> Plan:
    command = Command((b"x",), (b"x",), (), cwd=cwd)
    return build_plan(box, command, Entry(), Caller(0, 0), template=template)


def content(box: Container, path: str, cwd: bytes | None = None) -> str:
    """Return what is in the file of that path."""
    with Inside(planned(box, cwd)) as inside:
        return Path(f"/proc/self/fd/{inside.find(path.encode()).fd}").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("root/bin", "root/deep/er", "other/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "root/file").write_text("file")
    (tmp_path / "root/bin/x").write_text("x of the root")
    (tmp_path / "other/bin/x").write_text("x of the other")
    for name, to in (
        ("up", "../secret"),
        ("far", "../../../../../../../../../../secret"),
        ("absolute", str(tmp_path / "secret")),
        ("relative", "deep/er/../../file"),
        ("rooted", "/file"),
        ("loop", "loop"),
        ("sbin", "bin"),
    ):
        (tmp_path / "root" / name).symlink_to(to)
    return tmp_path / "root"


def in_root(root: Path, *mounts: Mount) -> Container:
    return Container(namespaces=Namespace.MOUNT, root=root, mounts=mounts)


@pytest.mark.parametrize(
    "path", ["/file", "file", "/relative", "/rooted", "/../../file", "//./file"]
)
def test_a_file_is_found(root: Path, path: str) -> None:
    assert content(in_root(root), path, b"/") == "file"


@pytest.mark.parametrize("path", ["/up", "/far", "/absolute", "/none", "/file/below", "/deep/none"])
def test_what_lies_outside_is_not_there(root: Path, path: str) -> None:
    with Inside(planned(in_root(root))) as inside, pytest.raises((FileNotFoundError, OSError)):
        inside.find(path.encode())


def test_a_loop_is_not_followed_for_ever(root: Path) -> None:
    with Inside(planned(in_root(root))) as inside, pytest.raises(UnknownError):
        inside.find(b"/loop")


def test_a_mount_hides_what_lies_below_it(root: Path) -> None:
    other = root.parent / "other/bin"
    assert content(in_root(root), "/bin/x") == "x of the root"
    assert content(in_root(root, Bind(other, "/bin")), "/bin/x") == "x of the other"
    # also where its target, or the path, is a link
    assert content(in_root(root, Bind(other, "/sbin")), "/bin/x") == "x of the other"
    assert content(in_root(root, Bind(other, "/bin")), "/sbin/x") == "x of the other"
    assert content(in_root(root, Bind(other / "x", "/file")), "/rooted") == "x of the other"


@pytest.mark.parametrize(
    "mount",
    [
        Proc("/bin"),
        Overlay("/bin", lower=["/usr"]),
        Bind("/usr", "/bin", recursive=False),
    ],
)
def test_what_can_t_be_looked_into_is_not_known(root: Path, mount: Mount) -> None:
    with Inside(planned(in_root(root, mount))) as inside:
        assert inside.find(b"/file").fd >= 0
        with pytest.raises(UnknownError):
            inside.find(b"/bin/x")


def test_what_is_masked_is_not_known(root: Path) -> None:
    box = Container(namespaces=Namespace.MOUNT, root=root, mounts=(), masked_paths=["/bin"])
    with Inside(planned(box)) as inside, pytest.raises(UnknownError):
        inside.find(b"/bin/x")


def test_a_new_tmpfs_has_what_the_plan_makes_and_nothing_else(root: Path) -> None:
    other = root.parent / "other"
    box = Container(
        namespaces=Namespace.MOUNT,
        root=Tmpfs("/"),
        mounts=[Bind(other, "/deep/er"), Symlink("/short", "deep/er/bin"), Dir("/a/b"), Dev()],
    )
    assert content(box, "/short/x") == "x of the other"
    with Inside(planned(box)) as inside:
        assert inside.find(b"/a/b").path == "/a/b"
        for missing in (b"/x", b"/a/c", b"/deep/x", b"/dev/sda", b"/bin/x"):
            with pytest.raises(FileNotFoundError):
                inside.find(missing)
        with pytest.raises(UnknownError):
            inside.find(b"/dev/pts/0")


def test_a_relative_path_begins_where_the_program_does(root: Path) -> None:
    box = in_root(root)
    assert content(box, "x", b"/bin") == "x of the root"
    assert content(box, "bin/x") == "x of the root"  # pivot_root ends at the root
    with Inside(planned(Container(namespaces=Namespace(0)))) as inside, pytest.raises(UnknownError):
        inside.find(b"bin/x")  # wherever the caller is


def test_processes_of_the_caller_s_proc_are_not_known() -> None:
    with Inside(planned(Container(namespaces=Namespace(0)))) as inside, pytest.raises(UnknownError):
        inside.find(b"/proc/self/exe")


@pytest.mark.parametrize(
    ("mount", "noexec"),
    [(Bind("/usr", "/bin"), False), (Bind("/usr", "/bin", noexec=True), True)],
)
def test_a_mount_says_whether_anything_can_be_executed(
    root: Path, mount: Mount, noexec: bool
) -> None:
    if os.statvfs("/usr").f_flag & os.ST_NOEXEC:
        pytest.skip("statvfs(/usr): noexec")
    with Inside(planned(in_root(root, mount))) as inside:
        assert inside.find(b"/bin/bin").noexec is noexec


def test_files_are_closed(root: Path) -> None:
    with Inside(planned(in_root(root))) as inside:
        fd = inside.find(b"/bin/x").fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_only_what_is_in_a_new_proc_is_unknown() -> None:
    box = Container(namespaces=Namespace.MOUNT | Namespace.PID)
    with Inside(planned(box)) as inside:
        assert inside.find(b"/usr").path == "/usr"
        for path in b"/proc", b"/proc/version":
            with pytest.raises(UnknownError):
                inside.find(path)


def test_a_template_hides_nothing(root: Path) -> None:
    other = root.parent / "other/bin"
    null = ["/none"]  # what masks is set aside, too
    for box in (
        Container(namespaces=Namespace.MOUNT, root=root, mounts=[Bind(other, "/bin")]),
        Container(
            namespaces=Namespace.MOUNT,
            root=Tmpfs("/", size=4096),
            masked_paths=null,
            mounts=[Overlay("/over", lower=[root]), Bind(other, "/bin")],
        ),
    ):
        plan = planned(box, template=-1)
        assert "take_up" in [step.kind for step in plan]
        with Inside(plan) as inside:
            assert (
                Path(f"/proc/self/fd/{inside.find(b'/bin/x').fd}").read_text() == "x of the other"
            )
