"""The child works on the caller's memory: nothing of it is to be seen afterwards, or meanwhile."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.steps import Clone, EnterCgroup, Execute, HideMemory, RestoreSignalMask, SetUid, Step

Failure = Callable[..., tuple[int, int]]
Python = Callable[..., str]
Spawn = Callable[[Plan], Any]
CLONE = Clone(Namespace(0))
TRUE = Execute((b"/bin/true",), (b"true",), ())
NOBODY = 65534
PR_GET_DUMPABLE = 3  # <linux/prctl.h>


def wait(report: Any) -> int:
    """Return the exit status, or minus the signal; closes the pidfd."""
    status = os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    os.close(report.pidfd)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


class StuckChild:
    """A child that hangs in its first step, a write to a full pipe, and the thread that cloned it.

    Its steps: 0 clone, those given, the write, restore the signal mask, execute.
    """

    def __init__(self, spawn: Spawn, *given: Step) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writer, bytes(4096))
        os.set_blocking(self.writer, True)
        self.report: Any = None
        self.thread = threading.Thread(target=self.start, args=(spawn, *given))
        self.thread.start()
        self.pidfd = os.pidfd_open(self.find_pid())

    def start(self, spawn: Spawn, *given: Step) -> None:
        write = EnterCgroup("a full pipe", self.writer)
        self.report = spawn(Plan((CLONE, *given, write, RestoreSignalMask(), TRUE)))

    def find_pid(self) -> int:
        children = Path(f"/proc/self/task/{self.thread.native_id}/children")
        for _ in range(2000):
            pids = children.read_text().split()
            # nothing else that it does lets it sleep; wchan is not to be seen when it hides
            if pids and ") S " in Path(f"/proc/{pids[0]}/stat").read_text():
                return int(pids[0])
            time.sleep(0.005)
        raise AssertionError("no child is writing to the pipe")

    def let_go(self) -> None:
        os.set_blocking(self.reader, False)
        with suppress(BlockingIOError):
            while True:
                os.read(self.reader, 65536)

    def outcome(self) -> Any:
        self.thread.join(20)
        assert self.report is not None, "the spawning thread does not come back"
        return self.report

    def close(self) -> None:
        if self.thread.is_alive():
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.thread.join(20)
        for fd in (self.reader, self.writer, self.pidfd):
            os.close(fd)


@pytest.fixture
def stuck(spawn: Spawn) -> Iterator[StuckChild]:
    """Start a child that hangs in its first step."""
    child = StuckChild(spawn)
    yield child
    child.close()


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """Handle SIGUSR1 and SIGALRM; the list gets the number of each that was."""
    numbers: list[int] = []
    old = {
        number: signal.signal(number, lambda number, _: numbers.append(number))
        for number in (signal.SIGUSR1, signal.SIGALRM)
    }
    yield numbers
    for number, action in old.items():
        signal.signal(number, action)


def test_a_child_that_is_killed_on_the_way_is_ecanceled_at_its_step(stuck: StuckChild) -> None:
    signal.pidfd_send_signal(stuck.pidfd, signal.SIGKILL)
    assert stuck.outcome() == (-1, -1, 1, errno.ECANCELED)


def test_a_signal_waits_until_the_mask_is_restored_and_no_handler_runs_in_the_child(
    handled: list[int], stuck: StuckChild
) -> None:
    # in this order: the child is cloned when the handler is there
    signal.pidfd_send_signal(stuck.pidfd, signal.SIGUSR1)
    time.sleep(0.05)
    assert stuck.report is None, "the child did not block the signal"
    stuck.let_go()
    # default action: the end, on the way out of the step that lets it in
    assert stuck.outcome() == (-1, -1, 2, errno.ECANCELED)
    assert handled == []


def test_a_child_that_is_let_go_runs_its_program(stuck: StuckChild) -> None:
    stuck.let_go()
    report = stuck.outcome()
    assert (report.index, report.error) == (3, 0)
    assert wait(report) == 0


def test_other_threads_run_while_a_child_is_on_its_way(stuck: StuckChild, spawn: Spawn) -> None:
    reports = [spawn(Plan((CLONE, RestoreSignalMask(), TRUE))) for _ in range(3)]
    assert [wait(report) for report in reports] == [0, 0, 0]
    assert stuck.report is None
    stuck.let_go()
    assert wait(stuck.outcome()) == 0


def test_memory_that_a_child_hides_stays_hidden_until_it_is_done(spawn: Spawn) -> None:
    libc = ctypes.CDLL(None)
    child = StuckChild(spawn, HideMemory())
    others: list[Any] = []

    def start_another() -> None:
        # with a change of the user, after which the flag is given back
        others.append(spawn(Plan((CLONE, SetUid(os.geteuid()), RestoreSignalMask(), TRUE))))

    thread = threading.Thread(target=start_another)
    try:
        assert libc.prctl(PR_GET_DUMPABLE) == 0
        thread.start()
        thread.join(0.2)
        # that of an ordinary user waits: it may have to write its /proc/self/uid_map
        assert len(others) == (os.geteuid() == 0)
        assert libc.prctl(PR_GET_DUMPABLE) == 0
        child.let_go()
        assert wait(child.outcome()) == 0
        thread.join(20)
        assert wait(others[0]) == 0
        assert libc.prctl(PR_GET_DUMPABLE) == 1
    finally:
        child.close()
        thread.join(20)


def test_a_timer_that_goes_off_all_the_time_disturbs_no_spawn(
    handled: list[int], spawn: Spawn
) -> None:
    old = signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        for _ in range(300):
            report = spawn(Plan((CLONE, RestoreSignalMask(), TRUE)))
            assert report.error == 0
            assert wait(report) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *old)
    assert handled.count(signal.SIGALRM) > 10


@pytest.mark.parametrize(
    "steps",
    [(CLONE, TRUE), (CLONE, EnterCgroup("", -1), TRUE), (CLONE, Execute((b"/none",), (), ()))],
    ids=["runs", "fails in a step", "fails to execute"],
)
def test_the_signal_mask_of_the_caller_is_as_before(
    steps: tuple[Clone | EnterCgroup | Execute, ...], spawn: Spawn
) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        report = spawn(Plan(steps))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if report.error == 0:
        wait(report)


def test_a_failure_is_reaped_also_when_sigchld_is_ignored(python: Python) -> None:
    code = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        report = spawn(Plan((Clone(Namespace(0)), Execute((b"/none",), (), ()))))
        print(report.pid, report.pidfd, report.index, errno.errorcode[report.error])
        print(open(f"/proc/self/task/{os.getpid()}/children").read())
    """
    assert python(code) == "-1 -1 1 ENOENT\n"


