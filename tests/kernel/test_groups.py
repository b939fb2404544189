"""Groups as one has them: names, states, owners, and what goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyns import CgroupError, Container, Limits, Namespace, Process, clone_into, run
from pyns.cgroups import Cgroup, current, sweep

pytestmark = pytest.mark.usefixtures("limits")


@pytest.fixture
def group() -> Iterator[Cgroup]:
    with Cgroup.create(limits=Limits(memory_max="100M", pids_max=50, cpu_max=1)) as made:
        yield made


def inside(group: Cgroup) -> Container:
    return Container(namespaces=Namespace(0), cgroup=group)


class TestName:
    def test_makes_the_groups_above_and_takes_them_along(self) -> None:
        with Cgroup.create("docker/a1b2", limits=Limits(pids_max=5)) as group:
            paths = group.paths
            assert all(path.endswith("/docker/a1b2") for path in paths)
            with clone_into(inside(group), ["sleep", "60"]) as process:
                assert group.processes == [process.pid]
                process.kill()
        assert not any(os.path.exists(os.path.dirname(path)) for path in paths)

    def test_leaves_the_groups_above_to_others(self) -> None:
        one = Cgroup.create("docker/one")
        other = Cgroup.create("docker/other")
        paths = other.paths
        one.remove()
        assert all(os.path.isdir(path) for path in paths)
        other.remove()
        assert not any(os.path.exists(os.path.dirname(path)) for path in paths)

    def test_of_the_group_above_that_is_somebodys(self) -> None:
        with Cgroup.create("docker") as above:
            Cgroup.create("docker/a1b2").remove()
            assert all(os.path.isdir(path) for path in above.paths)

    @pytest.mark.parametrize("name", ["../x", "/x", "a\nb", "x" * 300, "", ".", "a/../../b"])
    def test_that_no_group_can_have_touches_nothing(self, name: str) -> None:
        for call in (Cgroup.create, Cgroup.open):
            with pytest.raises(ValueError, match="name="):
                call(name)  # the leak guard looks

    def test_made_by_two_at_once_is_made_by_one(self) -> None:
        made: list[Cgroup] = []
        refused: list[int | None] = []
        barrier = threading.Barrier(2)

        def make() -> None:
            barrier.wait()
            try:
                made.append(Cgroup.create("same"))
            except CgroupError as error:
                refused.append(error.errno)

        for _ in range(30):
            threads = [threading.Thread(target=make) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # each may have been first in another hierarchy: then neither has it, and nothing stays
            assert len(made) + len(refused) == 2
            assert len(made) <= 1
            assert set(refused) == {errno.EEXIST}
            for group in made:
                group.remove()
            made.clear()
            refused.clear()


class TestOpen:
    def test_finds_the_group_in_the_hierarchies_where_it_is(self, group: Cgroup) -> None:
        with Cgroup.create("below", parent=group, limits=Limits(pids_max=5)) as below:
            found = Cgroup.open("below", parent=group)
            assert found.paths == below.paths
            found.apply(Limits(pids_max=1))
            assert run(inside(below), ["true"]).returncode == 0
            found.close()

    def test_of_what_is_not_there(self) -> None:
        with pytest.raises(CgroupError) as caught:
            Cgroup.open("does/not/exist")
        assert caught.value.errno == errno.ENOENT


class TestAdd:
    def test_moves_a_process_with_its_threads(self, group: Cgroup) -> None:
        script = (
            "import threading, time, sys\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
            "print('ready', flush=True); sys.stdin.read()"
        )
        args = [sys.executable, "-P", "-c", script]
        with Process(args, stdin=-1, stdout=-1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            group.add(process.pid)
            assert group.processes == [process.pid]
            assert group.stats().pids_current == 2
            process.kill()

    def test_of_nobody(self, group: Cgroup) -> None:
        with pytest.raises(CgroupError, match="There is no such process") as caught:
            group.add(4_000_000)
        assert caught.value.errno == errno.ESRCH


class TestFreeze:
    def test_stops_what_runs_until_thaw(self, group: Cgroup) -> None:
        spin = "i=0; while :; do i=$((i + 1)); done"
        process = clone_into(inside(group), ["sh", "-c", spin])
        group.freeze()
        assert group.frozen
        before = group.stats().cpu_seconds
        time.sleep(0.1)
        assert group.stats().cpu_seconds == before
        group.thaw()
        assert not group.frozen
        process.kill()
        assert process.wait() == -signal.SIGKILL

    def test_again_is_harmless(self, group: Cgroup) -> None:
        for act in (group.freeze, group.freeze, group.thaw, group.thaw):
            act()
        assert not group.frozen

    def test_who_comes_after_a_kill_of_nobody_is_born_there(self, group: Cgroup) -> None:
        group.kill()
        with ExitStack() as files:
            entry = group.open_entry((), files)
            assert (entry.birth is not None) == any(h.version == 2 for h in group._directories)
        assert run(inside(group), ["true"]).returncode == 0

    def test_kill_reaches_the_frozen(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sleep", "60"])
        group.freeze()
        group.kill()
        assert process.wait() == -signal.SIGKILL
        group.thaw()

    def test_remove_takes_a_frozen_group(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sleep", "60"])
        group.freeze()
        group.remove()
        assert process.wait() == -signal.SIGKILL

    def test_from_above_keeps_those_below(self, group: Cgroup) -> None:
        with Cgroup.create("below", parent=group) as below:
            group.freeze()
            assert below.frozen
            below.thaw()
            assert below.frozen
            group.thaw()
            assert not below.frozen


class TestWaitEmpty:
    def test_of_an_empty_one_is_at_once(self, group: Cgroup) -> None:
        assert group.wait_empty(timeout=0)

    def test_ends_with_the_last_process(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sh", "-c", "sleep 0.2 & sleep 0.1"])
        assert group.wait_empty(timeout=30)
        assert group.processes == []
        process.wait()

    def test_gives_up(self, group: Cgroup) -> None:
        with clone_into(inside(group), ["sleep", "60"]) as process:
            assert not group.wait_empty(timeout=0.05)
            process.kill()

    def test_counts_the_groups_below(self, group: Cgroup) -> None:
        with (
            Cgroup.create("below", parent=group) as below,
            clone_into(inside(below), ["sleep", "60"]) as process,
        ):
            assert not group.wait_empty(timeout=0.05)
            process.kill()
            assert group.wait_empty(timeout=30)


class TestRemove:
    def test_not_recursive_refuses_groups_below_and_kills_nothing(self, group: Cgroup) -> None:
        with (
            Cgroup.create("below", parent=group) as below,
            clone_into(inside(below), ["sleep", "60"]) as process,
        ):
            with pytest.raises(CgroupError, match="groups below: below") as caught:
                group.remove(recursive=False)
            assert caught.value.errno == errno.ENOTEMPTY
            assert process.poll() is None
            process.kill()

    def test_not_recursive_removes_a_leaf(self) -> None:
        group = Cgroup.create()
        group.remove(recursive=False)
        assert group.paths == []

    def test_with_the_caller_inside_is_refused(self) -> None:
        script = (
            "import os; from pyns.cgroups import Cgroup, current\n"
            "homes = {h.mount_point + '/': h.directory(p) for h, p in current().items()}\n"
            "group = Cgroup.create('inside')\n"
            "group.add(os.getpid())\n"
            "for act in (group.kill, group.remove):\n"
            "    try: act()\n"
            "    except ValueError as error: print(error)\n"
            "for path in group.paths:\n"
            "    home = next(home for top, home in homes.items() if path.startswith(top))\n"
            "    open(home + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
            "group.remove()"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", script], stdout=-1, check=True, text=True
        )
        assert done.stdout.count("the caller itself is in") == 2


class TestFaults:
    def test_group_that_vanishes(self) -> None:
        group = Cgroup.create(limits=Limits(pids_max=5))
        for path in group.paths:
            os.rmdir(path)
        assert group.processes == []
        with pytest.raises(CgroupError) as caught:
            group.apply(Limits(pids_max=6))
        assert caught.value.errno in (errno.ENODEV, errno.ENOENT)
        group.kill()
        group.remove()

    def test_depth_that_is_used_up(self, group: Cgroup) -> None:
        files = [Path(path, "cgroup.max.descendants") for path in group.paths]
        files = [file for file in files if file.exists()]
        if not files:
            pytest.skip(f"no cgroup.max.descendants in {group.paths}: no v2 hierarchy")
        files[0].write_text("0")
        with pytest.raises(CgroupError, match=r"max\.descendants") as caught:
            Cgroup.create("below", parent=group)
        assert caught.value.errno == errno.EAGAIN

    def test_rmdir_that_stays_busy_names_the_group(self, group: Cgroup) -> None:
        process = clone_into(inside(group), ["sleep", "60"])
        try:
            directory = next(iter(group._directories.values()))
            with pytest.raises(OSError, match="busy"):
                os.rmdir(directory.path)
        finally:
            process.kill()
            process.wait()


class TestSweep:
    OWNER = (
        "import os, sys; from pyns import *; from pyns.cgroups import *\n"
        "group = Cgroup.create(limits=Limits(pids_max=5))\n"
        "print(*group.paths, flush=True)\n"
        "sys.stdin.read()"
    )

    def start_owner(self) -> tuple[subprocess.Popen[str], list[str]]:
        owner = subprocess.Popen(
            [sys.executable, "-P", "-c", self.OWNER], stdin=-1, stdout=-1, text=True
        )
        assert owner.stdout is not None
        return owner, owner.stdout.readline().split()

    def test_takes_the_groups_of_a_dead_owner_and_no_other(self, group: Cgroup) -> None:
        owner, paths = self.start_owner()
        assert set(paths).isdisjoint(sweep())
        owner.kill()
        owner.communicate()
        assert all(os.path.isdir(path) for path in paths)
        assert set(paths) <= set(sweep())
        assert not any(os.path.exists(path) for path in paths)
        assert all(os.path.isdir(path) for path in group.paths)

    def test_leaves_a_group_with_processes(self) -> None:
        owner, paths = self.start_owner()
        owner.kill()
        owner.communicate()
        with Process(["sleep", "60"]) as stray:
            for path in paths:
                Path(path, "cgroup.procs").write_text(str(stray.pid))
            assert set(paths).isdisjoint(sweep())
            stray.kill()
        assert set(paths) <= set(sweep())

    def test_leaves_names_that_are_not_its_own(self) -> None:
        with Cgroup.create("1-2-3-mine") as group:
            assert set(group.paths).isdisjoint(sweep())
            assert all(os.path.isdir(path) for path in group.paths)

    def test_leaves_those_of_another_pid_namespace(self) -> None:
        with Cgroup.create("4000000-1-1-1") as group:
            assert set(group.paths).isdisjoint(sweep())


class TestOwn:
    def test_is_where_the_caller_is(self) -> None:
        own = Cgroup.own()
        assert own.paths == [h.directory(path) for h, path in current().items()]
        assert os.getpid() in own.processes
        own.close()

    @pytest.mark.parametrize("leaf", ["a/b", "", "..", "/x"])
    def test_leaf_has_to_be_a_name(self, leaf: str) -> None:
        with pytest.raises(ValueError, match=r"name=|leaf="):
            Cgroup.own(leaf=leaf)
