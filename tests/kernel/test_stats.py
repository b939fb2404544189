"""What a group, and a run in it, has used is what its programs know themselves to have used."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pyns import CgroupError, Container, Limits, Namespace, Process, Usage, clone_into, run
from pyns.cgroups import Cgroup, Hierarchy, IoStats, Stats, hierarchies
from pyns.cgroups.files import Directory

pytestmark = [pytest.mark.usefixtures("limits"), pytest.mark.timeout(300)]

MIB = 1 << 20
# seconds; an emulated CPU also counts the time in which its host runs something else
EXACT = 1.5 if "VMTEST" in os.environ else 0.010
PYTHON = [sys.executable, "-P", "-S", "-c"]

# does what it reads, line by line, and says after each how much CPU time it has used
OBEY = """
import os, sys, time, mmap
kept = []
def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    os.write(1, b"%.9f\\n" % time.process_time())
"""


@pytest.fixture
def group(limits: None) -> Iterator[Cgroup]:  # noqa: ARG001  it skips where there are none
    with Cgroup.create(limits=Limits(memory_max="150M", pids_max=50, cpu_max=2)) as made:
        yield made


def inside(group: Cgroup) -> Container:
    return Container(namespaces=Namespace(0), cgroup=group)


class Program:
    """One that does as it is told."""

    def __init__(self, box: Container, stack: ExitStack) -> None:
        self.process = clone_into(
            box, [*PYTHON, OBEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.enter_context(self.process)
        stack.callback(self.process.kill)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        assert self.stdout.readline() == "ready\n"

    def do(self, line: str) -> float:
        self.stdin.write(f"{line}\n")
        self.stdin.flush()
        return float(self.stdout.readline())

    def end(self) -> Usage:
        self.stdin.close()
        self.process.wait()
        return used(self.process.usage)


@pytest.fixture
def program(group: Cgroup) -> Iterator[Program]:
    with ExitStack() as stack:
        yield Program(inside(group), stack)


def close_to(expected: int) -> Any:
    return pytest.approx(expected, rel=0.02, abs=512 << 10)


def used(of: Usage | None) -> Usage:
    assert of is not None
    return of


def grown(before: Stats, after: Stats) -> dict[str, int]:
    """Return by how much each sort of memory has grown."""
    names = ("memory_anon", "memory_file", "memory_shmem", "memory_current")
    return {name: getattr(after, name) - getattr(before, name) for name in names}


class TestMemory:
    def test_heap(self, group: Cgroup, program: Program) -> None:
        before = group.stats()
        program.do("kept.append(bytearray(b'x') * (40 << 20))")
        growth = grown(before, group.stats())
        assert growth["memory_anon"] == close_to(40 * MIB)
        assert growth["memory_current"] == close_to(40 * MIB)
        assert growth["memory_shmem"] == 0
        assert growth["memory_file"] == close_to(0)

    def test_shared_memory(self, group: Cgroup, program: Program) -> None:
        before = group.stats()
        program.do("m = mmap.mmap(-1, 30 << 20); [m.write(b'x' * 4096) for _ in range(7680)]")
        growth = grown(before, group.stats())
        assert growth["memory_shmem"] == close_to(30 * MIB)
        assert growth["memory_file"] == close_to(30 * MIB)
        assert growth["memory_anon"] == close_to(0)

    def test_tmpfs(self, group: Cgroup, program: Program) -> None:
        before = group.stats()
        program.do("f = os.memfd_create('x'); [os.write(f, b'x' * 4096) for _ in range(5120)]")
        growth = grown(before, group.stats())
        assert growth["memory_shmem"] == close_to(20 * MIB)
        assert growth["memory_anon"] == close_to(0)

    def test_page_cache(self, group: Cgroup, program: Program, disk: Path) -> None:
        file = disk / "cached"
        try:
            before = group.stats()
            program.do(f"f = open({str(file)!r}, 'wb'); f.write(b'x' * (20 << 20)); f.flush()")
            growth = grown(before, group.stats())
        finally:
            file.unlink(missing_ok=True)
        assert growth["memory_file"] == close_to(20 * MIB)
        assert growth["memory_shmem"] == 0
        assert growth["memory_anon"] == close_to(0)

    def test_peak_stays_and_current_goes(self, group: Cgroup, program: Program) -> None:
        program.do("kept.append(bytearray(b'x') * (40 << 20))")
        high = group.stats()
        program.do("kept.clear()")
        low = group.stats()
        assert high.memory_peak is not None
        assert high.memory_current is not None
        assert low.memory_peak == close_to(high.memory_peak)
        assert low.memory_current == close_to(high.memory_current - 40 * MIB)

    def test_kernel(self, group: Cgroup, program: Program) -> None:
        before = group.stats().memory_kernel
        if before is None:
            pytest.skip("memory.stat has no line of it (Linux 5.18)")
        program.do("kept.extend(os.pipe() for _ in range(200))")
        after = group.stats().memory_kernel
        assert after is not None
        assert after > before


class TestCpu:
    def test_is_what_the_program_says(self, group: Cgroup, program: Program) -> None:
        first, before = program.do("pass"), group.stats()
        last = program.do("spin(0.5)")
        between = group.stats() - before
        assert between.cpu_seconds == pytest.approx(last - first, rel=0.01, abs=EXACT)
        assert between.user_seconds is not None
        assert between.system_seconds is not None
        both = between.user_seconds + between.system_seconds
        assert both == pytest.approx(between.cpu_seconds, abs=0.020)  # two ticks of a v1 kernel

    @pytest.mark.parametrize("reap", [True, False], ids=["reaped", "not reaped"])
    def test_of_children_is_included(self, group: Cgroup, program: Program, reap: bool) -> None:
        program.do("r, w = os.pipe()")
        first, before = program.do("pass"), group.stats()
        own = program.do("pid = os.fork() or (spin(0.5), os.close(w), os._exit(0))")
        # the pipe is at its end when the child's last act, but for its exit, is done
        own = program.do("os.close(w); os.read(r, 1)")
        if reap:
            own = program.do("os.waitpid(pid, 0)")
        between = group.stats() - before
        assert between.cpu_seconds is not None
        # the child has spun for 0.5 seconds, from a clock that began with it
        expected = own - first + 0.5
        assert between.cpu_seconds == pytest.approx(expected, rel=0.01, abs=EXACT)

    def test_throttled(self) -> None:
        with Cgroup.create(limits=Limits(cpu_max=0.2)) as group, ExitStack() as stack:
            program = Program(inside(group), stack)
            before = group.stats()
            program.do("spin(0.2)")
            between = group.stats() - before
        assert between.throttled_periods is not None
        assert between.throttled_seconds is not None
        # it ran 20 ms in each 100 ms
        assert between.throttled_periods >= 5
        assert between.throttled_seconds >= 5 * 0.050

    def test_without_a_limit_is_not_throttled(self) -> None:
        with Cgroup.create(limits=Limits(pids_max=5)) as group, ExitStack() as stack:
            Program(inside(group), stack).do("spin(0.05)")
            stats = group.stats()
        assert (stats.throttled_seconds, stats.throttled_periods) == (0, 0)


class TestOthers:
    def test_oom_kill_of_a_grandchild(self, group: Cgroup, program: Program) -> None:
        line = "os.fork() or (os.fork() or bytearray(b'x') * (200 << 20), os.wait(), os._exit(0))"
        program.do(f"pid = {line}; os.waitpid(pid, 0)")
        assert group.stats().oom_kills == 1
        assert program.process.poll() is None

    def test_memory_events(self, group: Cgroup, program: Program) -> None:
        program.do("os.fork() or bytearray(b'x') * (200 << 20); os.wait()")
        stats = group.stats()
        if stats.memory_max_events is None:
            assert stats.memory_high_events is None
            pytest.skip("v1 does not count them")
        assert stats.memory_max_events > 0
        assert stats.memory_high_events == 0

    def test_pids(self, group: Cgroup, program: Program) -> None:
        program.do("pids = [os.fork() or (time.sleep(60), os._exit(0)) for _ in range(7)]")
        stats = group.stats()
        assert stats.pids_current == 8
        assert stats.pids_peak in (8, None)
        program.do("[os.kill(p, 9) for p in pids]; [os.waitpid(p, 0) for p in pids]")
        stats = group.stats()
        assert stats.pids_current == 1
        assert stats.pids_peak in (8, None)

    def test_pressure(self, group: Cgroup) -> None:
        if group.stats().cpu_pressure is None:
            pytest.skip("no cpu.pressure: no v2 hierarchy, or no PSI")
        before = group.stats()
        many = 2 * (os.cpu_count() or 1)
        with ExitStack() as stack:
            programs = [Program(inside(group), stack) for _ in range(many)]
            threads = [
                threading.Thread(target=program.do, args=("spin(0.3)",)) for program in programs
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        between = (group.stats() - before).cpu_pressure
        assert between is not None
        assert between.some is not None
        assert between.some.total_seconds is not None
        assert between.some.total_seconds > 0.1

    def test_hugetlb(self) -> None:
        free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        if not free.exists() or int(free.read_text()) < 4:
            pytest.skip("no free huge pages of 2 MiB (boot with hugepages=8)")
        with controlled("hugetlb") as group, ExitStack() as stack:
            group_file(group, "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes").write_text("4194304")
            program = Program(inside(group), stack)
            flags = "flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x40000"
            program.do(f"m = mmap.mmap(-1, 4 << 20, {flags}); m[0] = m[2 << 20] = 1")
            before = group.stats()
            program.do(f"os.fork() or mmap.mmap(-1, 2 << 20, {flags}).__setitem__(0, 1); os.wait()")
            after = group.stats()
        assert before.hugetlb is not None
        assert after.hugetlb is not None
        assert before.hugetlb["2MB"].current == after.hugetlb["2MB"].current == 4 * MIB
        assert after.hugetlb["2MB"].peak in (4 * MIB, None)
        between = (after - before).hugetlb
        assert between is not None
        assert between["2MB"].max_events == 1

    def test_io(self, disk: Path) -> None:
        device = os.stat(disk).st_dev
        name = f"{os.major(device)}:{os.minor(device)}"
        file = disk / "direct"
        with controlled("io") as group, ExitStack() as stack:
            program = Program(inside(group), stack)
            opening = f"os.open({str(file)!r}, os.O_RDWR | os.O_CREAT | os.O_DIRECT)"
            program.do(f"f = {opening}; m = mmap.mmap(-1, 1 << 20)")
            try:
                before = group.stats()
                program.do("[os.write(f, m) for _ in range(8)]; os.fsync(f)")
                program.do("os.lseek(f, 0, 0); [os.readv(f, [m]) for _ in range(4)]")
                between = (group.stats() - before).io
            finally:
                file.unlink()
            by_v1 = any(hierarchy.version == 1 for hierarchy in group._directories)
        assert between is not None
        if by_v1 and not between:
            pytest.skip("this v1 kernel counts only devices with an io limit")
        assert between.keys() >= {name}
        assert isinstance(between[name], IoStats)
        # beside the data there is what the filesystem notes of it
        assert between[name].write_bytes == pytest.approx(8 * MIB, abs=MIB)
        assert between[name].read_bytes == pytest.approx(4 * MIB, abs=MIB)
        assert (between[name].writes or 0) >= 8
        assert (between[name].reads or 0) >= 4


def group_file(group: Cgroup, *names: str) -> Path:
    for path in map(Path, group.paths):
        for name in names:
            if (path / name).exists():
                return path / name
    pytest.skip(f"none of {group.paths} has {' or '.join(names)}")


class controlled:  # noqa: N801  a context manager
    """A group with a controller that pyns does not hand down unless a limit needs it."""

    def __init__(self, controller: str) -> None:
        names = {controller, "blkio" if controller == "io" else controller}
        found = [h for h in hierarchies() if names.intersection(h.controllers)]
        if not found:
            pytest.skip(f"no hierarchy has {controller}")
        self.hierarchy = found[0]
        self.controller = controller
        self.undo = ExitStack()

    def __enter__(self) -> Cgroup:
        try:
            return self.undo.enter_context(self.make())
        except OSError as error:
            self.undo.close()
            pytest.skip(f"a group with {self.controller}: {error}")

    def make(self) -> Cgroup:
        if self.hierarchy.version == 1:
            path = Path(self.hierarchy.mount_point, f"pyns-{os.getpid()}-test")
            path.mkdir()
            return Cgroup({self.hierarchy: Directory(str(path))})
        group = Cgroup.create()
        try:
            self.hand_down(group)
        except BaseException:
            group.remove()
            raise
        return group

    def hand_down(self, group: Cgroup) -> None:
        path = Path(group.paths[-1])
        top = Path(self.hierarchy.mount_point)
        above = [parent for parent in reversed(path.parents) if parent.is_relative_to(top)]
        for parent in above:
            file = parent / "cgroup.subtree_control"
            if self.controller not in file.read_text().split():
                file.write_text(f"+{self.controller}")
                self.undo.callback(file.write_text, f"-{self.controller}")

    def __exit__(self, *exc: object) -> None:
        self.undo.close()


def resets_peaks(group: Cgroup) -> bool:
    """Whether the kernel can begin anew with memory's peak: v1, or v2 of Linux 6.12."""
    for hierarchy, directory in group._directories.items():
        if "memory" in hierarchy.controllers:
            if hierarchy.version == 1:
                return True
            try:
                directory.write("memory.peak", "0")
            except CgroupError:
                return False
            return True
    return False


