"""Processes of our own, for what would change this one, and for what goes on side by side."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.floor import Start


def in_child(function: Callable[[], Any]) -> Any:
    """Call a function in a fork of this process, and return what it returns there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer = (True, function())
        except BaseException:
            answer = (False, traceback.format_exc())
        with open(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(pid, 0)
    succeeded, result = pickle.loads(content)
    if not succeeded:
        raise RuntimeError(f"in a child:\n{result}")
    return result


def have_mounts(count: int, directory: Path) -> int:
    """Enter a mount namespace with so many mounts, at least; return how many there are."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call(libc.unshare(0x00020000))  # CLONE_NEWNS
    call(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
    here = os.fsencode(directory)
    call(libc.mount(b"bench", here, b"tmpfs", 0, None))
    for number in range(_mounts(), count):
        place = b"%s/%d" % (here, number)
        os.mkdir(place)
        call(libc.mount(place, place, None, 0x1000, None))  # MS_BIND
    return _mounts()


def _mounts() -> int:
    with open("/proc/self/mountinfo") as file:
        return len(file.readlines())


@contextmanager
def threads(count: int, work: Start) -> Iterator[Start]:
    """Yield what has so many threads do the work, and returns when all have done it."""
    with ThreadPoolExecutor(count) as pool:

        def go() -> None:
            for done in [pool.submit(work) for _ in range(count)]:
                done.result()

        yield go


@contextmanager
def processes(count: int, work: Start) -> Iterator[Start]:
    """Yield what has so many processes do the work, and returns when all have done it."""
    with ExitStack() as workers:
        pipes = [workers.enter_context(_worker(work)) for _ in range(count)]

        def go() -> None:
            for _, order in pipes:
                os.write(order, b"!")
            for answer, _ in pipes:
                if os.read(answer, 1) != b"!":
                    raise RuntimeError("a worker has failed")

        yield go


@contextmanager
def _worker(work: Start) -> Iterator[tuple[int, int]]:
    """Yield fds: on which it answers, and which gives it orders; it ends when that is closed."""
    reading, order = os.pipe()
    answer, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(order)
        os.close(answer)
        try:
            while os.read(reading, 1):
                work()
                os.write(writing, b"!")
        finally:
            os._exit(0)
    os.close(reading)
    os.close(writing)
    try:
        yield answer, order
    finally:
        os.close(order)
        os.close(answer)
        os.waitpid(pid, 0)
