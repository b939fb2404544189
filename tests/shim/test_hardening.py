"""What restricts the program: each step in success and failure."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import landlock, seccomp
from pyns.capabilities import DropBounding, KeepCapabilities, RaiseAmbient, SetCapabilities
from pyns.labels import SetExecLabel
from pyns.landlock import AllowPath, AllowPort, CreateRuleset, RestrictSelf
from pyns.namespaces import Namespace
from pyns.rlimits import INFINITY, NUMBERS, SetRlimit
from pyns.scheduling import NewCoreCookie, SetAffinity, SetNice, SetOomScoreAdj, SetTimerSlack
from pyns.seccomp import InstallFilter
from pyns.steps import Clone, DieWithParent, Execute, NewKeyring, NoNewPrivileges, SetUid
from pyns.syscalls import numbers

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


def test_a_session_keyring_is_the_program_s_own(python: Output) -> None:
    code = """
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]  # keyctl(2)
    def ask(*arguments):
        return libc.syscall(number, *(ctypes.c_long(each) for each in arguments))
    look = "import ctypes; print(ctypes.CDLL(None).syscall(%d, 0, ctypes.c_long(-3), 0))" % number
    look = Execute((sys.executable.encode(),), (b"python3", b"-c", look.encode()), ())
    for steps in (), (NewKeyring(),):
        before = ask(0, -3, 0)  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING
        reader, writer = os.pipe()
        report = spawn(Plan((Clone(Namespace(0)), *steps, Duplicate(writer, 1), look)))
        assert report.error == 0, report.error
        inside = int(os.read(reader, 100))
        os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
        print(inside > 0, inside == before, ask(0, -3, 0) == before)
    """
    if refused := keyrings_refused():
        pytest.skip(refused)
    said = python("import ctypes\n" + textwrap.dedent(code))
    assert said == "True True True\nTrue False True"


def keyrings_refused() -> str | None:
    number = numbers(os.uname().machine)["keyctl"]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, 0, ctypes.c_long(-3), 0) >= 0:
        return None
    return f"keyctl(KEYCTL_GET_KEYRING_ID): {os.strerror(ctypes.get_errno())}"


def test_a_session_keyring_fails_where_keyctl_is_refused(failure: Failure) -> None:
    denied = seccomp.deny(["keyctl"], error=errno.EDQUOT)
    steps = (CLONE, NoNewPrivileges(), InstallFilter(denied), NewKeyring())
    assert failure(*steps) == (3, errno.EDQUOT)


def test_no_signal_is_ignored_or_blocked_any_more(python: Output) -> None:
    code = """
    for number in range(1, 65):
        if number not in (9, 19, 32, 33):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # not by a shell: dash unblocks signals
    arguments = (b"grep", b"-E", b"^Sig(Blk|Ign)", b"/proc/self/status")
    look = Execute((b"/bin/grep",), arguments, ())
    for steps in (), (ResetSignals(),):
        sys.stdout.flush()
        report = spawn(Plan((Clone(Namespace(0)), *steps, RestoreSignalMask(), look)))
        os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
    """
    before, after = python(code).split("SigBlk")[1:]
    values = [line.split()[-1] for line in after.splitlines()]
    assert values == ["0" * 16] * 2
    assert "0" * 16 not in before.splitlines()[0]


def test_oom_score_adj_is_the_child_s_alone(output: Output) -> None:
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    script = "cat /proc/self/oom_score_adj"
    assert output(CLONE, SetOomScoreAdj(777), script=script) == "777"
    assert own.read_text() == before


@pytest.mark.usefixtures("root_only")
def test_oom_score_adj_is_written_from_within_a_pid_namespace(output: Output) -> None:
    # the /proc is the caller's: to this one it is another pid, and still itself
    script = "cat /proc/self/oom_score_adj; echo $$"
    assert output(Clone(Namespace.PID), SetOomScoreAdj(777), script=script) == "777\n1"


def test_oom_score_adj_is_not_lowered_without_a_capability(failure: Failure) -> None:
    steps = [SetUid(NOBODY)] if os.geteuid() == 0 else []
    # another user may not even open the file, as the memory is the caller's
    assert failure(CLONE, *steps, SetOomScoreAdj(-1000))[1] == errno.EACCES


def test_oom_score_adj_that_is_no_number_fails_with_einval(failure: Failure) -> None:
    assert failure(CLONE, SetOomScoreAdj(1001)) == (1, errno.EINVAL)


def test_nice_is_the_child_s_alone(output: Output) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert output(CLONE, SetNice(13), script="nice") == "13"
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_nice_is_not_lowered_by_an_ordinary_user(failure: Failure) -> None:
    steps = [SetUid(NOBODY)] if os.geteuid() == 0 else []
    assert failure(CLONE, *steps, SetNice(-7)) == (len(steps) + 1, errno.EACCES)


def test_the_cpus_are_these(output: Output) -> None:
    before = os.sched_getaffinity(0)
    script = "grep Cpus_allowed_list /proc/self/status"
    last = max(before)
    assert output(CLONE, SetAffinity((last,)), script=script).split()[1] == str(last)
    assert os.sched_getaffinity(0) == before


def test_a_cpu_that_is_not_there_fails_with_einval(failure: Failure) -> None:
    assert failure(CLONE, SetAffinity((9999,))) == (1, errno.EINVAL)


def test_timer_slack_is_the_child_s_alone(output: Output) -> None:
    # it can't fail: prctl(2) takes any number
    before = Path("/proc/self/timerslack_ns").read_text()
    assert output(CLONE, SetTimerSlack(1), script="cat /proc/self/timerslack_ns") == "1"
    assert Path("/proc/self/timerslack_ns").read_text() == before


def test_a_core_cookie_is_the_child_s_alone(
    printed: Callable[..., str], core_scheduling_refused: int
) -> None:
    if core_scheduling_refused:
        said = os.strerror(core_scheduling_refused)
        pytest.skip(f"prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE): {said}")
    code = (
        "import ctypes; cookie = ctypes.c_uint64()\n"
        "assert ctypes.CDLL(None).prctl(62, 0, 0, 0, ctypes.byref(cookie)) == 0\n"
        "print(cookie.value)"
    )
    ask = Execute((os.fsencode(sys.executable),), (b"python", b"-c", code.encode()), ())
    first, second = (int(printed(CLONE, NewCoreCookie(), ask)) for _ in range(2))
    assert len({0, first, second}) == 3
    assert int(printed(CLONE, ask)) == 0


def test_no_core_scheduling_on_this_machine_fails_the_step(
    failure: Failure, core_scheduling_refused: int
) -> None:
    if not core_scheduling_refused:
        pytest.skip("prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE): granted, and nothing to refuse")
    assert failure(CLONE, NewCoreCookie()) == (1, core_scheduling_refused)
    assert NewCoreCookie().hint(core_scheduling_refused)


def test_a_label_is_written_to_the_file(output: Output, tmp_path: Path) -> None:
    (tmp_path / "exec").touch()
    output(CLONE, SetExecLabel("SELinux", os.fsencode(tmp_path / "exec"), b"label"), script=":")
    assert (tmp_path / "exec").read_text() == "label"


def test_a_label_without_its_file_fails_with_enoent(failure: Failure, tmp_path: Path) -> None:
    step = SetExecLabel("SELinux", os.fsencode(tmp_path / "exec"), b"label")
    assert failure(CLONE, step) == (1, errno.ENOENT)


def test_a_label_that_no_module_has_fails_with_einval(failure: Failure) -> None:
    path = "/proc/self/attr/exec"
    if not os.path.exists(path):
        pytest.skip(f"{path}: it is not there")
    step = SetExecLabel("SELinux", path.encode(), b"exec pyns-no-such-label")
    index, error = failure(CLONE, step)
    # AppArmor says ENOENT, a kernel without any module EINVAL
    assert (index, error in (errno.EINVAL, errno.ENOENT)) == (1, True)


@pytest.fixture
def landlocked() -> None:
    """Skip where Landlock knows no ports."""
    if landlock.abi() < 4:
        pytest.skip(f"landlock_create_ruleset(LANDLOCK_CREATE_RULESET_VERSION): {landlock.abi()}")


@pytest.mark.usefixtures("landlocked")
def test_a_ruleset_allows_a_directory_and_a_file_and_no_more(
    tmp_path: Path, output: Output
) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "file").write_text("in a directory ")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").write_text("another")
    steps = (
        CreateRuleset(("read",)),
        AllowPath(b"/usr", ("read",)),
        AllowPath(b"/lib", ("read",)),
        AllowPath(os.fsencode(tmp_path / "allowed"), ("read",)),
        AllowPath(os.fsencode(tmp_path / "file"), ("read",)),  # as far as a file has it
        NoNewPrivileges(),
        RestrictSelf(),
    )
    script = f"cd {tmp_path}; cat allowed/file file; cat other 2>/dev/null || echo ', no other'"
    assert output(CLONE, *steps, script=script) == "in a directory a file, no other"
    assert (tmp_path / "other").read_text() == "another"


@pytest.mark.usefixtures("landlocked")
def test_a_ruleset_allows_a_port_and_no_other(output: Output) -> None:
    code = (
        "import errno, socket\n"
        "for port in (47613, 47614):\n"
        "    print(errno.errorcode.get(socket.socket().connect_ex((chr(58) * 2, port)), 0))\n"
    ).replace("socket.socket()", "socket.socket(socket.AF_INET6)")
    steps = (
        CreateRuleset(("connect_tcp",)),
        AllowPort(47613, ("connect_tcp",)),
        NoNewPrivileges(),
        RestrictSelf(),
    )
    said = output(CLONE, *steps, script=f"exec {sys.executable} -c '{code}'").split()
    assert said[0] != "EACCES"
    assert said[1] == "EACCES"


@pytest.mark.usefixtures("landlocked")
def test_a_ruleset_against_nothing_fails_with_enomsg(failure: Failure) -> None:
    assert failure(CLONE, CreateRuleset(())) == (1, errno.ENOMSG)


@pytest.mark.usefixtures("landlocked")
def test_a_path_that_is_not_there_fails_with_enoent(tmp_path: Path, failure: Failure) -> None:
    step = AllowPath(os.fsencode(tmp_path / "missing"), ("read",))
    assert failure(CLONE, CreateRuleset(("read",)), step) == (2, errno.ENOENT)


@pytest.mark.usefixtures("landlocked")
def test_a_path_over_a_magic_link_fails_with_eloop(failure: Failure) -> None:
    step = AllowPath(b"/proc/self/root/etc", ("read",))
    assert failure(CLONE, CreateRuleset(("read",)), step) == (2, errno.ELOOP)


@pytest.mark.usefixtures("landlocked")
def test_what_the_ruleset_is_not_against_can_not_be_allowed(failure: Failure) -> None:
    path = AllowPath(b"/usr", ("execute",))
    assert failure(CLONE, CreateRuleset(("read",)), path) == (2, errno.EINVAL)
    port = AllowPort(1, ("bind_tcp",))
    assert failure(CLONE, CreateRuleset(("read",)), port) == (2, errno.EINVAL)


@pytest.mark.usefixtures("landlocked")
@pytest.mark.parametrize("step", [AllowPath(b"/", ("read",)), AllowPort(1, ("bind_tcp",))])
def test_rules_without_a_ruleset_fail_with_ebadf(
    step: AllowPath | AllowPort, failure: Failure
) -> None:
    assert failure(CLONE, step) == (1, errno.EBADF)


@pytest.mark.usefixtures("landlocked")
def test_a_ruleset_is_put_into_force_once(failure: Failure) -> None:
    steps = (CLONE, NoNewPrivileges(), CreateRuleset(("bind_tcp",)), RestrictSelf(), RestrictSelf())
    assert failure(*steps) == (4, errno.EBADF)


@pytest.mark.usefixtures("landlocked")
def test_a_ruleset_takes_no_new_privileges(failure: Failure) -> None:
    steps = [SetUid(NOBODY)] if os.geteuid() == 0 else []
    at = len(steps) + 2
    found = failure(CLONE, *steps, CreateRuleset(("bind_tcp",)), RestrictSelf())
    assert found == (at, errno.EPERM)


@pytest.mark.usefixtures("landlocked")
def test_sixteen_rulesets_are_the_most(failure: Failure) -> None:
    index, error = failure(
        CLONE, NoNewPrivileges(), *[CreateRuleset(("bind_tcp",)), RestrictSelf()] * 17
    )
    assert (index <= 2 * 17 + 1, error) == (True, errno.E2BIG)


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
