"""Mounts become steps, and refuse targets that are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Proc, Tmpfs
from pyns.mounts import Mount, encode_target
from pyns.rootfs import root_steps
from pyns.steps import (
    Attach,
    HostRoot,
    NewMount,
    NewRoot,
    OpenTree,
    PivotRoot,
    SetAttributes,
    Step,
)

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8  # <linux/mount.h>


@pytest.mark.parametrize(
    ("mount", "steps"),
    [
        (Bind("/usr"), [OpenTree(b"/usr", True), Attach(b"/usr")]),
        (
            Bind("/usr", read_only=True),
            [OpenTree(b"/usr", True), SetAttributes(RDONLY), Attach(b"/usr")],
        ),
        (Bind("/a", "/b", recursive=False), [OpenTree(b"/a", False), Attach(b"/b")]),
        (Bind("relative/x", "/b"), [OpenTree(b"relative/x", True), Attach(b"/b")]),
        (Bind("/a/../b", "/b"), [OpenTree(b"/a/../b", True), Attach(b"/b")]),
        (Bind("/", "/host"), [OpenTree(b"/", True), Attach(b"/host")]),
        (Bind(b"/caf\xe9", Path("/x")), [OpenTree(b"/caf\xe9", True), Attach(b"/x")]),
        (
            Tmpfs("/tmp"),
            [NewMount(b"tmpfs", ((b"mode", b"1777"),), NOSUID | NODEV), Attach(b"/tmp")],
        ),
        (
            Tmpfs("/run", size="1M", mode=0o755),
            [
                NewMount(b"tmpfs", ((b"mode", b"755"), (b"size", b"1048576")), NOSUID | NODEV),
                Attach(b"/run"),
            ],
        ),
        (
            Tmpfs("/run", size=1, mode=0),
            [
                NewMount(b"tmpfs", ((b"mode", b"0"), (b"size", b"1")), NOSUID | NODEV),
                Attach(b"/run"),
            ],
        ),
        (Proc(), [NewMount(b"proc", (), NOSUID | NODEV | NOEXEC), Attach(b"/proc")]),
        (Proc("/p"), [NewMount(b"proc", (), NOSUID | NODEV | NOEXEC), Attach(b"/p")]),
    ],
    ids=str,
)
def test_mount_becomes_steps(mount: Mount, steps: list[Step]) -> None:
    assert list(mount.steps()) == steps


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", b"/a"),
        ("//a///b/", b"/a/b"),
        ("/./a/.", b"/a"),
        ("/..a/b..", b"/..a/b.."),
        (b"/\xff", b"/\xff"),
        (Path("/a/b"), b"/a/b"),
    ],
    ids=str,
)
def test_target_loses_needless_slashes(target: Any, expected: bytes) -> None:
    assert encode_target(target) == expected


BAD_TARGETS = [
    pytest.param("", "target is empty: give a path", id="empty"),
    pytest.param("a", "target='a' is not absolute: it is a path inside", id="relative"),
    pytest.param("../a", "target='../a' is not absolute: it is a path inside", id="upwards"),
    pytest.param("/..", "target='/..' contains '..': name the place itself", id="above root"),
    pytest.param("/a/../b", "target='/a/../b' contains '..': name the place", id="dots"),
    pytest.param("/", "target='/' is the root: that is Container(root=...)", id="root"),
    pytest.param("//./", "target='/' is the root: that is Container(root=...)", id="slashes"),
    pytest.param("/a\0b", "target='/a\\x00b' contains a NUL", id="nul"),
]


@pytest.mark.parametrize(
    "make", [Tmpfs, Proc, lambda t: Bind("/s", t)], ids=["Tmpfs", "Proc", "Bind"]
)
@pytest.mark.parametrize(("target", "said"), BAD_TARGETS)
def test_target_that_is_none_is_refused(make: Any, target: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        make(target)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Bind(""), ValueError, "source is empty: give a path"),
        (lambda: Bind("", "/a"), ValueError, "source is empty: give a path"),
        (lambda: Bind("/a\0", "/a"), ValueError, "source='/a\\x00' contains a NUL"),
        (lambda: Bind("rel"), ValueError, "target='rel' is not absolute: it is a path inside"),
        (lambda: Bind("/"), ValueError, "target='/' is the root: that is Container(root=...)"),
        (lambda: Bind("/a/../b"), ValueError, "target='/a/../b' contains '..': name the place"),
        (lambda: Tmpfs("/t", size=0), ValueError, "size=0 would mean unlimited to tmpfs: leave it"),
        (lambda: Tmpfs("/t", size="0K"), ValueError, "size=0 would mean unlimited to tmpfs"),
        (lambda: Tmpfs("/t", size="0.1"), ValueError, "size=0 would mean unlimited to tmpfs"),
        (lambda: Tmpfs("/t", size=-1), ValueError, "size=-1 is out of range: 0 to"),
        (lambda: Tmpfs("/t", size="1X"), ValueError, "size='1X' is not a size: give bytes"),
        (lambda: Tmpfs("/t", size="max"), ValueError, "size='max' is not a size: give bytes"),
        (lambda: Tmpfs("/t", size=True), TypeError, "size=True: a size is an int (bytes)"),
        (lambda: Tmpfs("/t", mode=-1), ValueError, "mode=-1 is out of range: 0 to 0o7777"),
        (lambda: Tmpfs("/t", mode=0o10000), ValueError, "is out of range: 0 to 0o7777"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mount_that_makes_no_sense_is_refused(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make()


def test_mount_itself_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        Mount().steps()


@pytest.mark.parametrize(
    ("root", "mounts", "steps"),
    [
        (None, (), []),
        ("/srv", (), [NewRoot(b"/srv"), PivotRoot()]),
        (None, (Bind("/a"),), [HostRoot(), OpenTree(b"/a", True), Attach(b"/a")]),
        (
            "/srv",
            (Bind("/a"), Bind("/b")),
            [
                NewRoot(b"/srv"),
                OpenTree(b"/a", True),
                Attach(b"/a"),
                OpenTree(b"/b", True),
                Attach(b"/b"),
                PivotRoot(),
            ],
        ),
    ],
    ids=["nothing", "root", "mounts", "both"],
)
def test_mounts_go_beneath_the_new_root_before_it_becomes_the_root(
    root: str | None, mounts: tuple[Mount, ...], steps: list[Step]
) -> None:
    assert list(root_steps(root, mounts)) == steps


def test_mounts_may_come_from_an_iterator() -> None:
    steps = list(root_steps(None, iter([Proc()])))
    assert [step.kind for step in steps] == ["host_root", "new_mount", "attach"]
