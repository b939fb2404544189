"""An init takes nothing of what its program may have, and is ended with it all the same."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyns import Bind, Container, Fd, Limits, Process, clone_into, run
from pyns.cgroups import Cgroup, hierarchies, sweep

pytestmark = pytest.mark.usefixtures("namespaces", "limits")

BOX = Container(init=True, limits=Limits(pids_max=1))
PIPE = subprocess.PIPE
COUNTED = {"memory", "pids"}
Attack = Callable[..., str]


def groups_of(pid: int) -> dict[str, str]:
    """Return the cgroups of a process that count memory and processes, by their controllers."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    v2 = {c for h in hierarchies() if h.version == 2 for c in h.controllers}
    return {
        names: path
        for names, path in ((names or ",".join(sorted(v2)), path) for _, names, path in lines)
        if COUNTED.intersection(names.split(","))
    }


def program_of(process: Process) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children.split()[0])


def test_one_process_is_one_of_the_program() -> None:
    done = run(BOX, ["sh", "-c", "exit 3"])
    assert done.returncode == 3
    assert done.usage is not None
    assert done.usage.pids_peak in (1, None)
    # the shell has no second one
    assert run(BOX, ["sh", "-c", "true & wait"], stderr=PIPE).returncode == 2


def test_the_init_is_in_the_callers_groups_that_count_and_the_program_in_its_own() -> None:
    with clone_into(BOX, ["sleep", "60"]) as process:
        assert process.cgroup is not None
        assert groups_of(process.pid) == groups_of(os.getpid())
        own = groups_of(program_of(process))
        assert own
        names = {os.path.basename(path) for path in process.cgroup.paths}
        assert {os.path.basename(path) for path in own.values()} <= names
        process.kill()


def test_both_see_the_program_s_group_as_the_root() -> None:
    with clone_into(BOX, ["cat"], stdin=PIPE, stdout=PIPE) as process:
        namespaces = [
            os.readlink(f"/proc/{pid}/ns/cgroup") for pid in (process.pid, program_of(process))
        ]
        assert namespaces[0] == namespaces[1] != os.readlink("/proc/self/ns/cgroup")
        process.kill()
    done = run(BOX, ["cat", "/proc/self/cgroup"], stdout=PIPE, text=True)
    assert {line.rpartition(":")[2] for line in done.stdout.splitlines()} == {"/"}


def test_the_program_is_still_pid_2() -> None:
    assert run(BOX, ["sh", "-c", "echo $PPID $$"], stdout=PIPE).stdout == b"1 2\n"


def test_what_the_init_takes_is_not_charged_to_the_program() -> None:
    def peak(init: bool) -> int:
        box = Container(init=init, limits=Limits(memory_max="64M"))
        usage = run(box, ["/bin/true"]).usage
        assert usage is not None
        if usage.memory_peak is None:
            pytest.skip("usage.memory_peak is None: this kernel does not tell")
        return usage.memory_peak

    batches = (os.cpu_count() or 1) * 64 * os.sysconf("SC_PAGE_SIZE")  # charges come in these
    assert min(peak(True) for _ in range(5)) <= max(peak(False) for _ in range(5)) + batches


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("size", ["4K", "16K", "64K", "128K", "256K"])
def test_memory_that_no_program_can_do_with_ends_it_or_its_start(size: str, init: bool) -> None:
    box = Container(init=init, limits=Limits(memory_max=size, memory_swap_max=0))
    with suppress(OSError):  # ENOMEM, E2BIG or what else a step says then
        assert run(box, ["true"]).returncode in (0, -signal.SIGKILL)


def test_killing_the_group_ends_the_init_too() -> None:
    with clone_into(BOX, ["sleep", "60"]) as process:
        assert process.cgroup is not None
        process.cgroup.kill()
        assert process.wait(timeout=20) == -signal.SIGKILL
    assert process.cgroup.paths == []


