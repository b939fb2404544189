"""call, check_call and check_output do what subprocess's do."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from pyns import Container, Namespace, call, check_call, check_output, clone_into

NOTHING = Container(namespaces=Namespace(0))


class TestCall:
    def test_returns_the_status(self) -> None:
        assert call(NOTHING, ["true"]) == 0
        assert call(NOTHING, "exit 7", shell=True) == 7
        assert call(NOTHING, ["sh", "-c", "kill -TERM $$"]) == -signal.SIGTERM

    def test_kills_at_the_timeout(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            call(NOTHING, ["sleep", "60"], timeout=0.01)
        assert (caught.value.cmd, caught.value.timeout) == (["sleep", "60"], 0.01)

    @pytest.mark.usefixtures("namespaces")
    def test_enters_a_container(self) -> None:
        with clone_into(Container(hostname="box"), ["cat"], stdin=subprocess.PIPE) as process:
            assert call(process, ["sh", "-c", 'test "$(uname -n)" = box']) == 0


class TestCheckCall:
    def test_returns_0(self) -> None:
        assert check_call(NOTHING, ["true"]) == 0

    @pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", -9)])
    def test_raises_otherwise(self, script: str, status: int) -> None:
        args = ["sh", "-c", script]
        with pytest.raises(subprocess.CalledProcessError) as caught:
            check_call(NOTHING, args)
        assert (caught.value.returncode, caught.value.cmd) == (status, args)


class TestCheckOutput:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, b"x\r\n"),
            ({"text": True}, "x\n"),
            ({"input": b"in"}, b"x\r\nin"),
            ({"input": "in", "encoding": "ascii"}, "x\nin"),
            ({"input": None}, b"x\r\n"),
            ({"input": None, "universal_newlines": True}, "x\n"),
            ({"stderr": subprocess.STDOUT}, b"x\r\n"),
        ],
        ids=repr,
    )
    def test_is_that_of_subprocess(self, options: dict[str, Any], expected: str | bytes) -> None:
        args = ["sh", "-c", "printf 'x\\r\\n'; cat"]
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        assert check_output(NOTHING, args, **options) == expected
        assert subprocess.check_output(args, **options) == expected

    def test_is_kept_when_it_fails(self) -> None:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            check_output(NOTHING, ["sh", "-c", "echo x; exit 3"])
        assert (caught.value.returncode, caught.value.output) == (3, b"x\n")

    def test_is_kept_at_the_timeout(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            check_output(NOTHING, ["sh", "-c", "echo x; exec sleep 60"], timeout=0.5)
        assert caught.value.output == b"x\n"

    @pytest.mark.parametrize("name", ["stdout", "check"])
    def test_can_t_go_elsewhere(self, name: str) -> None:
        options: dict[str, Any] = {name: True}
        with pytest.raises(ValueError, match=f"{name} argument not allowed"):
            check_output(NOTHING, ["true"], **options)
