"""Process is a subprocess.Popen that knows its container."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from pyns import Completed, Container, Namespace, Process, clone_into, run

NOTHING = Container(namespaces=Namespace(0))


class TestPopen:
    def test_is_one(self) -> None:
        with Process(["true"]) as process:
            assert isinstance(process, subprocess.Popen)
            assert process.wait() == 0
            assert process.args == ["true"]

    def test_communicates(self) -> None:
        with Process(
            ["sh", "-c", "cat; echo oops >&2"], stdin=-1, stdout=-1, stderr=-1, text=True
        ) as process:
            assert process.communicate("hello") == ("hello", "oops\n")

    def test_stderr_goes_where_stdout_goes(self) -> None:
        script = ["sh", "-c", "echo a; echo b >&2"]
        with Process(script, stdout=-1, stderr=subprocess.STDOUT) as process:
            assert process.communicate() == (b"a\nb\n", None)

    def test_devnull(self) -> None:
        with Process(["cat"], stdin=subprocess.DEVNULL, stdout=-1) as process:
            assert process.communicate() == (b"", None)

    def test_files_as_streams(self, tmp_path: Path) -> None:
        (tmp_path / "in").write_text("content")
        with open(tmp_path / "in") as source, open(tmp_path / "out", "w") as sink:
            assert Process(["cat"], stdin=source, stdout=sink).wait() == 0
        assert (tmp_path / "out").read_text() == "content"

    def test_swapped_standard_streams(self) -> None:
        # stdin's number is taken by what becomes stdout, and the other way round
        script = (
            "import os, subprocess, sys; from pyns import Process\n"
            "r, w = os.pipe()\n"
            "os.write(w, b'through the pipe'); os.close(w)\n"
            "out = os.dup(1); os.dup2(r, 1); os.dup2(out, 0); os.close(r); os.close(out)\n"
            "sys.exit(Process(['cat'], stdin=1, stdout=0).wait())"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], stdout=-1, check=True)
        assert done.stdout == b"through the pipe"

    def test_starts_with_its_own_streams_closed(self) -> None:
        script = (
            "import os; from pyns import *\n"
            "out = os.dup(1)\n"
            "os.closerange(0, 3)\n"
            "done = run(Container(namespaces=Namespace(0)), ['echo', 'x'], stdout=-1)\n"
            "os.write(out, done.stdout)"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], stdout=-1, check=True)
        assert done.stdout == b"x\n"

    def test_status_and_signal(self) -> None:
        assert Process(["sh", "-c", "exit 7"]).wait() == 7
        assert Process(["sh", "-c", "kill -TERM $$"]).wait() == -signal.SIGTERM

    def test_wait_with_timeout(self) -> None:
        with Process(["sleep", "60"]) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.01)
            process.terminate()
            assert process.wait() == -signal.SIGTERM

    def test_communicate_goes_on_after_a_timeout(self) -> None:
        read, write = os.pipe()
        with Process(["sh", "-c", "echo early; cat"], stdin=read, stdout=-1) as process:
            os.close(read)
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.2)
            os.write(write, b"late")
            os.close(write)
            assert process.communicate() == (b"early\nlate", None)

    def test_shell(self) -> None:
        with Process("echo $0 $((1 + 1))", shell=True, stdout=-1, text=True) as process:
            assert process.communicate()[0] == "/bin/sh 2\n"

    def test_executable_is_not_argv0(self) -> None:
        with Process(["name", "-c", "echo $0"], executable="/bin/sh", stdout=-1) as process:
            assert process.communicate()[0] == b"name\n"

    def test_env_is_all_there_is(self) -> None:
        with Process(["/usr/bin/env"], env={"A": "1", "B": ""}, stdout=-1) as process:
            assert process.communicate()[0] == b"A=1\nB=\n"

    def test_bytes_and_path_like_arguments(self) -> None:
        with Process([Path("/bin/echo"), b"\xff", Path("x")], stdout=-1) as process:
            assert process.communicate()[0] == b"\xff x\n"

    def test_a_lone_path_is_the_program(self) -> None:
        assert Process(Path("/bin/true")).wait() == 0

    def test_pass_fds_and_no_other(self) -> None:
        r, w = os.pipe()
        try:
            os.set_inheritable(w, True)  # not enough to be passed on
            with Process(["sh", "-c", "echo /proc/self/fd/*"], pass_fds=[r], stdout=-1) as process:
                names = process.communicate()[0].decode().split()
        finally:
            os.close(r)
            os.close(w)
        # the shell's own listing takes the lowest free number
        expected = {0, 1, 2, r} | {min({3, 4} - {r})}
        assert {int(name.rpartition("/")[2]) for name in names} == expected

    def test_close_fds_false_passes_what_is_inheritable(self) -> None:
        r, w = os.pipe()
        try:
            os.set_inheritable(w, True)
            script = f"test -e /proc/self/fd/{w} && test ! -e /proc/self/fd/{r}"
            assert Process(["sh", "-c", script], close_fds=False).wait() == 0
        finally:
            os.close(r)
            os.close(w)

    def test_umask_session_and_process_group(self) -> None:
        script = "umask; ps -o sid=,pgid= -p $$; echo $$"
        with Process(
            ["sh", "-c", script], umask=0o27, start_new_session=True, stdout=-1, text=True
        ) as process:
            mask, sid, pgid, pid = process.communicate()[0].split()
        assert (mask, sid, pgid) == ("0027", pid, pid)
        with Process(["sh", "-c", "ps -o pgid= -p $$"], process_group=0, stdout=-1) as process:
            assert int(process.communicate()[0]) == process.pid

    def test_signals_that_python_ignores_are_restored(self) -> None:
        script = "grep SigIgn /proc/self/status"
        for restore in (True, False):
            with Process(["sh", "-c", script], restore_signals=restore, stdout=-1) as process:
                said = process.communicate()[0].decode().split()[1]
            assert (int(said, 16) >> (signal.SIGPIPE - 1) & 1) == (not restore)

    def test_signals_blocked_by_the_caller_stay_so(self) -> None:
        old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        try:
            with Process(["grep", "SigBlk", "/proc/self/status"], stdout=-1) as process:
                blocked = int(process.communicate()[0].split()[1], 16)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        assert blocked == 1 << (signal.SIGUSR1 - 1)

    def test_preexec_fn_is_refused(self) -> None:
        with pytest.raises(ValueError, match="preexec_fn"):
            Process(["true"], preexec_fn=lambda: None)

    def test_warns_when_dropped_while_it_runs(self) -> None:
        process = Process(["sleep", "60"])
        pid = process.pid
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del process
            gc.collect()
        os.kill(pid, signal.SIGKILL)
        assert [w.category for w in caught] == [ResourceWarning]
        # what was dropped lies in _active until the next Popen polls it
        while any(p.pid == pid for p in subprocess._active):  # type: ignore[attr-defined]
            subprocess._cleanup()  # type: ignore[attr-defined]

    def test_leaves_no_fd_when_that_warning_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unraisable: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda told: unraisable.append(told.exc_type))
        process = Process(["sleep", "60"])
        pid, pidfd = process.pid, process.pidfd
        process.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del process
            gc.collect()
        os.waitpid(pid, 0)
        assert unraisable == [ResourceWarning]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(pidfd)

    def test_status_lost_to_another_waiter_is_0(self) -> None:
        process = Process(["sh", "-c", "exit 3"])
        os.waitpid(process.pid, 0)
        assert process.wait() == 0


class TestErrors:
    """As subprocess raises them, because people catch that."""

    @pytest.mark.parametrize(
        ("args", "options"),
        [
            (["does-not-exist"], {}),
            (["/does/not/exist"], {}),
            (["/etc/passwd"], {}),
            (["/"], {}),
            (["true"], {"cwd": "/does/not/exist"}),
            (["true"], {"cwd": "/etc/passwd"}),
            ([b"does-not-exist"], {}),
            (["true"], {"executable": "/does/not/exist"}),
            (["true/"], {}),
        ],
        ids=repr,
    )
    def test_is_the_same(self, args: list[str], options: dict[str, Any]) -> None:
        with pytest.raises(OSError, match=r".") as theirs:
            subprocess.Popen(args, **options)
        with pytest.raises(OSError, match=r".") as ours:
            Process(args, **options)
        assert type(ours.value) is type(theirs.value)
        assert (ours.value.errno, str(ours.value.filename)) == (
            theirs.value.errno,
            str(theirs.value.filename),
        )

    def test_file_that_is_no_program(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text("echo never run by a shell\n")
        program.chmod(0o755)
        with pytest.raises(OSError, match="Exec format error"):
            Process([program])

    def test_step_is_told_in_a_note(self) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            Process(["/does/not/exist"])
        assert "execute '/does/not/exist'" in caught.value.__notes__[0]

    def test_pipes_are_closed(self) -> None:
        # the leak guard sees to it
        with pytest.raises(FileNotFoundError):
            Process(["/does/not/exist"], stdin=-1, stdout=-1, stderr=-1)


class TestPidfd:
    def test_is_readable_at_the_end_and_not_inherited(self) -> None:
        with clone_into(NOTHING, ["cat"], stdin=-1) as process:
            assert not os.get_inheritable(process.pidfd)
            poll = select.poll()
            poll.register(process.pidfd, select.POLLIN)
            assert poll.poll(0) == []
            assert process.stdin is not None
            process.stdin.close()
            assert poll.poll(10_000)
        assert process.pidfd == -1

    def test_is_what_selectors_take_a_process_for(self) -> None:
        with clone_into(NOTHING, ["cat"], stdin=-1) as process:
            assert process.fileno() == process.pidfd
            assert process.stdin is not None
            process.stdin.close()
            assert select.select([process], [], [], 10) == ([process], [], [])
        with pytest.raises(ProcessLookupError):
            process.fileno()

    def test_signals_go_through_it(self) -> None:
        with clone_into(NOTHING, ["sleep", "60"]) as process:
            process.send_signal(signal.SIGINT)
            assert process.wait() == -signal.SIGINT
            process.kill()  # harmless after the end


class TestRun:
    def test_returns_status_output_and_usage(self) -> None:
        completed = run(NOTHING, ["sh", "-c", "cat; exit 3"], input=b"in", capture_output=True)
        assert isinstance(completed, Completed)
        assert isinstance(completed, subprocess.CompletedProcess)
        assert (completed.returncode, completed.stdout, completed.stderr) == (3, b"in", b"")
        assert completed.usage is not None
        assert completed.usage.cpu_seconds is not None

    def test_check(self) -> None:
        with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
            run(NOTHING, ["sh", "-c", "exit 3"], check=True)

    def test_timeout_kills_and_keeps_what_was_printed(self) -> None:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run(NOTHING, ["sh", "-c", "echo early; exec sleep 60"], timeout=0.5, stdout=-1)
        assert caught.value.output == b"early\n"

    @pytest.mark.parametrize(
        "options",
        [{"input": b"", "stdin": -1}, {"capture_output": True, "stdout": -1}],
        ids=["input-stdin", "capture-stdout"],
    )
    def test_contradictions(self, options: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="may not"):
            run(NOTHING, ["true"], **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("namespaces")
def test_caller_in_a_thread() -> None:
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(Container(), ["true"]).returncode))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("namespaces")
def test_python_that_was_built_for_an_old_system() -> None:
    code = """if True:
        import fcntl, os, signal, subprocess
        for module in (fcntl, os, signal):
            for name in dir(module):
                if name.startswith(("pidfd_", "P_PIDFD", "memfd_", "MFD_", "F_ADD_SEALS")):
                    delattr(module, name)
        from pyns import Container, clone_into, run
        box = Container(init=True, die_with_parent=True)
        with clone_into(box, ["sleep", "60"]) as process:
            assert run(process, ["true"]).returncode == 0
            process.kill()
        print(process.returncode)
        try:
            run(Container(), ["sleep", "60"], timeout=0.01)
        except subprocess.TimeoutExpired as expired:
            print(expired)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=50
    )
    assert done.stderr == ""
    assert done.stdout == "-9\nCommand '['sleep', '60']' timed out after 0.01 seconds\n"