def test_clone_fails_with_eagain_at_the_limit_of_processes(python: Python) -> None:
    code = """
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        report = spawn(Plan((Clone(Namespace(0)), program)))
        print(report.pid, report.pidfd, report.index, errno.errorcode[report.error])
    """
    assert python(code, uid=NOBODY) == "-1 -1 0 EAGAIN"


def test_the_pidfd_is_the_child_s_and_closes_on_exec(spawn: Spawn) -> None:
    report = spawn(Plan((CLONE, RestoreSignalMask(), TRUE)))
    try:
        assert fcntl.fcntl(report.pidfd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        info = Path(f"/proc/self/fdinfo/{report.pidfd}").read_text()
        assert f"\nPid:\t{report.pid}\n" in info
    finally:
        assert wait(report) == 0


@pytest.mark.parametrize(
    "plan",
    [
        "(Clone(Namespace(0)), program)",
        "(Clone(Namespace(0)), Execute((b'/none',), (), ()))",
        "(Clone(Namespace(0)), EnterCgroup('', -1), program)",
        "(BirthInCgroup('', 0), Clone(Namespace(0)), program)",
    ],
    ids=["runs", "fails to execute", "fails in a step", "fails to clone"],
)
def test_the_stack_is_given_back(plan: str, python: Python) -> None:
    code = f"""
        plan = Plan({plan})

        def size():
            with open("/proc/self/maps") as maps, open("/proc/self/status") as status:
                lines = len(maps.readlines())
                return lines, [line for line in status if line.startswith("VmSize")]

        def spawn_many(count):
            for _ in range(count):
                report = spawn(plan)
                if not report.error:
                    os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
                    os.close(report.pidfd)

        spawn_many(20)
        size()
        before = size()
        spawn_many(200)
        after = size()
        print(before == after or (before, after))
    """
    assert python(code) == "True"


DUMPABLE = """
def dumpable():
    return libc.prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE

def set_dumpable(value):
    libc.prctl(4, value, 0, 0, 0)

def run(*steps):
    report = spawn(Plan((Clone(Namespace(0)), *steps, RestoreSignalMask(), program)))
    if not report.error:
        os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
        os.close(report.pidfd)
    return report.error
"""


@pytest.mark.parametrize("steps", ["SetGid(65534)", "SetUid(65534)", "SetUid(65534), SetUid(0)"])
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.usefixtures("root_only")
def test_the_dumpable_flag_of_the_caller_stays_as_it_was(
    value: int, steps: str, python: Python
) -> None:
    code = f"""
        set_dumpable({value})
        run({steps})
        print(dumpable())
    """
    assert python(DUMPABLE + dedent(code)) == str(value)


@pytest.mark.usefixtures("root_only")
def test_proc_self_is_still_the_caller_s_own(python: Python) -> None:
    # a user with a way back to root, which the child takes
    code = """
        os.setresuid(1000, 1000, 0)
        set_dumpable(1)
        print(os.stat("/proc/self/status").st_uid, run(SetUid(0)))
        print(os.stat("/proc/self/status").st_uid)
    """
    assert python(DUMPABLE + dedent(code)) == "1000 0\n1000"


@pytest.mark.usefixtures("root_only")
def test_the_dumpable_flag_stays_when_many_threads_spawn(python: Python) -> None:
    code = """
        def spawn_many():
            for _ in range(100):
                run(SetUid(65534))

        threads = [threading.Thread(target=spawn_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(dumpable())
    """
    assert python(DUMPABLE + dedent(code)) == "1"


def test_many_threads_spawn_at_once_each_its_own_program(spawn: Spawn) -> None:
    def echo(number: int) -> None:
        arguments = (b"sh", b"-c", b"exit %d" % number)
        report = spawn(Plan((CLONE, RestoreSignalMask(), Execute((b"/bin/sh",), arguments, ()))))
        statuses[number] = wait(report)

    statuses: dict[int, int] = {}
    threads = [threading.Thread(target=echo, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == {number: number for number in range(64)}
