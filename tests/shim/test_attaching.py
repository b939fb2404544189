"""Where Attach mounts: beneath the root, whatever symlinks lie on the way; targets are made."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyns.namespaces import Namespace
from pyns.steps import (
    MOUNT_ATTR_RDONLY,
    Attach,
    Clone,
    MakePrivate,
    NewMount,
    NewRoot,
    OpenTree,
    SetAttributes,
    SetUmask,
)

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
MOUNTS = (Clone(Namespace.MOUNT), MakePrivate())
TMPFS = NewMount(b"tmpfs")
MOUNTINFO = "cat /proc/self/mountinfo"

pytestmark = pytest.mark.usefixtures("root_only")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a directory that mounts go beneath, with a neighbour that a link could lead to."""
    path = tmp_path / "a" / "root"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def umask_077() -> Iterator[None]:
    """Have the caller's umask take everything from others."""
    old = os.umask(0o077)
    yield
    os.umask(old)


def below(root: Path) -> tuple[Clone | MakePrivate | NewRoot, ...]:
    """Return the steps after which `root` is where targets are resolved, a mount of its own."""
    return (*MOUNTS, NewRoot(os.fsencode(root)))


def mount_points(mountinfo: str, above: Path) -> list[str]:
    points = [line.split()[4] for line in mountinfo.splitlines()]
    return [p.removeprefix(f"{above}/") for p in points if p.startswith(f"{above}/")]


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_target_that_is_there_is_mounted_over(root: Path, output: Output) -> None:
    (root / "data").mkdir(mode=0o700)
    inside = output(*below(root), TMPFS, Attach(b"/data"), script=MOUNTINFO)
    assert mount_points(inside, root) == ["data"]
    assert permissions(root / "data") == 0o700


@pytest.mark.usefixtures("umask_077")
def test_a_missing_target_is_made_with_its_parents_whatever_the_umask(
    root: Path, output: Output
) -> None:
    inside = output(*below(root), TMPFS, Attach(b"/x/y/z"), script=MOUNTINFO)
    assert mount_points(inside, root) == ["x/y/z"]
    for path in ("x", "x/y", "x/y/z"):
        assert stat.S_ISDIR((root / path).lstat().st_mode)
        assert permissions(root / path) == 0o755


@pytest.mark.usefixtures("umask_077")
def test_a_missing_target_of_a_file_is_made_as_an_empty_file(
    root: Path, tmp_path: Path, output: Output
) -> None:
    source = tmp_path / "source"
    source.write_text("text")
    steps = (*below(root), OpenTree(os.fsencode(source), recursive=False), Attach(b"/etc/file"))
    assert output(*steps, script=f"cat {root}/etc/file") == "text"
    assert (root / "etc/file").read_text() == ""
    assert permissions(root / "etc") == 0o755
    assert permissions(root / "etc/file") == 0o644


def test_making_a_target_leaves_the_umask_as_it_was(root: Path, output: Output) -> None:
    steps = (*below(root), SetUmask(0o027), TMPFS, Attach(b"/new"))
    assert output(*steps, script="umask") == "0027"


def test_a_target_with_needless_slashes_is_made(root: Path, output: Output) -> None:
    inside = output(*below(root), TMPFS, Attach(b"//x//y/"), script=MOUNTINFO)
    assert mount_points(inside, root) == ["x/y"]


def test_mounts_go_on_top_of_each_other_in_their_order(root: Path, output: Output) -> None:
    steps = (*below(root), TMPFS, Attach(b"/x"), TMPFS, Attach(b"/x/y"), TMPFS, Attach(b"/x"))
    inside = output(*steps, script=f"{MOUNTINFO}; ls -A {root}/x")
    assert mount_points(inside, root) == ["x", "x/y", "x"]
    assert inside.splitlines()[-1].split()[4] == f"{root}/x"  # ls has printed nothing
    assert list((root / "x").iterdir()) == []  # y was made in the first tmpfs


@pytest.mark.parametrize("exists", [True, False], ids=["to what is there", "to what is made"])
@pytest.mark.parametrize(
    "links",
    [
        {"link": "/place"},
        {"link": "place"},
        {"link": "../../../../../../../../place"},
        {"link": "/../../place"},
        {"sub/link": "../place", "link": "sub/link"},
        {"link": "second", "second": "/sub/third", "sub/third": "../fourth", "fourth": "/place"},
    ],
    ids=["absolute", "relative", "climbing out", "absolute and climbing", "through dir", "chain"],
)
def test_a_link_on_the_way_stays_beneath_the_root(
    links: dict[str, str], exists: bool, root: Path, tmp_path: Path, output: Output
) -> None:
    (root / "sub").mkdir()
    (root / "place").mkdir()
    for name, target in links.items():
        (root / name).symlink_to(target)
    if exists:
        (root / "place/deep").mkdir()
    inside = output(*below(root), TMPFS, Attach(b"/link/deep"), script=MOUNTINFO)
    assert mount_points(inside, root) == ["place/deep"]
    # nothing beside the root either, and nothing at the place of that name on the host
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert [p.name for p in root.parent.iterdir()] == ["root"]
    assert not Path("/place").exists()