HOG = "import sys; x = bytearray(b'x') * (int(sys.argv[1]) << 20)"


class TestReusedGroup:
    def test_has_each_run_with_its_own_memory(self, group: Cgroup) -> None:
        box = inside(group)
        usages = [used(run(box, [*PYTHON, HOG, size]).usage) for size in ("60", "30", "45")]
        base = used(run(box, [*PYTHON, "pass"]).usage)
        peaks = [usage.memory_peak for usage in usages]
        assert peaks[0] is not None
        assert 60 * MIB <= peaks[0] <= 85 * MIB
        if resets_peaks(group):
            assert base.memory_peak is not None
            assert peaks == [close_to(base.memory_peak + size * MIB) for size in (60, 30, 45)]
        else:
            assert [*peaks[1:], base.memory_peak] == [None] * 3
        assert group.stats().memory_peak == peaks[0]  # since it was made

    def test_has_each_run_with_its_own_time(self, group: Cgroup) -> None:
        script = (
            "import os, sys, time\n"
            "while time.process_time() < float(sys.argv[1]): pass\n"
            "os.write(1, b'%.9f' % time.process_time())\nos._exit(0)"
        )
        for seconds in ("0.6", "1.2", "0.3"):
            done = run(inside(group), [*PYTHON, script, seconds], stdout=subprocess.PIPE)
            told = used(done.usage).cpu_seconds
            assert told == pytest.approx(float(done.stdout), rel=0.01, abs=EXACT)

    def test_has_each_run_with_its_own_kills(self, group: Cgroup) -> None:
        usages = [used(run(inside(group), [*PYTHON, HOG, size]).usage) for size in ("200", "1")]
        assert [usage.oom_kills for usage in usages] == [1, 0]
        usages = [used(run(inside(group), [*PYTHON, HOG, size]).usage) for size in ("1", "200")]
        assert [usage.oom_kills for usage in usages] == [0, 1]
        assert group.stats().oom_kills == 2

    def test_has_the_peak_of_pids_when_it_is_the_highest(self, group: Cgroup) -> None:
        if group.stats().pids_peak is None:
            pytest.skip("no pids.peak before Linux 6.1")
        forks = "import os, sys\nfor _ in range(int(sys.argv[1])): os.fork()\nos.read(0, 1)"
        peaks = []
        for count in ("1", "2", "1"):
            with clone_into(inside(group), [*PYTHON, forks, count], stdin=-1) as process:
                pids = 1 << int(count)
                while group.stats().pids_current != pids:
                    assert process.poll() is None
                process.communicate(b"x" * 100)
            peaks.append(used(process.usage).pids_peak)
            while group.stats().pids_current:
                pass  # the children end by themselves
        assert peaks == [2, 4, None]

    def test_has_what_the_run_did_not_wait_for(self, group: Cgroup) -> None:
        script = (
            "import os, time\n"
            "if not os.fork() and not os.fork():\n"
            "    while time.process_time() < 0.3: pass\n"
            "    os.write(1, b'x'); time.sleep(60)\n"
            "time.sleep(60)"
        )
        with clone_into(inside(group), [*PYTHON, script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            process.kill()
            process.wait()
            group.kill()
        told = used(process.usage).cpu_seconds
        assert told is not None
        assert told >= 0.3

    def test_that_others_are_in_leaves_their_record_alone(self, group: Cgroup) -> None:
        with ExitStack() as stack:
            first = Program(inside(group), stack)
            first.do("kept.append(bytearray(b'x') * (60 << 20)); kept.clear()")
            second = used(run(inside(group), [*PYTHON, HOG, "10"]).usage)
            peak = first.end().memory_peak
        assert peak is not None
        assert peak >= 60 * MIB
        assert second.memory_peak is None

    def test_runs_at_once_have_the_use_of_all(self, group: Cgroup) -> None:
        with ExitStack() as stack:
            programs = [Program(inside(group), stack) for _ in range(3)]
            for program in programs:
                program.do("spin(0.2)")
            told = [program.end().cpu_seconds or 0 for program in programs]
        assert min(told) >= 0.6

    def test_is_one_with_limits_of_its_own_too(self, group: Cgroup) -> None:
        run(inside(group), [*PYTHON, HOG, "60"])
        box = Container(namespaces=Namespace(0), cgroup=group, limits=Limits(pids_max=5))
        usage = used(run(box, [*PYTHON, HOG, "20"]).usage)
        assert usage.memory_peak is not None
        assert 20 * MIB <= usage.memory_peak <= 45 * MIB

    def test_by_threads_at_once_leaves_nothing_open(self, group: Cgroup) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(20):
                    assert used(run(inside(group), ["true"]).usage).oom_kills == 0
            except BaseException as error:
                failures.append(error)

        run(inside(group), ["true"])
        before = len(os.listdir("/proc/self/fd"))
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(os.listdir("/proc/self/fd")) == before
        assert group._meter.runs == []

    def test_that_can_not_be_entered_leaves_nothing_open(self, group: Cgroup) -> None:
        run(inside(group), ["true"])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError):
            run(inside(group), ["does-not-exist"])
        assert len(os.listdir("/proc/self/fd")) == before
        assert group._meter.runs == []


class TestRemovedGroup:
    def test_has_no_statistics(self) -> None:
        group = Cgroup.create()
        group.remove()
        with pytest.raises(CgroupError, match="removed") as caught:
            group.stats()
        assert caught.value.errno == errno.ENODEV

    @pytest.mark.parametrize("read", [Cgroup.stats, Cgroup.usage], ids=["stats", "usage"])
    def test_by_another_has_none(self, read: Callable[[Cgroup], Stats]) -> None:
        with Cgroup.create() as group:
            for path in group.paths:
                os.rmdir(path)
            with pytest.raises(CgroupError, match="removed") as caught:
                read(group)
        assert caught.value.errno == errno.ENODEV
        assert caught.value.file in [path for path in [caught.value.file] if path]

    def test_leaves_the_process_with_what_it_waited_for(self) -> None:
        group = Cgroup.create()
        process = clone_into(inside(group), [*PYTHON, OBEY], stdin=-1, stdout=-1)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            group.remove()
        finally:
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        usage = used(process.usage)
        assert usage.cpu_seconds is not None
        assert usage.cpu_seconds > 0
        assert (usage.memory_peak, usage.oom_kills) == (None, None)


def test_process_without_a_group_has_its_own_time_only() -> None:
    with Process(["true"]) as process:
        process.wait()
    usage = used(process.usage)
    assert usage.cpu_seconds is not None
    assert (usage.memory_peak, usage.oom_kills, usage.pids_peak) == (None, None, None)


def test_hierarchies_of_a_group_are_read_newest_first(group: Cgroup) -> None:
    """v2 divides user and system exactly, v1 by the timer tick."""
    if {h.version for h in group._directories} != {1, 2}:
        pytest.skip("no hybrid host")
    with ExitStack() as stack:
        Program(inside(group), stack).do("spin(0.1)")
    stats = group.stats()
    assert stats.cpu_seconds is not None
    assert stats.cpu_seconds == pytest.approx(
        (stats.user_seconds or 0) + (stats.system_seconds or 0), abs=2e-6
    )
    assert isinstance(next(iter(group._directories)), Hierarchy)
