"""relay() connects the terminal that the caller has with that of the program, and leaves it intact.

The caller is an interpreter in a terminal of the test's own, which therefore is at both ends.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pyns import Completed, Container, Limits, Namespace, Process, Reason, clone_into, run
from pyns.terminal import relay

TIMEOUT = 20  # seconds, for what is to come of itself
NOTHING = Container(namespaces=Namespace(0))
# whoever runs the tests may ignore SIGINT: a shell does that for what it starts with &
CALLER = Container(namespaces=Namespace(0), reset_signals=True)
PRELUDE = """
import os, signal, subprocess, sys, textwrap, threading, time
from pyns import *
from pyns.terminal import relay
box = Container(namespaces=Namespace(0))
"""
Caller = Callable[..., Process]


@pytest.fixture
def caller() -> Iterator[Caller]:
    """Return a function: an interpreter that executes code in a terminal of its own."""
    with ExitStack() as started:

        def start(code: str, **options: Any) -> Process:
            arguments = [sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(code)]
            process = started.enter_context(
                clone_into(CALLER, arguments, terminal=(7, 321), **options)
            )
            started.callback(process.kill)
            return process

        yield start


def read_until(process: Process, end: bytes) -> bytes:
    assert process.terminal is not None
    said, deadline = b"", time.monotonic() + TIMEOUT
    while end not in said:
        ready, _, _ = select.select([process.terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{end!r} did not come within {TIMEOUT} s, but {said!r}"
        chunk = process.terminal.read(1024)
        assert chunk, f"it ended with {said!r}"
        said += chunk
    return said


def type_in(process: Process, keys: bytes) -> None:
    assert process.terminal is not None
    assert process.terminal.write(keys) == len(keys)


def mode_of(process: Process) -> list[Any]:
    assert process.terminal is not None
    return termios.tcgetattr(process.terminal)


class TestKeys:
    def test_and_what_is_shown_go_through(self, caller: Caller) -> None:
        process = caller("print('status', run(box, ['cat'], terminal=True).returncode)")
        type_in(process, b"line\n")
        assert b"line\r\nline\r\n" in read_until(process, b"line\r\nline\r\n")
        type_in(process, b"\x04")
        read_until(process, b"status 0\r\n")
        assert process.wait() == 0

    def test_that_were_typed_ahead_are_the_program_s(self, caller: Caller) -> None:
        process = caller("""
            sys.stdin.readline()
            run(box, ["head", "-n1"], terminal=True)
        """)
        type_in(process, b"first\nsecond\n")
        # head's own echo and its output, beside the echo of the caller's terminal
        read_until(process, b"second\r\nsecond\r\n")
        assert process.wait() == 0

    @pytest.mark.parametrize(
        ("key", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)]
    )
    def test_that_interrupt_go_to_the_program(
        self, key: bytes, number: signal.Signals, caller: Caller
    ) -> None:
        process = caller("""
            import resource
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            # a shell may have a handler still when it has said that it is ready
            print("status", run(box, ["cat", "/proc/self/comm", "-"], terminal=True).returncode)
        """)
        read_until(process, b"cat\r\n")
        type_in(process, key)
        read_until(process, b"status %d\r\n" % -number)
        assert process.wait() == 0


class TestSize:
    def test_is_the_caller_s_and_stays_it(self, caller: Caller) -> None:
        process = caller("""
            inner = '''
            import os, signal
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
            while True:
                print(*os.get_terminal_size(), flush=True)
                signal.sigwait([signal.SIGWINCH])
            '''
            arguments = [sys.executable, "-S", "-c", textwrap.dedent(inner)]
            with clone_into(box, arguments, terminal=(1, 1)) as process:
                relay(process)
        """)
        read_until(process, b"321 7\r\n")
        process.resize(8, 123)
        read_until(process, b"123 8\r\n")
        type_in(process, b"\x1c")
        assert process.wait() == 0

    def test_is_left_alone_where_the_caller_has_none(self) -> None:
        with Process(["stty", "size"], terminal=(7, 321)) as process:
            assert relayed(process) == (0, b"7 321\r\n")


class TestMode:
    @pytest.mark.parametrize(
        ("script", "call", "said"),
        [
            ("echo ready; read line; stty -a <> {own}", "relay(process)", b"-icanon"),
            ("exec sleep 60", "relay(process, timeout=0.1)", b"TimeoutExpired"),
            ("echo x; exec sleep 60", "relay(process, 0, closed)", b"BrokenPipeError"),
        ],
        ids=["the program ends", "time is up", "nobody reads"],
    )
    def test_is_raw_until(self, script: str, call: str, said: bytes, caller: Caller) -> None:
        process = caller(f"""
            reader, closed = os.pipe()
            os.close(reader)
            sys.stdin.readline()
            script = {script!r}.format(own=os.ttyname(0))
            with Process(["sh", "-c", script], terminal=True) as process:
                {call}
        """)
        before = mode_of(process)
        type_in(process, b"\n")
        if "read line" in script:
            read_until(process, b"ready\r\n")  # by relay, so the mode is set
            type_in(process, b"\n")
        read_until(process, said)
        process.wait()
        assert mode_of(process) == before

    @pytest.mark.parametrize(
        "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    )
    def test_is_restored_before_a_signal_ends_the_caller(
        self, number: signal.Signals, caller: Caller
    ) -> None:
        process = caller("""
            import resource
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            run(box, ["sh", "-c", "echo ready; exec sleep 60"], terminal=True)
        """)
        before = mode_of(process)
        read_until(process, b"ready\r\n")
        assert mode_of(process) != before
        process.send_signal(number)
        assert process.wait() == -number
        assert mode_of(process) == before

    def test_is_restored_before_the_caller_s_own_handler_raises(self, caller: Caller) -> None:
        process = caller("""
            def end(*_): raise LookupError("handled")
            signal.signal(signal.SIGTERM, end)
            run(box, ["sh", "-c", "echo ready; exec sleep 60"], terminal=True)
        """)
        before = mode_of(process)
        read_until(process, b"ready\r\n")
        process.send_signal(signal.SIGTERM)
        read_until(process, b"handled")
        assert process.wait() == 1
        assert mode_of(process) == before

    def test_of_signals_is_restored(self, caller: Caller) -> None:
        process = caller("""
            numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
            before = {number: signal.getsignal(number) for number in numbers}
            run(box, ["true"], terminal=True)
            print(before == {number: signal.getsignal(number) for number in numbers})
        """)
        read_until(process, b"True\r\n")
        assert process.wait() == 0


def relayed(process: Process, given: bytes | None = None, **options: Any) -> tuple[int, bytes]:
    """Relay between pipes; return the returncode and what came."""
    with ExitStack() as undo:
        reader, writer = os.pipe()
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        source = undo.enter_context(open(os.memfd_create("given"), "w+b", buffering=0))
        source.write(given or b"")
        source.seek(0)
        os.set_blocking(reader, False)
        status = relay(process, source.fileno(), writer, **options)
        try:
            return status, os.read(reader, 65536)
        except BlockingIOError:
            return status, b""


class TestPipes:
    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\nb", b"a\r\nb"),
            (b"", b""),
        ],
        ids=["lines", "half a line", "nothing"],
    )
    def test_end_of_stdin_is_the_program_s(self, given: bytes, shown: bytes) -> None:
        with Process(["sh", "-c", "stty -echo; cat"], terminal=True) as process:
            # what is typed before the echo is off is shown twice
            status, came = relayed(process, given, timeout=TIMEOUT)
        assert status == 0
        assert came.endswith(shown)

    def test_may_be_large_both_ways(self) -> None:
        # neither side waits for the other, though the terminal holds 4 kB only
        given = b"x" * 60 + b"\n"
        with (
            open(os.memfd_create("given"), "w+b") as source,
            open(os.memfd_create("shown"), "w+b") as sink,
            Process(["sh", "-c", "stty -echo; echo ready; cat"], terminal=True) as process,
        ):
            read_until(process, b"ready\r\n")
            source.write(given * 20_000)
            source.seek(0)
            assert relay(process, source.fileno(), sink.fileno(), timeout=TIMEOUT) == 0
            sink.seek(0)
            assert sink.read() == given.replace(b"\n", b"\r\n") * 20_000

    def test_program_that_does_not_read_is_heard(self) -> None:
        with (
            open(os.memfd_create("shown"), "w+b") as sink,
            open("/dev/zero", "rb") as source,
            Process(["sh", "-c", "stty -echo; seq 20000"], terminal=True) as process,
        ):
            assert relay(process, source.fileno(), sink.fileno(), timeout=TIMEOUT) == 0
            sink.seek(0)
            assert sink.read().endswith(b"\r\n20000\r\n")

    def test_program_that_lets_go_of_its_terminal_is_waited_for(self) -> None:
        script = "exec < /dev/null > /dev/null 2>&1; sleep 0.3; exit 7"
        with Process(["sh", "-c", script], terminal=True) as process:
            before = time.process_time()
            assert relayed(process, timeout=TIMEOUT) == (7, b"")
            assert time.process_time() - before < 0.25, "it was polled all the time"

    def test_whoever_else_has_the_terminal_is_not_waited_for(self) -> None:
        script = "trap '' HUP; (while echo x; do :; done) & exit 7"
        with (
            open("/dev/null", "wb") as sink,
            open("/dev/null", "rb") as source,
            Process(["sh", "-c", script], terminal=True) as process,
        ):
            assert relay(process, source.fileno(), sink.fileno(), timeout=TIMEOUT) == 7

    def test_last_words_are_shown(self) -> None:
        for _ in range(20):
            with Process(["seq", "500"], terminal=True) as process:
                status, shown = relayed(process, timeout=TIMEOUT)
                assert (status, shown[-5:]) == (0, b"500\r\n")


class TestRun:
    def test_with_a_terminal_kills_when_time_is_up(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            run(NOTHING, ["sleep", "60"], terminal=True, timeout=0.1)

    @pytest.mark.usefixtures("limits")
    def test_with_a_terminal_kills_when_cpu_time_is_used(self) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        burn = ["sh", "-c", "while :; do :; done"]
        done = run(box, burn, terminal=True, cpu_time=0.1, verdict=True)
        assert (done.reason, done.stdout) == (Reason.CPU_TIME, None)

    def test_with_a_terminal_returns_status_and_no_output(self, capfd: Any) -> None:
        done: Completed = run(NOTHING, ["sh", "-c", "echo shown; exit 7"], terminal=True)
        assert (done.returncode, done.stdout, done.stderr) == (7, None, None)
        assert done.usage is not None
        assert capfd.readouterr().out == "shown\r\n"
        with pytest.raises(subprocess.CalledProcessError):
            run(NOTHING, ["false"], terminal=True, check=True)


def test_another_thread_relays(caller: Caller) -> None:
    process = caller("""
        said = []
        def work(): said.append(run(box, ["sh", "-c", "echo shown; exit 7"], terminal=True))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("status", said[0].returncode)
    """)
    assert b"shown" in read_until(process, b"status 7\r\n")
    assert process.wait() == 0


def test_without_a_terminal_there_is_nothing_to_relay() -> None:
    with Process(["true"]) as process, pytest.raises(ValueError, match="has no terminal"):
        relay(process)
    with Process(["true"], terminal=True) as process:
        pass
    with pytest.raises(ValueError, match="closed"):
        relay(process)


def test_the_terminal_blocks_again_afterwards() -> None:
    with Process(["sleep", "60"], terminal=True) as process:
        assert process.terminal is not None
        with pytest.raises(subprocess.TimeoutExpired):
            relayed(process, timeout=0.01)
        assert os.get_blocking(process.terminal.fileno())
        process.kill()
