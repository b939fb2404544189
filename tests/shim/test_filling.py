"""What is made in the mount in hand, or beneath the root; and how one is put together of others."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns.mount_steps import (
    ASIDE_MAX,
    CopyMode,
    MakeDirectory,
    MakeSymlink,
    OpenWithin,
    SendMount,
    SetAside,
    Stage,
    TakeUp,
    Unstage,
    WriteFile,
)
from pyns.namespaces import Namespace
from pyns.steps import (
    Attach,
    ChangeDirectory,
    Clone,
    HostRoot,
    NewMount,
    NewRoot,
    OpenTree,
    SetPropagation,
    SetUid,
    SetUmask,
    Step,
)

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
MOUNTS = (Clone(Namespace.MOUNT), SetPropagation(), HostRoot())
NOBODY = 65534
TMPFS = NewMount(b"tmpfs", ((b"size", b"1048576"), (b"mode", b"755")))

pytestmark = pytest.mark.usefixtures("root_only")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a directory for a root, with a neighbour that a link could lead to."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "root"
    path.mkdir()
    return path


def in_root(path: Path) -> tuple[Step, ...]:
    return (Clone(Namespace.MOUNT), SetPropagation(), NewRoot(os.fsencode(path)))


def attach(path: Path) -> Attach:
    return Attach(os.fsencode(path))


class TestMakeDirectory:
    def test_in_hand_with_those_above_it_whatever_the_umask(
        self, tmp_path: Path, output: Output
    ) -> None:
        make = MakeDirectory(b"/a/b/c", True, 0o1770)
        inside = output(
            *MOUNTS,
            SetUmask(0o77),
            TMPFS,
            make,
            attach(tmp_path),
            script=f"cd {tmp_path}; stat -c '%n %a' a a/b a/b/c; umask",
        )
        assert inside == "a 755\na/b 755\na/b/c 1770\n0077"
        assert list(tmp_path.iterdir()) == []

    def test_beneath_the_root_where_it_stays(self, root: Path, output: Output) -> None:
        output(*in_root(root), MakeDirectory(b"/a/b", False, 0o711), script="exit")
        assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o711

    def test_that_is_there_is_left_as_it_is(self, root: Path, output: Output) -> None:
        (root / "a").mkdir(mode=0o700)
        (root / "link").symlink_to("a")
        steps = (MakeDirectory(b"/a", False, 0o777), MakeDirectory(b"/link", False, 0o777))
        output(*in_root(root), *steps, script="exit")
        assert stat.S_IMODE((root / "a").stat().st_mode) == 0o700
        assert (root / "link").is_symlink()

    @pytest.mark.parametrize("link", ["../outside", "/../outside", "../../../../outside"])
    def test_through_a_link_stays_beneath_the_root(
        self, root: Path, output: Output, link: str
    ) -> None:
        (root / "outside").mkdir()
        (root / "link").symlink_to(link)
        output(*in_root(root), MakeDirectory(b"/link/new", False), script="exit")
        assert (root / "outside/new").is_dir()
        assert list((root.parent / "outside").iterdir()) == []

    def test_on_another_mount_than_the_root_s_fails(self, root: Path, failure: Failure) -> None:
        steps = (*in_root(root), TMPFS, Attach(b"/x"), MakeDirectory(b"/x/new", False))
        assert failure(*steps) == (5, errno.EXDEV)

    @pytest.mark.parametrize(
        ("path", "error"),
        [
            (b"/file", errno.ENOTDIR),
            (b"/file/below", errno.ENOTDIR),
            (b"/dangling", errno.ENOENT),
            (b"/dangling/below", errno.ELOOP),
            (b"relative", errno.EINVAL),
            (b"", errno.EINVAL),
            (b"/" + b"x" * 256, errno.ENAMETOOLONG),
            (b"/x" * 2100, errno.EINVAL),
        ],
    )
    def test_where_it_can_not_be_fails(
        self, root: Path, failure: Failure, path: bytes, error: int
    ) -> None:
        (root / "file").touch()
        (root / "dangling").symlink_to("/nowhere")
        assert failure(*in_root(root), MakeDirectory(path, False)) == (3, error)
        assert not (root / "nowhere").exists()

    def test_in_hand_through_a_link_fails(self, failure: Failure) -> None:
        steps = (TMPFS, MakeSymlink(b"/l", True, b"/"), MakeDirectory(b"/l/x", True))
        assert failure(*MOUNTS, *steps) == (5, errno.ELOOP)

    def test_without_a_mount_in_hand_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, MakeDirectory(b"/x", True)) == (3, errno.EBADF)


class TestMakeSymlink:
    def test_in_hand(self, tmp_path: Path, output: Output) -> None:
        steps = (TMPFS, MakeSymlink(b"/a/l", True, b"../nowhere at all"), attach(tmp_path))
        assert output(*MOUNTS, *steps, script=f"readlink {tmp_path}/a/l") == "../nowhere at all"

    def test_beneath_the_root_once_and_again(self, root: Path, output: Output) -> None:
        for _ in range(2):
            output(*in_root(root), MakeSymlink(b"/l", False, b"/etc"), script="exit")
        assert os.readlink(root / "l") == "/etc"

    @pytest.mark.parametrize("there", ["another link", "a longer link", "a directory", "a file"])
    def test_where_something_else_is_fails(self, root: Path, failure: Failure, there: str) -> None:
        if there.endswith("link"):
            (root / "l").symlink_to("/etcetera" if "longer" in there else "/et")
        elif there == "a directory":
            (root / "l").mkdir()
        else:
            (root / "l").touch()
        assert failure(*in_root(root), MakeSymlink(b"/l", False, b"/etc")) == (3, errno.EEXIST)


class TestWriteFile:
    def test_has_its_content_and_mode_whatever_the_umask(
        self, tmp_path: Path, output: Output
    ) -> None:
        content = bytes(range(256)) * 1000
        steps = (TMPFS, WriteFile(b"f", 0o604, content), WriteFile(b"e", 0o7777), attach(tmp_path))
        inside = output(
            *MOUNTS,
            SetUmask(0o77),
            *steps,
            script=f"cd {tmp_path}; stat -c '%a %s' f e; md5sum < f | cut -c-8; od -An -tx1 -N3 f",
        )
        assert inside == "604 256000\n7777 0\n" + _md5(content)[:8] + "\n 00 01 02"

    def test_that_does_not_fit_fails(self, failure: Failure) -> None:
        small = NewMount(b"tmpfs", ((b"size", b"4096"),))
        assert failure(*MOUNTS, small, WriteFile(b"f", 0o600, b"x" * 4097)) == (4, errno.ENOSPC)

    @pytest.mark.parametrize(
        ("path", "error"),
        [(b"d", errno.EEXIST), (b"l", errno.ELOOP), (b"d/no/f", errno.ENOENT), (b"", errno.ENOENT)],
    )
    def test_where_it_can_not_be_fails(self, failure: Failure, path: bytes, error: int) -> None:
        there = (MakeDirectory(b"/d", True), MakeSymlink(b"/l", True, b"x"))
        expected = errno.EEXIST if path == b"l" else error  # O_EXCL looks at the link itself
        assert failure(*MOUNTS, TMPFS, *there, WriteFile(path, 0o600)) == (6, expected)

    def test_without_a_mount_in_hand_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, WriteFile(b"f", 0o600)) == (3, errno.EBADF)


def _md5(content: bytes) -> str:
    import hashlib

    return hashlib.md5(content).hexdigest()


class TestSendMount:
    def test_the_caller_gets_the_mount_in_hand(self, output: Output) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            steps = (*MOUNTS, TMPFS, SendMount(theirs.fileno()), Attach(b"/mnt"))
            output(*steps, script="echo hello > /mnt/file")
            _, [fd], _, _ = socket.recv_fds(ours, 1, 1)
        try:
            # the namespace that it was attached in is gone
            with open(os.open("file", os.O_RDONLY, dir_fd=fd)) as file:
                assert file.read() == "hello\n"
        finally:
            os.close(fd)

    def test_needs_a_socket_and_a_mount(self, failure: Failure) -> None:
        assert failure(*MOUNTS, TMPFS, SendMount(-1)) == (4, errno.EBADF)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            assert failure(*MOUNTS, SendMount(theirs.fileno())) == (3, errno.EBADF)


class TestOpenWithin:
    def test_one_file_of_a_mount_becomes_a_mount(self, tmp_path: Path, output: Output) -> None:
        (tmp_path / "target").touch()
        steps = (TMPFS, WriteFile(b"f", 0o600, b"hello"), OpenWithin(b"f"))
        inside = output(
            *MOUNTS,
            ChangeDirectory(os.fsencode(tmp_path)),
            *steps,
            attach(tmp_path / "target"),
            script="cat target; echo; pwd; cut -d' ' -f4,5 /proc/self/mountinfo",
        ).splitlines()
        # and what it was a file of lies nowhere: not over the root either
        assert inside[:2] == ["hello", str(tmp_path)]
        assert f"/f {tmp_path}/target" in inside
        assert [line.split()[1] for line in inside[2:]].count("/") == 1

    def test_that_is_not_there_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, TMPFS, OpenWithin(b"f")) == (4, errno.ENOENT)

    def test_without_a_mount_in_hand_fails(self, failure: Failure) -> None:
        assert failure(*MOUNTS, OpenWithin(b"f")) == (3, errno.EBADF)


class TestSetAside:
    def test_first_come_first_taken_up(self, tmp_path: Path, output: Output) -> None:
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
        aside = [
            step for name in (b"a", b"b") for step in (TMPFS, WriteFile(name, 0o600), SetAside())
        ]
        again = (TMPFS, WriteFile(b"c", 0o600), SetAside(), TakeUp(), attach(tmp_path / "c"))
        up = (TakeUp(), attach(tmp_path / "a"), TakeUp(), attach(tmp_path / "b"), *again)
        assert output(*MOUNTS, *aside, *up, script=f"cd {tmp_path}; echo */*") == "a/a b/b c/c"

    def test_as_many_as_there_is_room_for(self, failure: Failure) -> None:
        steps = [
            each for _ in range(ASIDE_MAX + 1) for each in (OpenTree(b"/tmp", False), SetAside())
        ]
        assert failure(*MOUNTS, *steps) == (3 + 2 * ASIDE_MAX + 1, errno.EMFILE)

    @pytest.mark.parametrize("step", [SetAside(), TakeUp()], ids=["aside", "up"])
    def test_of_nothing_fails(self, failure: Failure, step: Step) -> None:
        assert failure(*MOUNTS, step) == (3, errno.EBADF)

    def test_none_reaches_the_program(self, output: Output) -> None:
        script = "ls /proc/self/fd | wc -l"
        steps = (TMPFS, SetAside(), TMPFS, SetAside())
        assert output(*MOUNTS, *steps, script=script) == output(*MOUNTS, script=script)


class TestStage:
    def test_gives_overlayfs_what_it_needs_and_is_gone(
        self, tmp_path: Path, output: Output
    ) -> None:
        lower = tmp_path / "lower"
        lower.mkdir(mode=0o750)
        os.chown(lower, 5, 6)
        (lower / "file").write_text("below")
        (tmp_path / "over").mkdir()
        steps = (
            OpenTree(os.fsencode(lower), False),
            SetAside(),
            TMPFS,
            *(MakeDirectory(name, True) for name in (b"/0", b"/u", b"/w")),
            Stage((b"0",)),
            CopyMode(b"0", b"u"),
            NewMount(b"overlay", ((b"lowerdir", b"0"), (b"upperdir", b"u"), (b"workdir", b"w"))),
            Unstage(),
            attach(tmp_path / "over"),
        )
        inside = output(
            *MOUNTS,
            ChangeDirectory(os.fsencode(tmp_path)),
            *steps,
            script="pwd; stat -c '%a %u %g' over; echo new > over/file; cat over/file lower/file;"
            "echo; cut -d' ' -f5 /proc/self/mountinfo",
        ).splitlines()
        assert inside[:4] == [str(tmp_path), "750 5 6", "new", "below"]
        assert f"{tmp_path}/over" in inside
        assert not [line for line in inside[4:] if line.startswith(f"{tmp_path}/lower")]
        assert inside[4:].count("/") == 1
        assert (lower / "file").read_text() == "below"

    @pytest.mark.parametrize(
        ("steps", "error"),
        [
            ((Stage(),), errno.EBADF),
            ((TMPFS, Stage((b"0",))), errno.ENOENT),
            ((TMPFS, MakeDirectory(b"/0", True), Stage((b"0",))), errno.EBADF),
            ((TMPFS, WriteFile(b"0", 0o600), Stage((b"0",))), errno.ENOTDIR),
            ((TMPFS, MakeSymlink(b"/0", True, b"/"), Stage((b"0",))), errno.ELOOP),
            ((TMPFS, Stage((b"/tmp",))), errno.EXDEV),
            (
                (
                    OpenTree(b"/dev/null", False),
                    SetAside(),
                    TMPFS,
                    MakeDirectory(b"/0", True),
                    Stage((b"0",)),
                ),
                errno.EINVAL,
            ),
            ((TMPFS, Stage(), CopyMode(b"a", b"b")), errno.ENOENT),
            ((TMPFS, MakeDirectory(b"/a", True), Stage(), CopyMode(b"a", b"b")), errno.ENOENT),
            ((Unstage(),), errno.EBADF),
            ((TMPFS, Stage(), Unstage(), Unstage()), errno.EBADF),
        ],
        ids=[
            "nothing in hand",
            "no place",
            "nothing aside",
            "on a file",
            "on a link",
            "on a place outside",
            "a file aside",
            "mode of nothing",
            "mode for nothing",
            "not staged",
            "unstaged twice",
        ],
    )
    def test_of_what_can_not_be_fails(
        self, failure: Failure, steps: tuple[Step, ...], error: int
    ) -> None:
        assert failure(*MOUNTS, *steps) == (len(MOUNTS) + len(steps) - 1, error)

    def test_fails_with_eperm_without_privilege(self, failure: Failure) -> None:
        assert failure(*MOUNTS, TMPFS, SetUid(NOBODY), Stage()) == (5, errno.EPERM)


def test_a_flag_among_the_options_has_no_value(failure: Failure, output: Output) -> None:
    newinstance = NewMount(b"devpts", ((b"newinstance", b""), (b"ptmxmode", b"666")))
    assert output(*MOUNTS, newinstance, script="echo ok") == "ok"
    assert failure(*MOUNTS, NewMount(b"tmpfs", ((b"size", b""),))) == (3, errno.EINVAL)
