"""With init=True pyns-init is PID 1, and the program notices nothing but its children's absence."""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Completed,
    Container,
    IdMap,
    Limits,
    Namespace,
    Process,
    SpawnError,
    clone_into,
    run,
    seccomp,
)

pytestmark = pytest.mark.usefixtures("namespaces")

BOX = Container(init=True)
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
RANGE = (IdMap(0, 100_000, 65_536),)
CATCHABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
DEADLY = sorted(
    signal.valid_signals()
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)
IGNORED = [signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH]

# what programs below have in common: pids() lists those of this namespace
PRELUDE = """
import ctypes, errno, os, resource, signal, struct, sys, time
def pids(): return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
def say(*words): print(*words, flush=True)
def until(condition):
    for _ in range(2000):
        if condition(): return
        time.sleep(0.01)
    sys.exit("it did not come about")
"""


# the host's where there is one: others may not be able to look where this one lies
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def python(code: str, *, interpreter: str = PYTHON) -> list[str]:
    return [interpreter, "-P", "-S", "-c", PRELUDE + textwrap.dedent(code)]


def output(box: Container, code: str, **options: Any) -> str:
    done: Completed = run(box, python(code), capture_output=True, text=True, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout).removesuffix("\n")


def program_of(process: Process) -> int:
    """Return the pid, as seen from here, of the one child that the init has."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


@pytest.fixture
def sleeping() -> Iterator[Process]:
    with clone_into(BOX, ["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.fixture
def root_only() -> None:
    if os.geteuid() != 0:
        pytest.skip(f"geteuid() is {os.geteuid()}: only 0 can look into what is not dumpable")


class TestPid1:
    def test_is_the_init_and_the_program_its_child(self) -> None:
        code = "say(os.getpid(), os.getppid(), pids(), open('/proc/1/comm').read().strip())"
        assert output(BOX, code) == "2 1 [1, 2] pyns-init"

    def test_is_the_program_without(self) -> None:
        assert output(Container(), "say(os.getpid(), os.getppid(), pids())") == "1 0 [1]"

    def test_takes_less_than_100_kb(self, sleeping: Process) -> None:
        status = Path(f"/proc/{sleeping.pid}/status").read_text()
        sizes = dict(line.split(":\t") for line in status.splitlines())
        assert int(sizes["VmHWM"].removesuffix("kB")) < 100
        assert int(sizes["Threads"]) == 1

    def test_lets_go_of_a_large_environment(self) -> None:
        large = {"PATH": os.environ["PATH"]} | {f"V{n}": "x" * 100_000 for n in range(10)}
        process = clone_into(BOX, ["sleep", "60"], env=large)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            sizes = dict(line.split(":\t") for line in status.splitlines())
            assert int(sizes["VmRSS"].removesuffix("kB")) < 100
            assert int(sizes["VmSize"].removesuffix("kB")) < 1000
        finally:
            process.kill()
            process.wait()

    def test_needs_a_pid_namespace(self) -> None:
        with pytest.raises(ValueError, match=r"add Namespace\.PID"):
            Container(namespaces=Namespace.MOUNT, init=True)

    def test_works_without_any_other_namespace(self) -> None:
        box = Container(namespaces=Namespace.PID, init=True)
        assert run(box, ["sh", "-c", "exit $$"]).returncode == 2

    def test_works_in_a_root_without_anything_else(self, box: Callable[..., Container]) -> None:
        assert run(box(init=True), ["sh", "-c", "exit $$"]).returncode == 2


class TestStatus:
    @pytest.mark.timeout(300)
    def test_of_every_exit(self) -> None:
        said = [run(BOX, ["sh", "-c", f"exit {code}"]).returncode for code in range(256)]
        assert said == list(range(256))

    @pytest.mark.parametrize("number", DEADLY, ids=str)
    def test_of_death_by_signal(self, number: int) -> None:
        arguments = python(
            f"resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
            f"if {number} not in (9, 19): signal.signal({number}, signal.SIG_DFL)\n"
            f"os.kill(os.getpid(), {number})"
        )
        assert run(BOX, arguments).returncode == -number

    def test_is_that_of_the_program_whatever_its_children_do(self) -> None:
        assert run(BOX, ["sh", "-c", "(exit 5) & (exit 6); kill -9 $! ; exit 7"]).returncode == 7

    def test_is_known_when_somebody_else_has_reaped(self) -> None:
        for script, returncode, code in (("exit 7", 7, 7), ("kill -9 $$", -9, 137)):
            process = clone_into(BOX, ["sh", "-c", script])
            assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == code
            assert process.wait() == returncode

    def test_is_not_taken_by_a_forked_child(self) -> None:
        process = clone_into(BOX, ["sh", "-c", "read line; kill -9 $$"], stdin=PIPE)
        pid = os.fork()
        if pid == 0:
            process.poll()
            process.returncode = 0
            del process
            os._exit(0)
        os.waitpid(pid, 0)
        process.communicate(b"\n")
        assert process.returncode == -9

    def test_is_known_when_the_caller_ignores_its_children(self) -> None:
        script = (
            "import signal; from pyns import *\n"
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
            "box = Container(init=True)\n"
            "grep = ['grep', 'SigIgn', '/proc/self/status']\n"
            "ignored = [run(c, grep, stdout=-1).stdout for c in (box, Container())]\n"
            "assert ignored[0] == ignored[1] and int(ignored[0].split()[1], 16) & 1 << 16\n"
            "print(run(box, ['sh', '-c', 'exit 7']), run(box, ['sh', '-c', 'kill -9 $$']))"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], stdout=-1, timeout=30)
        assert done.stdout.count(b"returncode=7") == done.stdout.count(b"returncode=-9") == 1

    def test_usage_is_the_program_s(self) -> None:
        done = run(
            BOX, python("end = time.process_time() + 0.2\nwhile time.process_time() < end: 0")
        )
        assert done.usage is not None
        assert done.usage.cpu_seconds is not None
        assert done.usage.cpu_seconds >= 0.2


class TestOrphans:
    def test_are_reaped(self) -> None:
        code = """
            for _ in range(100):
                if os.fork() == 0:
                    if os.fork() == 0: time.sleep(0.05)
                    os._exit(0)
                os.wait()
            until(lambda: pids() == [1, 2])
        """
        assert output(BOX, code) == ""

    def test_stay_zombies_without(self) -> None:
        code = """
            if os.fork() == 0:
                os._exit(0 if os.fork() else 0)
            os.wait()
            time.sleep(0.1)
            say(pids())
        """
        assert output(Container(), code) == "[1, 3]"

    @pytest.mark.timeout(300)
    def test_may_be_thousands(self) -> None:
        code = """
            for _ in range(2000):
                if os.fork() == 0:
                    os.fork()
                    os._exit(0)
                os.wait()
            until(lambda: pids() == [1, 2])
        """
        assert output(BOX, code) == ""

    def test_of_clone_without_a_signal_are_reaped(self) -> None:
        # a child that sends no SIGCHLD is found by __WALL only, and sends one once it is an orphan
        code = """
            clone = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
            libc = ctypes.CDLL(None)
            if os.fork() == 0:
                libc.syscall(clone, 0, 0, 0, 0, 0)
                os._exit(0)
            os.wait()
            until(lambda: pids() == [1, 2])
        """
        assert output(BOX, code) == ""

    def test_end_with_the_program(self) -> None:
        code = """
            for _ in range(50):
                if os.fork() == 0:
                    for number in signal.valid_signals() - {9, 19}:
                        signal.signal(number, signal.SIG_IGN)
                    if os.fork(): os.setsid()
                    say("x")
                    time.sleep(1000)
            sys.exit(9)
        """
        process = clone_into(BOX, python(code), stdout=PIPE)
        # all 100 hold the pipe
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, set(out)) == (9, set(b"x\n"))

    def test_end_with_the_init(self, sleeping: Process) -> None:
        program = program_of(sleeping)
        pidfd = os.pidfd_open(program)
        os.kill(sleeping.pid, signal.SIGKILL)
        assert sleeping.wait() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, 0)
        os.close(pidfd)


class TestSignals:
    def test_reach_the_program(self) -> None:
        code = """
            numbers = signal.valid_signals() - {9, 19}
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
            say("ready")
            while True: say(int(signal.sigwait(numbers)))
        """
        process = clone_into(BOX, python(code), stdout=PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            for number in CATCHABLE:
                process.send_signal(number)
                assert process.stdout.readline() == f"{int(number)}\n"
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize("number", [n for n in DEADLY if n != signal.SIGKILL], ids=str)
    def test_have_the_default_action(self, number: int) -> None:
        process = clone_into(BOX, ["sleep", "60"])
        process.send_signal(number)
        assert process.wait(timeout=20) == -number

    def test_that_are_ignored_by_default_end_nothing(self, sleeping: Process) -> None:
        for number in IGNORED:
            sleeping.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            sleeping.wait(timeout=0.2)

    def test_term_does_nothing_to_a_program_that_is_pid_1(self) -> None:
        process = clone_into(Container(), ["sleep", "60"])
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        process.kill()
        process.wait()

    def test_kill_ends_all(self, sleeping: Process) -> None:
        sleeping.kill()
        assert sleeping.wait(timeout=20) == -signal.SIGKILL

    def test_stop_stops_the_init_only(self, sleeping: Process) -> None:
        program = program_of(sleeping)

        def state(pid: int) -> str:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]

        sleeping.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while state(sleeping.pid) != "T" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state(sleeping.pid) == "T"
        assert state(program) in "RS"
        sleeping.terminate()
        sleeping.send_signal(signal.SIGCONT)
        assert sleeping.wait(timeout=20) == -signal.SIGTERM

    def test_come_from_inside_as_well(self) -> None:
        assert run(BOX, ["sh", "-c", "kill -TERM 1; sleep 60"]).returncode == -signal.SIGTERM

    def test_can_t_kill_the_init_from_inside(self) -> None:
        script = "kill -KILL 1; kill -STOP 1; kill -KILL -1; exit 4"
        assert run(BOX, ["sh", "-c", script]).returncode == 4

    def test_timeout_kills(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            run(BOX, ["sleep", "60"], timeout=0.1)


class TestStartErrors:
    @pytest.fixture
    def bad(self, tmp_path: Path) -> dict[str, list[str]]:
        for name in ("plain", "no_format", "no_interpreter"):
            (tmp_path / name).write_text("#!/no/such\n" if name == "no_interpreter" else "text\n")
        (tmp_path / "no_format").chmod(0o755)
        (tmp_path / "no_interpreter").chmod(0o755)
        (tmp_path / "loop").symlink_to("loop")
        paths = ["missing", "plain", "no_format", "no_interpreter", "loop", "plain/below", "."]
        return {path: [f"{tmp_path}/{path}"] for path in paths} | {
            "one string": ["true", "x" * 2**20],
            "all strings": ["true", *["x" * 100_000] * 100],
            "in no directory": ["no-such-program"],
        }

    @pytest.mark.parametrize(
        ("name", "number"),
        [
            ("missing", errno.ENOENT),
            ("in no directory", errno.ENOENT),
            ("plain", errno.EACCES),
            (".", errno.EACCES),
            ("no_format", errno.ENOEXEC),
            ("no_interpreter", errno.ENOENT),
            ("loop", errno.ELOOP),
            ("plain/below", errno.ENOTDIR),
            ("one string", errno.E2BIG),
            ("all strings", errno.E2BIG),
        ],
    )
    def test_are_those_without_init(
        self, name: str, number: int, bad: dict[str, list[str]]
    ) -> None:
        told = []
        for box in (BOX, Container()):
            with pytest.raises(OSError) as caught:  # noqa: PT011  any, but the same
                run(box, bad[name], env={"PATH": "/usr/bin:/bin"})
            told.append((type(caught.value), caught.value.args, caught.value.filename))
        assert told[0] == told[1]
        assert told[0][1][0] == number

    def test_arguments_may_be_as_long_as_without(self) -> None:
        def longest(box: Container) -> int:
            low, high = 0, 130_000
            while low < high:
                middle = (low + high + 1) // 2
                arguments = [*["x" * 100_000] * 19, "x" * middle, *["x" * 10_000] * 7]
                try:
                    run(box, ["true", *arguments], env={"PATH": "/usr/bin:/bin", "A": "x" * 50_000})
                    low = middle
                except OSError:
                    high = middle - 1
            return low

        found = longest(Container(namespaces=Namespace.PID))
        assert 0 < found < 130_000
        assert longest(Container(namespaces=Namespace.PID, init=True)) == found

    def test_of_the_working_directory(self) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            run(BOX, ["true"], cwd="/no/such")
        assert caught.value.filename == "/no/such"

    def test_name_their_step(self) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            run(BOX, ["/no/such"])
        assert caught.value.__notes__[0].startswith("step ")
        assert "execute '/no/such'" in caught.value.__notes__[0]

    def test_of_a_step_of_the_program_s_own(self) -> None:
        with pytest.raises(SpawnError) as caught:
            run(BOX, ["true"], start_new_session=True, process_group=0)
        assert (caught.value.step.kind, caught.value.errno) == ("set_process_group", errno.EPERM)

    def test_are_nothing_that_a_program_says(self) -> None:
        code = """
            for fd in range(64):
                for message in (struct.pack("=Ii", 3, 2), struct.pack("=i", 9)):
                    try: os.write(fd, message)
                    except OSError: pass
            os._exit(127)
        """
        assert run(BOX, python(code), stdout=DEVNULL, stderr=DEVNULL).returncode == 127

    def test_when_no_memory_may_be_executed(self) -> None:
        sysctl = Path("/proc/sys/vm/memfd_noexec")
        if not sysctl.exists() or os.geteuid() != 0:
            pytest.skip(f"{sysctl}: not there (Linux 6.3), or only root may write it")
        code = """
            with open("/proc/sys/vm/memfd_noexec", "w") as file: file.write("2")
            from pyns import *
            try: run(Container(init=True), ["true"])
            except SpawnError as error: say(error.step.kind, error.errno, error.hint)
        """
        arguments = [a for a in python(code, interpreter=sys.executable) if a != "-S"]
        done = run(Container(), arguments, capture_output=True, text=True)
        assert done.stdout.startswith(f"execute_init {errno.EACCES} vm.memfd_noexec"), done.stderr


class TestProgram:
    def test_has_exactly_the_fds_that_it_has_without(self) -> None:
        reader, writer = os.pipe()
        try:
            code = "say(sorted(int(f) for f in os.listdir('/proc/self/fd')))"
            for options in ({}, {"pass_fds": [reader, writer]}, {"close_fds": False}):
                fds = {output(box, code, **options) for box in (BOX, Container())}
                assert len(fds) == 1, options
        finally:
            os.close(reader)
            os.close(writer)

    def test_reads_and_writes_what_it_is_given(self) -> None:
        data = os.urandom(300_000)
        done = run(BOX, ["cat"], input=data, stdout=PIPE)
        assert done.stdout == data

    def test_closes_its_output_and_the_caller_sees_it(self) -> None:
        process = clone_into(BOX, ["sh", "-c", "exec >&- 2>&-; sleep 60"], stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() + process.stderr.read() == b""
        assert process.poll() is None
        process.kill()
        process.communicate()

    def test_closes_its_input_and_the_caller_sees_it(self) -> None:
        reader, writer = os.pipe()
        process = clone_into(
            BOX, ["sh", "-c", "exec <&-; echo; sleep 60"], stdin=reader, stdout=PIPE
        )
        os.close(reader)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
        finally:
            os.close(writer)
            process.kill()
            process.communicate()

    def test_has_the_signals_umask_and_directory_that_it_has_without(self, tmp_path: Path) -> None:
        script = "grep -E '^(Sig(Blk|Ign|Cgt)|Umask|Groups|Cap|NoNew)' /proc/self/status; pwd"
        options: dict[str, Any] = {"cwd": tmp_path, "umask": 0o27, "stdout": PIPE}
        with_init, without = (
            run(box, ["sh", "-c", script], **options).stdout for box in (BOX, Container())
        )
        assert with_init == without

    def test_leads_its_session_when_it_is_asked_to(self) -> None:
        say_ids = "say(os.getpid(), os.getsid(0), os.getpgrp())"
        assert output(BOX, say_ids, start_new_session=True) == "2 2 2"
        assert output(BOX, say_ids, process_group=0) == "2 0 2"

    def test_stays_in_the_caller_s_group_and_the_init_does_not(self, sleeping: Process) -> None:
        # a terminal would signal both, and the init hand on what the program has already
        assert os.getpgid(program_of(sleeping)) == os.getpgrp()
        assert os.getpgid(sleeping.pid) == sleeping.pid
        assert os.getsid(sleeping.pid) == os.getsid(0)

    @pytest.mark.usefixtures("privileged")
    def test_is_the_user_that_it_is_to_be(self) -> None:
        options: dict[str, Any] = {"user": 1234, "group": 1235, "extra_groups": [1236]}
        said = output(BOX, "say(os.getresuid(), os.getresgid(), os.getgroups())", **options)
        assert said == "(1234, 1234, 1234) (1235, 1235, 1235) [1236]"

    @pytest.mark.usefixtures("limits")
    def test_is_in_its_group_from_the_start(self) -> None:
        done = run(
            Container(init=True, limits=Limits(memory_max="64M", memory_swap_max=0)),
            python("x = b'x' * 10**9"),
        )
        assert done.returncode == -signal.SIGKILL


class TestHardened:
    def test_is_as_without(self) -> None:
        hardening: dict[str, Any] = {
            "rlimits": {"nofile": 50, "core": 0},
            "capabilities": ("net_raw",),
            "no_new_privileges": True,
            "seccomp": seccomp.default(),
            "new_session": True,
            "new_keyring": True,
            "reset_signals": True,
            "nice": 5,
            "timer_slack_ns": 1000,
        }
        code = """
            with open("/proc/self/status") as file:
                kept = ("Sig", "Cap", "NoNew", "Seccomp:", "Seccomp_f", "Umask", "Groups")
                say(*[line for line in file if line.startswith(kept) and line[:4] != "SigQ"])
            say(os.getsid(0) == os.getpid(), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE))
        """
        with_init, without = (output(Container(init=i, **hardening), code) for i in (True, False))
        assert with_init == without
        assert "Seccomp:\t2" in with_init

    def test_init_has_no_more_rights_than_the_program(self) -> None:
        box = Container(init=True, capabilities=(), no_new_privileges=True)
        code = """
            def rights(pid):
                names = ("Cap", "NoNew", "Uid", "Gid", "Groups")
                with open(f"/proc/{pid}/status") as file:
                    return [line for line in file if line.startswith(names)]
            say(rights(1) == rights("self"))
        """
        assert output(box, code) == "True"

    def test_dies_with_the_caller(self) -> None:
        script = (
            "import sys, time; from pyns import *\n"
            "box = Container(init=True, die_with_parent=True)\n"
            "process = clone_into(box, ['sleep', '60'])\n"
            "print(process.pid, flush=True); time.sleep(60)"
        )
        with subprocess.Popen([sys.executable, "-P", "-c", script], stdout=PIPE) as caller:
            assert caller.stdout is not None
            pidfd = os.pidfd_open(int(caller.stdout.readline()))
            caller.kill()
        try:
            assert select.select([pidfd], [], [], 20)[0]
        finally:
            os.close(pidfd)

    def test_can_be_joined(self, sleeping: Process) -> None:
        assert run(sleeping, ["sh", "-c", "cat /proc/1/comm"], stdout=PIPE).stdout == b"pyns-init\n"


# Prints what the kernel does not forbid to do to PID 1, though it may fail for other reasons.
ATTACK = """
    libc = ctypes.CDLL(None, use_errno=True)
    PIDFD_GETFD, PROCESS_VM_READV = 438, {"x86_64": 310, "aarch64": 270}[os.uname().machine]
    def call(function, *arguments):
        if function(*arguments) < 0: raise OSError(ctypes.get_errno(), "")
    def getfd():
        pidfd = os.pidfd_open(1)
        for fd in range(64):
            if libc.syscall(PIDFD_GETFD, pidfd, fd, 0) >= 0: return
            if ctypes.get_errno() != errno.EBADF: raise OSError(ctypes.get_errno(), "")
        raise OSError(errno.EBADF, "")
    def opened(path, flags=os.O_RDONLY): return lambda: os.read(os.open(path, flags), 1) + b"x"
    def readv():
        buffer = ctypes.create_string_buffer(8)
        local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
        remote = (ctypes.c_void_p * 2)(0x400000, 8)
        one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
        call(libc.syscall, PROCESS_VM_READV, 1, local, one, remote, one, none)
    attempts = {
        "attach": lambda: call(libc.ptrace, 16, 1, None, None),
        "seize": lambda: call(libc.ptrace, 0x4206, 1, None, None),
        "getfd": getfd,
        "readv": readv,
        "fds": lambda: os.listdir("/proc/1/fd"),
        "fd": lambda: os.readlink("/proc/1/fd/3"),
        "exe": lambda: os.readlink("/proc/1/exe"),
        "exe, write": opened("/proc/1/exe", os.O_RDWR),
        "root": lambda: os.listdir("/proc/1/root/"),
        "cwd": lambda: os.readlink("/proc/1/cwd"),
        "mem": opened("/proc/1/mem", os.O_RDWR),
        "maps": opened("/proc/1/maps"),
        "environ": opened("/proc/1/environ"),
        "auxv": opened("/proc/1/auxv"),
        "stack": opened("/proc/1/stack"),
        "map_files": lambda: os.listdir("/proc/1/map_files"),
    }
    for name, attempt in attempts.items():
        try: attempt()
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES): continue
        say(name)
