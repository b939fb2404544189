"""With terminal=... the program has a controlling terminal, which nobody else has."""

from __future__ import annotations

import dataclasses
import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Container,
    Dev,
    Limits,
    Namespace,
    Proc,
    Process,
    SpawnError,
    Tmpfs,
    clone_into,
    run,
)

pytestmark = pytest.mark.usefixtures("namespaces")

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
TIMEOUT = 20  # seconds, for what a terminal may be waited for
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
MOUNTS = (Proc(), Dev())
NOTHING = Container(namespaces=Namespace(0))
# a caller in the background of a script ignores SIGINT
BOX = Container(mounts=MOUNTS, reset_signals=True)
WITH_INIT = Container(mounts=MOUNTS, reset_signals=True, init=True)
HOSTS = Container()  # the host's /dev/pts is there
EVERY = pytest.mark.parametrize(
    "box", [NOTHING, HOSTS, BOX, WITH_INIT], ids=["nothing", "host's", "own", "init"]
)
OWN = pytest.mark.parametrize("box", [BOX, WITH_INIT], ids=["PID 1", "init"])

FDS = """
fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
say(*sorted(fds, key=int))
"""
PRELUDE = """
import errno, fcntl, os, signal, struct, sys, termios, time
def say(*words): print(*words, flush=True)
def until(condition):
    for _ in range(2000):
        if condition(): return
        time.sleep(0.01)
    sys.exit("it did not come about")
"""


def python(code: str) -> list[str]:
    return [PYTHON, "-P", "-S", "-c", PRELUDE + textwrap.dedent(code)]


def output(box: Container | Process, code: str, **options: Any) -> str:
    """Return what a program prints on its terminal."""
    options = {"terminal": True, **options}
    with clone_into(box, python(code), **options) as process:
        assert process.terminal is not None
        said = process.terminal.read()
        assert (process.wait(), said) == (0, said)
    return said.decode().replace("\r\n", "\n").removesuffix("\n")


