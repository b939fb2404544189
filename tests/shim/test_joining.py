"""Joining namespaces, and the second child that is born in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.steps import (
    Clone,
    CloneAgain,
    Execute,
    RestoreSignalMask,
    SetHostname,
    SetNamespaces,
)

Failure = Callable[..., tuple[int, int]]
Output = Callable[..., str]
Spawn = Callable[[Plan], Any]
CLONE = Clone(Namespace(0))
AGAIN = CloneAgain(Namespace(0))
BOTH = Namespace.PID | Namespace.UTS
pytestmark = pytest.mark.usefixtures("root_only")


@pytest.fixture
def other(spawn: Spawn) -> Iterator[int]:
    """Start a process with a PID and a UTS namespace of its own; its pidfd."""
    sleep = Execute((b"/bin/sleep",), (b"sleep", b"60"), ())
    report = spawn(Plan((Clone(BOTH), SetHostname(b"other"), RestoreSignalMask(), sleep)))
    assert report.error == 0
    yield report.pidfd
    os.kill(report.pid, 9)
    os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    os.close(report.pidfd)


def test_namespaces_are_joined(other: int, output: Output) -> None:
    join = SetNamespaces(Namespace.UTS, "other", other)
    assert output(CLONE, join, script="uname -n") == "other"


def test_the_second_child_is_born_in_the_pid_namespace(other: int, output: Output) -> None:
    join = SetNamespaces(BOTH, "other", other)
    # without it the program stays outside, whatever it has joined
    assert output(CLONE, join, script="echo $PPID") == str(os.getpid())
    assert output(CLONE, join, AGAIN, script="echo $PPID $$; uname -n").split() == [
        *("0", "2"),
        "other",
    ]


def test_the_second_child_is_the_callers(spawn: Spawn) -> None:
    program = Execute((b"/bin/sh",), (b"sh", b"-c", b"exit 5"), ())
    report = spawn(Plan((CLONE, AGAIN, RestoreSignalMask(), program)))
    assert report.error == 0
    info = os.waitid(os.P_PID, report.pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    assert info.si_status == 5
    # the pidfd is of the same process
    info = os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    assert info is not None
    assert info.si_pid == report.pid
    os.close(report.pidfd)


def test_the_second_child_has_new_namespaces(output: Output) -> None:
    assert output(CLONE, CloneAgain(Namespace.PID), script="echo $$") == "1"


def test_a_step_of_the_second_child_fails(failure: Failure) -> None:
    assert failure(CLONE, AGAIN, SetHostname(b"x" * 100)) == (2, errno.EINVAL)


def test_the_program_of_the_second_child_is_not_there(failure: Failure) -> None:
    assert failure(CLONE, AGAIN, Execute((b"/none",), (b"none",), ())) == (2, errno.ENOENT)


def test_the_second_clone_fails(failure: Failure, other: int) -> None:
    # there is no process 1 any more to be a child under
    join = SetNamespaces(Namespace.PID, "other", other)
    info = Path(f"/proc/self/fdinfo/{other}").read_text()
    pid = int(info.partition("Pid:")[2].split()[0])
    os.kill(pid, 9)
    os.waitid(os.P_PIDFD, other, os.WEXITED | os.WNOWAIT)
    index, error = failure(CLONE, join, AGAIN)
    assert (index, error) in ((1, errno.ESRCH), (2, errno.ENOMEM))


@pytest.mark.parametrize("fd", [-1, 0])
def test_what_is_no_namespace_fails_the_step(fd: int, failure: Failure) -> None:
    index, error = failure(CLONE, SetNamespaces(Namespace.NET, "x", fd))
    assert index == 1
    assert error in (errno.EBADF, errno.EINVAL)


def test_two_second_children_are_too_many(spawn: Spawn) -> None:
    program = Execute((b"/bin/true",), (b"true",), ())
    with pytest.raises(OSError, match="Invalid argument"):
        spawn(Plan((CLONE, AGAIN, AGAIN, program)))
