"""A thread in other namespaces, and back. Each test is a process that may change its own."""

from __future__ import annotations

import gc
import os
import re
import textwrap
import threading
from collections.abc import Callable

import pytest

from pyns import Namespace, NamespaceError, kernel, namespaces

pytestmark = pytest.mark.usefixtures("namespaces")

Python = Callable[..., str]
RELEASE = os.uname().release
IS_OLD = not kernel.is_at_least((6, 2), RELEASE)
PRELUDE = """
import os, re, signal, subprocess, sys, threading, time
from pyns import *
from pyns import namespaces
from pyns.namespaces import setns, unshare

N = Namespace
FOR_CHILDREN = {"pid": "pid_for_children", "time": "time_for_children"}

def links():
    directory = "/proc/thread-self/ns"
    return {name: os.readlink(f"{directory}/{name}") for name in os.listdir(directory)}

def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

def refusal(visit):
    try:
        with visit:
            return "granted"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def state():
    return links(), os.getcwd(), os.listdir("/proc/self/fd")

home = state()
"""


@pytest.fixture
def python(admin: Callable[..., str]) -> Python:
    """Run code, with what it uses defined."""

    def execute(code: str, *arguments: object) -> str:
        return admin(PRELUDE + textwrap.dedent(code), *arguments)

    return execute


class TestUnshare:
    @pytest.mark.parametrize("name", ["mnt", "cgroup", "uts", "ipc", "net"])
    def test_is_in_a_new_one_and_back(self, python: Python, name: str) -> None:
        python(
            """
            name = sys.argv[1]
            with unshare(N.parse(name)):
                now = links()
                assert {link for link in now if now[link] != home[0][link]} == {name}
                assert output("readlink", f"/proc/self/ns/{name}") == now[name]
                assert os.getcwd() == home[1]
            assert state() == home
            """,
            name,
        )

    def test_of_pid_makes_the_next_process_pid_1(self, python: Python) -> None:
        python(
            """
            with unshare(N.PID):
                with clone_into(Container(namespaces=N(0)), ["sleep", "60"]) as first:
                    assert output("sh", "-c", "echo $$ $PPID") == "2 0"
                    assert links()["pid"] == home[0]["pid"] != links()["pid_for_children"]
                    first.kill()
            assert state() == home
            assert output("sh", "-c", "echo $PPID") == str(os.getpid())
            """
        )

    @pytest.mark.skipif(IS_OLD, reason=f"execve enters a time namespace since 6.2, not {RELEASE}")
    def test_of_time_is_for_processes(self, python: Python) -> None:
        python(
            """
            with unshare(N.TIME):
                with open("/proc/self/timens_offsets", "w") as file:
                    file.write("boottime 1000000 0")
                here = time.clock_gettime(time.CLOCK_BOOTTIME)
                assert float(output("cat", "/proc/uptime").split()[0]) > here + 900000
                assert "children have another one already" in refusal(unshare(N.TIME))
            assert state() == home
            """
        )

    @pytest.mark.skipif(IS_OLD, reason=f"execve enters a time namespace since 6.2, not {RELEASE}")
    def test_of_all_from_which_there_is_a_way_back(self, python: Python) -> None:
        python(
            """
            with unshare(~N.USER):
                child = output("sh", "-c", "readlink /proc/self/ns/*").split()
            assert set(home[0].values()) & set(child) == {home[0]["user"]}
            assert state() == home
            """
        )

    def test_shares_no_mounts(self, python: Python) -> None:
        python(
            """
            def mount(*words):
                subprocess.run(["mount", *words], check=True)
            def is_mounted():
                return "pyns-test" in output("cat", "/proc/self/mountinfo")
            with unshare(N.MOUNT):
                mount("--make-rshared", "/")
                with unshare(N.MOUNT):
                    mount("-t", "tmpfs", "pyns-test", "/mnt")
                    assert is_mounted()
                assert not is_mounted()
                mount("-t", "tmpfs", "pyns-test", "/mnt")
            assert not is_mounted()
            assert state() == home
            """
        )

    def test_is_for_one_thread(self, python: Python) -> None:
        python(
            """
            inside, seen, found = threading.Event(), threading.Event(), []
            def visit():
                with unshare(N.UTS | N.NET):
                    found.append(namespaces.of())
                    inside.set()
                    seen.wait()
                found.append(namespaces.of())
            thread = threading.Thread(target=visit)
            thread.start()
            inside.wait()
            here = namespaces.of()
            seen.set()
            thread.join()
            assert found[1] == here
            assert {kind for kind in here if found[0][kind] != here[kind]} == {N.UTS, N.NET}
            """
        )

    def test_of_pid_within_pid_is_refused_with_why(self, python: Python) -> None:
        python(
            """
            with unshare(N.PID):
                assert "which can't be named without PID 1" in refusal(unshare(N.PID))
                with clone_into(Container(namespaces=N(0)), ["sleep", "60"]) as first:
                    assert "born in another PID namespace already" in refusal(unshare(N.PID))
                    try:
                        run(Container(), ["true"])
                    except SpawnError as error:
                        assert error.hint.endswith("namespaces.unshare or setns of PID")
                    first.kill()
            assert state() == home
            """
        )

    @pytest.mark.usefixtures("ordinary")
    def test_without_the_privilege_is_refused_with_what_it_needs(self) -> None:
        with (
            pytest.raises(NamespaceError, match=r"EPERM.*CAP_SYS_ADMIN"),
            namespaces.unshare(Namespace.UTS | Namespace.NET),
        ):
            pass
        with (
            pytest.raises(NamespaceError, match=r"EPERM.*CAP_SYS_ADMIN"),
            namespaces.setns("/proc/self/ns/net", Namespace.NET),
        ):
            pass


