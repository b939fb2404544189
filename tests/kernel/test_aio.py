"""aio is to asyncio's subprocesses what Process is to subprocess's, on any loop."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pyns import Container, Limits, Namespace, Usage, aio, clone_into
from pyns.aio import create_subprocess_exec, create_subprocess_shell

NOTHING = Container(namespaces=Namespace(0))
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], T]


@pytest.fixture(scope="module", autouse=True)
def first_loop() -> None:
    """Let libuv open the pipe that it keeps for the life of the process."""
    with suppress(ImportError):
        importlib.import_module("uvloop").new_event_loop().close()


@pytest.fixture(params=["asyncio", "uvloop"])
def complete(request: pytest.FixtureRequest) -> Run[Any]:
    """Run a coroutine to its end, in a loop of its own."""
    factory = pytest.importorskip(request.param).new_event_loop

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run


async def output(target: aio.Target, *args: str, **options: Any) -> str:
    process = await create_subprocess_exec(target, *args, stdout=PIPE, **options)
    stdout, _ = await process.communicate()
    assert process.returncode == 0
    return str(stdout.decode())


class TestProcess:
    def test_is_one_of_asyncio_s(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "sh", "-c", "exit 3")
            assert isinstance(process, asyncio.subprocess.Process)
            assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
            assert repr(process) == f"<Process {process.pid}>"
            assert process.container is NOTHING
            assert await process.wait() == process.returncode == 3
            assert process.pidfd == -1

        complete(main())

    def test_communicates(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(
                NOTHING, "sh", "-c", "cat; echo oops >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            assert await process.communicate(b"hello") == (b"hello", b"oops\n")

        complete(main())

    def test_streams_more_than_fits_anywhere(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(
                NOTHING, "cat", stdin=PIPE, stdout=PIPE, limit=1000
            )
            sent = os.urandom(3_000_000)
            assert await process.communicate(sent) == (sent, None)

        complete(main())

    def test_answers_line_by_line(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "cat", stdin=PIPE, stdout=PIPE)
            assert process.stdin is not None
            assert process.stdout is not None
            for line in (b"one\n", b"two\n"):
                process.stdin.write(line)
                await process.stdin.drain()
                assert await process.stdout.readline() == line
            process.stdin.close()
            await process.stdin.wait_closed()
            assert await process.stdout.read() == b""
            assert await process.wait() == 0

        complete(main())

    def test_need_not_read_its_input(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "true", stdin=PIPE)
            await process.communicate(bytes(1_000_000))
            assert process.returncode == 0

        complete(main())

    def test_streams_of_other_kinds(self, complete: Run[None], tmp_path: Path) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(
                NOTHING, "sh", "-c", "cat; echo a >&2", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
            )
            assert await process.communicate() == (b"a\n", None)
            with open(tmp_path / "out", "w") as sink:
                process = await create_subprocess_exec(NOTHING, "echo", "x", stdout=sink)
            await process.wait()
            assert (tmp_path / "out").read_text() == "x\n"

        complete(main())

    def test_shell(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_shell(NOTHING, "echo $((1 + 1))", stdout=PIPE)
            assert await process.communicate() == (b"2\n", None)

        complete(main())

    def test_is_waited_for_by_many(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "sh", "-c", "read x", stdin=PIPE)
            waiting = [asyncio.create_task(process.wait()) for _ in range(5)]
            await asyncio.sleep(0)
            assert process.returncode is None
            await process.communicate(b"x\n")
            assert await asyncio.gather(*waiting) == [0] * 5

        complete(main())

    def test_signals(self, complete: Run[None]) -> None:
        async def main() -> None:
            for send, number in (
                (aio.Process.terminate, signal.SIGTERM),
                (aio.Process.kill, signal.SIGKILL),
                (lambda process: process.send_signal(signal.SIGINT), signal.SIGINT),
            ):
                process = await create_subprocess_exec(NOTHING, "sleep", "60")
                send(process)
                assert await process.wait() == -number
                send(process)  # harmless

        complete(main())

    def test_works_in_any_thread_and_needs_no_other(self, complete: Run[None]) -> None:
        seen: list[tuple[bytes, int]] = []

        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "cat", stdin=PIPE, stdout=PIPE)
            seen.append(((await process.communicate(b"x"))[0], threading.active_count()))

        threads = threading.active_count()
        thread = threading.Thread(target=lambda: complete(main()))
        thread.start()
        thread.join()
        assert seen == [(b"x", threads + 1)]

    def test_many_at_once(self, complete: Run[None]) -> None:
        async def main() -> None:
            said = await asyncio.gather(*(output(NOTHING, "echo", str(n)) for n in range(30)))
            assert said == [f"{n}\n" for n in range(30)]

        complete(main())

    def test_when_the_kernel_reaps_children(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "sh", "-c", "exit 3")
            assert await process.wait() == 0  # its status is lost, as with Popen

        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            complete(main())
        finally:
            signal.signal(signal.SIGCHLD, before)

    def test_is_not_forgotten_with_its_loop(self, complete: Run[int]) -> None:
        async def main() -> int:
            return (await create_subprocess_exec(NOTHING, "sleep", "60")).pid

        def forget() -> int:
            pid = complete(main())
            gc.collect()
            return pid

        with pytest.warns(ResourceWarning, match="is still running"):
            pid = forget()
        os.kill(pid, signal.SIGKILL)
        while any(popen.pid == pid for popen in subprocess._active):  # type: ignore[attr-defined]
            subprocess._cleanup()  # type: ignore[attr-defined]


class TestErrors:
    def test_of_the_program(self, complete: Run[None]) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            complete(output(NOTHING, "/does/not/exist", stdin=PIPE, stderr=PIPE))
        assert caught.value.filename == "/does/not/exist"

    @pytest.mark.parametrize(
        "options",
        [{"text": True}, {"universal_newlines": True}, {"encoding": "ascii"}, {"bufsize": 1}],
        ids=repr,
    )
    def test_streams_are_of_bytes(self, complete: Run[None], options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="the streams are of bytes, unbuffered"):
            complete(output(NOTHING, "true", **options))

    def test_of_a_shell(self, complete: Run[None]) -> None:
        command: Any = ["true"]
        with pytest.raises(ValueError, match="cmd must be a string"):
            complete(create_subprocess_shell(NOTHING, command))

    def test_of_the_loop_leave_nothing(self, complete: Run[int | None]) -> None:
        def refuse(_: object, coroutine: Any, **__: object) -> Any:
            coroutine.close()
            raise RuntimeError("no task")

        async def main() -> int | None:
            loop = asyncio.get_running_loop()
            process = await create_subprocess_exec(NOTHING, "sleep", "60", stdout=PIPE)
            loop.set_task_factory(refuse)
            try:
                with pytest.raises(RuntimeError, match="no task"):
                    await process.communicate()
            finally:
                loop.set_task_factory(None)
            return process.returncode

        assert complete(main()) == -9


class TestCancellation:
    """Kills and reaps: the leak guard would find a child or an fd."""

    @staticmethod
    async def cancel(awaitable: Awaitable[object], times: int = 1) -> None:
        task = asyncio.ensure_future(awaitable)
        await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize("times", [1, 2, 3])
    @pytest.mark.parametrize("wait", [aio.Process.wait, aio.Process.communicate])
    def test_of_waiting(
        self, complete: Run[None], wait: Callable[[aio.Process], Awaitable[object]], times: int
    ) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(
                NOTHING, "sleep", "60", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            await self.cancel(wait(process), times)
            assert process.returncode == -signal.SIGKILL
            process.kill()  # what people do next
            assert await process.wait() == -signal.SIGKILL
            assert process.usage is not None

        complete(main())

    def test_does_not_wait_for_others_with_the_pipes(self, complete: Run[None]) -> None:
        async def main() -> None:
            # a second one has stdin, and does not read what is still to be written
            script = "exec 3<&0; sleep 60 <&3 & echo $!; wait"
            process = await create_subprocess_exec(
                NOTHING, "sh", "-c", script, stdin=PIPE, stdout=PIPE
            )
            assert process.stdin is not None
            assert process.stdout is not None
            second = int(await process.stdout.readline())
            process.stdin.write(bytes(1_000_000))
            await self.cancel(process.communicate())
            os.kill(second, signal.SIGKILL)

        complete(main())

    def test_of_the_start_at_any_moment(self, complete: Run[bool]) -> None:
        async def main(moment: int) -> bool:
            start = create_subprocess_exec(
                NOTHING, "sleep", "60", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            task = asyncio.create_task(start)
            for _ in range(moment):
                await asyncio.sleep(0)
            task.cancel()
            try:
                process = await task
            except asyncio.CancelledError:
                return False
            await self.cancel(process.wait())
            return True

        completed = [complete(main(moment)) for moment in range(20)]
        assert not completed[0]
        assert completed[-1]

    def test_by_a_timeout(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "sleep", "60", stdout=PIPE)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.communicate(), timeout=0.01)
            assert process.returncode == -signal.SIGKILL

        complete(main())

    def test_of_a_shield_kills_nothing(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "cat", stdin=PIPE)
            waiting = asyncio.create_task(process.wait())
            await self.cancel(asyncio.shield(waiting))
            await process.communicate(b"x")
            assert await waiting == 0

        complete(main())

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_by_control_c(self, loop: str) -> None:
        pytest.importorskip(loop)
        script = (
            f"import asyncio, {loop}; from pyns import *; from pyns.aio import *\n"
            "async def main():\n"
            "    box = Container(namespaces=Namespace(0))\n"
            "    process = await create_subprocess_exec(box, 'sleep', '60')\n"
            "    print(process.pid, flush=True)\n"
            "    await process.wait()\n"
            f"with asyncio.Runner(loop_factory={loop}.new_event_loop) as runner:\n"
            "    runner.run(main())\n"
        )
        args = [sys.executable, "-P", "-c", script]
        with subprocess.Popen(args, stdout=PIPE, stderr=PIPE) as process:
            assert process.stdout is not None
            pidfd = os.pidfd_open(int(process.stdout.readline()))
            process.send_signal(signal.SIGINT)
            stderr = process.communicate()[1]
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(0)
        os.close(pidfd)
        assert stderr.endswith(b"KeyboardInterrupt\n")
        assert process.returncode == -signal.SIGINT
        assert ended


@pytest.mark.usefixtures("namespaces")
class TestContainer:
    @pytest.mark.parametrize("init", [False, True])
    def test_program_is_inside(self, complete: Run[str], init: bool) -> None:
        box = Container(hostname="box", init=init)
        said = complete(output(box, "sh", "-c", "echo $$ $(uname -n)"))
        assert said == f"{1 + init} box\n"

    def test_program_s_status_comes_through_its_init(self, complete: Run[None]) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(Container(init=True), "sleep", "60")
            process.terminate()
            assert await process.wait() == -signal.SIGTERM

        complete(main())

    def test_one_that_runs_is_entered(self, complete: Run[None]) -> None:
        async def main() -> None:
            first = await create_subprocess_exec(Container(hostname="box"), "cat", stdin=PIPE)
            assert await output(first, "uname", "-n") == "box\n"
            await first.communicate()

        complete(main())

    def test_one_that_popen_started_is_entered(self, complete: Run[str]) -> None:
        with clone_into(Container(hostname="box"), ["cat"], stdin=PIPE) as first:
            assert complete(output(first, "uname", "-n")) == "box\n"

    def test_lives_as_long_as_the_loop_s_thread(self, complete: Run[str]) -> None:
        box = Container(die_with_parent=True)
        assert complete(output(box, "sh", "-c", "sleep 0.1; echo alive")) == "alive\n"


@pytest.mark.usefixtures("limits")
def test_usage_is_that_of_its_group_which_is_removed(complete: Run[Usage | None]) -> None:
    box = Container(namespaces=Namespace(0), limits=Limits(memory_max="100M", pids_max=10))

    async def main() -> Usage | None:
        script = "sleep 60 & read x; exit 3"
        process = await create_subprocess_exec(box, "sh", "-c", script, stdin=PIPE)
        assert process.usage is None
        await process.communicate(b"x\n")
        assert process.returncode == 3
        return process.usage

    usage = complete(main())
    assert usage is not None
    assert usage.memory_peak
    assert usage.wall_seconds > 0


@pytest.mark.usefixtures("limits")
def test_cancellation_kills_the_whole_group(complete: Run[None]) -> None:
    box = Container(namespaces=Namespace(0), limits=Limits(pids_max=10))

    async def main() -> None:
        process = await create_subprocess_exec(
            box, "sh", "-c", "sleep 60 & echo; wait", stdout=PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        await TestCancellation.cancel(process.communicate())
        assert process.usage is not None

    complete(main())


def test_number_that_a_loop_has_closed_is_not_closed_again(tmp_path: Path) -> None:
    # what uvloop does, and what another thread does in between
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb", buffering=0) as file:
        pipe = aio._Pipe(file)
    number = pipe.fileno()
    os.close(number)
    (tmp_path / "file").touch()
    other = os.open(tmp_path / "file", os.O_RDONLY)
    os.dup2(other, number)
    pipe.close()
    os.close(number)
    if other != number:
        os.close(other)