"""


class TestHiddenFromInside:
    def attack(self, box: Container, **options: Any) -> str:
        return output(box, ATTACK, env={"PATH": os.environ["PATH"]}, cwd="/", **options)

    def test_from_an_ordinary_user(self) -> None:
        options = {"user": 65534, "group": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}
        assert self.attack(BOX, **options) == ""

    @pytest.mark.usefixtures("privileged", "root_only")
    def test_from_root_in_a_user_namespace(self) -> None:
        box = Container(
            namespaces=BOX.namespaces | Namespace.USER, uid_map=RANGE, gid_map=RANGE, init=True
        )
        assert self.attack(box) == ""

    @pytest.mark.usefixtures("privileged", "root_only")
    def test_the_attack_works_on_others(self) -> None:
        # or the tests above would prove nothing
        box = Container(
            namespaces=BOX.namespaces | Namespace.USER, uid_map=RANGE, gid_map=RANGE, init=True
        )
        code = f"""
            if os.fork() == 0: time.sleep(1000)
            attack = {textwrap.dedent(ATTACK)!r}
            exec(attack.replace("/proc/1/", "/proc/3/").replace("open(1)", "open(3)")
                 .replace(", 1, None", ", 3, None").replace("READV, 1", "READV, 3"))
        """
        allowed = set(output(box, code).splitlines())
        assert allowed >= {"attach", "getfd", "readv", "fds", "exe", "mem", "maps", "environ"}

    def test_name_says_nothing_of_the_caller(self) -> None:
        code = "say(open('/proc/1/cmdline').read().rstrip(chr(0)), open('/proc/1/comm').read())"
        assert output(BOX, code, env={"SECRET": "x"}).split() == ["pyns-init"] * 2

    def test_ps_shows_a_neutral_name(self) -> None:
        done = run(BOX, ["ps", "-o", "args=", "-p", "1"], stdout=PIPE, text=True)
        assert done.stdout.strip() == "pyns-init"

    @pytest.mark.usefixtures("root_only")
    def test_has_no_environment_and_one_fd(self) -> None:
        reader, writer = os.pipe()
        process = clone_into(
            BOX, ["sleep", "60"], env={**os.environ, "SECRET": "x"}, pass_fds=[reader, writer]
        )
        try:
            proc = Path(f"/proc/{process.pid}")
            assert (proc / "environ").read_bytes() == b""
            [fd] = (proc / "fd").iterdir()
            assert os.readlink(fd).startswith("pipe:")
            assert os.readlink(proc / "cwd") == "/"
        finally:
            os.close(reader)
            os.close(writer)
            process.kill()
            process.wait()

    @pytest.mark.usefixtures("root_only")
    def test_its_program_can_t_be_changed_even_by_those_who_reach_it(
        self, sleeping: Process
    ) -> None:
        exe = f"/proc/{sleeping.pid}/exe"
        assert "memfd:pyns-init" in os.readlink(exe)
        with pytest.raises(OSError, match="Text file busy"):
            os.open(exe, os.O_RDWR)
        fd = os.open(exe, os.O_RDONLY)
        sleeping.kill()
        sleeping.wait()
        try:
            with pytest.raises(PermissionError):
                os.truncate(f"/proc/self/fd/{fd}", 0)
            writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
            with pytest.raises(PermissionError):
                os.write(writable, b"x")
            os.close(writable)
        finally:
            os.close(fd)


class TestMany:
    @pytest.mark.timeout(300)  # as in all that start hundreds: for emulated machines
    def test_300_in_a_row(self) -> None:
        for n in range(300):
            done = run(BOX, ["sh", "-c", f"echo {n}; exit {n % 256}"], stdout=PIPE, text=True)
            assert (done.returncode, done.stdout) == (n % 256, f"{n}\n")

    def test_from_eight_threads_at_once(self) -> None:
        failures: list[BaseException] = []

        def work(thread: int) -> None:
            try:
                for n in range(25):
                    assert run(BOX, ["sh", "-c", f"exit {thread * 25 + n}"]).returncode == (
                        thread * 25 + n
                    )
                    with pytest.raises(FileNotFoundError):
                        run(BOX, ["/no/such"])
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_fifty_at_a_time(self) -> None:
        processes = [
            clone_into(BOX, ["sh", "-c", "read x; exit $x"], stdin=PIPE) for _ in range(50)
        ]
        for n, process in enumerate(processes):
            process.communicate(b"%d\n" % n)
        assert [process.returncode for process in processes] == list(range(50))

    def test_one_that_is_dropped_leaves_no_fd(self) -> None:
        # the guard sees it
        process = clone_into(BOX, ["sh", "-c", "read line"], stdin=PIPE)
        pid, stdin = process.pid, process.stdin
        assert stdin is not None
        with pytest.warns(ResourceWarning):  # noqa: PT031
            del process
            gc.collect()
        stdin.close()
        os.waitpid(pid, 0)
