"""Whatever interrupts the caller, what was started is his to wait for, or gone."""

from __future__ import annotations

import copy
import dataclasses
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyns import CgroupError, Container, Limits, Namespace, Process, Tmpfs, clone_into, run
from pyns.cgroups import Cgroup

PLAIN = Container(namespaces=Namespace(0))
LIMITED = Container(namespaces=Namespace(0), limits=Limits(pids_max=50))


class InterruptionError(Exception):
    """What a signal handler raises."""


@contextmanager
def interrupted(after: float) -> Iterator[None]:
    """Have a signal handler raise once, in the middle of whatever runs then."""

    def handler(*_: object) -> None:
        raise InterruptionError

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.timeout(180)
class TestSignalHandlerThatRaises:
    """Signals wait while the child is made, so one that comes then strikes right after it."""

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.parametrize("box", [PLAIN, LIMITED], ids=["plain", "limits"])
    def test_leaves_no_child_when_there_is_no_process(
        self,
        box: Container,
        request: pytest.FixtureRequest,
        end_dropped: Callable[[], None],
    ) -> None:
        if box.limits is not None:
            request.getfixturevalue("limits")
        struck = 0
        for turn in range(150):
            process = None
            try:
                with interrupted(0.0002 + turn * 0.00002):
                    process = clone_into(box, ["sleep", "60"])
            except InterruptionError:
                struck += 1
            if process is not None:
                process.kill()
                process.wait()
            process = None
            end_dropped()
        assert struck  # the leak guard looks for the rest

    @pytest.mark.usefixtures("limits")
    def test_clean_up_that_was_interrupted_is_taken_up_again(self) -> None:
        struck = 0
        for turn in range(100):
            process = clone_into(LIMITED, ["true"])
            os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
            try:
                with interrupted(0.00005 + turn * 0.00001):
                    process.wait()
            except InterruptionError:
                struck += 1
            assert process.wait() == 0
            assert process.usage is not None
        assert struck


class TestFork:
    """A forked child inherits the object, and neither the process nor its group."""

    @pytest.mark.usefixtures("limits")
    @pytest.mark.parametrize("act", ["poll", "drop"])
    def test_of_the_caller_does_no_harm(self, act: str) -> None:
        process: Process | None = clone_into(LIMITED, ["sleep", "60"])
        assert process is not None
        pid = process.pid
        forked = os.fork()
        if forked == 0:
            if act == "poll":
                process.poll()
            else:
                del process
                gc.collect()
            os._exit(0)
        os.waitpid(forked, 0)
        assert process.poll() is None
        assert process.pid == pid
        process.kill()
        assert process.wait() == -signal.SIGKILL

    def test_during_a_spawn_with_another_uid_leaves_a_dumpable_child(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("setresuid to another uid: EPERM for an ordinary user")
        stop = threading.Event()

        def spawn() -> None:
            while not stop.is_set():
                Process(["true"], user=65534).wait()

        thread = threading.Thread(target=spawn)
        thread.start()
        try:
            statuses = set()
            for _ in range(150):
                forked = os.fork()
                if forked == 0:
                    # 0: /proc/self is ours, so we are dumpable
                    os._exit(0 if os.stat("/proc/self/mem").st_uid == os.geteuid() else 1)
                statuses.add(os.waitpid(forked, 0)[1])
        finally:
            stop.set()
            thread.join()
        assert statuses == {0}


class TestDumpable:
    def test_flag_of_the_caller_is_kept_whatever_uid_the_child_takes(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("setresuid to another uid: EPERM for an ordinary user")
        script = (
            "import ctypes, sys; from pyns import Process\n"
            "libc = ctypes.CDLL(None)\n"
            "for flag in (1, 0):\n"
            "    libc.prctl(4, flag, 0, 0, 0)\n"
            "    assert Process(['true'], user=65534, group=65534, extra_groups=[]).wait() == 0\n"
            "    assert libc.prctl(3, 0, 0, 0, 0) == flag, flag\n"
        )
        subprocess.run([sys.executable, "-P", "-c", script], check=True)


class TestDescriptors:
    @pytest.mark.parametrize("option", ["pass_fds", "stdin", "stdout"])
    def test_number_that_is_closed_is_refused(self, option: str) -> None:
        # were it not, the program would get whatever we open under it: our cgroup's files
        fd = os.open("/", os.O_RDONLY)
        os.close(fd)
        options: dict[str, Any] = {option: [fd] if option == "pass_fds" else fd}
        with pytest.raises(OSError, match=rf"Bad file descriptor: fd {fd}") as caught:
            Process(["true"], container=PLAIN, **options)
        assert caught.value.errno == errno.EBADF

    @pytest.mark.usefixtures("limits")
    def test_when_there_are_none_left_nothing_stays(self) -> None:
        # the leak guard looks for the cgroups
        script = (
            "import errno, os, resource; from pyns import *\n"
            "box = Container(namespaces=Namespace(0), limits=Limits(pids_max=50))\n"
            "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
            "first = max(map(int, os.listdir('/proc/self/fd')))\n"
            "for free in range(20):\n"
            "    process = None\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (first + free, hard))\n"
            "    try:\n"
            "        process = clone_into(box, ['true'])\n"
            "        process.wait()\n"
            "    except OSError as error:\n"
            "        assert error.errno == errno.EMFILE, error\n"
            "        print('refused')\n"
            "    else:\n"
            "        print('ran')\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
            "    if process:\n"
            "        process.wait()\n"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], stdout=-1, check=True)
        assert set(done.stdout.split()) == {b"refused", b"ran"}


class TestIds:
    @pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**32 + 65534, 2**64])
    @pytest.mark.parametrize("option", ["user", "group", "extra_groups", "process_group"])
    def test_that_the_kernel_would_cut_off_are_refused(self, option: str, number: int) -> None:
        options: dict[str, Any] = {option: [number] if option == "extra_groups" else number}
        # of these classes, as subprocess has them
        error = ValueError if option == "extra_groups" else OverflowError
        with pytest.raises(error, match=rf"{option}: {number} is out of range"):
            Process(["true"], **options)


