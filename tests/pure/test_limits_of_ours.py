"""Limits that the kernel does not have: when they are looked at, what is kept, how it is told."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
from collections.abc import Iterator

import pytest

from pyns import CpuTimeExpired, OutputExceeded, Reason, TimeoutExpired
from pyns.cgroups.stats import cpu_count
from pyns.deadline import Deadline
from pyns.exchange import Exchange, decode
from pyns.reason import reason_of_status

ARGS = ["program"]
FOREVER = Deadline(ARGS, None)


class TestDeadline:
    def test_without_limits_is_never(self) -> None:
        assert FOREVER.left() is None

    def test_of_time_is_what_is_left(self) -> None:
        left = Deadline(ARGS, 100).left()
        assert left is not None
        assert 0 < left <= 100

    @pytest.mark.parametrize("timeout", [1e7, 1e12])
    def test_that_is_far_is_no_more_than_poll_takes(self, timeout: float) -> None:
        left = Deadline(ARGS, timeout).left()
        assert left is not None
        assert left * 1000 < 2**31

    def test_of_an_infinite_time_is_never(self) -> None:
        assert Deadline(ARGS, math.inf).left() is None

    @pytest.mark.parametrize("timeout", [0, -1, 0.0])
    def test_of_time_is_raised_when_it_is_over(self, timeout: float) -> None:
        with pytest.raises(TimeoutExpired) as caught:
            Deadline(ARGS, timeout).left()
        assert (caught.value.cmd, caught.value.timeout) == (ARGS, timeout)

    @pytest.mark.parametrize(("cpus", "expected"), [(1, 80), (8, 10)])
    def test_of_cpu_time_is_when_all_cpus_could_have_used_the_rest(
        self, cpus: int, expected: float
    ) -> None:
        assert Deadline(ARGS, None, 100, lambda: 20.0, cpus).left() == expected

    def test_of_cpu_time_is_not_looked_at_before(self) -> None:
        looks = iter([20.0])  # another one would be StopIteration
        deadline = Deadline(ARGS, None, 100, lambda: next(looks), 8)
        first, second = deadline.left(), deadline.left()
        assert first is not None
        assert second is not None
        assert second <= first

    def test_of_cpu_time_is_raised_when_it_is_used(self) -> None:
        with pytest.raises(CpuTimeExpired):
            Deadline(ARGS, None, 100, lambda: 100.0, 8).left()

    def test_of_cpu_time_is_never_when_nobody_is_there(self) -> None:
        deadline = Deadline(ARGS, None, 100, lambda: None)
        assert (deadline.left(), deadline.left()) == (None, None)

    def test_is_the_earlier_of_both(self) -> None:
        assert Deadline(ARGS, 1000, 100, lambda: 0.0).left() == pytest.approx(100)
        left = Deadline(ARGS, 10, 100, lambda: 0.0).left()
        assert left is not None
        assert left <= 10

    def test_near_the_limit_has_a_step(self) -> None:
        left = Deadline(ARGS, None, 1, lambda: 1 - 1e-9, 64).left()
        assert left is not None
        assert 0.001 < left <= 0.01


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    fds = [*os.pipe(), *os.pipe()]
    yield fds
    for fd in fds:
        if fd >= 0:
            os.close(fd)


class TestExchange:
    @pytest.mark.parametrize(("most", "is_exceeded"), [(None, False), (5, False), (4, True)])
    def test_keeps_up_to_the_limit(
        self, pipes: list[int], most: int | None, is_exceeded: bool
    ) -> None:
        reader, writer, _, _ = pipes
        os.write(writer, b"hello")
        os.close(writer)
        pipes[1] = pipes[0] = -1
        with open(reader, "rb", buffering=0) as file:
            exchange = Exchange(ARGS, None, [file, None], b"", most)
            if is_exceeded:
                for _ in range(2):
                    with pytest.raises(OutputExceeded, match="more than 4 bytes"):
                        exchange.go_on(FOREVER, -1, lambda: None)
            else:
                exchange.go_on(FOREVER, -1, lambda: None)
        assert exchange.outputs == [b"hello"[:most], None]

    def test_goes_on_where_it_was(self, pipes: list[int]) -> None:
        reader, writer, _, _ = pipes
        pipes[0] = -1
        with open(reader, "rb", buffering=0) as file:
            exchange = Exchange(ARGS, None, [file, None], b"", None)
            for part in (b"one", b"two"):
                os.write(writer, part)
                with pytest.raises(TimeoutExpired):
                    exchange.go_on(Deadline(ARGS, 0.01), -1, lambda: None)
        assert exchange.outputs == [b"onetwo", None]

    def test_says_when_the_program_has_ended(self, pipes: list[int]) -> None:
        reader, writer, ended, end = pipes
        pipes[0] = -1
        os.write(end, b"x")  # as good as a pidfd
        with open(reader, "rb", buffering=0) as file:
            exchange = Exchange(ARGS, None, [file, None], b"", None)
            exchange.go_on(FOREVER, ended, lambda: os.close(writer))
        pipes[1] = -1
        assert exchange.outputs == [b"", None]

    def test_does_not_mind_who_does_not_read(self, pipes: list[int]) -> None:
        reader, writer, _, _ = pipes
        os.close(reader)
        pipes[0] = pipes[1] = -1
        with open(writer, "wb", buffering=0) as file:
            Exchange(ARGS, file, [None, None], b"x", None).go_on(FOREVER, -1, lambda: None)
            assert file.closed


@pytest.mark.parametrize("is_whole", [True, False])
def test_text_has_universal_newlines(is_whole: bool) -> None:
    assert decode(b"a\r\nb\rc\n", "ascii", None, is_whole=is_whole) == "a\nb\nc\n"


def test_text_that_is_cut_ends_with_a_character() -> None:
    part = "ä".encode()[:1]
    assert decode(b"x" + part, "utf-8", "strict", is_whole=False) == "x"
    with pytest.raises(UnicodeDecodeError):
        decode(b"x" + part, "utf-8", "strict", is_whole=True)


@pytest.mark.parametrize(
    ("returncode", "oom_kills", "is_ours", "expected"),
    [
        (0, 0, False, Reason.EXITED),
        (137, 1, False, Reason.EXITED),
        (-9, 0, False, Reason.SIGNALED),
        (-9, None, False, Reason.SIGNALED),
        (-9, 1, True, Reason.SIGNALED),
        (-15, 1, False, Reason.SIGNALED),
        (-9, 1, False, Reason.OOM_KILLED),
    ],
)
def test_reason_of_a_status(
    returncode: int, oom_kills: int | None, is_ours: bool, expected: Reason
) -> None:
    assert reason_of_status(returncode, oom_kills=oom_kills, is_ours=is_ours) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("0-3,6\n", 5), ("7", 1), ("\n", None), (None, None), ("max", None)]
)
def test_count_of_cpus(text: str | None, expected: int | None) -> None:
    assert cpu_count(text) == expected


class TestExceptions:
    def test_who_catches_subprocess_s_has_them(self) -> None:
        assert issubclass(CpuTimeExpired, TimeoutExpired)
        assert issubclass(TimeoutExpired, subprocess.TimeoutExpired)
        assert issubclass(OutputExceeded, subprocess.SubprocessError)

    @pytest.mark.parametrize(
        "error",
        [
            TimeoutExpired(ARGS, 1, b"out", b"err"),
            CpuTimeExpired(ARGS, 1, b"out", b"err"),
            OutputExceeded(ARGS, 1, b"out", b"err"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_can_be_pickled(self, error: TimeoutExpired | OutputExceeded) -> None:
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert (again.output, again.stderr, again.reason) == (b"out", b"err", error.reason)
