"""Which fds the program has: Duplicate and CloseRange."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyns.namespaces import Namespace
from pyns.steps import Clone, CloseRange, Duplicate

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))
HIGH = 200  # a number that is not in use


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """Open a file with "text" in it; close-on-exec, as Python has it."""
    path = tmp_path / "file"
    path.write_text("text")
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def inheritable(opened: int) -> Iterator[int]:
    """Open it a second time, under a high number and not close-on-exec."""
    fd = os.dup2(opened, HIGH, inheritable=True)
    yield fd
    os.close(fd)


def test_a_duplicate_is_there_under_its_number(opened: int, output: Output) -> None:
    assert output(CLONE, Duplicate(opened, 9), script="cat <&9") == "text"


def test_a_duplicate_takes_the_place_of_what_had_its_number(opened: int, output: Output) -> None:
    assert output(CLONE, Duplicate(opened, 0), script="cat") == "text"


def test_an_fd_that_keeps_its_number_becomes_inheritable_in_the_child_only(
    opened: int, output: Output
) -> None:
    script = f"cat /proc/self/fd/{opened}"
    assert output(CLONE, script=f"[ -e /proc/self/fd/{opened} ] || echo closed") == "closed"
    assert output(CLONE, Duplicate(opened, opened), script=script) == "text"
    assert fcntl.fcntl(opened, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


@pytest.mark.parametrize("number", [HIGH, 7], ids=["same number", "another number"])
def test_a_duplicate_of_what_is_not_open_fails_with_ebadf(number: int, failure: Failure) -> None:
    assert failure(CLONE, Duplicate(HIGH, number)) == (1, errno.EBADF)


def test_a_duplicate_beyond_the_limit_fails_with_ebadf(failure: Failure) -> None:
    assert failure(CLONE, Duplicate(0, 2**31 - 1)) == (1, errno.EBADF)


def test_the_fds_of_a_range_are_closed_and_no_others(inheritable: int, output: Output) -> None:
    script = "ls /proc/self/fd | wc -l"
    with_it = int(output(CLONE, script=script))
    closed = CloseRange(inheritable, inheritable)
    assert int(output(CLONE, closed, script=script)) == with_it - 1
    around = (CloseRange(100, HIGH - 1), CloseRange(HIGH + 1, CloseRange.LAST))
    assert output(CLONE, *around, script=f"cat /proc/self/fd/{HIGH}") == "text"


def test_closing_everything_leaves_the_caller_s_fds_open(inheritable: int, output: Output) -> None:
    script = f"[ -e /proc/self/fd/{HIGH} ] || echo closed"
    assert (
        output(CLONE, Duplicate(0, 2), CloseRange(100, CloseRange.LAST), script=script) == "closed"
    )
    assert os.read(inheritable, 10) == b"text"


def test_a_range_that_ends_before_it_begins_fails_with_einval(failure: Failure) -> None:
    assert failure(CLONE, CloseRange(9, 8)) == (1, errno.EINVAL)