@pytest.mark.parametrize("text", ["/nowhere", "../../../nowhere", "nowhere", "link"])
@pytest.mark.parametrize("target", ["/link", "/link/deeper"])
def test_a_link_to_nowhere_is_refused_and_nothing_is_made(
    text: str, target: str, root: Path, tmp_path: Path, failure: Failure
) -> None:
    (root / "link").symlink_to(text)
    steps = (*below(root), TMPFS, Attach(os.fsencode(target)))
    assert failure(*steps) == (4, errno.ELOOP)
    assert [p.name for p in root.iterdir()] == ["link"]
    assert [p.name for p in root.parent.iterdir()] == ["root"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("magic", ["self/root/tmp", "self/cwd", "self/fd/0", "self/exe"])
def test_a_magic_link_is_refused(magic: str, root: Path, failure: Failure) -> None:
    proc = (OpenTree(b"/proc", recursive=False), Attach(b"/proc"))
    steps = (*below(root), *proc, TMPFS, Attach(b"/proc/" + magic.encode()))
    assert failure(*steps) == (6, errno.ELOOP)


def test_a_link_to_a_magic_link_is_refused(root: Path, failure: Failure) -> None:
    (root / "link").symlink_to("/proc/self/root")
    proc = (OpenTree(b"/proc", recursive=False), Attach(b"/proc"))
    assert failure(*below(root), *proc, TMPFS, Attach(b"/link/tmp")) == (6, errno.ELOOP)


@pytest.mark.parametrize("target", ["/file/below", "/file/below/that"])
def test_a_target_below_a_file_fails_with_enotdir(
    target: str, root: Path, failure: Failure
) -> None:
    (root / "file").touch()
    steps = (*below(root), TMPFS, Attach(os.fsencode(target)))
    assert failure(*steps) == (4, errno.ENOTDIR)


def test_a_directory_on_a_file_fails_with_einval(root: Path, failure: Failure) -> None:
    (root / "file").touch()
    assert failure(*below(root), TMPFS, Attach(b"/file")) == (4, errno.EINVAL)


def test_a_file_on_a_directory_fails_with_einval(root: Path, failure: Failure) -> None:
    (root / "directory").mkdir()
    (root / "file").touch()
    source = OpenTree(os.fsencode(root / "file"), recursive=False)
    assert failure(*below(root), source, Attach(b"/directory")) == (4, errno.EINVAL)


def test_a_missing_target_on_a_read_only_mount_fails_with_erofs(
    root: Path, failure: Failure
) -> None:
    read_only = (TMPFS, SetAttributes(MOUNT_ATTR_RDONLY), Attach(b"/ro"))
    assert failure(*below(root), *read_only, TMPFS, Attach(b"/ro/new")) == (7, errno.EROFS)


def test_a_target_that_is_too_long_fails_with_enametoolong(root: Path, failure: Failure) -> None:
    component = failure(*below(root), TMPFS, Attach(b"/" + b"n" * 256))
    path = failure(*below(root), TMPFS, Attach(b"/n" * 2048))
    assert component == path == (4, errno.ENAMETOOLONG)


def test_the_longest_target_is_made(root: Path, output: Output) -> None:
    components = ["n" * 255] * 15 + ["m" * 254]
    target = os.fsencode("".join(f"/{name}" for name in components))
    assert len(target) + 1 == os.pathconf("/", "PC_PATH_MAX")
    inside = output(*below(root), TMPFS, Attach(target), script=MOUNTINFO)
    assert mount_points(inside, root) == ["/".join(components)]


def test_attach_without_a_root_fails_with_ebadf(failure: Failure) -> None:
    assert failure(*MOUNTS, TMPFS, Attach(b"/tmp")) == (3, errno.EBADF)


def test_attach_with_no_mount_in_hand_fails(root: Path, failure: Failure) -> None:
    (root / "data").mkdir()
    assert failure(*below(root), Attach(b"/data")) == (3, errno.EBADF)


def test_a_mount_can_be_attached_once(root: Path, failure: Failure) -> None:
    steps = (*below(root), TMPFS, Attach(b"/one"), Attach(b"/two"))
    assert failure(*steps) == (5, errno.EBADF)


def test_a_link_that_climbs_resolves_while_others_mount(
    root: Path, python: Callable[..., str]
) -> None:
    # openat2 says EAGAIN for a ".." beneath a root when anything was mounted or renamed meanwhile
    (root / "place").mkdir()
    (root / "link").symlink_to("/".join(["sub/.."] * 100 + ["place"]))
    (root / "sub").mkdir()
    code = """
        stop = False

        def mount_and_unmount():
            own = libc.unshare(0x20000 | 0x200) == 0  # CLONE_NEWNS, CLONE_FS: of this thread alone
            own = own and libc.mount(None, b"/", None, 0x4000 | 1 << 18, None) == 0  # private
            assert own, "else it would mount on the host"
            while not stop:
                libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
                libc.umount2(b"/tmp", 2)

        threads = [threading.Thread(target=mount_and_unmount) for _ in range(8)]
        for thread in threads:
            thread.start()
        root = sys.argv[1].encode()
        steps = (Clone(Namespace.MOUNT), MakePrivate(), NewRoot(root), NewMount(b"tmpfs"))
        errors = {}
        for _ in range(300):
            report = spawn(Plan((*steps, Attach(b"/link"), RestoreSignalMask(), program)))
            name = errno.errorcode.get(report.error, "fine")
            errors[name] = errors.get(name, 0) + 1
            if not report.error:
                os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
                os.close(report.pidfd)
        stop = True
        for thread in threads:
            thread.join()
        print(errors)
    """
    assert python(code, root) == "{'fine': 300}"
