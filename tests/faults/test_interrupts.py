"""Ctrl-C at any moment: the program is dead, or somebody has it; nothing else is left.

Every 47th moment; with PYNS_WHOLE=1 in the environment, each (half an hour).
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STRIDE = 1 if "PYNS_WHOLE" in os.environ else 47
TIMEOUT = 1800 if STRIDE == 1 else 120

# A moment is one of the interpreter's instructions in pyns or subprocess: before it SIGINT is sent,
# and the handler raises at once or, where signals are blocked, later.
INTERRUPTED = """
import faulthandler, gc, os, signal, subprocess, sys, threading, warnings
from contextlib import suppress
from pathlib import Path

import pyns
from pyns import Container, IdMap, Limits, Namespace, clone_into, run
from pyns.cgroups import placing

FILES = (os.path.dirname(pyns.__file__), subprocess.__file__)
warnings.simplefilter("ignore", ResourceWarning)
sys.unraisablehook = lambda failure: None  # the handler in a __del__
signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt(moment, work):
    # returns where that was; None if it had ended before
    count, place = 0, None

    def trace(frame, event, argument):
        nonlocal count, place
        if not frame.f_code.co_filename.startswith(FILES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
            if count == moment:
                place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return trace

    sys.settrace(trace)
    with suppress(KeyboardInterrupt):
        work()
    sys.settrace(None)
    return place


def children():
    pids = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):
            pids.update(Path(f"/proc/self/task/{task}/children").read_text().split())
    return pids


def cgroups():
    tops = ["/".join((base, *above)) for base, above in placing.default_bases().values()]
    return [
        path
        for top in tops
        for path, _, _ in os.walk(top)
        if os.path.basename(path).startswith(f"{os.getpid()}-")
    ]


def end_the_dropped():
    # subprocess has those in a list, and looks at them at the next spawn
    for process in list(subprocess._active):
        process.kill()
        process.wait()
    subprocess._cleanup()


def found():
    gc.collect()
    end_the_dropped()
    fds = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return children(), len(fds), cgroups(), threading.active_count(), blocked


box, stride = eval(sys.argv[1]), int(sys.argv[2])
faulthandler.dump_traceback_later(int(sys.argv[4]), exit=True)


def work():
    exec(sys.argv[3])


interrupt(0, work)  # imports
before, moment = found(), 1
while place := interrupt(moment, work):
    after = found()
    if after != before:
        sys.exit(f"moment {moment}, {place}: {before} became {after}")
    moment += stride
print(moment)
"""
BOXES = {
    "plain": "Container(namespaces=Namespace(0))",
    "default": "Container()",
    "init": "Container(init=True, die_with_parent=True)",
    "ids": "Container(namespaces=Namespace.USER)",
    "limits": "Container(namespaces=Namespace(0), limits=Limits(pids_max=10, memory_max='50M'))",
}
if os.geteuid() == 0:  # with a thread that helps
    maps = "[IdMap(0, 100000, 5)]"
    BOXES["ids"] = f"Container(namespaces=Namespace.USER, uid_map={maps}, gid_map={maps})"
WORKS = {
    "run": "run(box, ['true'], capture_output=True)",
    "run that waits": "run(box, ['sleep', '0.01'])",
    "run that is ended": "with suppress(subprocess.TimeoutExpired):\n"
    "    run(box, ['sleep', '60'], timeout=0.01, capture_output=True)",
    "wait": "with clone_into(box, ['sh', '-c', 'exit 7']) as process:\n"
    "    try:\n"
    "        process.wait()\n"
    "    finally:\n"
    "        assert process.wait() == 7",
    "with": "with clone_into(box, ['true'], stdout=subprocess.PIPE) as process:\n"
    "    process.communicate()",
}


@pytest.mark.timeout(TIMEOUT + 20)
@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("box", BOXES)
def test_no_moment_is_a_bad_one(box: str, work: str, request: pytest.FixtureRequest) -> None:
    if box == "limits":
        request.getfixturevalue("limits")
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c", INTERRUPTED),
            *(BOXES[box], str(STRIDE), WORKS[work], str(TIMEOUT)),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT + 10,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1000
