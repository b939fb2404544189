"""The command `pyns` as a shell, a script and a terminal use it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyns import Container, Limits, Namespace, clone_into
from pyns.cgroups import Cgroup

PYNS = [sys.executable, "-P", "-m", "pyns"]


def pyns(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 50} | options
    return subprocess.run([*PYNS, *words], **options)


def python(*words: str) -> list[str]:
    return [sys.executable, "-Sc", *words]


def outcome(*words: str, **options: Any) -> dict[str, Any]:
    """Run with --json to an fd and return what was written."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as told:
        pyns("run", "--json", str(writing), *words, pass_fds=(writing,), **options)
        os.close(writing)
        found: dict[str, Any] = json.loads(told.read())
    return found


@contextmanager
def running(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Yield a pyns whose program has said that it is there."""
    process = subprocess.Popen(
        [*PYNS, *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


HANDLER = """
import os, signal, sys
def handle(number, frame):
    sys.stdout.write(f"got {number}\\n"); sys.stdout.flush(); os._exit(7)
signal.signal(int(sys.argv[1]), handle)
print("ready", flush=True)
while True: signal.pause()
"""
DEAF = "print('ready', flush=True); import time; time.sleep(50)"


@pytest.mark.usefixtures("namespaces")
class TestRun:
    def test_program_is_pid_1_of_the_default_container(self) -> None:
        done = pyns("run", "--hostname", "box", "--", "sh", "-c", "echo $$ $(uname -n); ls /proc")
        assert done.stderr == ""
        assert done.stdout.splitlines()[:2] == ["1 box", "1"]

    def test_stdin_and_stdout_are_the_programs_byte_by_byte(self) -> None:
        data = bytes(range(256)) * 1000
        done = pyns("run", "--", "cat", input=data, text=False)
        output: Any = done.stdout
        assert (output, done.returncode) == (data, 0)

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            (("--", "true"), 0),
            (("--", "sh", "-c", "exit 3"), 3),
            (("--share", "pid", "--", "sh", "-c", "kill -9 $$"), 137),
            (("--init", "--", "sh", "-c", "kill -TERM $$"), 143),
            (("--timeout", "0.1", "--", "sleep", "50"), 124),
            (("--root", "/does/not/exist", "--", "true"), 125),
            (("--no-such-option", "--", "true"), 125),
            (("--hostname", "", "--", "true"), 125),
            (("-w", "/does/not/exist", "--", "true"), 125),
            ((), 125),
            (("--", "/etc/passwd"), 126),
            (("--", "/"), 126),
            (("--", "/does/not/exist"), 127),
        ],
    )
    def test_exit_status(self, words: tuple[str, ...], status: int) -> None:
        done = pyns("run", *words)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)

    def test_failure_is_a_sentence_with_the_step_and_the_hint_below(self) -> None:
        done = pyns("run", "--root", "/does/not/exist", "--", "true")
        sentence, hint = done.stderr.splitlines()
        assert sentence.startswith("pyns: step ")
        assert sentence.endswith("No such file or directory (ENOENT)")
        assert hint.startswith("hint: root= is a directory")

    def test_program_that_can_not_be_executed_has_its_hint_below(self, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("#!/bin/sh\n")
        sentence, hint = pyns("run", "--", str(script)).stderr.splitlines()
        assert sentence.startswith(f"pyns: {script}: Permission denied (EACCES), step ")
        assert hint.startswith(f"hint: '{script}' is not executable, its mode is ")

    def test_debug_shows_the_traceback(self) -> None:
        done = pyns("run", "--debug", "--root", "/does/not/exist", "--", "true")
        assert done.stderr.startswith("Traceback")
        assert done.returncode == 125

    def test_no_colour_but_on_a_terminal(self) -> None:
        assert "\x1b" not in pyns("run", "--nothing").stderr

    def test_timeout_ends_all_of_it(self) -> None:
        told = outcome("--timeout", "0.1", "--", "sh", "-c", "sleep 50 & sleep 50")
        assert (told["status"], told["reason"], told["signal"]) == (124, "timeout", "SIGKILL")

    def test_json_tells_status_reason_and_usage(self, tmp_path: Path) -> None:
        file = tmp_path / "outcome"
        done = pyns("run", "--json", str(file), "--", "sh", "-c", "exit 3")
        told = json.loads(file.read_text())
        assert done.returncode == told["status"] == told["returncode"] == 3
        assert (told["reason"], told["signal"], told["error"]) == ("exited", None, None)
        assert told["usage"]["wall_seconds"] > 0
        assert told["args"] == ["sh", "-c", "exit 3"]
        assert [each["step"][:7] for each in told["timing"]][-1] == "execute"
        assert all(each["nanoseconds"] >= 0 for each in told["timing"])

    def test_json_tells_the_step_that_failed(self) -> None:
        told = outcome("--root", "/does/not/exist", "--", "true")
        assert (told["status"], told["reason"], told["usage"]) == (125, "not_started", None)
        assert told["error"]["step"]["kind"] in ("new_root", "open_tree")
        assert told["error"]["errno"] == 2

    def test_json_fd_is_not_the_programs(self) -> None:
        # 3 is the directory that ls reads
        told = outcome("--", "sh", "-c", 'exit "$(ls /proc/self/fd | wc -l)"')
        assert told["status"] == 4

    def test_json_that_can_not_be_written_is_told_before_anything_starts(self) -> None:
        for place in ("/does/not/exist", "99"):
            done = pyns("run", "--json", place, "--", "echo", "started")
            assert (done.returncode, done.stdout) == (125, "")
            assert place in done.stderr

    def test_program_of_a_container_without_a_pid_namespace(self) -> None:
        done = pyns("run", "--namespaces", "", "--", "sh", "-c", "echo $PPID")
        assert done.returncode == 0
        assert int(done.stdout) > 1

    def test_file_and_options_make_one_container(self, tmp_path: Path) -> None:
        file = tmp_path / "box.toml"
        file.write_text(pyns("plan", "--hostname", "of-file", "--toml").stdout)
        assert pyns("run", str(file), "--", "uname", "-n").stdout == "of-file\n"
        assert pyns("run", str(file), "--hostname", "x", "--", "uname", "-n").stdout == "x\n"

    def test_file_that_is_wrong_is_named_with_the_place(self, tmp_path: Path) -> None:
        file = tmp_path / "box.toml"
        file.write_text('[[mounts]]\ntype = "tmpfs"\ntarget = "tmp"\n')
        done = pyns("run", str(file), "--", "true")
        assert done.returncode == 125
        assert f"{file}: mounts[0]: target='tmp' is not absolute" in done.stderr


@pytest.mark.usefixtures("namespaces")
class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    @pytest.mark.parametrize("options", [(), ("--init",)], ids=str)
    def test_signal_reaches_the_program_which_decides(
        self, options: tuple[str, ...], number: signal.Signals
    ) -> None:
        with running("run", *options, "--", *python(HANDLER, str(int(number)))) as process:
            process.send_signal(number)
            assert process.communicate(timeout=20)[0] == f"got {int(number)}\n"
            assert process.returncode == 7

    def test_signal_reaches_a_pid_1_that_waits_for_it(self) -> None:
        with running("run", "--", *python(WAITS)) as process:
            # it is not blocked while it is waited for, nor is there a handler
            [pid] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            while not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" S"):
                pass
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert process.returncode == 7

    @pytest.mark.parametrize("options", [(), ("--init",), ("--share", "pid"), ("--new-session",)])
    def test_program_without_a_handler_ends(self, options: tuple[str, ...]) -> None:
        with running("run", *options, "--", *python(DEAF)) as process:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert process.returncode == 143

    def test_signal_that_was_ignored_stays_ignored(self) -> None:
        words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *PYNS, "run", "--", *python(DEAF)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
            assert process.returncode == 143

    def test_end_is_noticed_also_by_a_caller_who_ignores_sigchld(self) -> None:
        done = subprocess.run(
            [*PYNS, "run", "--", "sh", "-c", "sleep 0.1; exit 3"],
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
            timeout=20,
        )
        assert done.returncode == 3

    @pytest.mark.parametrize("options", [(), ("--init",)], ids=str)
    def test_key_of_the_terminal_reaches_the_program_once(self, options: tuple[str, ...]) -> None:
        told = on_terminal([*PYNS, "run", *options, "--", *python(COUNTS)], b"ready", b"\x03")
        assert told.count(b"got") == 1

    def test_key_of_the_terminal_ends_a_pid_1_without_a_handler(self) -> None:
        words = ["sh", "-c", 'trap : INT; "$@"; echo status $?', "sh", *PYNS, "run", "--"]
        assert b"status 130" in on_terminal([*words, *python(DEAF)], b"ready", b"\x03")


WAITS = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
raise SystemExit(7)
"""
COUNTS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("got", flush=True))
print("ready", flush=True)
for _ in range(20): time.sleep(0.05)
"""


def on_terminal(words: list[str], awaited: bytes, keys: bytes) -> bytes:
    """Run a command on a terminal, type when it has said something, return what it showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(words[0], words)
    shown, typed = b"", False
    try:
        while select.select([master], [], [], 40)[0]:
            try:
                read = os.read(master, 4096)
            except OSError:  # EIO: nobody has it open any more
                break
            shown += read
            if awaited in shown and not typed:
                os.write(master, keys)
                typed = True
            if not read:
                break
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)
    assert typed, shown
    return shown