def test_a_group_for_many_is_empty_when_its_programs_are_gone() -> None:
    with Cgroup.create(limits=Limits(pids_max=2)) as group:
        box = Container(init=True, cgroup=group)
        started = [clone_into(box, ["sleep", "60"]) for _ in range(2)]
        assert not group.wait_empty(timeout=0)
        group.kill()
        assert group.wait_empty(timeout=20)
        assert [process.wait(timeout=20) for process in started] == [-9, -9]
        assert run(box, ["sh", "-c", "exit 4"]).returncode == 4


def test_a_dead_caller_s_group_can_be_killed_and_swept() -> None:
    code = (
        "import os; from pyns import *\n"
        "box = Container(init=True, limits=Limits(pids_max=1))\n"
        "process = clone_into(box, ['sleep', '60'], stdout=-3)\n"
        "print(process.pid, *process.cgroup.paths, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], stdout=PIPE, timeout=30)
    pid, *paths = done.stdout.decode().split()
    pidfd = os.pidfd_open(int(pid))
    try:
        # what anybody would do who finds such a group: kill all that is in it
        for path in paths:
            for member in Path(path, "cgroup.procs").read_text().split():
                if Path(f"/proc/{member}/comm").read_text() == "sleep\n":
                    os.kill(int(member), signal.SIGKILL)
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)
    while not set(paths) <= set(sweep()):  # v1 says a little later that it is empty
        paths = [path for path in paths if os.path.exists(path)]


@pytest.mark.parametrize("kind", ["Process", "pid", "pidfd"])
def test_who_enters_the_container_is_in_the_program_s_group(kind: str) -> None:
    with clone_into(Container(init=True, limits=Limits(pids_max=5)), ["sleep", "60"]) as process:
        target: Any = {"Process": process, "pid": process.pid, "pidfd": Fd(process.pidfd)}[kind]
        with clone_into(target, ["sleep", "60"]) as second:
            assert groups_of(second.pid) == groups_of(program_of(process))
            second.kill()
        process.kill()


def test_no_number_of_an_fd_is_in_the_way() -> None:
    reader, writer = os.pipe()
    passed = dict.fromkeys(range(3, 60), writer)
    code = 'for n in $(seq 3 9); do eval "echo $n >&$n"; done'
    process = clone_into(
        Container(init=True, limits=Limits(pids_max=5)), ["bash", "-c", code], pass_fds=passed
    )
    os.close(writer)
    assert process.wait(timeout=20) == 0
    with open(reader, "rb") as file:
        assert file.read().split() == [b"%d" % number for number in range(3, 10)]


@pytest.mark.parametrize("close_fds", [True, False])
def test_the_program_has_no_file_of_its_group_open(close_fds: bool) -> None:
    code = "ls -l /proc/self/fd"
    box = Container(init=True, limits=Limits(pids_max=5))
    done = run(box, ["sh", "-c", code], stdout=PIPE, text=True, close_fds=close_fds)
    assert done.returncode == 0
    assert "cgroup" not in done.stdout
    assert "tasks" not in done.stdout


def test_the_program_can_write_no_file_of_its_group(attack: Attack) -> None:
    code = """
own = sys.argv[1:]
found = set()
for path in own:
    for name in os.listdir(path):
        if os.stat(os.path.join(path, name)).st_mode & 0o222:
            found.add(attempt(os.open, os.path.join(path, name), os.O_WRONLY))
    found.add(attempt(os.mkdir, os.path.join(path, 'mine')))
    found.add(attempt(os.rmdir, path))
print(*sorted(found))
"""
    with Cgroup.create(limits=Limits(pids_max=8, memory_max="256M")) as group:

        def tried(read_only: bool) -> set[str]:
            groups = Bind("/sys/fs/cgroup", read_only=read_only)
            box = Container.sandbox(mounts=[groups], limits=None, cgroup=group)
            return set(attack(box, code, *group.paths).split())

        assert "EROFS" in tried(read_only=True) <= {"EACCES", "EROFS", "EBUSY", "EPERM"}
        writable = tried(read_only=False)
        if os.geteuid() == 0:
            assert "EACCES" in writable <= {"EACCES", "EBUSY", "EPERM"}
        else:
            assert "ok" in writable  # it is the same user's: only a description like this shows it
