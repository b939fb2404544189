"""A terminal of the program's own: opened, given away, and made that of its session."""

from __future__ import annotations

import errno
import os
import socket
import stat
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyns.namespaces import Namespace
from pyns.steps import (
    Attach,
    Clone,
    Duplicate,
    HostRoot,
    MakePrivate,
    NewMount,
    NewSession,
    SetUid,
    Step,
)
from pyns.terminal_steps import OpenTerminal, SetControllingTerminal, SetTerminalOwner

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))
NOBODY = 65534


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, int]]:
    """Make the socket that the master comes through, and the fd of its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs.fileno()


@pytest.fixture
def ptmx() -> None:
    """Skip where there are no terminals."""
    try:
        os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        pytest.skip(str(error))


def received(ours: socket.socket) -> int:
    _, fds, _, _ = socket.recv_fds(ours, 1, 2)
    (fd,) = fds
    return fd


def new_devpts(*options: tuple[bytes, bytes]) -> tuple[Step, ...]:
    mount = (NewMount(b"devpts", options), Attach(b"/dev/pts"))
    return Clone(Namespace.MOUNT), MakePrivate(), HostRoot(), *mount


@pytest.mark.usefixtures("ptmx")
def test_a_terminal_has_its_size_and_two_ends(
    sockets: tuple[socket.socket, int], output: Output
) -> None:
    ours, fd = sockets
    said = output(CLONE, OpenTerminal(7, 321, fd), Duplicate(fd, 0), script="tty; stty size")
    name, size = said.split("\n")
    assert name.startswith("/dev/pts/")
    assert size == "7 321"
    master = received(ours)
    try:
        assert termios.tcgetwinsize(master) == (7, 321)
        with pytest.raises(OSError, match="Input/output error"):
            os.read(master, 1)
    finally:
        os.close(master)


@pytest.mark.usefixtures("ptmx")
def test_the_fds_that_it_took_are_gone(sockets: tuple[socket.socket, int], output: Output) -> None:
    script = "for fd in /proc/$$/fd/*; do readlink $fd || :; done | grep -c -e ptmx -e pts -e sock"
    without = output(CLONE, script=f"{script} || :")
    assert output(CLONE, OpenTerminal(7, 321, sockets[1]), script=f"{script} || :") == without


@pytest.mark.usefixtures("root_only")
def test_it_is_of_the_devpts_that_the_child_sees(
    sockets: tuple[socket.socket, int], output: Output
) -> None:
    terminal = OpenTerminal(7, 321, sockets[1])
    script = "tty; ls /dev/pts"
    assert output(*new_devpts(), terminal, Duplicate(sockets[1], 0), script=script).split() == [
        *("/dev/pts/0", "0", "ptmx")
    ]


@pytest.mark.usefixtures("root_only")
def test_without_terminals_left_it_is_enospc(
    sockets: tuple[socket.socket, int], failure: Failure
) -> None:
    ours, fd = sockets
    terminals = (OpenTerminal(7, 321, fd), OpenTerminal(7, 321, ours.fileno()))
    assert failure(*new_devpts((b"max", b"1")), *terminals) == (6, errno.ENOSPC)


@pytest.mark.usefixtures("root_only")
@pytest.mark.parametrize(
    ("target", "error"), [(b"/dev/pts", errno.ENODEV), (b"/dev", errno.ENOENT)]
)
def test_what_is_no_devpts_is_not_taken_for_one(
    target: bytes, error: int, sockets: tuple[socket.socket, int], failure: Failure
) -> None:
    cover = (MakePrivate(), HostRoot(), NewMount(b"tmpfs"), Attach(target))
    terminal = OpenTerminal(7, 321, sockets[1])
    assert failure(Clone(Namespace.MOUNT), *cover, terminal) == (5, error)


@pytest.mark.usefixtures("ptmx")
def test_what_is_no_socket_takes_no_terminal(tmp_path: Path, failure: Failure) -> None:
    with open(tmp_path / "file", "w") as file:
        step = OpenTerminal(7, 321, file.fileno())
        assert failure(CLONE, step) == (1, errno.ENOTSOCK)


@pytest.mark.usefixtures("ptmx")
def test_a_step_that_fails_later_leaves_no_terminal(
    sockets: tuple[socket.socket, int], failure: Failure
) -> None:
    ours, fd = sockets
    wrong = SetControllingTerminal(fd)  # without a session
    assert failure(CLONE, OpenTerminal(7, 321, fd), wrong) == (2, errno.EPERM)
    with open(received(ours), "rb", buffering=0) as master, pytest.raises(OSError, match="output"):
        master.read(1)  # nobody has the other end


@pytest.mark.usefixtures("root_only")
def test_its_owner_is_changed(sockets: tuple[socket.socket, int], output: Output) -> None:
    fd = sockets[1]
    steps = (OpenTerminal(7, 321, fd), SetTerminalOwner(4321, fd), Duplicate(fd, 0))
    assert output(CLONE, *steps, script="stat -c '%u %g' $(tty)").split()[0] == "4321"


@pytest.mark.usefixtures("root_only")
def test_its_owner_can_not_be_changed_without_privilege(
    sockets: tuple[socket.socket, int], failure: Failure
) -> None:
    fd = sockets[1]
    steps = (SetUid(NOBODY), OpenTerminal(7, 321, fd), SetTerminalOwner(4321, fd))
    assert failure(CLONE, *steps) == (3, errno.EPERM)


@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**64 - 1])
def test_a_number_that_is_no_id_is_no_owner(number: int, failure: Failure) -> None:
    assert failure(CLONE, SetTerminalOwner(number, 0)) == (1, errno.EINVAL)


@pytest.mark.usefixtures("ptmx")
def test_it_is_the_session_s_and_the_program_in_its_foreground(
    sockets: tuple[socket.socket, int], output: Output
) -> None:
    fd = sockets[1]
    steps = (OpenTerminal(7, 321, fd), NewSession(), SetControllingTerminal(fd))
    script = (
        "stty size < /dev/tty; read -r stat < /proc/self/stat; set -- ${stat##*)}\n"
        "[ $$ = $3 ] && [ $$ = $4 ] && [ $$ = $6 ] && echo $5"  # group, session, foreground
    )
    size, number = output(CLONE, *steps, script=script).split("\n")
    assert size == "7 321"
    assert int(number) >> 8 & 0xFFF in range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR


def test_what_is_no_terminal_does_not_control(failure: Failure) -> None:
    with open("/dev/null") as null:
        assert stat.S_ISCHR(os.fstat(null.fileno()).st_mode)
        step = SetControllingTerminal(null.fileno())
        assert failure(CLONE, NewSession(), step) == (2, errno.ENOTTY)
