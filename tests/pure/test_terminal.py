"""Which sizes a terminal can have, and what becomes of its master end."""

from __future__ import annotations

import io
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pyns import Container, Namespace, Process, clone_into, run
from pyns.master import Terminal, open_handover, parse_size, receive

NOTHING = Container(namespaces=Namespace(0))


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (False, None),
        ((1, 2), (1, 2)),
        ((65535, 65535), (65535, 65535)),
        # columns come first there
        (os.terminal_size((80, 24)), (24, 80)),
    ],
)
def test_size_is_rows_and_columns(given: Any, size: Any) -> None:
    assert parse_size(given) == size


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (None, TypeError, "terminal=None"),
        (1, TypeError, r"give True, \(rows, columns\)"),
        ("24x80", TypeError, "terminal='24x80'"),
        ((24,), TypeError, "give True"),
        ((24, 80, 0), TypeError, "give True"),
        ([24, 80], TypeError, "give True"),
        ((24, True), TypeError, "columns=True is not an int"),
        ((24.0, 80), TypeError, r"rows=24\.0 is not an int"),
        ((0, 80), ValueError, "rows=0 is out of range: 1 to 65535"),
        ((24, 65536), ValueError, "columns=65536 is out of range"),
        (os.terminal_size((-1, 5)), ValueError, "columns=-1"),
    ],
)
def test_what_is_no_size_starts_nothing(given: Any, error: type[Exception], said: str) -> None:
    for start in (clone_into, run):
        with pytest.raises(error, match=said):
            start(NOTHING, ["true"], terminal=given)
    with pytest.raises(error, match=said):
        Process(["true"], terminal=given)


@pytest.mark.parametrize("options", [{"input": ""}, {"stdout": -1}, {"stdin": -1, "stderr": -1}])
def test_run_is_for_pipes_or_for_a_terminal(options: Any) -> None:
    with pytest.raises(ValueError, match="both pipes or files, or neither"):
        run(NOTHING, ["/does/not/exist"], terminal=True, **options)


@pytest.fixture
def handed_over() -> Iterator[socket.socket]:
    """Make a socket through which a file comes."""
    with ExitStack() as opened, open("/dev/zero", "rb") as file:
        step, ours = open_handover((24, 80), opened)
        with socket.socket(fileno=os.dup(step.fd)) as theirs:
            socket.send_fds(theirs, [b"x"], [file.fileno()])
        yield ours


def test_master_is_an_unbuffered_file_of_ours_alone(handed_over: socket.socket) -> None:
    with receive(handed_over) as master:
        assert isinstance(master, io.FileIO)
        assert (master.readable(), master.writable()) == (True, True)
        assert not os.get_inheritable(master.fileno())


def test_master_that_finds_no_free_number_is_emfile(handed_over: socket.socket) -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            receive(handed_over)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_master_is_not_waited_for() -> None:
    with ExitStack() as opened:
        _, ours = open_handover((24, 80), opened)
        with pytest.raises(BlockingIOError):
            receive(ours)


@pytest.fixture
def terminal() -> Iterator[tuple[Terminal, int]]:
    master, slave = os.openpty()
    with Terminal(master) as opened:
        yield opened, slave


def test_end_of_a_terminal_is_told_as_that_of_a_file(terminal: tuple[Terminal, int]) -> None:
    master, slave = terminal
    os.write(slave, b"last words")
    os.close(slave)
    assert master.read(4) == b"last"
    assert master.read() == b" words"
    assert [master.read(4), master.read(), master.readall(), master.read(None)] == [b""] * 4
    assert master.readinto(bytearray(4)) == 0


def test_a_terminal_can_be_buffered_and_read_by_lines(terminal: tuple[Terminal, int]) -> None:
    master, slave = terminal
    os.write(slave, b"a\nb\nc")
    os.close(slave)
    with io.BufferedReader(master) as lines:
        assert list(lines) == [b"a\r\n", b"b\r\n", b"c"]


def test_other_errors_of_a_terminal_are_told(terminal: tuple[Terminal, int]) -> None:
    master, slave = terminal
    os.close(slave)
    os.close(master.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        master.read(1)
    os.dup2(os.open("/dev/null", os.O_RDONLY), master.fileno())
