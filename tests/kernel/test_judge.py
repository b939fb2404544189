"""A submission gets its files, leaves its files, and can hand nothing else to its judge."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Limits, Reason, Scratch, judge, run

pytestmark = pytest.mark.usefixtures("namespaces")


def judged(script: str, **options: Any) -> Any:
    usual: dict[str, Any] = {"timeout": 20, "limits": None}
    return judge(["sh", "-c", script], **(usual | options))


class TestFilesIn:
    def test_are_there_and_can_be_executed(self) -> None:
        done = judge(
            ["./program", "x"],
            files={"program": b'#!/bin/sh\ncat data; echo "$1"; cat; pwd\n', "data": b"\xff\n"},
            input=b"typed\n",
            timeout=20,
            limits=None,
        )
        assert (done.returncode, done.reason, done.stderr) == (0, Reason.EXITED, b"")
        assert done.stdout == b"\xff\nx\ntyped\n/tmp\n"

    def test_may_be_the_caller_s(self, tmp_path: Path) -> None:
        for above in (tmp_path, *tmp_path.parents[:2]):
            above.chmod(0o755)
        (tmp_path / "file").write_text("hello")
        (tmp_path / "file").chmod(0o644)
        script = "cat tests/file again; echo x > again || echo x > tests/file || exit 5"
        done = judged(script, files={"tests": tmp_path, "again": tmp_path / "file"})
        assert (done.stdout, done.returncode) == (b"hellohello", 5)
        assert (tmp_path / "file").read_text() == "hello"

    def test_can_not_be_written(self) -> None:
        done = judged("echo x > data; rm -f data; mv data x; cat data", files={"data": b"old"})
        assert done.stdout == b"old"

    def test_are_below_tmp(self) -> None:
        for name in ("../etc/passwd", "/etc/passwd", "a/../../x", ""):
            for given in ({"files": {name: b""}}, {"outputs": {name: 1}}):
                with pytest.raises(ValueError, match="name"):
                    judged("true", **given)

    def test_are_no_output_as_well(self) -> None:
        with pytest.raises(ValueError, match="both have"):
            judged("true", files={"a": b""}, outputs={"a": 1})


class TestFilesOut:
    def test_are_those_that_were_asked_for(self) -> None:
        script = "mkdir d; echo 1 > a; printf '\\377' > d/b; echo 3 > c; : > empty"
        done = judged(script, outputs={"a": 2, "d/b": 10, "empty": 0, "none": 1})
        assert done.files == {"a": b"1\n", "d/b": b"\xff", "empty": b""}
        assert isinstance(done.file_errors["none"], FileNotFoundError)

    def test_are_no_larger_than_they_may_be(self) -> None:
        script = "head -c 100 /dev/zero > a; head -c 101 /dev/zero > b; truncate -s 1T c"
        done = judged(script, outputs={"a": 100, "b": 100, "c": 100})
        assert done.files == {"a": bytes(100)}
        assert {e.errno for e in done.file_errors.values()} == {errno.EFBIG}

    def test_come_through_no_link_and_from_no_other_place(self) -> None:
        script = (
            "ln -s /etc/passwd abs; ln -s ../etc/passwd rel; ln -s / root; ln -s a to_own;\n"
            "echo > a; ln -s /proc/1/root magic; ln -s /proc/self/fd/0 fd; mkdir d; ln -s .. d/up"
        )
        names = ("abs", "rel", "root/etc/passwd", "to_own", "magic/etc/passwd", "fd", "d/up/a")
        done = judged(script, outputs=dict.fromkeys(names, 1 << 20))
        assert done.files == {}
        assert {name: e.errno for name, e in done.file_errors.items()} == dict.fromkeys(
            names, errno.ELOOP
        )

    @pytest.mark.parametrize(
        ("script", "error"),
        [
            ("mkfifo x", errno.EINVAL),
            ("mkdir x", errno.EISDIR),
            ("mkdir x; mkdir x/a; rmdir x/a; rmdir x", errno.ENOENT),
            ("python3 -c 'import socket as s; s.socket(s.AF_UNIX).bind(\"x\")'", errno.ENXIO),
        ],
        ids=["fifo", "directory", "removed", "socket"],
    )
    def test_are_regular_ones(self, script: str, error: int) -> None:
        done = judged(script, outputs={"x": 100})
        assert done.returncode == 0, done.stderr
        assert done.file_errors["x"].errno == error

    def test_can_be_what_nobody_may_read(self) -> None:
        done = judged("echo 1 > a; chmod 0 a", outputs={"a": 10})
        if os.geteuid() == 0:
            assert done.files == {"a": b"1\n"}
        else:
            assert done.file_errors["a"].errno == errno.EACCES

    def test_are_those_of_an_ended_run_too(self) -> None:
        done = judged("echo 1 > a; kill -9 $$", outputs={"a": 10})
        assert (done.reason, done.returncode, done.files) == (Reason.SIGNALED, -9, {"a": b"1\n"})
        done = judged("echo 2 > a; sleep 60", outputs={"a": 10}, timeout=0.5)
        assert (done.reason, done.files) == (Reason.TIMEOUT, {"a": b"2\n"})

    def test_are_none_of_what_did_not_start(self) -> None:
        done = judge(["./none"], outputs={"a": 10}, timeout=20, limits=None)
        assert done.reason == Reason.NOT_STARTED
        assert isinstance(done.error, FileNotFoundError)
        assert (done.files, [*done.file_errors]) == ({}, ["a"])


class TestRun:
    def test_is_in_an_empty_tmp_of_that_size(self) -> None:
        script = "ls -A; head -c 2M /dev/zero > a; wc -c < a"
        assert judged(script, tmp_size="1M").stdout.split() == [b"1048576"]
        assert judged(script, tmp_size="4M").stdout.split() == [b"2097152"]

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
    def test_a_signal_that_it_sends_itself_is_that_signal(self, number: signal.Signals) -> None:
        done = judged(f"kill -{int(number)} $$")
        assert (done.returncode, done.reason) == (-number, Reason.SIGNALED)

    def test_ends_with_its_output(self) -> None:
        done = judged("yes", output_max=1000)
        assert (done.reason, done.stdout) == (Reason.OUTPUT, b"y\n" * 500)

    @pytest.mark.usefixtures("limits")
    def test_has_limits(self) -> None:
        limits = Limits(memory_max="32M", memory_swap_max=0, pids_max=2)
        done = judged("while :; do :; done", limits=limits, cpu_time=0.2)
        assert done.reason == Reason.CPU_TIME
        assert done.usage.cpu_seconds >= 0.2
        # what it writes to /tmp is its memory
        done = judged("head -c 60M /dev/zero > a", limits=limits)
        assert done.usage.oom_kills in (1, 2)  # the shell, too, where nothing is left for it
        assert judged("true | true | true", limits=limits).returncode != 0

    def test_leaves_what_is_the_sandbox_s(self) -> None:
        done = judged("echo x > /usr/x || id -u; ls /")
        assert done.stdout.split()[0] == b"1000"
        assert b"root" not in done.stdout.split()


class TestScratch:
    def test_has_the_files_of_its_run_after_the_container(self) -> None:
        with Scratch("/data", "1M") as scratch:
            box = Container.sandbox(limits=None, mounts=[scratch.mount])
            with pytest.raises(FileNotFoundError):
                scratch.read("a", size=10)  # nothing has run yet
            assert run(box, ["sh", "-c", "echo 1 > /data/a"]).returncode == 0
            assert scratch.read("a", size=2) == b"1\n"
            assert scratch.read(b"a", size=2) == b"1\n"
        with pytest.raises(ValueError, match="closed"):
            scratch.read("a", size=2)

    @pytest.mark.parametrize("size", [0, -1, "x"])
    def test_has_a_size(self, size: Any) -> None:
        with pytest.raises(ValueError, match="size"):
            Scratch("/tmp", size)

    @pytest.mark.timeout(180)
    def test_of_many_runs_is_refused_rather_than_waited_for(self) -> None:
        with Scratch("/tmp", "1M") as scratch:
            box = Container.sandbox(limits=None, mounts=[scratch.mount])

            def run_many() -> None:
                for _ in range(2000):
                    run(box, ["true"])

            with pytest.raises(OSError, match="give it to the caller"):
                run_many()
