"""Mounts become steps, and refuse targets that are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Dev,
    Devpts,
    Dir,
    File,
    IdMap,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    Symlink,
    Sysfs,
    Tmpfs,
)
from pyns.cgroups import Hierarchy
from pyns.entries import arrange
from pyns.mount_steps import (
    CopyMode,
    MakeDirectory,
    MakeReadOnly,
    MakeSymlink,
    Mask,
    OpenWithin,
    SetAside,
    SetRootAttributes,
    Stage,
    TakeMasks,
    TakeMount,
    TakeUp,
    Unstage,
    WriteFile,
)
from pyns.mounts import Entry, Filesystem, Mount, encode_target
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
INERT = NOSUID | NODEV | NOEXEC
V1 = Hierarchy(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/")
NAMED = Hierarchy(1, (), "/sys/fs/cgroup/systemd", "/", "systemd")
V2 = Hierarchy(2, ("memory",), "/sys/fs/cgroup/unified", "/")


def tmpfs(*options: bytes, attributes: int = NOSUID | NODEV) -> NewMount:
    pairs = [option.split(b"=") for option in options]
    return NewMount(b"tmpfs", tuple((key, value) for key, value in pairs), attributes)


@pytest.mark.parametrize(
    ("mount", "steps"),
    [
        (Bind("/usr"), [OpenTree(b"/usr", True), Attach(b"/usr")]),
        (
            Bind("/usr", read_only=True),
            [OpenTree(b"/usr", True), SetAttributes(RDONLY), Attach(b"/usr")],
        ),
        (Bind("/a", "/b", recursive=False), [OpenTree(b"/a", False), Attach(b"/b")]),
        (
            Bind("/a", "/b", True, idmap=iter([IdMap(0, 5, 2), IdMap(7, 8)])),  # type: ignore[arg-type]
            [
                TakeMount(b"/a", True, ("0 5 2", "7 8 1")),
                SetAttributes(RDONLY),
                Attach(b"/b"),
            ],
        ),
        (
            Bind("/a", "/b", recursive=False, idmap=Namespace.USER),
            [TakeMount(b"/a", False, ()), Attach(b"/b")],
        ),
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
        (
            Bind("/a", "/b", True, nosuid=True, nodev=True, noexec=True),
            [OpenTree(b"/a", True), SetAttributes(RDONLY | INERT), Attach(b"/b")],
        ),
        (
            Tmpfs("/t", size="4K", inodes=9, noexec=True, read_only=True),
            [
                tmpfs(b"mode=1777", b"size=4096", b"nr_inodes=9", attributes=INERT),
                SetAttributes(RDONLY),
                Attach(b"/t"),
            ],
        ),
        (
            Proc(hidepid="ptraceable", subset="pid"),
            [
                NewMount(b"proc", ((b"hidepid", b"4"), (b"subset", b"pid")), INERT),
                Attach(b"/proc"),
            ],
        ),
        (Proc(hidepid=0), [NewMount(b"proc", ((b"hidepid", b"0"),), INERT), Attach(b"/proc")]),
        (Sysfs(), [NewMount(b"sysfs", (), INERT | RDONLY), Attach(b"/sys")]),
        (Sysfs("/s", read_only=False), [NewMount(b"sysfs", (), INERT), Attach(b"/s")]),
        (Mqueue(), [NewMount(b"mqueue", (), INERT), Attach(b"/dev/mqueue")]),
        (
            Devpts(gid=0, max=1),
            [
                NewMount(
                    b"devpts",
                    ((b"mode", b"620"), (b"ptmxmode", b"666"), (b"gid", b"0"), (b"max", b"1")),
                    NOSUID | NOEXEC,
                ),
                Attach(b"/dev/pts"),
            ],
        ),
        (
            CgroupFs(hierarchies=(V2,)),
            [NewMount(b"cgroup2", (), INERT | RDONLY), Attach(b"/sys/fs/cgroup")],
        ),
        (
            CgroupFs("/c", (V1, NAMED, V2)),
            [
                tmpfs(b"mode=755", b"size=4096", b"nr_inodes=256", attributes=INERT),
                MakeDirectory(b"/cpu,cpuacct", True),
                MakeSymlink(b"/cpu", True, b"cpu,cpuacct"),
                MakeSymlink(b"/cpuacct", True, b"cpu,cpuacct"),
                MakeDirectory(b"/systemd", True),
                MakeDirectory(b"/unified", True),
                SetAttributes(RDONLY),
                Attach(b"/c"),
                NewMount(b"cgroup", ((b"cpu", b""), (b"cpuacct", b"")), INERT | RDONLY),
                Attach(b"/c/cpu,cpuacct"),
                NewMount(b"cgroup", ((b"name", b"systemd"), (b"none", b"")), INERT | RDONLY),
                Attach(b"/c/systemd"),
                NewMount(b"cgroup2", (), INERT | RDONLY),
                Attach(b"/c/unified"),
            ],
        ),
        (
            File("/f", "caf\xe9", mode=0o600),
            [
                tmpfs(b"size=65536", b"nr_inodes=2"),
                WriteFile(b"file", 0o600, b"caf\xc3\xa9"),
                OpenWithin(b"file"),
                SetAttributes(RDONLY),
                Attach(b"/f"),
            ],
        ),
        (
            File("/f", b"\0" * 65536, read_only=False),
            [
                tmpfs(b"size=131072", b"nr_inodes=2"),
                WriteFile(b"file", 0o644, b"\0" * 65536),
                OpenWithin(b"file"),
                Attach(b"/f"),
            ],
        ),
        (Dir("/a/b", 0o700), [MakeDirectory(b"/a/b", False, 0o700)]),
        (Symlink("/a", b"\xff"), [MakeSymlink(b"/a", False, b"\xff")]),
        (
            Overlay("/o", ["/a", "b"], size="4K", inodes=5, userxattr=True, read_only=True),
            [
                OpenTree(b"/a", False),
                SetAside(),
                OpenTree(b"b", False),
                SetAside(),
                tmpfs(b"size=4096", b"nr_inodes=5", attributes=0),
                MakeDirectory(b"/0", True),
                MakeDirectory(b"/1", True),
                MakeDirectory(b"/upper", True),
                MakeDirectory(b"/work", True),
                Stage((b"0", b"1")),
                CopyMode(b"0", b"upper"),
                NewMount(
                    b"overlay",
                    (
                        (b"lowerdir", b"0:1"),
                        (b"upperdir", b"upper"),
                        (b"workdir", b"work"),
                        (b"userxattr", b""),
                    ),
                ),
                Unstage(),
                SetAttributes(RDONLY),
                Attach(b"/o"),
            ],
        ),
        (
            Overlay("/o", ["/a"], upper="/u\\p", work="/w", nosuid=True),
            [
                OpenTree(b"/a", False),
                SetAside(),
                tmpfs(b"size=4096", attributes=0),
                MakeDirectory(b"/0", True),
                Stage((b"0",)),
                NewMount(
                    b"overlay",
                    ((b"lowerdir", b"0"), (b"upperdir", b"/u\\\\p"), (b"workdir", b"/w")),
                ),
                Unstage(),
                SetAttributes(NOSUID),
                Attach(b"/o"),
            ],
        ),
    ],
    ids=str,
)
def test_mount_becomes_steps(mount: Mount, steps: list[Step]) -> None:
    assert list(mount.steps()) == steps


def test_dev_is_filled_before_it_is_seen_and_has_the_nodes_that_were_there_before() -> None:
    steps = list(Dev("/d", extra=("net/tun",), mqueue=True, read_only=True).steps())
    nodes = (b"null", b"zero", b"full", b"random", b"urandom", b"tty", b"net/tun")
    taken = [OpenTree(b"/dev/" + name, False) for name in nodes]
    assert steps[: 3 * len(nodes) : 3] == taken
    assert steps[2 : 3 * len(nodes) : 3] == [SetAside()] * len(nodes)
    rest = steps[3 * len(nodes) :]
    attached = rest.index(Attach(b"/d"))
    assert rest[0] == tmpfs(b"mode=755", b"size=1048576", b"nr_inodes=4096", attributes=INERT)
    assert rest[1:attached] == [
        *(WriteFile(name, 0o666) for name in nodes[:-1]),
        MakeDirectory(b"/net", True),
        WriteFile(b"net/tun", 0o666),
        *(MakeDirectory(name, True) for name in (b"/pts", b"/shm", b"/mqueue")),
        MakeSymlink(b"/ptmx", True, b"pts/ptmx"),
        MakeSymlink(b"/fd", True, b"/proc/self/fd"),
        *(
            MakeSymlink(b"/" + name, True, b"/proc/self/fd/%d" % n)
            for n, name in enumerate((b"stdin", b"stdout", b"stderr"))
        ),
        SetAttributes(RDONLY),
    ]
    mounted = rest[attached + 1 :]
    assert mounted[: 2 * len(nodes)] == [
        step for name in nodes for step in (TakeUp(), Attach(b"/d/" + name))
    ]
    assert mounted[2 * len(nodes) :] == [
        *Devpts("/d/pts").steps(),
        *Tmpfs("/d/shm", "64M", inodes=4096, noexec=True).steps(),
        *Mqueue("/d/mqueue").steps(),
    ]


@pytest.mark.parametrize(
    "mount", [Tmpfs("/x"), Overlay("/x", ["/a"]), Dev("/x")], ids=lambda m: type(m).__name__
)
def test_entries_are_made_in_the_filesystem_above_them(mount: Filesystem) -> None:
    other, entries = Tmpfs("/other"), (Dir("/x/d/e"), Symlink("/x/l", "d"))
    arranged = arrange([mount, other, *entries], has_root=False)
    assert arranged == [(mount, list(entries)), (other, [])]
    steps = list(mount.steps(entries))
    made = [MakeDirectory(b"/d/e", True), MakeSymlink(b"/l", True, b"d")]
    first = steps.index(made[0])
    assert steps[first : first + 2] == made
    assert first < steps.index(Attach(b"/x"))


def test_entries_are_made_in_the_last_mount_above_them() -> None:
    inner, outer = Tmpfs("/x/y"), Tmpfs("/x")
    entry = Dir("/x/y/z")
    assert arrange([outer, inner, entry], has_root=False) == [(outer, []), (inner, [entry])]
    # covered by what comes after it
    assert arrange([inner, outer, entry], has_root=False) == [(inner, []), (outer, [entry])]


def test_entries_above_which_nothing_is_mounted_are_made_in_the_root() -> None:
    mounts = [Dir("/x"), Tmpfs("/x"), Symlink("/xy", "x"), Dir("/z")]
    assert arrange(mounts, has_root=True) == [(mount, []) for mount in mounts]


@pytest.mark.parametrize("entry", [Dir("/x/new"), Symlink("/x/new", "y")], ids=["Dir", "Symlink"])
@pytest.mark.parametrize("mount", [Bind("/usr", "/x"), Proc("/x"), File("/x", "")], ids=repr)
def test_entry_in_what_is_not_the_containers_own_is_refused(entry: Entry, mount: Mount) -> None:
    with pytest.raises(ValueError, match="which is not the container's own: make it outside, or"):
        arrange([mount, entry], has_root=True)


@pytest.mark.parametrize("entry", [Dir("/x"), Symlink("/x", "y")], ids=["Dir", "Symlink"])
def test_entry_that_would_change_the_callers_root_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match="would be made in the caller's own root: list a Tmpfs"):
        arrange([Tmpfs("/y"), entry], has_root=False)
    with pytest.raises(ValueError, match="is there already"):
        arrange([Tmpfs("/x"), entry], has_root=True)


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


def overlay(target: str) -> Overlay:
    return Overlay(target, ["/a"])


ROOTS = (Tmpfs, overlay)  # what a container's root can be


@pytest.mark.parametrize(
    "make",
    [
        *(Tmpfs, Proc, Sysfs, Mqueue, Devpts, CgroupFs, Dev, Dir),
        lambda t: Bind("/s", t),
        lambda t: File(t, ""),
        lambda t: Symlink(t, "x"),
        overlay,
    ],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize(("target", "said"), BAD_TARGETS)
def test_target_that_is_none_is_refused(make: Any, target: str, said: str) -> None:
    if "is the root" in said and make in ROOTS:
        assert make(target).place == b"/"
        return
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
        (lambda: Tmpfs("/t", mode="755"), TypeError, "mode='755' is not an int, as 0o1777"),  # type: ignore[arg-type]
        (lambda: Tmpfs("/t", inodes=0), ValueError, "inodes=0 is out of range: 1 to"),
        (lambda: Tmpfs("/t", inodes=2**31), ValueError, "is out of range: 1 to 2147483647"),
        (lambda: Tmpfs("/t", inodes=True), TypeError, "inodes=True is not an int"),
        (lambda: Tmpfs("/t", noexec=1), TypeError, "noexec=1 is not a bool"),  # type: ignore[arg-type]
        (lambda: Bind("/a", nosuid=None), TypeError, "nosuid=None is not a bool"),  # type: ignore[arg-type]
        (lambda: Bind("/a", idmap=[]), ValueError, "idmap is empty: all files would be nobody's"),
        (lambda: Bind("/a", idmap=Namespace.PID), ValueError, "only Namespace.USER has ids"),
        (lambda: Bind("/a", idmap=[(0, 1, 1)]), TypeError, "idmap=((0, 1, 1),): give IdMap("),  # type: ignore[list-item]
        (
            lambda: Bind("/a", idmap=[IdMap(0, 1, 5), IdMap(4, 9)]),
            ValueError,
            "idmap: two ranges overlap inside at 4",
        ),
        (lambda: Proc(hidepid=3), ValueError, 'hidepid=3: there are 0, 1, 2 and 4, "ptraceable"'),
        (lambda: Proc(hidepid="no"), ValueError, "hidepid='no': there are 0, 1, 2 and 4"),
        (lambda: Proc(subset="all"), ValueError, "subset='all': there is \"pid\""),
        (lambda: Sysfs(read_only=1), TypeError, "read_only=1 is not a bool"),  # type: ignore[arg-type]
        (lambda: Devpts(gid=-1), ValueError, "gid=-1 is out of range: 0 to 4294967294"),
        (lambda: Devpts(max=2**21), ValueError, "is out of range: 1 to 1048576"),
        (lambda: Devpts(max=0), ValueError, "max=0 is out of range: 1 to 1048576"),
        (lambda: Devpts(ptmxmode=0o1000), ValueError, "is out of range: 0 to 0o777"),
        (lambda: Dev(extra="fuse"), TypeError, "extra='fuse': give a sequence of names"),
        (lambda: Dev(extra=["../x"]), ValueError, "extra='../x' is not the name of a node below"),
        (lambda: Dev(extra=["/dev/x"]), ValueError, "extra='/dev/x' is not the name of a node"),
        (lambda: Dev(extra=[""]), ValueError, "extra is empty: give a path"),
        (lambda: Dev(extra=list("abcdefghijklmnopqrstuvwxyz0123456")), ValueError, "has 33 names"),
        (lambda: Dev(extra=["null"]), ValueError, "extra='null' is in it already"),
        (lambda: Dev(extra=["ptmx"]), ValueError, "extra='ptmx' is in it already"),
        (lambda: Dev(extra=["a", b"a"]), ValueError, "extra='a' is in it already"),
        (lambda: Dev(size=0), ValueError, "size=0 would mean unlimited to tmpfs"),
        (lambda: Dev(shm_size="0"), ValueError, "shm_size=0 would mean unlimited to tmpfs"),
        (lambda: File("/f", 1), TypeError, "content is a int: give bytes or a str"),  # type: ignore[arg-type]
        (lambda: File("/f", b"x" * (2**26 + 1)), ValueError, "content has 67108865 bytes: Bind"),
        (lambda: File("/f", "", mode=0o10000), ValueError, "is out of range: 0 to 0o7777"),
        (lambda: Dir("/d", 0o2755), ValueError, "is out of range: 0 to 0o1777"),
        (lambda: Symlink("/l", ""), ValueError, "to is empty: give a path"),
        (lambda: Symlink("/l", "x" * 4096), ValueError, "to is longer than the kernel's 4095"),
        (lambda: Overlay("/o", "/a"), TypeError, "lower='/a': give a sequence of directories"),
        (lambda: Overlay("/o", []), ValueError, "lower has 0 directories: 1 to 64"),
        (lambda: Overlay("/o", ["/a"] * 65), ValueError, "lower has 65 directories: 1 to 64"),
        (lambda: Overlay("/o", [""]), ValueError, "lower is empty: give a path"),
        (lambda: Overlay("/o", ["/a"], "/u"), ValueError, "upper and work belong together"),
        (lambda: Overlay("/o", ["/a"], work="/w"), ValueError, "upper and work belong together"),
        (lambda: Overlay("/o", ["/a"], "u", "/w"), ValueError, "upper='u' is not absolute"),
        (
            lambda: Overlay("/o", ["/a"], "/u", "/w", size=1),
            ValueError,
            "size and inodes limit the memory that is used without an upper",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mount_that_makes_no_sense_is_refused(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        make()


def test_mount_itself_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        Mount().steps()
    with pytest.raises(NotImplementedError):
        next(Filesystem().steps())
    with pytest.raises(NotImplementedError):
        Entry().make(b"/x", in_hand=True)


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


@pytest.mark.parametrize(
    ("root", "first", "last"),
    [(None, [HostRoot()], []), ("/srv", [NewRoot(b"/srv")], [PivotRoot()])],
    ids=["host's", "own"],
)
def test_root_is_protected_around_the_mounts_and_hidden_from_after_them(
    root: str | None, first: list[Step], last: list[Step]
) -> None:
    steps = root_steps(root, [Proc()], attributes=RDONLY, masked=[b"/m"], protected=[b"/p", b"/q"])
    assert list(steps) == [
        *first,
        OpenTree(b"/dev/null", False),
        SetAttributes(RDONLY),
        SetAside(),
        tmpfs(b"mode=755", b"size=4096", b"nr_inodes=1", attributes=INERT | RDONLY),
        TakeMasks(),
        SetRootAttributes(RDONLY, below=True),
        *Proc().steps(),
        SetRootAttributes(RDONLY, below=False),
        MakeReadOnly(b"/p"),
        MakeReadOnly(b"/q"),
        Mask(b"/m"),
        *last,
    ]


@pytest.mark.parametrize("given", ["attributes", "masked", "protected"])
def test_the_hosts_root_is_taken_for_any_of_them(given: str) -> None:
    value: Any = RDONLY if given == "attributes" else [b"/x"]
    assert next(root_steps(None, (), **{given: value})) == HostRoot()
