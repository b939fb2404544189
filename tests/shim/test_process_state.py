"""What the program inherits: working directory, umask, session, credentials, signals."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.steps import (
    Attach,
    ChangeDirectory,
    Clone,
    DefaultSignal,
    Execute,
    HostRoot,
    MakePrivate,
    NewMount,
    NewSession,
    SetGid,
    SetGroups,
    SetProcessGroup,
    SetUid,
    SetUmask,
    Step,
)

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))
NOBODY = 65534
STATUS = "exec cat /proc/self/status"


def field(status: str, name: str) -> list[str]:
    (line,) = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return line.split()[1:]


def signals(status: str, name: str) -> set[int]:
    mask = int(field(status, name)[0], 16)
    return {number for number in range(1, 65) if mask & 1 << (number - 1)}


@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize("path", ["dir", "link", "dir/../dir/."])
def test_the_working_directory_is_changed(
    path: str, contained: bool, tmp_path: Path, output: Output
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    step = ChangeDirectory(os.fsencode(tmp_path) + b"/" + path.encode(), contained)
    assert output(CLONE, step, script="pwd -P") == str(tmp_path / "dir")


def test_the_caller_stays_where_it_is(tmp_path: Path, output: Output) -> None:
    before = os.getcwd()
    output(CLONE, ChangeDirectory(os.fsencode(tmp_path)), script=":")
    assert os.getcwd() == before


@pytest.mark.usefixtures("root_only")
def test_a_directory_that_is_mounted_on_is_the_mount(tmp_path: Path, output: Output) -> None:
    mount = (MakePrivate(), HostRoot(), NewMount(b"tmpfs"), Attach(os.fsencode(tmp_path)))
    (tmp_path / "covered").touch()
    change = ChangeDirectory(os.fsencode(tmp_path), contained=True)
    assert output(Clone(Namespace.MOUNT), *mount, change, script="ls -A") == ""


@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize(
    ("path", "error"),
    [("missing", errno.ENOENT), ("file", errno.ENOTDIR), ("loop", errno.ELOOP)],
)
def test_what_is_no_directory_can_not_be_the_working_directory(
    path: str, error: int, contained: bool, tmp_path: Path, failure: Failure
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    step = ChangeDirectory(os.fsencode(tmp_path / path), contained)
    assert failure(CLONE, step) == (1, error)


def test_the_directory_of_an_fd_is_no_contained_working_directory(
    tmp_path: Path, output: Output, failure: Failure
) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    path = b"/proc/self/fd/%d" % fd
    try:
        assert output(CLONE, ChangeDirectory(path), script="pwd -P") == str(tmp_path)
        assert failure(CLONE, ChangeDirectory(path, contained=True)) == (1, errno.ELOOP)
    finally:
        os.close(fd)


@pytest.mark.usefixtures("root_only")
def test_a_directory_outside_of_the_root_is_no_contained_working_directory(
    tmp_path: Path, python: Output
) -> None:
    code = """
        os.chroot(sys.argv[1])  # and stay outside, as chroot(2) allows
        for contained in False, True:
            report = spawn(Plan((Clone(Namespace(0)), ChangeDirectory(b".", contained), program)))
            print(report.index, errno.errorcode[report.error])
    """
    assert python(code, tmp_path) == "2 ENOENT\n1 EXDEV"  # no program in the empty root


def test_the_umask_is_set(output: Output) -> None:
    # it can't fail: umask(2) takes any value
    assert output(CLONE, SetUmask(0o027), script="umask") == "0027"


def test_the_umask_of_the_caller_stays(output: Output) -> None:
    before = os.umask(0o022)
    try:
        output(CLONE, SetUmask(0o077), script=":")
    finally:
        after = os.umask(before)
    assert after == 0o022


SESSION = "read -r stat < /proc/self/stat; set -- ${stat##*)}; echo $$ $3 $4"  # pid, group, session


def test_a_new_session_and_its_group_are_led_by_the_program(output: Output) -> None:
    pid, group, session = map(int, output(CLONE, NewSession(), script=SESSION).split())
    assert pid == group == session


def test_without_a_new_session_the_caller_s_is_kept(output: Output) -> None:
    pid, group, session = map(int, output(CLONE, script=SESSION).split())
    assert pid != group
    assert (group, session) == (os.getpgid(0), os.getsid(0))


def test_a_second_session_fails_with_eperm(failure: Failure) -> None:
    assert failure(CLONE, NewSession(), NewSession()) == (2, errno.EPERM)


def test_process_group_0_is_one_of_its_own(output: Output) -> None:
    pid, group, session = map(int, output(CLONE, SetProcessGroup(0), script=SESSION).split())
    assert pid == group
    assert session == os.getsid(0)


@pytest.fixture
def sleeping_group(spawn: Callable[[Plan], Any]) -> Iterator[int]:
    """Start a program that leads a process group and does nothing."""
    sleep = Execute((b"/bin/sleep",), (b"sleep", b"60"), ())
    report = spawn(Plan((CLONE, SetProcessGroup(0), sleep)))
    assert report.error == 0
    yield report.pid
    signal.pidfd_send_signal(report.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    os.close(report.pidfd)


def test_an_existing_process_group_is_joined(sleeping_group: int, output: Output) -> None:
    _, group, _ = map(int, output(CLONE, SetProcessGroup(sleeping_group), script=SESSION).split())
    assert group == sleeping_group


def test_a_process_group_of_another_session_can_not_be_joined(
    sleeping_group: int, failure: Failure
) -> None:
    steps = (CLONE, NewSession(), SetProcessGroup(sleeping_group))
    assert failure(*steps) == (2, errno.EPERM)


def test_a_session_leader_can_not_lead_another_group(failure: Failure) -> None:
    assert failure(CLONE, NewSession(), SetProcessGroup(0)) == (2, errno.EPERM)


@pytest.mark.parametrize("gids", [(), (7,), (2**32 - 2, 5, 100)], ids=["none", "one", "several"])
@pytest.mark.usefixtures("root_only")
def test_the_supplementary_groups_are_exactly_these(gids: tuple[int, ...], output: Output) -> None:
    status = output(CLONE, SetGroups(gids), script=STATUS)
    assert sorted(map(int, field(status, "Groups"))) == sorted(gids)


@pytest.mark.usefixtures("root_only")
def test_real_effective_saved_and_filesystem_ids_are_set(output: Output) -> None:
    status = output(CLONE, SetGroups(()), SetGid(1234), SetUid(4321), script=STATUS)
    assert field(status, "Gid") == ["1234"] * 4
    assert field(status, "Uid") == ["4321"] * 4
    assert field(status, "CapEff") == ["0000000000000000"]


@pytest.mark.parametrize("step", [SetGroups((1,)), SetGid(1), SetUid(0)])
@pytest.mark.usefixtures("root_only")
def test_credentials_fail_with_eperm_without_privilege(step: Step, failure: Failure) -> None:
    assert failure(CLONE, SetUid(NOBODY), step) == (2, errno.EPERM)


@pytest.mark.usefixtures("root_only")
def test_more_groups_than_the_kernel_takes_fail_with_einval(failure: Failure) -> None:
    assert failure(CLONE, SetGroups((1,) * 65537)) == (1, errno.EINVAL)


@pytest.mark.parametrize("step", [SetGid, SetUid])
@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**32 + NOBODY, 2**64 - 1])
def test_a_number_that_is_no_id_fails_with_einval_instead_of_leaving_root(
    step: type[SetGid | SetUid], number: int, failure: Failure
) -> None:
    assert failure(CLONE, step(number)) == (1, errno.EINVAL)


def test_the_signals_that_python_ignores_are_default_again(output: Output) -> None:
    ignored = {signal.SIGPIPE, signal.SIGXFSZ}
    assert ignored <= signals(output(CLONE, script=STATUS), "SigIgn")
    steps = [DefaultSignal(number) for number in ignored]
    assert not ignored & signals(output(CLONE, *steps, script=STATUS), "SigIgn")
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


def test_an_ignored_signal_stays_ignored_unless_it_is_named(output: Output) -> None:
    left = signals(output(CLONE, DefaultSignal(signal.SIGPIPE), script=STATUS), "SigIgn")
    assert signal.SIGPIPE not in left
    assert signal.SIGXFSZ in left


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, 0, 65])
def test_a_signal_without_an_action_to_set_fails_with_einval(number: int, failure: Failure) -> None:
    assert failure(CLONE, DefaultSignal(number)) == (1, errno.EINVAL)


def test_signals_that_the_caller_blocks_are_blocked_and_no_others(output: Output) -> None:
    # restore_signal_mask can't fail: it gives back the mask that the kernel gave
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signals(output(CLONE, script=STATUS), "SigBlk") == before
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGRTMIN])
    try:
        expected = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signals(output(CLONE, script=STATUS), "SigBlk") == expected
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert signal.SIGUSR2 in expected


@pytest.mark.usefixtures("root_only")
def test_the_working_directory_is_entered_before_the_uid_changes(
    tmp_path: Path, output: Output, failure: Failure
) -> None:
    tmp_path.chmod(0o700)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    change = ChangeDirectory(os.fsencode(tmp_path))
    assert output(CLONE, change, SetUid(NOBODY), script="pwd") == str(tmp_path)
    assert failure(CLONE, SetUid(NOBODY), change) == (2, errno.EACCES)