@contextmanager
def started(box: Container | Process, args: list[str], **options: Any) -> Iterator[Process]:
    """Start a program in a terminal; it does not outlive the `with`, whatever it does."""
    with clone_into(box, args, **{"terminal": True, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: Process, end: bytes) -> bytes:
    assert process.terminal is not None
    said, deadline = b"", time.monotonic() + TIMEOUT
    while end not in said:
        ready, _, _ = select.select([process.terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{end!r} did not come within {TIMEOUT} s, but {said!r}"
        chunk = process.terminal.read(1024)
        assert chunk, f"it ended with {said!r}"
        said += chunk
    return said


def type_in(process: Process, keys: bytes) -> None:
    assert process.terminal is not None
    assert process.terminal.write(keys) == len(keys)


@EVERY
class TestEveryContainer:
    def test_has_it_as_stdin_stdout_and_stderr(self, box: Container) -> None:
        (name,) = output(box, "say(*{os.ttyname(fd) for fd in range(3)})").split()
        assert name.startswith("/dev/pts/")

    def test_has_the_size_that_was_asked_for(self, box: Container) -> None:
        code = "say(*os.get_terminal_size(0))"
        assert output(box, code, terminal=(7, 321)) == "321 7"
        assert output(box, code, terminal=os.terminal_size((321, 7))) == "321 7"

    def test_leads_a_session_that_it_controls(self, box: Container) -> None:
        code = """
            me = os.getpid()
            say(os.getsid(0) == os.getpgrp() == os.tcgetpgrp(0) == me)
            with open("/dev/tty", "w") as tty: print(os.tcgetpgrp(tty.fileno()) == me, file=tty)
        """
        assert output(box, code) == "True\nTrue"

    def test_has_no_other_fd(self, box: Container) -> None:
        assert output(box, FDS) == "0 1 2"

    def test_has_none_of_the_master_when_fds_are_inherited(self, box: Container) -> None:
        given: dict[str, Any] = {"close_fds": False, "stdin": DEVNULL, "stderr": DEVNULL}
        without = run(box, python(FDS), **given, stdout=PIPE, text=True).stdout
        assert output(box, FDS, **given) == without.removesuffix("\n")

    def test_has_pipes_where_they_were_asked_for(self, box: Container) -> None:
        code = """
            print(*map(os.isatty, range(3)))
            print("to stderr", file=sys.stderr)
            with open("/dev/tty", "w") as tty: print(*os.get_terminal_size(tty.fileno()), file=tty)
        """
        streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE}
        with started(box, python(code), terminal=(7, 321), **streams) as process:
            assert process.communicate() == (b"False False False\n", b"to stderr\n")
            assert process.terminal is not None
            assert process.terminal.read() == b"321 7\r\n"

    def test_has_stderr_where_stdout_is(self, box: Container) -> None:
        code = "os.write(2, b'to stderr'); say(os.isatty(2))"
        assert output(box, code, stderr=subprocess.STDOUT) == "to stderrTrue"

    def test_reads_what_is_typed_and_echoes_it(self, box: Container) -> None:
        with started(box, ["cat"]) as process:
            type_in(process, b"line\n")
            assert read_until(process, b"line\r\nline\r\n")
            type_in(process, b"\x04")
            assert process.wait() == 0

    def test_is_told_of_a_new_size(self, box: Container) -> None:
        code = """
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
            say("ready")
            signal.sigwait([signal.SIGWINCH])
            say(*os.get_terminal_size(0))
            sys.stdin.readline()
        """
        with started(box, python(code), terminal=(24, 80)) as process:
            read_until(process, b"ready\r\n")
            process.resize(7, 321)
            read_until(process, b"321 7\r\n")
            type_in(process, b"\n")
            assert process.wait() == 0

    def test_can_be_interrupted_in_the_foreground(self, box: Container) -> None:
        # in its own group, as a shell starts it
        code = """
            mode = termios.tcgetattr(0)
            mode[3] |= termios.NOFLSH  # else ^C takes what is said with it
            termios.tcsetattr(0, termios.TCSANOW, mode)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            job = os.fork()
            if job == 0:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.setpgid(0, 0)
                os.tcsetpgrp(0, os.getpid())
                say("ready")
                time.sleep(60)
            stopped = os.waitpid(job, os.WUNTRACED)[1]
            say("stopped", os.WIFSTOPPED(stopped))
            os.kill(job, signal.SIGCONT)
            say(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
        """
        with started(box, python(code)) as process:
            read_until(process, b"ready\r\n")
            type_in(process, b"\x1a")
            read_until(process, b"stopped True\r\n")
            type_in(process, b"\x03")
            read_until(process, b"-2\r\n")
            assert process.wait() == 0

    def test_hears_it_when_the_master_is_closed(self, box: Container) -> None:
        code = """
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
            say("ready")
            signal.sigwait([signal.SIGHUP])
            os._exit(42)
        """
        with started(box, python(code)) as process:
            read_until(process, b"ready\r\n")
            assert process.terminal is not None
            process.terminal.close()
            assert process.wait() == 42

    def test_leaves_nothing_when_the_program_is_not_there(self, box: Container) -> None:
        with pytest.raises(FileNotFoundError):
            clone_into(box, ["/does/not/exist"], terminal=True)

    def test_has_a_terminal_and_a_limit_of_fds(self, box: Container) -> None:
        assert output(dataclasses.replace(box, rlimits={"nofile": 5}), "say(1)") == "1"


@OWN
class TestOwnTerminals:
    def test_are_the_container_s_alone(self, box: Container) -> None:
        with clone_into(
            box, python("say(os.ttyname(0), *os.listdir('/dev/pts')); input()"), terminal=True
        ) as process:
            said = read_until(process, b"\n").split()
            assert (said[0], set(said[1:])) == (b"/dev/pts/0", {b"0", b"ptmx"})

    @pytest.mark.usefixtures("root_only")
    def test_are_the_user_s(self, box: Container) -> None:
        code = """
            path = os.ttyname(0)
            with open(path, "w"): say(os.getuid(), os.stat(path).st_uid, oct(os.stat(path).st_mode))
        """
        assert output(box, code, user=4321, cwd="/") == "4321 4321 0o20620"

    def test_take_what_is_pushed_into_them(self, box: Container) -> None:
        # TIOCSTI: the shell of the caller's terminal would execute it
        inner = """
            for fd in range(3):
                for byte in b"id\\n":
                    try: fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
                    except OSError as error: say(errno.errorcode[error.errno])
            say("pushed")
        """
        outer = f"""
            from pyns import *
            box = Container(mounts=[Proc(), Dev()], init={box.init})
            with clone_into(box, {python(inner)!r}, terminal=True) as process:
                said = process.terminal.read()
            waiting = fcntl.ioctl(0, termios.FIONREAD, bytes(4))
            # EIO: dev.tty.legacy_tiocsti is 0
            print(b"pushed" in said, b"id" in said or b"EIO" in said, waiting)
        """
        arguments = [sys.executable, "-P", "-c", PRELUDE + textwrap.dedent(outer)]
        with Process(arguments, terminal=True) as process:
            assert process.terminal is not None
            assert process.terminal.read() == b"True True b'\\x00\\x00\\x00\\x00'\r\n"

    def test_end_the_program_by_ctrl_c_if_it_is_not_pid_1(self, box: Container) -> None:
        with started(box, ["sleep", "60"]) as process:
            type_in(process, b"\x03")
            read_until(process, b"^C")  # shown after the signal is sent
            if not box.init:
                assert process.poll() is None
                process.kill()
            assert process.wait() == (-signal.SIGINT if box.init else -signal.SIGKILL)

    def test_are_opened_in_a_running_container(self, box: Container) -> None:
        with started(box, ["sleep", "60"], terminal=False) as first:
            code = "say(os.ttyname(0), os.tcgetpgrp(0) == os.getpid(), *os.get_terminal_size(0))"
            assert output(first, code, terminal=(7, 321)) == "/dev/pts/0 True 321 7"
            done = run(first.pid, ["tty"], terminal=True, stdout=PIPE, stderr=DEVNULL)
            assert done.stdout == b"/dev/pts/0\n"


class TestWhatIsRefused:
    def test_is_a_container_without_terminals(self) -> None:
        for mounts in ([Proc(), Tmpfs("/dev")], [Proc(), Tmpfs("/dev/pts")]):
            with pytest.raises(SpawnError, match=r"no /dev/pts inside: add Dev\(\)") as caught:
                clone_into(Container(mounts=mounts), ["true"], terminal=True)
            assert caught.value.step.kind == "open_terminal"

    def test_is_communicate_where_nobody_would_read(self) -> None:
        for stdout in (None, PIPE):
            with (
                Process(["cat"], terminal=True, stdout=stdout) as process,
                pytest.raises(ValueError, match=r"use process\.terminal"),
            ):
                process.communicate()

    def test_is_a_new_size_without_a_terminal(self) -> None:
        with Process(["true"]) as process, pytest.raises(ValueError, match="has no terminal"):
            process.resize(24, 80)
        with Process(["true"], terminal=True) as process:
            pass
        with pytest.raises(ValueError, match="rows=0"):
            process.resize(0, 80)
        with pytest.raises(ValueError, match="closed file"):
            process.resize(24, 80)


def test_the_caller_s_size_is_taken() -> None:
    code = """
        from pyns import *
        box = Container(namespaces=Namespace(0))
        print(run(box, ["stty", "size"], terminal=True, capture_output=True).stdout)
    """
    arguments = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    for size in ((7, 321), (65535, 1)):
        with Process(arguments, terminal=size) as process:
            assert process.terminal is not None
            assert process.terminal.read() == f"b'{size[0]} {size[1]}\\n'\r\n".encode()
    done = subprocess.run(arguments, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, timeout=TIMEOUT)
    assert done.stdout == b"b'24 80\\n'\n"


def test_without_it_there_is_none() -> None:
    with Process(["true"]) as process:
        assert process.terminal is None


@pytest.mark.usefixtures("limits")
def test_a_program_in_a_limited_group_has_one() -> None:
    box = Container(mounts=MOUNTS, limits=Limits(pids_max=7))
    assert output(box, "say(os.isatty(0))") == "True"


def test_a_sandbox_has_one_and_owns_it() -> None:
    # for root, its user namespace comes after the mounts
    code = "path = os.ttyname(0); open(path, 'w').close(); say(path, os.stat(path).st_uid)"
    sandbox = Container.sandbox()
    assert output(sandbox, code) == "/dev/pts/0 1000"
    with started(sandbox, ["sleep", "60"], terminal=False) as first:
        assert output(first, code) == "/dev/pts/0 1000"


def test_a_root_of_its_own_has_one(box: Callable[..., Container]) -> None:
    assert output(box(Dev()), "say(os.ttyname(0))", cwd="/") == "/dev/pts/0"


def test_a_link_in_the_place_of_devpts_leads_nowhere(
    box: Callable[..., Container], new_root: Path
) -> None:
    (new_root / "dev").mkdir()
    (new_root / "dev/pts").symlink_to("/proc/self/fd")
    with pytest.raises(SpawnError) as caught:
        clone_into(box(), ["true"], terminal=True)
    assert (caught.value.step.kind, caught.value.errno) == ("open_terminal", errno.ENODEV)