@pytest.mark.usefixtures("namespaces")
class TestTerminal:
    def test_program_has_one_of_its_own(self) -> None:
        code = "import os; print([os.isatty(n) for n in range(3)], os.getsid(0) == os.getpid())"
        done = pyns("run", "-t", "--dev", "/dev", "--", *python(code), input="")
        assert done.stdout.replace("\r", "") == "[True, True, True] True\n"

    def test_timeout_holds_there_too(self) -> None:
        assert (
            pyns("run", "-t", "--timeout", "0.2", "--", "sleep", "50", input="").returncode == 124
        )

    def test_signal_ends_it_and_its_program(self) -> None:
        with running("run", "-t", "--", *python(DEAF), stderr=subprocess.DEVNULL) as process:
            process.terminate()
            process.wait(20)
            assert process.returncode == 143

    def test_failure_is_red(self) -> None:
        words = [*PYNS, "run", "--root", "/does/not/exist", "--", "true"]
        assert b"\x1b[31m" in on_terminal(
            ["sh", "-c", '"$@"; read x', "sh", *words], b"hint", b"\n"
        )
        plain = ["sh", "-c", 'NO_COLOR=1 "$@"; read x', "sh", *words]
        assert b"\x1b[31m" not in on_terminal(plain, b"hint", b"\n")


