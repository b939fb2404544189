"""However a call ends a program, nothing that it has started is left when the call is over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Container,
    CpuTimeExpired,
    Limits,
    Namespace,
    OutputExceeded,
    Process,
    Reason,
    TimeoutExpired,
    aio,
    call,
    check_call,
    check_output,
    clone_into,
    run,
)
from pyns.cgroups import Cgroup

NOTHING = Container(namespaces=Namespace(0))
SOME = Limits(pids_max=50, memory_max="200M")
PIPE = subprocess.PIPE

# Besides the program there are one that was forked twice and leads a session, and one that is
# stopped. All ignore SIGTERM and hold every pipe. When they are there it says so, and acts.
NASTY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, b"x")
        time.sleep(1000)
    os._exit(0)
if os.fork() == 0:
    os.write(writer, b"x")
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)
for _ in range(2):
    os.read(reader, 1)
print("early", flush=True)
os.write(int(sys.argv[2]), b"ready")
if sys.argv[1] == "sleep":
    time.sleep(1000)
while sys.argv[1] == "burn":
    pass
while sys.argv[1] == "flood":
    os.write(1, b"x" * 4096)
"""


class Witness:
    """A pipe that all of a container hold, so that its end is theirs."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def command(self, action: str) -> list[str]:
        return [sys.executable, "-P", "-c", NASTY, action, str(self.writer)]

    def wait_ready(self) -> None:
        assert os.read(self.reader, 5) == b"ready"

    def check_all_gone(self) -> None:
        os.close(self.writer)
        self.writer = -1
        os.set_blocking(self.reader, False)
        said = b""
        while part := os.read(self.reader, 100):  # BlockingIOError: somebody is there
            said += part
        assert said in (b"", b"ready")

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def witness() -> Iterator[Witness]:
    witness = Witness()
    yield witness
    witness.close()


@pytest.fixture(params=["group", "pid", "init", "pid and group"])
def box(request: pytest.FixtureRequest) -> Container:
    """Describe a container that holds its processes: by a group, a PID namespace, or both."""
    if "group" in request.param:
        request.getfixturevalue("limits")
    limits = SOME if "group" in request.param else None
    if request.param == "group":
        return Container(namespaces=Namespace(0), limits=limits)
    request.getfixturevalue("namespaces")
    return Container(limits=limits, init=request.param == "init")


@pytest.fixture
def counted(limited: Callable[[Limits], Container]) -> Container:
    """Describe a container whose CPU time is counted."""
    return limited(SOME)


def loop(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


def aio_run(*args: Any, **options: Any) -> Any:
    return loop(aio.run(*args, **options))


RUNS = pytest.mark.parametrize("start", [run, aio_run], ids=["sync", "aio"])


class TestTimeout:
    @pytest.mark.parametrize("start", [run, call, check_call, check_output, aio_run])
    def test_leaves_nothing(
        self, box: Container, witness: Witness, start: Callable[..., Any]
    ) -> None:
        command, fds = witness.command("sleep"), [witness.writer]
        options: dict[str, Any] = {"stdout": PIPE} if start in (run, aio_run) else {}
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            start(box, command, timeout=0.6, pass_fds=fds, **options)
        assert isinstance(caught.value, TimeoutExpired)
        assert caught.value.reason == Reason.TIMEOUT
        assert caught.value.usage is not None
        witness.check_all_gone()
        assert caught.value.output in (None, b"early\n")

    @RUNS
    def test_at_once(self, box: Container, witness: Witness, start: Callable[..., Any]) -> None:
        # it is on its way to the program, or not far beyond
        with pytest.raises(TimeoutExpired):
            start(box, witness.command("sleep"), timeout=0, pass_fds=[witness.writer])
        witness.check_all_gone()

    @RUNS
    def test_keeps_what_was_read_though_the_pipes_are_closed(
        self, start: Callable[..., Any]
    ) -> None:
        script = "echo early; exec >&-; exec sleep 60"
        with pytest.raises(TimeoutExpired) as caught:
            start(NOTHING, ["sh", "-c", script], stdout=PIPE, timeout=0.5)
        assert caught.value.output == b"early\n"

    @RUNS
    def test_keeps_what_the_program_said_before_its_end(self, start: Callable[..., Any]) -> None:
        # nothing bounds it, so that another one goes on, with the pipe
        done = start(
            NOTHING,
            ["sh", "-c", "sleep 60 & echo $!; exit 3"],
            stdout=PIPE,
            timeout=1,
            verdict=True,
        )
        os.kill(int(done.stdout), signal.SIGKILL)
        assert (done.reason, done.returncode) == (Reason.TIMEOUT, 3)

    def test_of_a_wait_in_a_loop_ends_it(self, box: Container, witness: Witness) -> None:
        async def main() -> None:
            process = await aio.create_subprocess_exec(
                box, *witness.command("sleep"), pass_fds=[witness.writer]
            )
            with pytest.raises(TimeoutExpired) as caught:
                await process.wait(timeout=0.1)
            assert process.returncode == -signal.SIGKILL
            assert process.reason == caught.value.reason == Reason.TIMEOUT
            assert caught.value.usage is process.usage is not None

        asyncio.run(main())
        witness.check_all_gone()

    @pytest.mark.usefixtures("limits")
    def test_of_a_group_that_is_frozen(self, witness: Witness) -> None:
        box = Container(namespaces=Namespace(0), limits=SOME)
        command, fds = witness.command("sleep"), [witness.writer]
        with clone_into(box, command, pass_fds=fds, stdout=PIPE) as process:
            witness.wait_ready()
            assert process.cgroup is not None
            process.cgroup.freeze()
            process.stop(grace=0.01)
        witness.check_all_gone()

    @RUNS
    def test_is_a_number(self, start: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="timeout=nan"):
            start(NOTHING, ["does-not-exist"], timeout=float("nan"))
        with pytest.raises(TypeError):
            start(NOTHING, ["does-not-exist"], timeout="1")
        with Process(["true"]) as process:
            for wait in process.wait, partial(process.communicate, None):
                with pytest.raises(ValueError, match="timeout=nan"):
                    wait(float("nan"))


class TestOwnEnd:
    @RUNS
    @pytest.mark.parametrize("options", [{}, {"timeout": 50}, {"output_max": 1000}], ids=str)
    def test_is_that_of_all_who_hold_the_pipes(
        self,
        box: Container,
        witness: Witness,
        start: Callable[..., Any],
        options: dict[str, Any],
    ) -> None:
        command, fds = witness.command("exit"), [witness.writer]
        done = start(box, command, capture_output=True, pass_fds=fds, **options)
        witness.check_all_gone()
        assert (done.stdout, done.stderr, done.returncode) == (b"early\n", b"", 0)
        assert done.reason == Reason.EXITED


class TestCpuTime:
    @RUNS
    def test_of_one_while_others_hold_the_pipes(
        self, counted: Container, witness: Witness, start: Callable[..., Any]
    ) -> None:
        started = run(counted, [sys.executable, "-P", "-c", "pass"]).usage
        assert started is not None
        assert started.cpu_seconds is not None
        enough = round(0.3 + 5 * started.cpu_seconds, 2)  # to start, to fork and to say "early"
        options: dict[str, Any] = {"stdout": PIPE, "pass_fds": [witness.writer]}
        with pytest.raises(CpuTimeExpired, match=f"used {enough} seconds of CPU time") as caught:
            start(counted, witness.command("burn"), cpu_time=enough, timeout=50, **options)
        witness.check_all_gone()
        assert caught.value.output == b"early\n"
        assert caught.value.reason == Reason.CPU_TIME
        assert caught.value.usage is not None
        assert caught.value.usage.cpu_seconds is not None
        assert caught.value.usage.cpu_seconds >= enough
        assert caught.value.usage.cpu_seconds < enough + 0.1 * (os.cpu_count() or 1)

    @RUNS
    def test_of_many_together(self, counted: Container, start: Callable[..., Any]) -> None:
        # none of them uses much, some are waited for and some are not
        code = (
            "import os, time\n"
            "while True:\n"
            "    pid = os.fork()\n"
            "    if pid == 0:\n"
            "        end = time.process_time() + 0.02\n"
            "        while time.process_time() < end: pass\n"
            "        os._exit(0)\n"
            "    if pid % 8: os.waitpid(pid, 0)\n"
        )
        done = start(counted, [sys.executable, "-c", code], cpu_time=0.3, verdict=True, timeout=50)
        assert done.reason == Reason.CPU_TIME
        assert 0.3 <= done.usage.cpu_seconds < 0.3 + 0.1 * (os.cpu_count() or 1)

    @RUNS
    @pytest.mark.usefixtures("limits")
    def test_is_told_though_the_end_came_first(self, start: Callable[..., Any]) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        done = start(box, ["echo", "hello"], stdout=PIPE, cpu_time=1e-6, verdict=True)
        assert done.reason == Reason.CPU_TIME
        with pytest.raises(CpuTimeExpired):
            start(box, ["echo", "hello"], stdout=PIPE, cpu_time=1e-6)

    @pytest.mark.usefixtures("limits")
    @pytest.mark.parametrize("start", [call, check_call, check_output])
    def test_of_the_others(self, start: Callable[..., Any]) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        with pytest.raises(CpuTimeExpired):
            start(box, ["sh", "-c", "while :; do :; done"], cpu_time=0.05)

    @RUNS
    @pytest.mark.usefixtures("limits")
    def test_is_not_reached_by_sleeping(self, start: Callable[..., Any]) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        done = start(box, ["sleep", "0.3"], cpu_time=0.25, verdict=True)
        assert done.reason == Reason.EXITED

    @pytest.mark.usefixtures("limits")
    def test_of_a_wait_leaves_it_running(self) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        with clone_into(box, ["sh", "-c", "while :; do :; done"]) as process:
            with pytest.raises(CpuTimeExpired):
                process.wait(cpu_time=0.05)
            assert process.poll() is None
            with pytest.raises(CpuTimeExpired):  # of all since its start
                process.wait(cpu_time=0.05)
            process.kill()
            process.wait()
            assert process.wait(cpu_time=0.01) == -signal.SIGKILL
        assert process.reason == Reason.SIGNALED

    @pytest.mark.usefixtures("limits")
    def test_of_a_wait_in_a_loop_ends_it(self) -> None:
        async def main() -> None:
            box = Container(namespaces=Namespace(0), limits=Limits())
            process = await aio.create_subprocess_shell(box, "while :; do :; done")
            with pytest.raises(CpuTimeExpired):
                await process.wait(cpu_time=0.05)
            assert process.reason == Reason.CPU_TIME

        asyncio.run(main())

    @pytest.mark.usefixtures("limits")
    def test_in_a_group_that_was_given_is_of_this_run(self) -> None:
        burn = ["sh", "-c", "while :; do :; done"]
        with Cgroup.create() as group:
            box = Container(namespaces=Namespace(0), cgroup=group)
            for _ in range(2):
                done = run(box, burn, cpu_time=0.1, verdict=True)
                assert done.reason == Reason.CPU_TIME
                assert done.usage is not None
                assert 0.1 <= (done.usage.cpu_seconds or 0) < 0.1 + 0.1 * (os.cpu_count() or 1)

    @RUNS
    def test_that_nobody_counts_is_refused(self, start: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="Limits\\(\\) makes a group"):
            start(NOTHING, ["does-not-exist"], cpu_time=1)
        with pytest.raises(ValueError, match="below 0"):
            start(NOTHING, ["does-not-exist"], cpu_time=-1)
        with pytest.raises(ValueError, match="below 0"):
            start(NOTHING, ["does-not-exist"], cpu_time=float("nan"))
        with pytest.raises(TypeError):
            start(NOTHING, ["does-not-exist"], cpu_time="1")
        with Process(["true"]) as process, pytest.raises(ValueError, match="Limits"):
            process.wait(cpu_time=1)


class TestOutput:
    @RUNS
    def test_leaves_nothing(
        self, box: Container, witness: Witness, start: Callable[..., Any]
    ) -> None:
        options: dict[str, Any] = {"capture_output": True, "pass_fds": [witness.writer]}
        with pytest.raises(OutputExceeded, match="more than 100000 bytes") as caught:
            start(box, witness.command("flood"), output_max=100_000, **options)
        witness.check_all_gone()
        assert caught.value.output == b"early\n" + b"x" * 99_994
        assert caught.value.stdout is caught.value.output
        assert caught.value.stderr is None
        assert caught.value.reason == Reason.OUTPUT
        assert caught.value.usage is not None

    @RUNS
    @pytest.mark.parametrize("size", [0, 1, 9, 10, 11])
    def test_is_exact(self, start: Callable[..., Any], size: int) -> None:
        script = "printf 0123456789; printf abc >&2"
        box, options = NOTHING, {"capture_output": True, "verdict": True}
        done = start(box, ["sh", "-c", script], output_max=size, **options)
        assert done.reason == (Reason.OUTPUT if size < 10 else Reason.EXITED)
        assert done.stdout == b"0123456789"[:size]
        if size >= 10:
            assert done.stderr == b"abc"

    @RUNS
    def test_of_stderr(self, start: Callable[..., Any]) -> None:
        script = "echo out; yes >&2"
        done = start(NOTHING, ["sh", "-c", script], capture_output=True, output_max=5, verdict=True)
        assert (done.stdout, done.stderr) == (b"out\n", b"y\ny\ny")
        assert done.reason == Reason.OUTPUT

    def test_cuts_no_character(self) -> None:
        done = run(
            NOTHING,
            ["printf", "äöü"],
            stdout=PIPE,
            encoding="utf-8",
            output_max=3,
            verdict=True,
        )
        assert done.stdout == "ä"

    @pytest.mark.parametrize("in_loop", [False, True])
    def test_keeps_our_memory(self, in_loop: bool) -> None:
        args: Any = NOTHING, ["cat", "/dev/zero"]
        options: dict[str, Any] = {"stdout": PIPE, "output_max": 1 << 20, "verdict": True}

        async def main() -> int:
            tracemalloc.start()
            try:
                await aio.run(*args, **options) if in_loop else run(*args, **options)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        assert asyncio.run(main()) < 6 << 20

    @RUNS
    def test_of_nothing_is_refused(self, start: Callable[..., Any]) -> None:
        with pytest.raises(ValueError, match="neither stdout nor stderr is captured"):
            start(NOTHING, ["does-not-exist"], output_max=1)
        with pytest.raises(ValueError, match="below 0"):
            start(NOTHING, ["does-not-exist"], stdout=PIPE, output_max=-1)
        with pytest.raises(TypeError):
            start(NOTHING, ["does-not-exist"], stdout=PIPE, output_max=1.5)

    @pytest.mark.usefixtures("limits")
    @RUNS
    def test_while_out_of_memory(self, start: Callable[..., Any]) -> None:
        code = (
            "import os, sys\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    open('/proc/self/oom_score_adj', 'w').write('1000')\n"
            "    x = bytearray(b'x') * (300 << 20)\n"
            "status = os.waitpid(pid, 0)[1]\n"
            "while True: os.write(1, b'x' * 4096)\n"
        )
        limits = Limits(memory_max="48M", memory_swap_max=0)
        box = Container(namespaces=Namespace(0), limits=limits)
        command = [sys.executable, "-c", code]
        done = start(box, command, stdout=PIPE, output_max=10_000, verdict=True)
        assert (done.reason, len(done.stdout)) == (Reason.OUTPUT, 10_000)
        assert done.usage.oom_kills == 1


class TestCommunicate:
    @pytest.mark.usefixtures("limits")
    def test_goes_on_after_a_limit(self) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits())
        burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
        script = f"read x; echo $x; sleep 0.2; {burn}; echo end"
        with clone_into(box, ["sh", "-c", script], stdin=PIPE, stdout=PIPE, text=True) as process:
            with pytest.raises(TimeoutExpired) as timeout:
                process.communicate("first\n", timeout=0.1)
            assert timeout.value.output in (None, b"first\n")
            with pytest.raises(CpuTimeExpired):
                process.communicate(cpu_time=0.02)
            assert process.communicate() == ("first\nend\n", None)
            assert process.returncode == 0

    def test_limits_come_with_the_first_call(self) -> None:
        with Process(["sleep", "60"], stdout=PIPE) as process:
            with pytest.raises(TimeoutExpired):
                process.communicate(timeout=0.01)
            with pytest.raises(ValueError, match="from the first call on"):
                process.communicate(output_max=1)
            process.kill()

    def test_input_comes_with_the_first_call(self) -> None:
        with clone_into(NOTHING, ["sleep", "60"], stdin=PIPE) as process:
            with pytest.raises(TimeoutExpired):
                process.communicate(b"x", timeout=0.01)
            with pytest.raises(ValueError, match="Cannot send input"):
                process.communicate(b"x", timeout=0.01)
            process.kill()

    def test_of_what_nothing_isolates_is_limited_too(self) -> None:
        with Process(["yes"], stdout=PIPE) as process:
            with pytest.raises(OutputExceeded) as caught:
                process.communicate(output_max=4)
            process.kill()
        assert caught.value.output == b"y\ny\n"

    def test_after_the_end_is_about_nothing(self) -> None:
        with clone_into(NOTHING, ["echo", "x"], stdout=PIPE) as process:
            assert process.communicate(output_max=10) == (b"x\n", None)
        assert process.communicate(timeout=0) == (b"x\n", None)
        assert process.wait(timeout=0) == 0


class TestKill:
    def test_of_the_tree(self, box: Container, witness: Witness) -> None:
        command, fds = witness.command("sleep"), [witness.writer]
        with clone_into(box, command, pass_fds=fds, stdout=PIPE) as process:
            witness.wait_ready()
            process.kill(tree=True)
            assert process.wait() == -signal.SIGKILL
            process.kill(tree=True)  # harmless
        assert process.reason == Reason.SIGNALED
        witness.check_all_gone()

    def test_of_a_tree_without_bounds_is_refused(self) -> None:
        with clone_into(NOTHING, ["cat"], stdin=PIPE) as process:
            with pytest.raises(ValueError, match="PID namespace, or limits"):
                process.kill(tree=True)
            assert process.poll() is None

    def test_stop_of_who_obeys(self) -> None:
        script = "trap 'kill $!; exit 7' TERM; sleep 60 & echo; wait"
        with clone_into(NOTHING, ["sh", "-c", script], stdout=PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert process.stop(grace=30) == 7
        assert process.reason == Reason.EXITED

    def test_stop_of_who_does_not(self, box: Container, witness: Witness) -> None:
        command, fds = witness.command("sleep"), [witness.writer]
        with clone_into(box, command, pass_fds=fds, stdout=PIPE) as process:
            witness.wait_ready()
            assert process.stop(grace=0.05) == -signal.SIGKILL
            witness.check_all_gone()

    def test_stop_in_a_loop(self, box: Container, witness: Witness) -> None:
        async def main() -> None:
            process = await aio.create_subprocess_exec(
                box, *witness.command("sleep"), pass_fds=[witness.writer], stdout=PIPE
            )
            assert process.stdout is not None
            await process.stdout.readline()
            assert await process.stop(grace=0.05) == -signal.SIGKILL
            assert process.reason == Reason.SIGNALED

        asyncio.run(main())
        witness.check_all_gone()


def interrupt_main_thread(witness: Witness) -> None:
    """Send SIGINT to it when it waits: just before, Python would notice only after poll(2)."""
    witness.wait_ready()
    main = threading.main_thread()
    polls = {"x86_64": "7 ", "aarch64": "73 "}[os.uname().machine]
    while not Path(f"/proc/self/task/{main.native_id}/syscall").read_text().startswith(polls):
        pass
    signal.pthread_kill(main.ident or 0, signal.SIGINT)


class TestInterruption:
    def test_by_cancellation_while_a_limit_is_at_work(self) -> None:
        async def main() -> None:
            process = await aio.create_subprocess_exec(NOTHING, "sleep", "60")
            task = asyncio.create_task(process.wait(timeout=0))
            await asyncio.sleep(0)  # it is killed, and not reaped
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert process.returncode == -signal.SIGKILL

        asyncio.run(main())

    def test_by_cancellation(self, box: Container, witness: Witness) -> None:
        async def main() -> None:
            command, fds = witness.command("sleep"), [witness.writer]
            task = asyncio.create_task(aio.run(box, command, stdout=PIPE, pass_fds=fds))
            await asyncio.get_running_loop().run_in_executor(None, witness.wait_ready)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        witness.check_all_gone()

    def test_by_a_handler_that_raises(self, box: Container, witness: Witness) -> None:
        interrupter = threading.Thread(target=interrupt_main_thread, args=[witness])
        command, fds = witness.command("sleep"), [witness.writer]
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            run(box, command, stdout=PIPE, pass_fds=fds, timeout=50)
        interrupter.join()
        witness.check_all_gone()


@RUNS
def test_what_can_t_be_started_is_a_verdict_too(start: Callable[..., Any]) -> None:
    done = start(NOTHING, ["/does/not/exist"], stdout=PIPE, verdict=True)
    assert done.reason == Reason.NOT_STARTED
    assert isinstance(done.error, FileNotFoundError)
    assert (done.returncode, done.stdout, done.usage) == (None, None, None)
    with pytest.raises(FileNotFoundError):
        start(NOTHING, ["/does/not/exist"])