class TestSetns:
    def test_of_a_process(self, python: Python) -> None:
        python(
            """
            kinds = N.MOUNT | N.CGROUP | N.UTS | N.IPC | N.PID | N.NET
            with clone_into(Container(hostname="other"), ["sleep", "60"]) as process:
                before, there = state(), namespaces.of(process.pid)
                with setns(process, kinds):
                    assert os.uname().nodename == "other"
                    assert os.getcwd() == "/"
                    assert output("sh", "-c", "echo $$ $PPID") == "2 0"
                assert state() == before
                for target in (process.pid, Fd(process.pidfd)):
                    with setns(target, N.NET | N.IPC):
                        here = namespaces.of()
                        joined = {kind for kind in here if here[kind] == there[kind]}
                        assert joined == {N.NET, N.IPC} | ({N.USER, N.TIME} & joined)
                    assert state() == before
                process.kill()
            """
        )

    def test_of_a_path_and_of_an_open_file(self, python: Python) -> None:
        python(
            """
            with clone_into(Container(hostname="other"), ["sleep", "60"]) as process:
                path = f"/proc/{process.pid}/ns/uts"
                with setns(path, N.UTS):
                    assert os.uname().nodename == "other"
                with open(path) as file, setns(file, N.UTS):
                    assert os.uname().nodename == "other"
                said = refusal(setns(path, N.NET))
                assert said == "ValueError: the uts namespace is in this file, not net"
                said = refusal(setns("/dev/null", N.NET))
                assert said == "ValueError: no namespace is in this file, not net"
                process.kill()
            assert state() == home
            """
        )

    def test_of_one_that_has_ended_is_refused(self, python: Python) -> None:
        python(
            """
            process = clone_into(Container(), ["true"])
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
            for target in (process, process.pid):
                assert "ESRCH). The process has ended" in refusal(setns(target, N.NET))
            with process:
                pass
            assert refusal(setns(process, N.NET)).startswith("ProcessLookupError")
            assert state() == home
            """
        )

    def test_of_a_pid_namespace_above_is_refused_with_why(self, python: Python) -> None:
        python(
            """
            code = (
                "from pyns import *; from pyns.namespaces import setns\\n"
                "try:\\n"
                "    with setns(Fd(0), Namespace.PID): print('granted')\\n"
                "except NamespaceError as error: print(error.errno, error.hint)"
            )
            with open("/proc/self/ns/pid") as above:
                inside = Container(namespaces=N.PID | N.MOUNT)
                done = run(inside, [sys.executable, "-P", "-c", code], stdin=above, stdout=-1)
            assert done.stdout == b"22 A PID namespace is entered from those above it\\n"
            """
        )