class TestEnter:
    @pytest.mark.usefixtures("namespaces")
    def test_program_is_in_the_container_of_the_process(self) -> None:
        with clone_into(Container(hostname="entered"), ["sleep", "50"]) as process:
            done = pyns("enter", str(process.pid), "--", "uname", "-n")
            process.kill()
        assert (done.stdout, done.stderr, done.returncode) == ("entered\n", "", 0)

    @pytest.mark.usefixtures("namespaces")
    def test_environment_and_directory_are_said(self) -> None:
        with clone_into(Container(), ["sleep", "50"]) as process:
            done = pyns(
                "enter", str(process.pid), "-e", "X=1", "-w", "/usr", "sh", "-c", "echo $X; pwd"
            )
            process.kill()
        assert done.stdout == "1\n/usr\n"

    @pytest.mark.parametrize("words", [(), ("sh",), ("--", "sh"), (str(2**22 + 1), "sh"), ("7",)])
    def test_no_process_or_no_program_is_told(self, words: tuple[str, ...]) -> None:
        done = pyns("enter", *words)
        assert done.returncode == 125
        assert done.stderr.startswith("pyns: ")


class TestPlan:
    def test_nothing_happens(self, tmp_path: Path) -> None:
        file = tmp_path / "made"
        done = pyns("plan", "--", "touch", str(file))
        assert not file.exists()
        assert "execve" in done.stdout
        assert "nearest: unshare --mount" in done.stdout
        assert "nearest: bwrap " in done.stdout

    def test_forms(self) -> None:
        assert pyns("plan", "--steps").stdout.startswith(" 1. ")
        assert json.loads(pyns("plan", "--raw", "--hostname", "x").stdout)[0]["kind"] == "clone"
        assert json.loads(pyns("plan", "--json", "--hostname", "x").stdout)["hostname"] == "x"
        assert 'hostname = "x"' in pyns("plan", "--toml", "--hostname", "x").stdout

    @pytest.mark.usefixtures("privileged", "namespaces")
    def test_nearest_line_of_unshare_runs(self) -> None:
        if shutil.which("unshare") is None:
            pytest.skip("unshare: not in PATH")
        plan = pyns("plan", "--", "sh", "-c", "echo $$").stdout
        line = next(line for line in plan.splitlines() if line.startswith("nearest: unshare"))
        done = subprocess.run(
            line.removeprefix("nearest: "), shell=True, capture_output=True, text=True, timeout=20
        )
        assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.usefixtures("limits")
def test_cpu_time_is_that_of_all_its_processes() -> None:
    told = outcome(
        "--cpu-time", "0.2", "--timeout", "40", "--", "sh", "-c", "yes >/dev/null & yes >/dev/null"
    )
    assert (told["status"], told["reason"]) == (124, "cpu_time")
    assert told["usage"]["cpu_seconds"] >= 0.2


