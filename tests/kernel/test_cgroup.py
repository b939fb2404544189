"""A group holds what it promises, and goes when it should."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyns import CgroupError, Container, Limits, Namespace, Process, clone_into, run
from pyns.cgroups import Cgroup, hierarchies

pytestmark = pytest.mark.usefixtures("limits")

PLAIN = Namespace(0)

# holds that many MiB, touched
EAT = "import sys; x = bytearray(int(sys.argv[1]) << 20); print('held')"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with Cgroup.create(limits=Limits(memory_max="100M", pids_max=50, cpu_max=1)) as made:
        yield made


def inside(group: Cgroup) -> Container:
    return Container(namespaces=PLAIN, cgroup=group)


def limited(**limits: Any) -> Container:
    return Container(namespaces=PLAIN, limits=Limits(**limits))


def membership(pid: int) -> set[str]:
    """Return the directories of the groups that a process is in."""
    own = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own[names] = path
    found = set()
    for hierarchy in hierarchies():
        names = ",".join(hierarchy.controllers) or f"name={hierarchy.name}"
        path = own["" if hierarchy.version == 2 else names]
        directory = hierarchy.directory(path)
        assert directory is not None
        found.add(directory)
    return found


class TestEntry:
    def test_is_in_every_hierarchy_of_the_group(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sleep", "60"])
        try:
            assert set(group.paths) <= membership(process.pid)
            assert group.processes == [process.pid]
        finally:
            process.kill()
            process.wait()
        assert group.processes == []

    def test_is_before_the_first_instruction(self, group: Cgroup) -> None:
        # the program's own first act is to read where it is
        completed = run(inside(group), ["cat", "/proc/self/cgroup"], stdout=-1, text=True)
        name = os.path.basename(group.paths[0])
        lines = [line for line in completed.stdout.splitlines() if line.endswith(f"/{name}")]
        assert len(lines) == len(group.paths)

    @pytest.mark.usefixtures("namespaces")
    def test_in_a_cgroup_namespace_is_its_root(self, group: Cgroup) -> None:
        box = Container(namespaces=Namespace.CGROUP, cgroup=group)
        completed = run(box, ["cat", "/proc/self/cgroup"], stdout=-1, text=True)
        assert {line.rpartition(":")[2] for line in completed.stdout.splitlines()} == {"/"}

    def test_leaves_a_given_group_in_place(self, group: Cgroup) -> None:
        for _ in range(2):
            assert run(inside(group), ["true"]).returncode == 0
        assert all(os.path.isdir(path) for path in group.paths)

    @pytest.mark.timeout(10)
    def test_of_a_frozen_group_is_refused_at_once(self, group: Cgroup) -> None:
        frozen = freeze(group)
        try:
            with pytest.raises(CgroupError, match=r"frozen.*Thaw it") as caught:
                clone_into(inside(group), ["true"])
        finally:
            thaw(frozen)
        assert caught.value.errno == errno.EBUSY

    def test_of_a_removed_group_is_refused(self) -> None:
        group = Cgroup.create()
        group.remove()
        with pytest.raises(CgroupError, match="removed") as caught:
            clone_into(inside(group), ["true"])
        assert caught.value.errno == errno.ENODEV

    def test_of_a_group_removed_by_another_is_refused(self) -> None:
        with Cgroup.create() as group:
            for path in group.paths:
                os.rmdir(path)
            with pytest.raises(OSError, match=r"cgroup|No such") as caught:
                clone_into(inside(group), ["true"])
        assert caught.value.errno in (errno.ENODEV, errno.ENOENT)


def freeze(group: Cgroup) -> Path:
    for path in map(Path, group.paths):
        for file, value in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (path / file).exists():
                (path / file).write_text(value)
                return path / file
    pytest.fail(f"none of {group.paths} can be frozen")


def thaw(file: Path) -> None:
    file.write_text("THAWED" if file.name == "freezer.state" else "0")


class TestLimits:
    def test_memory_is_held_and_the_kill_is_counted(self) -> None:
        box = limited(memory_max="50M", memory_swap_max=0)
        completed = run(box, [sys.executable, "-P", "-c", EAT, "200"], stdout=-1)
        assert completed.returncode == -signal.SIGKILL
        assert completed.stdout == b""
        assert completed.usage is not None
        assert completed.usage.oom_kills == 1
        assert completed.usage.memory_peak is not None
        assert 45 << 20 <= completed.usage.memory_peak <= 50 << 20

    def test_memory_within_the_limit_is_fine(self) -> None:
        completed = run(
            limited(memory_max="100M"), [sys.executable, "-P", "-c", EAT, "50"], stdout=-1
        )
        assert (completed.returncode, completed.stdout) == (0, b"held\n")
        assert completed.usage is not None
        assert completed.usage.oom_kills == 0
        assert completed.usage.memory_peak is not None
        assert completed.usage.memory_peak >= 50 << 20

    def test_pids(self) -> None:
        box = limited(pids_max=5)
        script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 >&- 2>&- & done; echo all"
        completed = run(box, ["sh", "-c", script], capture_output=True, text=True)
        assert "all" not in completed.stdout
        assert "ork" in completed.stderr  # dash: Cannot fork; bash: fork: retry
        assert completed.usage is not None
        assert completed.usage.pids_peak in (5, None)  # None: no pids.peak before Linux 6.1

    def test_pids_max_1_is_the_program_itself(self) -> None:
        assert run(limited(pids_max=1), ["true"]).returncode == 0

    def test_cpu_max_throttles(self) -> None:
        spin = "import time\nt = time.monotonic()\nwhile time.monotonic() - t < 1: pass"
        usage = run(limited(cpu_max=0.2), [sys.executable, "-P", "-c", spin]).usage
        assert usage is not None
        assert usage.cpu_seconds is not None
        # what the kernel gave, not how fast we were: well below the whole core
        assert usage.cpu_seconds / usage.wall_seconds < 0.6

    def test_cpuset(self) -> None:
        box = limited(cpuset_cpus=[0])
        completed = run(box, ["grep", "Cpus_allowed_list", "/proc/self/status"], stdout=-1)
        assert completed.stdout.split() == [b"Cpus_allowed_list:", b"0"]

    def test_cpu_weight_is_written(self) -> None:
        with Cgroup.create(limits=Limits(cpu_weight=50)) as group:
            values = {
                file.name: file.read_text().strip()
                for path in map(Path, group.paths)
                for file in (path / "cpu.shares", path / "cpu.weight")
                if file.exists()
            }
        assert values.get("cpu.weight", "50") == "50"
        assert values.get("cpu.shares", "512") == "512"
        assert values

    def test_apply_changes_a_living_group(self, group: Cgroup) -> None:
        process = clone_into(
            inside(group), ["sh", "-c", "read x; sleep 60 & echo forked"], stdin=-1
        )
        try:
            group.apply(Limits(pids_max=1))
            process.communicate(b"go\n")
        finally:
            process.kill()
            process.wait()
        assert process.returncode != 0

    def test_value_that_the_kernel_refuses(self, group: Cgroup) -> None:
        with pytest.raises(CgroupError) as caught:
            group.apply(Limits(cpuset_cpus="9999"))
        error = caught.value
        if error.errno == errno.EOPNOTSUPP:  # made without cpuset: refused before any write
            with pytest.raises(CgroupError) as caught:
                Cgroup.create(limits=Limits(cpuset_cpus="9999"))
            error = caught.value
        assert (error.controller, error.value) == ("cpuset", "9999")
        assert str(error.file).endswith("cpuset.cpus")

    def test_controller_that_is_not_there(self) -> None:
        with Cgroup.create(limits=Limits(pids_max=5)) as parent:
            offered = {c for h in hierarchies() for c in h.controllers}
            missing = {"memory", "cpuset"} - {c for h in parent._directories for c in h.controllers}
            if not missing:
                pytest.skip(f"the group has all of {sorted(offered)}")
            with pytest.raises(CgroupError, match="The parent has") as caught:
                Cgroup.create(limits=Limits(memory_max=1 << 20, cpuset_cpus="0"), parent=parent)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert caught.value.controller in missing


class TestParent:
    def test_limits_hold_for_groups_below_whatever_those_limit(self) -> None:
        with Cgroup.create(limits=Limits(cpuset_cpus="0")) as parent:
            box = Container(namespaces=PLAIN, cgroup=parent, limits=Limits(pids_max=20))
            args = ["grep", "Cpus_allowed_list", "/proc/self/status"]
            completed = run(box, args, capture_output=True, text=True)
        assert completed.stdout.split() == ["Cpus_allowed_list:", "0"]

    def test_device_rules_hold_for_groups_below_whatever_those_limit(self) -> None:
        try:
            parent = Cgroup.create(limits=Limits(devices=()))
        except CgroupError as error:
            pytest.skip(f"Cgroup.create(devices): {error}")
        with parent:
            box = Container(namespaces=PLAIN, cgroup=parent, limits=Limits(pids_max=20))
            completed = run(box, ["sh", "-c", ": < /dev/null"], capture_output=True, text=True)
        assert "Operation not permitted" in completed.stderr


class TestStats:
    def test_of_a_run_are_those_of_all_its_processes(self) -> None:
        spin = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done"
        # the child is not waited for: rusage would not have it
        usage = run(limited(pids_max=10), ["sh", "-c", f"({spin}) & exec sleep 1"]).usage
        assert usage is not None
        assert usage.cpu_seconds is not None
        assert usage.cpu_seconds > 0.02

    def test_count_pids_and_memory(self, group: Cgroup) -> None:
        assert group.stats().pids_current == 0
        with clone_into(inside(group), ["cat"], stdin=-1):
            stats = group.stats()
        assert stats.pids_current == 1
        assert stats.memory_current is not None


class TestKill:
    def test_takes_all_and_what_forks_meanwhile(self, group: Cgroup) -> None:
        bomb = "f() { f | f & }; f; exec sleep 60"
        process = clone_into(inside(group), ["sh", "-c", bomb], stderr=subprocess.DEVNULL)
        group.kill()
        assert process.wait() == -signal.SIGKILL
        assert group.processes == []

    def test_reaches_stopped_ones_and_those_of_their_own_session(self, group: Cgroup) -> None:
        script = "setsid sleep 60 & kill -STOP $$"
        process = clone_into(inside(group), ["sh", "-c", script])
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        group.kill()
        assert process.wait() == -signal.SIGKILL
        assert group.processes == []

    @pytest.mark.parametrize("init", [False, True])
    def test_leaves_the_group_for_others(self, init: bool, group: Cgroup) -> None:
        box = Container(namespaces=Namespace.PID | PLAIN, cgroup=group, init=init)
        for _ in range(2):
            group.kill()
            # Linux 6.18 kills who is born in it then
            assert run(box, ["sh", "-c", "exit 3"]).returncode == 3

    def test_of_an_empty_or_removed_group_is_harmless(self) -> None:
        group = Cgroup.create()
        group.kill()
        group.remove()
        group.kill()
        group.remove()


class TestRemove:
    def test_is_whole(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sleep", "60"])
        paths = group.paths
        group.remove()
        assert not any(os.path.exists(path) for path in paths)
        assert process.wait() == -signal.SIGKILL

    def test_takes_groups_below(self, group: Cgroup) -> None:
        with Cgroup.create("below", parent=group, limits=Limits(pids_max=5)) as below:
            process = clone_into(inside(below), ["sleep", "60"])
            group.remove()
            assert process.wait() == -signal.SIGKILL

    def test_private_group_goes_with_the_process(self) -> None:
        process = clone_into(limited(pids_max=5), ["sleep", "60"])
        assert process.cgroup is not None
        paths = process.cgroup.paths
        assert all(os.path.isdir(path) for path in paths)
        process.kill()
        process.wait()
        assert not any(os.path.exists(path) for path in paths)

    def test_private_group_takes_what_the_program_left_running(self) -> None:
        completed = run(limited(pids_max=5), ["sh", "-c", "sleep 60 >&- & echo $!"], stdout=-1)
        status = Path(f"/proc/{int(completed.stdout)}/status")
        # gone, or dead and not yet reaped by whoever inherited it
        with suppress(FileNotFoundError, ProcessLookupError):
            assert "State:\tZ" in status.read_text()

    def test_private_group_goes_when_the_program_is_not_there(self) -> None:
        # the leak guard sees to it
        with pytest.raises(FileNotFoundError):
            run(limited(pids_max=5), ["does-not-exist"])


class TestCreate:
    def test_same_name_twice(self, group: Cgroup) -> None:
        with (
            Cgroup.create("name", parent=group),
            pytest.raises(CgroupError, match="Another group of that name") as caught,
        ):
            Cgroup.create("name", parent=group)
        assert caught.value.errno == errno.EEXIST

    def test_failure_half_way_leaves_nothing(self, group: Cgroup) -> None:
        # taken in the last hierarchy only: those before it are undone; the leak guard looks
        taken = Path(group.paths[-1], "taken")
        taken.mkdir()
        try:
            with pytest.raises(CgroupError):
                Cgroup.create("taken", parent=group)
            left = [path for path in group.paths if Path(path, "taken").exists()]
        finally:
            taken.rmdir()
        assert left == [group.paths[-1]]

    def test_by_threads_at_once(self) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(10):
                    Cgroup.create(limits=Limits(pids_max=5)).remove()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_default_parent_is_made_by_processes_at_once() -> None:
    script = (
        "from pyns import *\n"
        "box = Container(namespaces=Namespace(0), limits=Limits(cpuset_cpus='0', pids_max=9))\n"
        "run(box, ['true'], check=True)"
    )
    for _ in range(5):
        many = [subprocess.Popen([sys.executable, "-P", "-c", script], stderr=-1) for _ in range(4)]
        assert [process.communicate()[1] for process in many] == [b""] * 4


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("root_only", "namespaces")
def test_default_parent_is_looked_for_anew_when_its_hierarchy_is_mounted_elsewhere(
    tmp_path: Path,
) -> None:
    code = """if True:
        import subprocess, sys
        from pyns import Limits
        from pyns.cgroups import Cgroup, hierarchies
        [pids] = [h for h in hierarchies() if "pids" in h.controllers]
        for new_place in (None, None, sys.argv[1]):
            if new_place is not None:
                subprocess.run(["mount", "--move", pids.mount_point, new_place], check=True)
            with Cgroup.create(limits=Limits(pids_max=10)) as group:
                top = new_place or pids.mount_point
                print([path for path in group.paths if path.startswith(top)])
    """
    argv = [sys.executable, "-P", "-c", code, str(tmp_path)]
    done = run(Container(namespaces=Namespace.MOUNT), argv, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    before, again, after = done.stdout.splitlines()
    assert before.count("/pyns/") == again.count("/pyns/") == 1
    assert after.startswith(f"['{tmp_path}/pyns/")


def test_process_has_the_group_and_forgets_nothing(group: Cgroup) -> None:
    with Process(["true"], container=inside(group)) as process:
        assert process.cgroup is group
    assert process.usage is not None
