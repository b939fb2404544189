"""Which fds a program gets, under which numbers."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pyns.descriptors import arrange, parse_pass_fds

NONE = (-1, -1, -1)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def files(opened: ExitStack) -> list[int]:
    """Open some files, whose inodes tell them apart."""
    found = []
    for _ in range(4):
        read, write = os.pipe()
        found.append(read)
        opened.callback(os.close, read)
        opened.callback(os.close, write)
    return found


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


@pytest.mark.parametrize(
    ("fds", "expected"),
    [
        ((), {}),
        ([5, 3, 5], {5: 5, 3: 3}),
        ({7}, {7: 7}),
        ([0, 2**31 - 1], {0: 0, 2**31 - 1: 2**31 - 1}),
        ({3: 9, 4: 9}, {3: 9, 4: 9}),
    ],
    ids=["none", "list", "set", "extremes", "mapping"],
)
def test_fds_to_pass_are_numbers(fds: Any, expected: dict[int, int]) -> None:
    assert parse_pass_fds(fds) == expected


@pytest.mark.parametrize("fds", [[3, -1], [2**31], {-1: 3}, {3: -1}, {3: 2**31}], ids=repr)
def test_number_that_is_no_fd_is_refused(fds: Any) -> None:
    with pytest.raises(ValueError, match=r"^bad value\(s\) in pass_fds$"):
        parse_pass_fds(fds)


def test_nothing_is_copied_without_need(files: list[int], opened: ExitStack) -> None:
    a, b, c, d = files
    assert arrange((a, -1, b), {1000: c, d: d}, opened) == ((a, -1, b), {1000: c, d: d})


def test_standard_streams_in_a_mapping_are_those(files: list[int], opened: ExitStack) -> None:
    a, b, c, _ = files
    assert arrange((-1, b, -1), {0: a, 2: c}, opened) == ((a, b, c), {})


def test_standard_streams_in_a_list_are_passed_as_they_will_be(opened: ExitStack) -> None:
    # as with subprocess: pass_fds=[0] beside stdin= is what stdin= says
    assert arrange((1, -1, -1), [0], opened) == ((1, -1, -1), {0: 0})


@pytest.mark.parametrize(("number", "name"), [(0, "stdin"), (1, "stdout"), (2, "stderr")])
def test_two_sources_for_one_number_are_refused(number: int, name: str, opened: ExitStack) -> None:
    stdio: Any = tuple(0 if n == number else -1 for n in range(3))
    said = f"pass_fds says what {number} is, and so does {name}"
    with pytest.raises(ValueError, match=re.escape(said)):
        arrange(stdio, {number: 0}, opened)


@pytest.mark.parametrize(
    ("stdio", "pass_fds"),
    [
        ((), {0: 1, 1: 0}),
        ((), {0: 1, 1: 2, 2: 3, 3: 0}),
        ((), {0: 1, 1: 1, 2: 1, 3: 2}),
        ((2, 1, 0), {0: 1, 1: 0, 2: 3}),
    ],
    ids=repr,
)
def test_each_number_gets_its_file_whatever_they_are(
    stdio: tuple[int, ...], pass_fds: dict[int, int], files: list[int], opened: ExitStack
) -> None:
    wanted = {files[number]: inode(files[fd]) for number, fd in pass_fds.items()}
    streams: Any = tuple(files[n] for n in stdio) or NONE
    wanted |= {n: inode(fd) for n, fd in enumerate(streams) if fd != -1}
    streams, pairs = arrange(streams, {files[n]: files[fd] for n, fd in pass_fds.items()}, opened)
    # what the child does: one copy after the other, the streams first
    table: dict[int, int] = {}
    for number, fd in [*enumerate(streams), *sorted(pairs.items())]:
        if fd != -1:
            table[number] = table[fd] if fd in table else inode(fd)
    assert table == wanted


def test_copy_is_not_given_a_number_that_is_wanted(files: list[int], opened: ExitStack) -> None:
    a, b, *_ = files
    free = os.dup(a)
    os.close(free)
    _, pairs = arrange(NONE, {a: b, b: a, free: a, free + 1: b}, opened)
    assert not {*pairs.values()} & {free, free + 1}


def test_number_that_is_closed_is_not_given_to_a_copy(files: list[int], opened: ExitStack) -> None:
    a, b, *_ = files
    free = os.dup(a)
    os.close(free)
    with pytest.raises(OSError, match=rf"Bad file descriptor: fd {free}$") as caught:
        arrange(NONE, {a: b, b: a, 1000: free}, opened)
    assert caught.value.errno == errno.EBADF
