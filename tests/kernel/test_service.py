"""A service of asyncio with many runs in flight, some of which nobody waits for any more."""

from __future__ import annotations

import asyncio
import os
import select
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest

from pyns import Container, Limits, aio

pytestmark = pytest.mark.usefixtures("namespaces", "limits")

LIMITS = Limits(memory_max="64M", pids_max=8)
# double-forked, holds the pipe, ignores SIGTERM; half of them end by themselves
STUBBORN = "trap '' TERM; (setsid sleep 60 &); echo $$; "


async def serve(box: Container, runs: int) -> list[object]:
    """Start all at once, cancel each third once its program runs; return what came of each."""
    running: asyncio.Queue[asyncio.Task[bytes]] = asyncio.Queue()

    async def one(number: int) -> bytes:
        ending = "sleep 60" if number % 3 == 0 else f"exit {number}"
        process = await aio.create_subprocess_exec(box, "sh", "-c", STUBBORN + ending, stdout=-1)
        assert process.stdout is not None
        line = await process.stdout.readline()
        if number % 3 == 0:
            task = asyncio.current_task()
            assert task is not None
            await running.put(task)
        # whoever is cancelled here has all of it killed
        return line + b"%d" % await process.wait()

    async def cancel() -> None:
        for _ in range(0, runs, 3):
            (await running.get()).cancel()

    tasks = [asyncio.create_task(one(number)) for number in range(runs)]
    _, *results = await asyncio.gather(cancel(), *tasks, return_exceptions=True)
    return list(results)


@pytest.mark.parametrize("kind", ["pid 1", "init"])
def test_fifty_runs_a_third_cancelled_leave_nothing(kind: str) -> None:
    fds = set(os.listdir("/proc/self/fd"))
    box = Container(init=kind == "init", limits=LIMITS)
    results = asyncio.run(serve(box, 50))
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert isinstance(result, asyncio.CancelledError)
        else:
            assert isinstance(result, bytes)
            assert result.splitlines()[1] == b"%d" % number
    # the leak guard looks for processes, cgroups, mounts and threads; a warning is an error
    assert set(os.listdir("/proc/self/fd")) == fds


def test_the_loop_goes_round_between_starts_and_between_ends() -> None:
    async def main() -> None:
        loop, rounds = asyncio.get_running_loop(), 0

        def count() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(count)

        async def start(stdin: int) -> tuple[int, aio.Process]:
            # without a pipe of the loop's it is over in the iteration after that of the start
            process = await aio.create_subprocess_exec(box, "cat", stdin=stdin, stdout=DEVNULL)
            return rounds, process

        async def end(process: aio.Process) -> int:
            await process.wait()
            return rounds

        count()
        box = Container(limits=LIMITS)
        reading, writing = os.pipe()
        started = await asyncio.gather(*(start(reading) for _ in range(12)))
        os.close(reading)
        waiting = [asyncio.create_task(end(process)) for _, process in started]
        await asyncio.sleep(0)
        poll = select.poll()
        os.close(writing)
        for _, process in started:  # all are over before the loop sees the first
            poll.register(process.pidfd, select.POLLIN)
            poll.poll()
            poll.unregister(process.pidfd)
        ended = await asyncio.gather(*waiting)
        assert len({number for number, _ in started}) == len(started)
        assert len(set(ended)) == len(ended)

    asyncio.run(main())


def test_a_run_that_is_cancelled_takes_all_of_it_along(tmp_path: Path) -> None:
    async def main() -> None:
        box = Container(limits=LIMITS)
        script = f"{STUBBORN} echo > {tmp_path}/ready; sleep 60"
        task = asyncio.create_task(aio.run(box, ["sh", "-c", script], stdout=-1))
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
