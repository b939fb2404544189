"""What restricts the program: each step in success and failure."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import struct
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import seccomp
from pyns.capabilities import DropBounding, KeepCapabilities, RaiseAmbient, SetCapabilities
from pyns.namespaces import Namespace
from pyns.rlimits import INFINITY, NUMBERS, SetRlimit
from pyns.seccomp import InstallFilter
from pyns.steps import Clone, DieWithParent, NoNewPrivileges, SetUid

Output = Callable[..., str]
Failure = Callable[..., tuple[int, int]]
CLONE = Clone(Namespace(0))
NOBODY = 65534
STATUS = "exec cat /proc/self/status"


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


SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def capabilities(text: str) -> dict[str, int]:
    lines = [line.split(":\t") for line in text.splitlines() if line.startswith("Cap")]
    return {name: int(value, 16) for name, value in lines}


def own_capabilities() -> dict[str, int]:
    return capabilities(Path("/proc/thread-self/status").read_text())


CHOWN, NET_RAW = 1 << 0, 1 << 13
KEPT = ("cap_chown", "cap_net_raw")


@pytest.mark.usefixtures("root_only")
def test_the_bounding_set_is_lowered_and_no_other(output: Output) -> None:
    before = own_capabilities()
    after = capabilities(output(CLONE, DropBounding(KEPT), script=STATUS))
    assert after["CapBnd"] == CHOWN | NET_RAW
    # execve gives root what is in the bounding set
    assert after["CapEff"] == after["CapPrm"] == CHOWN | NET_RAW
    assert (after["CapInh"], after["CapAmb"]) == (before["CapInh"], before["CapAmb"])
    assert own_capabilities() == before


@pytest.mark.usefixtures("root_only")
def test_the_bounding_set_takes_a_capability_to_lower(failure: Failure) -> None:
    assert failure(CLONE, SetUid(NOBODY), DropBounding(KEPT)) == (2, errno.EPERM)


@pytest.mark.usefixtures("root_only")
def test_a_bounding_set_that_is_that_already_takes_none(output: Output) -> None:
    steps = (CLONE, DropBounding(KEPT), SetUid(NOBODY), DropBounding(KEPT))
    assert capabilities(output(*steps, script=STATUS))["CapBnd"] == CHOWN | NET_RAW


@pytest.mark.usefixtures("root_only")
@pytest.mark.parametrize("uid", [0, NOBODY])
@pytest.mark.parametrize(("kept", "mask"), [((), 0), (KEPT, CHOWN | NET_RAW)], ids=["none", "two"])
def test_all_five_sets_are_the_same(
    uid: int, kept: tuple[str, ...], mask: int, output: Output
) -> None:
    before = own_capabilities()
    steps = [CLONE, DropBounding(kept), KeepCapabilities(), SetUid(uid), SetCapabilities(kept)]
    if kept:
        steps.append(RaiseAmbient(kept))
    assert capabilities(output(*steps, script=STATUS)) == dict.fromkeys(SETS, mask)
    assert own_capabilities() == before


@pytest.mark.usefixtures("root_only")
def test_capabilities_are_lost_with_the_uid_unless_they_are_kept(failure: Failure) -> None:
    assert failure(CLONE, SetUid(NOBODY), SetCapabilities(KEPT)) == (2, errno.EPERM)


@pytest.mark.usefixtures("root_only")
def test_a_capability_that_is_not_permitted_is_not_had(failure: Failure) -> None:
    steps = (CLONE, SetCapabilities(("cap_chown",)), SetCapabilities(KEPT))
    assert failure(*steps) == (2, errno.EPERM)


@pytest.mark.usefixtures("root_only")
def test_a_capability_that_is_not_inheritable_is_not_ambient(failure: Failure) -> None:
    steps = (CLONE, SetCapabilities(("cap_chown",)), RaiseAmbient(KEPT))
    assert failure(*steps) == (2, errno.EPERM)


def test_an_ordinary_user_may_have_none(output: Output) -> None:
    steps = [SetUid(NOBODY)] if os.geteuid() == 0 else []
    after = capabilities(output(CLONE, *steps, SetCapabilities(()), script=STATUS))
    assert {after[name] for name in SETS if name != "CapBnd"} == {0}


@pytest.mark.usefixtures("root_only")
def test_capabilities_are_not_kept_where_that_is_locked(python: Output) -> None:
    code = """
    libc.prctl(28, 1 << 5)  # PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED
    report = spawn(Plan((Clone(Namespace(0)), KeepCapabilities(), program)))
    print(report.index, errno.errorcode[report.error])
    """
    imports = "from pyns.capabilities import KeepCapabilities\n"
    assert python(imports + textwrap.dedent(code)) == "1 EPERM"


def test_no_new_privileges_is_for_the_child_alone(output: Output) -> None:
    # it can't fail: prctl(2) refuses only other arguments
    assert status(output, "NoNewPrivs", NoNewPrivileges()) == "1"
    assert status(output, "NoNewPrivs") == status(output, "NoNewPrivs") != "1"


ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, seccomp.ALLOW)


def test_a_filter_is_in_force_for_the_child_alone(output: Output) -> None:
    before = status(output, "Seccomp_filters")
    after = status(output, "Seccomp_filters", NoNewPrivileges(), InstallFilter(ALLOW_ALL))
    assert (int(after), status(output, "Seccomp_filters")) == (int(before) + 1, before)


def test_what_a_filter_refuses_fails(output: Output) -> None:
    denied = seccomp.deny(["uname"], error=errno.EXDEV)
    script = "uname 2>&1 || true"
    said = output(CLONE, NoNewPrivileges(), InstallFilter(denied), script=script)
    assert "cross-device link" in said


def test_a_filter_that_forbids_execve_is_the_program_s_error(failure: Failure) -> None:
    denied = seccomp.deny(["execve"], error=errno.EMLINK)
    assert failure(CLONE, NoNewPrivileges(), InstallFilter(denied)) == (3, errno.EMLINK)


def test_a_filter_takes_no_new_privileges(failure: Failure) -> None:
    steps = [SetUid(NOBODY)] if os.geteuid() == 0 else []
    at = len(steps) + 1
    assert failure(CLONE, *steps, InstallFilter(ALLOW_ALL)) == (at, errno.EACCES)


@pytest.mark.parametrize(
    "program",
    [b"", bytes(8), ALLOW_ALL * 4097, struct.pack("=HBBI", 0x05, 0, 0, 9) + ALLOW_ALL],
    ids=["empty", "no return", "too long", "jump outside"],
)
def test_a_filter_that_the_kernel_s_check_refuses_fails_with_einval(
    program: bytes, failure: Failure
) -> None:
    assert failure(CLONE, NoNewPrivileges(), InstallFilter(program)) == (2, errno.EINVAL)


@pytest.mark.parametrize("count", [2**16, 2**16 + 1])
def test_a_filter_is_not_cut_off(count: int, failure: Failure) -> None:
    steps = (CLONE, NoNewPrivileges(), InstallFilter(ALLOW_ALL * count))
    assert failure(*steps) == (2, errno.EINVAL)


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