class TestWayBack:
    def test_is_taken_when_the_body_raises(self, python: Python) -> None:
        python(
            """
            try:
                with unshare(N.UTS | N.MOUNT):
                    raise KeyError
            except KeyError:
                pass
            assert state() == home
            """
        )

    def test_leads_to_the_root_and_directory_of_before(self, python: Python) -> None:
        python(
            """
            def mount_ids():
                ids = []
                for path in ("/", "."):
                    fd = os.open(path, os.O_PATH)
                    with open(f"/proc/self/fdinfo/{fd}") as file:
                        ids += [line for line in file if line.startswith("mnt_id")]
                    os.close(fd)
                return ids
            with unshare(N.MOUNT):
                subprocess.run(["mount", "--rbind", "/", "/mnt"], check=True)
                outside = mount_ids()
                os.chroot("/mnt")
                os.chdir("/usr")
                before = mount_ids(), os.getcwd()
                assert before[0] != outside
                with unshare(N.MOUNT):
                    os.chdir("/")
                assert (mount_ids(), os.getcwd()) == before
            assert state() == home
            """
        )

    def test_that_is_lost_is_an_error_that_no_except_oserror_hides(self, python: Python) -> None:
        said = python(
            """
            from ctypes import CDLL, c_uint32
            try:
                with unshare(N.UTS | N.NET):
                    nothing = (c_uint32 * 6)()
                    assert CDLL(None).capset((c_uint32 * 2)(0x20080522, 0), nothing) == 0
            except OSError:
                print("hidden")
            except RuntimeError as error:
                print(error)
            """
        )
        assert said == (
            "this thread can't go back to where it was, and has to end: uts (Operation not "
            "permitted), net (Operation not permitted), after: enter new namespaces: uts, net"
        )

    def test_is_not_taken_by_another_thread(self, python: Python) -> None:
        python(
            """
            visit = unshare(N.UTS)
            visit.__enter__()
            def leave():
                try:
                    visit.__exit__(None, None, None)
                except RuntimeError as error:
                    found.append(str(error))
            found = []
            thread = threading.Thread(target=leave)
            thread.start()
            thread.join()
            assert found == ["this is not the thread that is away: enter new namespaces: uts"]
            assert links() != home[0]
            visit.__exit__(None, None, None)
            assert state() == home
            """
        )

    def test_of_who_was_refused_is_no_matter_to_another_thread(self) -> None:
        refused = []

        def enter() -> None:
            visit = namespaces.setns("/proc/self/ns/uts", Namespace.NET)
            refused.append(visit)
            with pytest.raises(ValueError, match="the uts namespace is in this file"), visit:
                pass

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert len(refused) == 1
        refused.clear()
        gc.collect()  # what a finalizer raises fails the test

    def test_is_one_for_each_call(self, python: Python) -> None:
        said = python("visit = unshare(N.UTS)\nwith visit: pass\nprint(refusal(visit))")
        assert said == "RuntimeError: entered twice: call setns or unshare again"

    @pytest.mark.parametrize(("kind", "why"), [("MOUNT", "CLONE_FS"), ("TIME", "EUSERS")])
    def test_that_other_threads_bar_is_refused_before(
        self, python: Python, kind: str, why: str
    ) -> None:
        said = python(
            """
            kind, end = N[sys.argv[1]], threading.Event()
            thread = threading.Thread(target=end.wait)
            thread.start()
            said = {refusal(unshare(kind)), refusal(setns("/proc/1/ns/mnt", kind))}
            end.set()
            thread.join()
            assert state() == home
            print(*said)
            """,
            kind,
        )
        assert re.fullmatch(
            rf"ValueError: {kind.lower()}: with 2 threads in the process, .* \({why}\)\. .*", said
        )

    def test_is_taken_whenever_a_signal_handler_raises(self, python: Python) -> None:
        python(
            """
            class Alarm(Exception): pass
            def handle(number, frame):
                raise Alarm
            signal.signal(signal.SIGALRM, handle)
            caught = 0
            for n in range(1500):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + 7 * n % 400))
                    with unshare(N.UTS):
                        pass
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Alarm:
                    caught += 1
                assert state() == home, n
            assert caught > 0
            """
        )


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: namespaces.unshare(Namespace.USER), ValueError, "user: nobody comes back"),
        (lambda: namespaces.setns(1, Namespace.USER | Namespace.NET), ValueError, "user: nobody"),
        (lambda: namespaces.unshare(Namespace(0)), ValueError, "kinds is empty"),
        (lambda: namespaces.unshare("net"), TypeError, "kinds='net': give Namespace.NET"),  # type: ignore[arg-type]
        (lambda: namespaces.setns(0, Namespace.NET), ValueError, "target=0 is not a pid"),
        (lambda: namespaces.setns(True, Namespace.NET), TypeError, "is not a path, a Process"),
        (
            lambda: namespaces.setns("/x", Namespace.NET | Namespace.UTS),
            ValueError,
            "'/x' is one namespace, not uts, net",
        ),
    ],
)
def test_nonsense_is_refused_at_the_call(
    call: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        call()
