"""Sets of namespaces are read and written in words."""

from __future__ import annotations

import itertools
import os
import re

import pytest

from pyns import Fd, Namespace, namespaces
from pyns.namespaces.targets import check_alive, pid_of

# <linux/sched.h>
CLONE_FLAGS = {
    "TIME": 0x80,
    "MOUNT": 0x20000,
    "CGROUP": 0x2000000,
    "UTS": 0x4000000,
    "IPC": 0x8000000,
    "USER": 0x10000000,
    "PID": 0x20000000,
    "NET": 0x40000000,
}


def test_values_are_the_kernels_clone_flags() -> None:
    assert {member.name: member.value for member in Namespace} == CLONE_FLAGS


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("", Namespace(0)),
        (" , ,", Namespace(0)),
        ("pid", Namespace.PID),
        ("pid,mount", Namespace.PID | Namespace.MOUNT),
        ("mnt", Namespace.MOUNT),
        (" NET , Uts ", Namespace.NET | Namespace.UTS),
        ("ipc,ipc", Namespace.IPC),
        ("user,time,cgroup", Namespace.USER | Namespace.TIME | Namespace.CGROUP),
    ],
    ids=repr,
)
def test_parse_reads_names(names: str, expected: Namespace) -> None:
    assert Namespace.parse(names) == expected


@pytest.mark.parametrize(
    ("names", "unknown"),
    [("pids", "pids"), ("pid;mount", "pid;mount"), ("net,Foo", "foo"), ("all", "all")],
)
def test_parse_refuses_an_unknown_name_with_those_that_there_are(names: str, unknown: str) -> None:
    said = (
        f"unknown namespace {unknown!r}; there are cgroup, ipc, mnt, mount, net, pid, time, user, "
        "uts"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Namespace.parse(names)


@pytest.mark.parametrize("size", range(len(CLONE_FLAGS) + 1))
def test_words_are_what_parse_reads(size: int) -> None:
    for members in itertools.combinations(Namespace, size):
        chosen = Namespace(0)
        for member in members:
            chosen |= member
        assert Namespace.parse(chosen.words()) == chosen
        assert len(list(filter(None, chosen.words().split(", ")))) == size


@pytest.mark.parametrize("pid", [None, os.getpid(), os.getppid()], ids=["none", "own", "parent"])
def test_of_returns_the_inodes_of_proc(pid: int | None) -> None:
    if pid == os.getppid() and not os.access(f"/proc/{pid}/ns/pid", os.F_OK):
        pytest.skip(f"/proc/{pid}/ns: not ours to look at")
    found = namespaces.of(pid)
    directory = f"/proc/{pid or 'self'}/ns"
    assert found[Namespace.MOUNT] == os.stat(f"{directory}/mnt").st_ino
    assert found[Namespace.PID] == os.stat(f"{directory}/pid").st_ino
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("number", "error"), [(-1, ValueError), (True, TypeError), ("3", TypeError), (None, TypeError)]
)
def test_fd_is_a_number_from_0_on(number: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=re.escape(f"number={number!r} is not an")):
        Fd(number)
    assert Fd(0).fileno() == 0


def test_pid_of_a_pidfd_is_found_in_proc() -> None:
    pidfd = os.pidfd_open(os.getppid())
    try:
        assert pid_of(pidfd) == os.getppid()
        check_alive(pidfd)
    finally:
        os.close(pidfd)
    with open("/proc/self/ns/net") as file:
        assert pid_of(file.fileno()) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        pid_of(9999)


def test_of_a_process_that_is_not_there_says_so() -> None:
    with pytest.raises(ProcessLookupError, match="no process 1073741824"):
        namespaces.of(2**30)