class TestCwd:
    @pytest.mark.usefixtures("namespaces")
    @pytest.mark.parametrize("cwd", [None, ".", "below/.."])
    def test_below_a_mount_is_not_the_hidden_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cwd: str | None
    ) -> None:
        secret = tmp_path / "dir/secret"
        (secret / "below").mkdir(parents=True)
        (secret / "file").write_text("secret")
        monkeypatch.chdir(secret)
        box = Container(mounts=[Tmpfs(tmp_path / "dir")])
        with pytest.raises(FileNotFoundError):
            run(box, ["true"], cwd=cwd)

    @pytest.mark.usefixtures("namespaces")
    def test_is_the_directory_of_that_name_inside(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        box = Container(mounts=[Tmpfs(tmp_path)])
        done = run(box, ["sh", "-c", "pwd; echo > written"], stdout=-1, text=True)
        assert done.stdout == f"{tmp_path}\n"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("limits")
class TestCgroup:
    def test_copies_are_the_group_itself(self) -> None:
        with Cgroup.create() as group:
            box = Container(namespaces=Namespace(0), cgroup=group)
            assert copy.deepcopy(group) is group
            assert dataclasses.asdict(box)["cgroup"] is group
            with pytest.raises(TypeError, match="pickled"):
                pickle.dumps(group)
            gc.collect()
            assert group.processes == []

    def test_containers_with_different_groups_differ(self) -> None:
        with Cgroup.create() as one, Cgroup.create() as other:
            assert Container(cgroup=one) == Container(cgroup=one)
            assert Container(cgroup=one) != Container(cgroup=other)

    @pytest.mark.timeout(20)
    def test_that_is_about_to_freeze_is_refused(self) -> None:
        with Cgroup.create() as parent, Cgroup.create("below", parent=parent) as group:
            files = [Path(path, "cgroup.freeze") for path in parent.paths]
            files = [file for file in files if file.exists()]
            if not files:
                pytest.skip(f"no cgroup.freeze in {parent.paths}: no v2 hierarchy")
            busy = clone_into(Container(namespaces=Namespace(0), cgroup=group), ["yes"], stdout=-3)
            try:
                for _ in range(50):
                    files[0].write_text("1")  # it freezes a moment later
                    with pytest.raises(CgroupError, match="frozen"):
                        clone_into(Container(namespaces=Namespace(0), cgroup=group), ["true"])
                    files[0].write_text("0")
            finally:
                files[0].write_text("0")
                busy.kill()
                busy.communicate()


def test_process_that_is_dropped_at_exit_is_silent() -> None:
    script = (
        "from pyns import Process\nprocess = Process(['sleep', '0.1'])\nprocess.cycle = process\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_interrupted_with_leaves_a_process_that_can_be_signalled() -> None:
    process = Process(["sleep", "60"])
    with pytest.raises(KeyboardInterrupt), process:
        raise KeyboardInterrupt
    process.terminate()
    assert process.wait(timeout=10) == -signal.SIGTERM
