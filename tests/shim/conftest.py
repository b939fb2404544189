"""Plans carried out by the shim itself: no Popen, no Container, no order but the test's own."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from pyns import marshal
from pyns.cgroups import hierarchies
from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.signals import signals_blocked
from pyns.steps import Clone, Duplicate, Execute, RestoreSignalMask, Step

TIMEOUT = 20  # seconds, for whatever a child may be stuck in
PATH = b"PATH=/usr/bin:/bin:/usr/sbin:/sbin"


class Report(NamedTuple):
    pid: int
    pidfd: int
    index: int  # type: ignore[assignment]  # not tuple.index
    error: int


def spawn(plan: Plan) -> Report:
    report = marshal.new_report()
    with signals_blocked() as mask:
        marshal.spawn(plan, mask, report)
    return Report(report.pid, report.pidfd, report.index, report.error)


@pytest.fixture(name="spawn")
def spawn_function() -> Callable[[Plan], Report]:
    """Return a function: what the shim reports of a plan."""
    return spawn


def shell(script: str) -> Execute:
    return Execute((b"/bin/sh",), (b"sh", b"-c", os.fsencode(script)), (PATH,))


def read_to_end(fd: int, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"the program wrote {chunks} and did not end within {TIMEOUT} s"
        chunk = os.read(fd, 65536)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def end(report: Report) -> None:
    signal.pidfd_send_signal(report.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    os.close(report.pidfd)


def run_plan(steps: Sequence[Step], program: Execute) -> str:
    """Return what the program printed; it has to exit with 0."""
    with ExitStack() as undo:
        reader, writer = os.pipe()
        undo.callback(os.close, reader)
        with open(writer, "wb"):
            report = spawn(Plan((*steps, Duplicate(writer, 1), RestoreSignalMask(), program)))
        assert report.error == 0, f"step {report.index}: {os.strerror(report.error)}"
        unfinished = undo.enter_context(ExitStack())
        unfinished.callback(end, report)
        text = read_to_end(reader, time.monotonic() + TIMEOUT)
        # the end of the output is all but the end of the process
        assert select.select([report.pidfd], [], [], TIMEOUT)[0], "it closed stdout and goes on"
        exit_status = os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
        unfinished.pop_all()
        os.close(report.pidfd)
        assert exit_status is not None
        assert (exit_status.si_code, exit_status.si_status) == (os.CLD_EXITED, 0), text
        return os.fsdecode(text).removesuffix("\n")


@pytest.fixture
def output() -> Callable[..., str]:
    """Return a function: what a shell script prints, started after these steps."""

    def run(*steps: Step, script: str) -> str:
        return run_plan(steps, shell(script))

    return run


@pytest.fixture
def printed() -> Callable[..., str]:
    """Return a function: what the program of the last step prints, an Execute."""

    def run(*steps: Step) -> str:
        program = steps[-1]
        assert isinstance(program, Execute)
        return run_plan(steps[:-1], program)

    return run


@pytest.fixture
def failure() -> Callable[..., tuple[int, int]]:
    """Return a function: index and errno of the step that failed. Execute is added if missing."""

    def run(*steps: Step) -> tuple[int, int]:
        if not isinstance(steps[-1], Execute):
            steps = (*steps, shell("exit 0"))
        report = spawn(Plan(steps))
        if report.error == 0:
            end(report)
        assert (report.pid, report.pidfd) == (-1, -1), "it was to fail, and runs"
        return report.index, report.error

    return run


@pytest.fixture
def python() -> Callable[..., str]:
    """Return a function: what Python code prints in an interpreter of its own, exit status 0.

    For what changes the whole process, or could end it. Root takes on `uid` after the imports:
    that user need not be able to read the code. Others keep theirs.
    """

    def run(code: str, *arguments: object, uid: int | None = None) -> str:
        prelude = (
            "import errno, fcntl, os, resource, signal, struct, sys, threading, time\n"
            "from ctypes import CDLL\n"
            "from pyns._shim import ffi, lib\n"
            "from pyns import marshal\n"
            "from pyns.marshal import pack\n"
            "from pyns.namespaces import Namespace\n"
            "from pyns.plan import Plan\n"
            "from pyns.signals import signals_blocked\n"
            "from pyns.steps import *\n"
            "from pyns.steps import RESOLVE_NO_MAGICLINKS\n"
            "libc = CDLL(None)\n"
            "program = Execute((b'/bin/true',), (b'true',), ())\n"
            "def spawn(plan):\n"
            "    report = marshal.new_report()\n"
            "    with signals_blocked() as mask:\n"
            "        marshal.spawn(plan, mask, report)\n"
            "    return report\n"
        )
        if uid is not None and os.geteuid() == 0:
            prelude += f"os.setgroups([]); os.setresgid(*[{uid}] * 3); os.setresuid(*[{uid}] * 3)\n"
        done = subprocess.run(
            [sys.executable, "-P", "-c", prelude + textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removesuffix("\n")

    return run


@pytest.fixture(scope="session")
def _privilege_refused() -> str | None:
    if os.geteuid() != 0:
        return f"geteuid() is {os.geteuid()}: 0 is needed for what is tried here"
    report = spawn(Plan((Clone(Namespace.MOUNT | Namespace.UTS | Namespace.NET), shell("exit 0"))))
    if report.error == errno.EPERM:
        return "clone3(CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWNET) as root: EPERM"
    if report.error == 0:
        end(report)
    return None


@pytest.fixture
def root_only(_privilege_refused: str | None) -> None:
    """Skip where the steps would be refused for lack of privilege, whatever they are."""
    if _privilege_refused:
        pytest.skip(_privilege_refused)


def own_cgroup(mount_point: str) -> Iterator[Path]:
    group = Path(mount_point, f"pyns-shim-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"mkdir({str(group)!r}): {error}")
    yield group
    for path, _, _ in os.walk(group, topdown=False):
        os.rmdir(path)  # EBUSY when a process is left in it


@pytest.fixture
def v2_cgroup() -> Iterator[Path]:
    """Make a cgroup at the root of the v2 hierarchy."""
    found = [h.mount_point for h in hierarchies() if h.version == 2]
    if not found:
        pytest.skip("no cgroup2 in /proc/self/mountinfo")
    yield from own_cgroup(found[0])


@pytest.fixture
def v1_cgroup() -> Iterator[Path]:
    """Make a cgroup in a v1 hierarchy that limits nothing by itself."""
    usable = {"pids", "freezer", "cpu", "cpuacct"}
    found = [h for h in hierarchies() if h.version == 1 and usable.intersection(h.controllers)]
    if not found:
        pytest.skip(f"no v1 hierarchy with one of {sorted(usable)} in /proc/self/mountinfo")
    yield from own_cgroup(found[0].mount_point)