@pytest.mark.usefixtures("limits")
def test_limits_hold_and_their_group_is_gone() -> None:
    hog = "x = bytearray(64 << 20)"
    told = outcome("-m", "20M", "--memory-swap-max", "0", "--", *python(hog))
    assert (told["reason"], told["status"]) == ("oom_killed", 137)
    assert told["usage"]["oom_kills"] == 1


@pytest.mark.parametrize("words", [(), ("cgroup",)])
def test_without_a_subcommand_it_is_the_help(words: tuple[str, ...]) -> None:
    done = pyns(*words)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == pyns(*words, "--help").stdout


def test_what_is_missing_is_told_in_one_line() -> None:
    sentence, hint = pyns("completion").stderr.splitlines()
    assert sentence.endswith("Choose from: bash, zsh, fish")
    assert hint.startswith("hint: `pyns completion --help`")


@pytest.mark.parametrize("words", [("plan", "--steps", "--", "id"), ("ps",)])
def test_reader_who_has_enough_is_no_error(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = pyns(*words, capture_output=False, stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.usefixtures("namespaces")
def test_outcome_that_can_not_be_written_is_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w"):
        done = pyns("run", "--json", str(writing), "--", "true", pass_fds=(writing,))
    assert (done.returncode, done.stderr) == (125, f"pyns: --json {writing}: Broken pipe (EPIPE)\n")


def test_command_is_installed_beside_the_interpreter() -> None:
    script = os.path.join(sysconfig.get_path("scripts"), "pyns")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=20)
    assert done.stdout.startswith("pyns, version ")


def test_what_takes_long_to_import_is_left_to_those_who_need_it() -> None:
    code = (
        "import sys; from pyns.cli import main\n"
        "main(['run', '--namespaces', '', '--', 'true'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([*PYNS[:2], "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    heavy = {"rich", "asyncio", "tomllib", "pyroute2", "jeepney", "ctypes", "logging"}
    assert heavy & set(done.stdout.split()) == set()


def test_nothing_is_started_by_a_python_that_could_not_wait_for_it(tmp_path: Path) -> None:
    code = (
        "import signal, sys; del signal.sigwaitinfo  # as PyPy\n"
        "from pyns.cli import main\n"
        "sys.exit(main(['run', '--namespaces', '', '--', 'touch', sys.argv[1]]))"
    )
    started = tmp_path / "started"
    command = [*PYNS[:2], "-c", code, str(started)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, started.exists()) == (125, False)
    assert done.stderr.startswith("pyns: signal.sigwaitinfo is not in this Python")
    assert done.stderr.count("\n") == 1


class TestPs:
    @pytest.mark.usefixtures("namespaces")
    def test_container_is_shown_with_what_it_has_of_its_own(self) -> None:
        with clone_into(Container(hostname="x"), ["sleep", "50"]) as process:
            rows = pyns("ps").stdout.splitlines()
            process.kill()
        assert rows[0].split() == ["PID", "PROCS", "USER", "OWN", "NAMESPACES", "CGROUP", "COMMAND"]
        [row] = [row.split() for row in rows if row.split()[:1] == [str(process.pid)]]
        assert {"mount", "pid", "net"} <= set(row[3].split(","))
        assert row[-2:] == ["sleep", "50"]

    @pytest.mark.usefixtures("namespaces")
    def test_process_is_shown_with_those_who_share(self) -> None:
        with clone_into(Container(namespaces=Namespace.PID, init=True), ["sleep", "50"]) as process:
            [inside] = wait_for_children(process.pid)
            told = pyns("ps", str(inside)).stdout
            process.kill()
        assert f"PID {inside}, 2 inside" in told
        assert re.search(rf"^pid +\d+  {process.pid}$", told, re.MULTILINE)
        assert re.search(r"^uts +\d+  the caller and \d+ processes$", told, re.MULTILINE)
        assert "HIERARCHY" in told

    def test_each_namespace_is_shown_once(self) -> None:
        lines = pyns("ps", "--namespaces").stdout.splitlines()[1:]
        inodes = [line.split()[0] for line in lines]
        assert str(os.stat("/proc/self/ns/uts").st_ino) in inodes
        assert len(inodes) == len(set(inodes))

    def test_process_that_is_not_there_is_told(self) -> None:
        done = pyns("ps", str(2**22 + 1))
        assert (done.returncode, done.stdout) == (125, "")
        assert "no process" in done.stderr

    def test_name_of_a_process_can_not_command_the_terminal(self) -> None:
        words = [*python(DEAF), "\x1b[2J\n"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            told = pyns("ps", str(process.pid)).stdout
            process.kill()
        assert f"?[2J?: PID {process.pid}" in told
        assert "\x1b" not in told


def wait_for_children(pid: int) -> list[int]:
    while True:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return list(map(int, found))


class TestCgroup:
    @pytest.mark.usefixtures("limits")
    def test_tree_shows_groups_and_what_they_use(self) -> None:
        with Cgroup.create("cli-tree/inner", limits=Limits(pids_max=9)) as group:
            box = Container(namespaces=Namespace(0), cgroup=group)
            with clone_into(box, ["sleep", "50"]) as process:
                lines = pyns("cgroup", "tree").stdout.splitlines()
                process.kill()
        names = [line.split()[0] for line in lines]
        at = names.index("cli-tree")
        assert names[:1] == ["CGROUP"]
        inner = lines[at + 1].split()
        assert inner[:2] == ["inner", "1"]
        assert inner[-2:] == [str(process.pid), "sleep"]

    def test_watching_takes_a_terminal(self) -> None:
        done = pyns("cgroup", "tree", "--watch")
        assert done.returncode == 125
        assert "terminal" in done.stderr

    def test_watching_shows_it_again_until_it_is_interrupted(self) -> None:
        pytest.importorskip("rich")
        told = on_terminal(
            [*PYNS, "cgroup", "tree", "--all", "--watch", "--interval", "0.05"], b"%", b"\x03"
        )
        assert b"MEMORY" in told
        assert b"Traceback" not in told

    def test_tables_on_a_terminal_say_what_they_say_in_a_pipe(self) -> None:
        words = " ".join(["cgroup", "tree", "--all"])
        told = on_terminal(["sh", "-c", f'"$@" {words}; read x', "sh", *PYNS], b"CGROUP", b"\n")
        assert b"PROCS" in told


def test_cgroup_tree_of_no_group_is_refused() -> None:
    done = pyns("cgroup", "tree", "there/is/none")
    assert (done.returncode, done.stdout) == (125, "")
    assert "there is no group 'there/is/none'" in done.stderr


def test_doctor_says_what_works() -> None:
    done = pyns("doctor", "--json")
    findings = {each["name"]: each["works"] for each in json.loads(done.stdout)}
    assert findings["start a program"]
    assert done.returncode == (0 if findings["namespace: pid"] else 1)
    assert pyns("doctor").stdout.split()[:2] == ["yes", "kernel"]


@pytest.mark.usefixtures("namespaces", "limits")
def test_demo_is_what_happens() -> None:
    done = pyns("demo", "--no-wait")
    assert (done.stderr, done.returncode) == ("", 0)
    assert "   I am PID 1\n   /proc shows 1 processes\n" in done.stdout
    assert "   lo\n" in done.stdout
    assert "killed by the OOM killer, with 100 MiB charged" in done.stdout


def said_to_shell(words: str) -> list[str]:
    """Return what a shell is told when the last of the words is being typed."""
    count = len(words.split(" ")) - 1
    shell = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_PYNS_COMPLETE": "bash_complete"}
    script = os.path.join(sysconfig.get_path("scripts"), "pyns")
    done = subprocess.run(
        [script], env=os.environ | shell, capture_output=True, text=True, timeout=20
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pyns pl", ["plan"]),
        ("pyns run --hostn", ["--hostname"]),
        ("pyns run --net n", ["none"]),
        ("pyns run --init --unshare pid,u", ["pid,uts", "pid,user"]),
        ("pyns run --propagation sh", ["shared"]),
        ("pyns run --cap-add net_b", ["net_bind_service", "net_broadcast"]),
        ("pyns run --cap-add NET_B", ["NET_BIND_SERVICE", "NET_BROADCAST"]),
        ("pyns completion z", ["zsh"]),
        ("pyns cgroup t", ["tree"]),
    ],
)
def test_shell_is_told_how_words_go_on(words: str, expected: list[str]) -> None:
    assert said_to_shell(words) == [f"plain,{word}" for word in expected]


@pytest.mark.parametrize(
    "words",
    ["pyns run --root /u", "pyns run --net /u", "pyns run --bind / /u", "pyns run --json /u",
     "pyns run /u", "pyns run -- /u", "pyns run -- ls /u"],
)  # fmt: skip
def test_shell_completes_paths_itself(words: str) -> None:
    assert said_to_shell(words) == ["file,/u"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    script = pyns("completion", shell).stdout
    assert "_PYNS_COMPLETE" in script
    if shutil.which(shell) is not None:
        options = ["-n"] if shell != "fish" else ["--no-execute"]
        subprocess.run([shell, *options], input=script, text=True, check=True, timeout=20)
