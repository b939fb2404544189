"""What a program has used is what it says itself, whoever of it did so."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from pyns import Container, Limits, Usage, run

LIMITS = Limits(memory_max="300M", memory_swap_max=0, pids_max=300)

# Each says at its last moment what it has used: the clock of a process has all its threads, and
# wait4(2) has that of those it waits for, to the microsecond.
PRELUDE = """
import mmap, os, resource, sys, threading, time
def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
def own():
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
def say(seconds):
    os.write(1, f"{seconds}\\n".encode())
    os._exit(0)
def touch(megabytes, kind=mmap.MAP_PRIVATE):
    memory = mmap.mmap(-1, max(megabytes, 1) << 20, kind | mmap.MAP_ANONYMOUS)
    for page in range(megabytes << 8):
        memory[page << 12] = 1
    return memory
"""
TIMES = {
    "alone": "spin(0.5); say(own())",
    "threads": """
threads = [threading.Thread(target=spin, args=[0.2]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
say(own())
""",
    "reaped": """
for _ in range(4):
    if os.fork() == 0: spin(0.1); os._exit(0)
for _ in range(4): os.wait()
say(own() + of_children())
""",
    "never waited for": """
reader, writer = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        spin(0.1); os.close(1); os.write(writer, b"%f\\n" % own()); os._exit(0)
os.close(writer)
with open(reader) as file: used = sum(map(float, file))
say(own() + used)
""",
    "200 short ones": """
for _ in range(200):
    if os.fork() == 0: os._exit(0)
    os.wait()
say(own() + of_children())
""",
}
OF_FIVE = ("threads", "reaped", "never waited for")  # that end, its own end included
TOUCHES = {
    "alone": "memory = touch({0})",
    "shared": "memory = touch({0}, mmap.MAP_SHARED)",
    "by children": """
reader, writer = os.pipe(); ready, done = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        memory = touch({0} // 4)
        os.write(done, b"x"); os.close(writer); os.read(reader, 1); os._exit(0)
for _ in range(4): os.read(ready, 1)
os.close(writer)
for _ in range(4): os.wait()
""",
    "by threads": """
def fill(): kept.append(touch({0} // 4))
kept, threads = [], [threading.Thread(target=fill) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
}


@pytest.fixture
def box(limited: Callable[[Limits], Container]) -> Container:
    return limited(LIMITS)


def usage_of(box: Container, code: str) -> tuple[Usage, str]:
    args = [sys.executable, "-P", "-S", "-c", PRELUDE + code]
    done = run(box, args, stdout=-1, text=True, timeout=50)
    assert done.returncode == 0
    assert done.usage is not None
    return done.usage, done.stdout


@pytest.mark.parametrize("name", TIMES)
def test_cpu_time(box: Container, name: str) -> None:
    beyond_clock(box, "say(own())")  # its files are read
    # what a process does at its end is in no clock of the program's: much, on a slow machine
    ends = beyond_clock(box, "say(own())")[0] * (5 if name in OF_FIVE else 1)
    beyond, said = beyond_clock(box, TIMES[name])
    assert -0.01 <= beyond <= max(0.01, 0.01 * said) + ends


def beyond_clock(box: Container, code: str) -> tuple[float, float]:
    """Return what CPU time was used beyond what the program says of itself, and that."""
    usage, said = usage_of(box, code)
    assert usage.cpu_seconds is not None
    return usage.cpu_seconds - float(said), float(said)


@pytest.mark.parametrize("name", TOUCHES)
def test_peak_memory(box: Container, name: str) -> None:
    with_nothing, _ = usage_of(box, TOUCHES[name].format(0))
    with_much, _ = usage_of(box, TOUCHES[name].format(100))
    assert with_nothing.memory_peak is not None
    assert with_much.memory_peak is not None
    touched = with_much.memory_peak - with_nothing.memory_peak
    assert touched == pytest.approx(100 << 20, rel=0.02)


def test_wall_time_is_that_of_the_program(box: Container) -> None:
    code = (
        "start = time.monotonic(); spin(0.1); os.write(1, str(time.monotonic() - start).encode())"
    )
    usage, said = usage_of(box, code)
    assert usage.wall_seconds >= float(said)
