"""Turns in a loop are taken one in each of its iterations."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import weakref
from functools import partial

import pytest

from pyns.turns import in_turn, turn


@pytest.fixture(scope="module", autouse=True)
def first_loop() -> None:
    """Let libuv open the pipe that it keeps for the life of the process."""
    with contextlib.suppress(ImportError):
        importlib.import_module("uvloop").new_event_loop().close()


class Rounds:
    """Counts how often a loop has gone round since."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._add)

    def _add(self) -> None:
        self.count += 1
        self._loop.call_soon(self._add)


async def in_a_round_each(tasks: int, others: int) -> list[tuple[int, str]]:
    """Have tasks and callbacks take turns; return when each had its own."""
    loop, rounds = asyncio.get_running_loop(), Rounds()
    had: list[tuple[int, str]] = []

    async def task() -> None:
        await turn()
        had.append((rounds.count, "task"))

    started = [asyncio.create_task(task()) for _ in range(tasks)]
    for _ in range(others):
        in_turn(lambda: had.append((rounds.count, "callback")), loop)
    await asyncio.gather(*started)
    return had


@pytest.mark.timeout(10)
@pytest.mark.parametrize("module", ["asyncio", "uvloop"])
def test_nobody_shares_an_iteration(module: str) -> None:
    factory = pytest.importorskip(module).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        had = runner.run(in_a_round_each(20, 10))
    assert sorted(kind for _, kind in had) == ["callback"] * 10 + ["task"] * 20
    # a callback has its turn at once, a task when it is woken, which is an iteration later
    for wanted in ("task", "callback"):
        of_kind = [count for count, kind in had if kind == wanted]
        assert len(set(of_kind)) == len(of_kind)


@pytest.mark.timeout(10)
def test_whoever_is_cancelled_while_it_waits_keeps_nobody_from_his() -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(turn()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [False, True, False, False]

    asyncio.run(main())


@pytest.mark.timeout(10)
def test_one_that_raises_keeps_nobody_from_his() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[object] = []
        loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
        failure = OSError("demo")

        def fail() -> None:
            raise failure

        in_turn(int, loop)
        in_turn(fail, loop)
        await turn()
        assert heard == [failure]

    asyncio.run(main())


def test_what_waits_goes_with_its_loop() -> None:
    class Thing:
        def work(self) -> None:
            raise AssertionError("nobody runs the loop any more")

    async def main() -> weakref.ref[Thing]:
        loop, thing = asyncio.get_running_loop(), Thing()
        in_turn(int, loop)
        for _ in range(3):
            in_turn(partial(Thing.work, thing), loop)
        return weakref.ref(thing)

    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        task = loop.create_task(main())
        task.add_done_callback(lambda _: loop.stop())
        loop.call_soon(loop.stop)  # after one iteration
        loop.run_forever()
    thing = task.result()
    gc.collect()
    assert thing() is None
