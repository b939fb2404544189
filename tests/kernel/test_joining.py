"""Entering what is running: namespaces of a process, of a file, and a whole container."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyns import (
    Container,
    Fd,
    IdMap,
    Limits,
    Namespace,
    Process,
    SpawnError,
    Tmpfs,
    clone_into,
    namespaces,
    run,
)
from pyns.namespaces.targets import HasFileno, Target

pytestmark = pytest.mark.usefixtures("namespaces")

Shell = Callable[..., str]
NOTHING = Namespace(0)


@pytest.fixture
def running() -> Iterator[Process]:
    """Start a container that has all namespaces of its own."""
    with clone_into(Container(hostname="running"), ["sleep", "60"]) as process:
        yield process
        process.kill()


def said(
    target: Container | int | HasFileno, script: str, *arguments: str, **options: object
) -> str:
    command = ["sh", "-ec", script, "sh", *arguments]
    done = run(target, command, capture_output=True, text=True, **options)  # type: ignore[arg-type]
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout).rstrip("\n")


class TestRunningContainer:
    def test_is_entered_in_all_its_namespaces(self, running: Process) -> None:
        process = clone_into(running, ["sleep", "60"])
        try:
            assert namespaces.of(process.pid) == namespaces.of(running.pid)
        finally:
            process.kill()
            assert process.wait() == -signal.SIGKILL

    def test_has_the_program_as_another_process(self, running: Process) -> None:
        assert said(running, "echo $$ $PPID; cat /proc/1/comm; uname -n").split() == [
            *("2", "0"),
            "sleep",
            "running",
        ]

    def test_is_found_by_pid(self, running: Process) -> None:
        assert said(running.pid, "uname -n") == "running"

    def test_is_found_by_pidfd(self, running: Process) -> None:
        assert said(Fd(running.pidfd), "uname -n") == "running"
        pidfd = os.pidfd_open(running.pid)
        with os.fdopen(pidfd, "rb", buffering=0) as file:
            assert said(file, "uname -n") == "running"

    def test_gives_status_signals_and_output_as_ever(self, running: Process) -> None:
        assert run(running, ["sh", "-c", "exit 7"]).returncode == 7
        with clone_into(running, ["cat"], stdin=-1, stdout=-1) as process:
            assert process.communicate(b"through") == (b"through", None)
        with clone_into(running, ["sleep", "60"]) as process:
            process.send_signal(signal.SIGUSR1)
            assert process.wait() == -signal.SIGUSR1

    def test_has_its_own_mounts(self) -> None:
        box = Container(mounts=[Tmpfs("/mnt")])
        with clone_into(
            box, ["sh", "-c", "echo x > /mnt/file; echo; exec sleep 60"], cwd="/", stdout=-1
        ) as first:
            assert first.stdout is not None
            first.stdout.readline()
            assert said(first, "cat /mnt/file") == "x"
            first.kill()
        assert not os.path.exists("/mnt/file")

    @pytest.mark.usefixtures("limits")
    def test_has_its_cgroup(self) -> None:
        box = Container(limits=Limits(pids_max=7))
        with clone_into(box, ["sleep", "60"]) as first:
            assert first.cgroup is not None
            with clone_into(first, ["sleep", "60"]) as second:
                assert first.cgroup.processes == sorted([first.pid, second.pid])
                second.kill()
            first.kill()

    def test_ends_with_its_pid_1(self, running: Process) -> None:
        with clone_into(running, ["sleep", "60"]) as process:
            running.kill()
            assert process.wait() == -signal.SIGKILL

    def test_that_has_ended_is_told(self, running: Process) -> None:
        running.kill()
        running.wait()
        with pytest.raises(ProcessLookupError):
            clone_into(running, ["true"])

    @pytest.mark.parametrize("kinds", [Namespace.NET, Namespace.PID | Namespace.NET])
    def test_that_has_ended_is_told_before_it_is_reaped(self, kinds: Namespace) -> None:
        # a zombie is in no network namespace, so that all of it seemed to be the caller's
        zombie = clone_into(Container(namespaces=kinds), ["true"])
        os.waitid(os.P_PIDFD, zombie.pidfd, os.WEXITED | os.WNOWAIT)
        for target in (zombie, zombie.pid, Fd(zombie.pidfd)):
            with pytest.raises(ProcessLookupError):
                clone_into(target, ["true"])
        with zombie:
            pass
        for target in (zombie, zombie.pid):
            with pytest.raises(ProcessLookupError):
                clone_into(target, ["true"])

    def test_is_not_another_one_that_has_its_pid_now(self) -> None:
        script = (
            "import os\n"
            "from pyns import *\n"
            "def start():\n"
            "    return clone_into(Container(namespaces=Namespace.UTS), ['sleep', '60'])\n"
            "def end(process):\n"
            "    process.kill()\n"
            "    process.wait()\n"
            "first = start()\n"
            "end(first)\n"
            "with open('/proc/sys/kernel/ns_last_pid', 'w') as file:\n"
            "    file.write(str(first.pid - 1))\n"
            "second = start()\n"
            "assert second.pid == first.pid\n"
            "for target in (first, Fd(first.pidfd)):\n"
            "    try:\n"
            "        clone_into(target, ['true'])\n"
            "    except ProcessLookupError:\n"
            "        print('another one')\n"
            "assert run(second.pid, ['true']).returncode == 0\n"
            "end(second)\n"
        )
        if not os.path.exists("/proc/sys/kernel/ns_last_pid"):
            pytest.skip("/proc/sys/kernel/ns_last_pid: not there (CONFIG_CHECKPOINT_RESTORE)")
        kinds = Namespace.USER | Namespace.PID | Namespace.MOUNT
        uid_map, gid_map = IdMap.current("uid", 0), IdMap.current("gid", 0)
        box = Container(namespaces=kinds, uid_map=uid_map, gid_map=gid_map)
        assert (
            said(box, 'exec "$1" -P -c "$2"', sys.executable, script, cwd="/").split("\n")
            == ["another one"] * 2
        )

    @pytest.mark.usefixtures("ordinary")
    def test_that_the_caller_may_not_look_at_is_told(self) -> None:
        with pytest.raises(PermissionError):
            clone_into(1, ["true"])

    def test_program_that_is_not_there_is_told_as_ever(self, running: Process) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            clone_into(running, ["/does/not/exist"])
        assert caught.value.filename == "/does/not/exist"

    def test_is_entered_a_hundred_times(self, running: Process) -> None:
        for _ in range(100):
            assert run(running, ["true"]).returncode == 0

    @pytest.mark.usefixtures("privileged")
    def test_of_other_ids_makes_one_root_there(self) -> None:
        maps = (IdMap(0, 100_000, 65_536),)
        kinds = Namespace.USER | Namespace.PID | Namespace.MOUNT
        box = Container(namespaces=kinds, uid_map=maps, gid_map=maps)
        with clone_into(box, ["sleep", "60"], cwd="/") as first:
            assert said(first, "id -u; id -g; id -G; echo $$", cwd="/").split() == [
                "0",
                "0",
                "0",
                "2",
            ]
            assert said(Fd(first.pidfd), "id -u; id -g", cwd="/").split() == ["0", "0"]
            first.kill()

    @pytest.mark.usefixtures("ordinary")
    def test_of_the_same_id_leaves_one_oneself(self, running: Process) -> None:
        assert said(running, "id -u") == str(os.geteuid())


class TestJoin:
    def test_one_namespace_beside_new_ones(self, running: Process) -> None:
        join = {Namespace.USER: running.pid, Namespace.NET: running.pid}
        if os.geteuid() == 0:
            del join[Namespace.USER]
        box = Container(namespaces=Namespace.PID | Namespace.UTS, join=join)
        process = clone_into(box, ["sleep", "60"])
        try:
            there, here = namespaces.of(running.pid), namespaces.of()
            inside = namespaces.of(process.pid)
            assert {kind for kind in join if inside[kind] != there[kind]} == set()
            new = {kind for kind in here if inside[kind] not in (here[kind], there[kind])}
            assert new == {Namespace.PID, Namespace.UTS}
        finally:
            process.kill()
            process.wait()

    def test_by_process_and_by_pidfd(self, running: Process) -> None:
        for target in (running, Fd(running.pidfd)):
            join = {Namespace.USER | Namespace.UTS: target}
            if os.geteuid() == 0:
                join = {Namespace.UTS: target}
            box = Container(namespaces=NOTHING, join=join)
            assert said_in(box) == "running"

    @pytest.mark.usefixtures("privileged")
    def test_by_pidfd_takes_the_ids_that_are_there(self) -> None:
        maps = (IdMap(0, 100_000, 65_536),)
        user = Container(namespaces=Namespace.USER, uid_map=maps, gid_map=maps)
        with clone_into(user, ["sleep", "60"], cwd="/") as first:
            for target in (first.pid, first, Fd(first.pidfd)):
                box = Container(namespaces=NOTHING, join={Namespace.USER: target})
                assert said(box, "id -u; id -g; id -G", cwd="/").split() == ["0", "0", "0"]
            first.kill()

    def test_of_a_process_that_has_ended(self, running: Process) -> None:
        running.kill()
        os.waitid(os.P_PIDFD, running.pidfd, os.WEXITED | os.WNOWAIT)
        box = Container(namespaces=NOTHING, join={Namespace.USER: running})
        with pytest.raises(ProcessLookupError):
            run(box, ["true"])
        box = Container(namespaces=NOTHING, join={Namespace.NET: Fd(running.pidfd)})
        with pytest.raises(SpawnError, match=r"process \d+: net: .*ESRCH\). The process has ended"):
            run(box, ["true"])

    @pytest.mark.usefixtures("privileged")
    def test_of_a_process_that_proc_does_not_show(self, running: Process) -> None:
        script = (
            "from pyns import *\n"
            f"target = Fd({running.pidfd})\n"
            "box = Container(namespaces=Namespace(0), join={Namespace.UTS: target})\n"
            "print(run(box, ['uname', '-n'], stdout=-1, text=True).stdout)\n"
            "try: clone_into(target, ['true'])\n"
            "except ProcessLookupError as error: print(error)"
        )
        box = Container(namespaces=Namespace.PID | Namespace.MOUNT)
        command = [sys.executable, "-P", "-c", script]
        done = run(box, command, stdout=-1, text=True, pass_fds=[running.pidfd])
        assert done.stdout.split("\n") == [
            *("running", ""),
            "[Errno 3] /proc does not show the process's PID namespace",
            "",
        ]

    def test_plan_opens_nothing(self) -> None:
        join: dict[Namespace, Target] = {
            Namespace.NET: Fd(9999),
            Namespace.UTS: "/does/not/exist",
            Namespace.IPC: 2**22,
        }
        plan = str(Container(namespaces=NOTHING, join=join).plan(["true"]))
        assert "join the namespaces of Fd(number=9999): net" in plan
        assert "join the namespaces of process 4194304: ipc" in plan

    @pytest.mark.usefixtures("privileged")
    def test_by_path_and_by_open_file(self, running: Process) -> None:
        path = f"/proc/{running.pid}/ns/uts"
        assert said_in(Container(namespaces=NOTHING, join={Namespace.UTS: path})) == "running"
        with open(path) as file:
            box = Container(namespaces=NOTHING, join={Namespace.UTS: file})
            assert said_in(box) == "running"

    @pytest.mark.usefixtures("privileged")
    def test_a_namespace_kept_by_a_bind_mount(self, running: Process, tmp_path: Path) -> None:
        # as ip netns and unshare --uts=FILE do
        kept = tmp_path / "uts"
        kept.touch()
        libc = ctypes.CDLL(None, use_errno=True)
        source = f"/proc/{running.pid}/ns/uts".encode()
        assert libc.mount(source, bytes(kept), None, 4096, None) == 0  # MS_BIND
        try:
            running.kill()
            running.wait()
            assert said_in(Container(namespaces=NOTHING, join={Namespace.UTS: kept})) == "running"
        finally:
            assert libc.umount2(bytes(kept), 0) == 0

    def test_file_of_another_kind_is_refused(self, running: Process) -> None:
        join = {Namespace.NET: f"/proc/{running.pid}/ns/uts"}
        with pytest.raises(SpawnError) as caught:
            run(Container(namespaces=NOTHING, join=join), ["true"])
        assert (caught.value.step.kind, caught.value.errno) == ("set_namespaces", errno.EINVAL)

    def test_of_a_path_that_is_not_there(self) -> None:
        with pytest.raises(FileNotFoundError):
            run(Container(namespaces=NOTHING, join={Namespace.NET: "/does/not/exist"}), ["true"])

    @pytest.mark.usefixtures("ordinary")
    def test_of_the_hosts_is_refused_with_what_it_needs(self) -> None:
        with pytest.raises((SpawnError, PermissionError)):
            run(Container(namespaces=NOTHING, join={Namespace.NET: 1}), ["true"])

    def test_from_processes_at_once(self, running: Process) -> None:
        script = (
            "import sys; from pyns import *\n"
            "for _ in range(50): assert run(int(sys.argv[1]), ['true']).returncode == 0"
        )
        command = [sys.executable, "-P", "-c", script, str(running.pid)]
        many = [subprocess.Popen(command) for _ in range(2)]
        assert [process.wait(timeout=50) for process in many] == [0, 0]

    @pytest.mark.parametrize(
        ("fields", "error", "said"),
        [
            ({"join": {Namespace.NET: 1}}, ValueError, "net: either a new one, or join one"),
            ({"join": {Namespace.NET: 0}, "namespaces": NOTHING}, ValueError, "not a pid"),
            ({"join": {"net": 1}}, TypeError, "not a Namespace"),
            (
                {"join": {Namespace.NET: True}, "namespaces": NOTHING},
                TypeError,
                "not a path, a Process",
            ),
            (
                {"join": {Namespace.NET: 1.5}, "namespaces": NOTHING},
                TypeError,
                "not a path, a Process",
            ),
            (
                {"join": {Namespace.NET | Namespace.UTS: "/x"}, "namespaces": NOTHING},
                ValueError,
                "is one namespace",
            ),
            (
                {
                    "join": {Namespace.NET: 1, Namespace.NET | Namespace.UTS: 1},
                    "namespaces": NOTHING,
                },
                ValueError,
                "named twice",
            ),
        ],
        ids=["new too", "pid 0", "str", "bool", "float", "two of a file", "twice"],
    )
    def test_of_nonsense_is_refused(
        self, fields: dict[str, object], error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            Container(**fields)  # type: ignore[arg-type]


def said_in(box: Container) -> str:
    return str(run(box, ["uname", "-n"], stdout=-1, text=True).stdout).rstrip("\n")


def test_target_that_is_no_pidfd_is_refused() -> None:
    with open("/proc/self/ns/net") as file, pytest.raises(ValueError, match="is not a pidfd"):
        clone_into(file, ["true"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        clone_into(Fd(9999), ["true"])


@pytest.mark.parametrize("target", [None, "box", 1.5, True])
def test_target_that_is_none_is_refused(target: object) -> None:
    with pytest.raises(TypeError, match="is not a Container, a Process, a pid or a pidfd"):
        clone_into(target, ["true"])  # type: ignore[arg-type]
