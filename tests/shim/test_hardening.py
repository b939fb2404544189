"""What restricts the program: each step in success and failure."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns.namespaces import Namespace
from pyns.rlimits import INFINITY, NUMBERS, SetRlimit
from pyns.steps import Clone, DieWithParent, NoNewPrivileges, SetUid

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))
NOBODY = 65534


def status(output: Output, field: str, *steps: object) -> str:
    return output(CLONE, *steps, script=f"exec grep ^{field}: /proc/self/status").split("\t")[1]


LABELS = dict(
    zip(
        NUMBERS,
        (
            "Max cpu time",
            "Max file size",
            "Max data size",
            "Max stack size",
            "Max core file size",
            "Max resident set",
            "Max processes",
            "Max open files",
            "Max locked memory",
            "Max address space",
            "Max file locks",
            "Max pending signals",
            "Max msgqueue size",
            "Max nice priority",
            "Max realtime priority",
            "Max realtime timeout",
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_limit_is_set_and_no_other(name: str, output: Output) -> None:
    limits = "exec cat /proc/self/limits"
    before = resource.prlimit(0, NUMBERS[name])
    hard = min(before[1] % 2**64, 2**40)
    hard -= min(hard, 4096)
    soft = hard // 2
    old = output(CLONE, script=limits).splitlines()
    new = output(CLONE, SetRlimit(name, soft, hard), script=limits).splitlines()
    changed = [line for line, was in zip(new, old, strict=True) if line != was]
    if before != (soft, hard):
        assert [line[:26].strip() for line in changed] == [LABELS[name]]
        assert changed[0][26:].split()[:2] == [str(soft), str(hard)]
    assert resource.prlimit(0, NUMBERS[name]) == before


def test_unlimited_is_no_number(output: Output) -> None:
    if resource.getrlimit(resource.RLIMIT_RSS)[1] != resource.RLIM_INFINITY:
        pytest.skip("getrlimit(RLIMIT_RSS): there is a hard limit")
    script = "grep 'resident set' /proc/self/limits"
    assert output(CLONE, SetRlimit("rss", 5, INFINITY), script=script).split()[3:5] == [
        "5",
        "unlimited",
    ]


def test_a_soft_limit_above_the_hard_one_fails_with_einval(failure: Failure) -> None:
    assert failure(CLONE, SetRlimit("core", 2, 1)) == (1, errno.EINVAL)


def test_a_hard_limit_is_not_raised_again_by_an_ordinary_user(failure: Failure) -> None:
    steps = [SetRlimit("core", 1, 1), SetRlimit("core", 2, 2)]
    if os.geteuid() == 0:
        steps.insert(1, SetUid(NOBODY))  # type: ignore[arg-type]
    assert failure(CLONE, *steps) == (len(steps), errno.EPERM)


def test_nobody_may_open_more_files_than_the_kernel_has(failure: Failure) -> None:
    assert failure(CLONE, SetRlimit("nofile", 5, INFINITY)) == (1, errno.EPERM)


def test_no_new_privileges_is_for_the_child_alone(output: Output) -> None:
    # it can't fail: prctl(2) refuses only other arguments
    assert status(output, "NoNewPrivs", NoNewPrivileges()) == "1"
    assert status(output, "NoNewPrivs") == status(output, "NoNewPrivs") != "1"


@pytest.mark.parametrize("flags", [0, os.O_EXCL], ids=["process", "thread"])
def test_a_living_parent_is_no_reason_to_die(flags: int, output: Output) -> None:
    try:
        pidfd = os.pidfd_open(os.getpid() if flags == 0 else threading.get_native_id(), flags)
    except OSError as error:
        pytest.skip(f"pidfd_open(PIDFD_THREAD): {error}")
    try:
        assert output(CLONE, DieWithParent(pidfd), script="echo lives") == "lives"
    finally:
        os.close(pidfd)


def test_a_parent_that_is_dead_already_fails_with_esrch(failure: Failure) -> None:
    with subprocess.Popen(["true"]) as ended:
        pidfd = os.pidfd_open(ended.pid)
    try:
        assert failure(CLONE, DieWithParent(pidfd)) == (1, errno.ESRCH)
    finally:
        os.close(pidfd)


# Prints the pid of a program that is to die with this interpreter; `early` steps come before.
PARENT = """
    pidfd = os.pidfd_open(os.getpid())
    namespaces = Namespace.parse(sys.argv[1]) if sys.argv[1] else Namespace(0)
    sleep = Execute((b"/bin/sleep",), (b"sleep", b"60"), ())
    early = [SetGid(65534), SetUid(65534)] if os.geteuid() == 0 else []
    report = spawn(Plan((Clone(namespaces), *early, DieWithParent(pidfd), sleep)))
    assert report.error == 0, (report.index, report.error)
    print(report.pid, flush=True)
"""


def wait_for_end(pid: int) -> None:
    """Wait until a process that is no child of ours is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        gone = select.select([pidfd], [], [], 20)[0]
        if not gone:
            os.kill(pid, signal.SIGKILL)
        assert gone, "it lives on after its parent"
    finally:
        os.close(pidfd)


@pytest.fixture(params=["", "pid"])
def namespaces(request: pytest.FixtureRequest) -> str:
    """Return the words for namespaces of the program: none, or a PID namespace."""
    if request.param:
        request.getfixturevalue("root_only")
    return str(request.param)


def test_the_program_dies_with_its_parent(namespaces: str, python: Output) -> None:
    wait_for_end(int(python(PARENT, namespaces)))


def test_the_program_dies_with_the_thread_that_cloned_it(namespaces: str, python: Output) -> None:
    code = f"""
    def clone():
        global child
        exec({textwrap.dedent(PARENT)!r}, globals())
        child = report.pidfd
    thread = threading.Thread(target=clone)
    thread.start()
    thread.join()
    print(os.waitid(os.P_PIDFD, child, os.WEXITED).si_status == signal.SIGKILL)
    """
    assert python(code, namespaces).split()[1:] == ["True"]


def test_a_parent_that_is_killed_on_the_way_takes_the_child_along(
    namespaces: str, python: Output, tmp_path: Path
) -> None:
    """The child is held up by a full pipe, before the step, until its parent is dead."""
    code = """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    if not os.fork():  # kills the parent, then lets the child go on
        parent = os.pidfd_open(os.getppid())
        while "(disk sleep)" not in open(f"/proc/{os.getppid()}/status").read():
            time.sleep(0.01)
        time.sleep(0.1)
        signal.pidfd_send_signal(parent, signal.SIGKILL)
        select.select([parent], [], [])
        os.read(reader, 65536)
        time.sleep(0.2)
        open(sys.argv[3], "w").close()
        os._exit(0)
    pidfd = os.pidfd_open(os.getpid())
    namespaces = Namespace.parse(sys.argv[1]) if sys.argv[1] else Namespace(0)
    mark = Execute((b"/bin/touch",), (b"touch", os.fsencode(sys.argv[2])), ())
    steps = (Clone(namespaces), EnterCgroup("", writer), DieWithParent(pidfd), mark)
    spawn(Plan(steps))
    """
    code = "import select\n" + textwrap.dedent(code)
    mark, done = tmp_path / "mark", tmp_path / "done"
    with pytest.raises(AssertionError, match="-9"):
        python(code, namespaces, mark, done)
    deadline = time.monotonic() + 20
    while not done.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not mark.exists()
