"""What happens to a group is told to who watches it, however he waits."""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pyns import CgroupError, Container, Limits, Namespace, clone_into, run
from pyns.cgroups import Cgroup, Event, Trigger, Watch
from pyns.cgroups.events import Kind

pytestmark = [pytest.mark.usefixtures("limits"), pytest.mark.timeout(300)]

PLAIN = Namespace(0)
EAT = "import sys; x = bytearray(b'x') * (100 << 20)"
HOG = [sys.executable, "-P", "-S", "-c", EAT]
PATIENCE = 30.0
PRESSURE = Trigger(resource="cpu", stall_seconds=0.02)


@pytest.fixture
def group(limits: None) -> Iterator[Cgroup]:  # noqa: ARG001  it skips where there are none
    with Cgroup.create(limits=Limits(memory_max="40M", memory_swap_max=0, pids_max=50)) as made:
        yield made


def inside(group: Cgroup) -> Container:
    return Container(namespaces=PLAIN, cgroup=group)


def v2_path(group: Cgroup, file: str) -> Path:
    """Return a file of the v2 directory; skip without it."""
    for path in map(Path, group.paths):
        if (path / "cgroup.events").exists() and (path / file).exists():
            return path / file
    pytest.skip(f"no v2 directory of {group.paths} has {file}")


def expect(watch: Watch, *kinds: Kind) -> list[Event]:
    """Wait until each of these was there; return all that came."""
    found: list[Event] = []
    while not {event.kind for event in found}.issuperset(kinds):
        event = watch.wait(PATIENCE)
        assert event is not None, f"only {found}"
        found.append(event)
    return found


def counts(events: list[Event]) -> dict[Kind, int]:
    result: dict[Kind, int] = {}
    for event in events:
        result[event.kind] = result.get(event.kind, 0) + event.count
    return result


@contextmanager
def thread_of(watch: Watch) -> Iterator[queue.Queue[Event | None]]:
    """Iterate over a watch in a thread; the queue gets the events, and None at the end."""
    told: queue.Queue[Event | None] = queue.Queue()

    def loop() -> None:
        for event in watch:
            told.put(event)
        told.put(None)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield told
    finally:
        watch.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


class TestOom:
    def test_is_told(self, group: Cgroup) -> None:
        with group.watch(["oom", "oom_kill"]) as watch:
            run(inside(group), HOG)
            assert counts(expect(watch, "oom", "oom_kill")) == {"oom": 1, "oom_kill": 1}
            assert watch.wait(0) is None

    def test_counts_each(self, group: Cgroup) -> None:
        with group.watch("oom_kill") as watch:
            for _ in range(3):
                run(inside(group), HOG)
            told = 0
            while told < 3:
                [event] = expect(watch, "oom_kill")
                told += event.count
        assert told == 3

    def test_of_a_grandchild(self, group: Cgroup) -> None:
        script = "import os; os.fork() or (os.fork() or bytearray(b'x') * (100 << 20), os.wait())"
        with group.watch("oom_kill") as watch:
            assert run(inside(group), [*HOG[:-1], script]).returncode == 0
            assert expect(watch, "oom_kill") == [Event(kind="oom_kill")]

    def test_before_is_not_told(self, group: Cgroup) -> None:
        run(inside(group), HOG)
        with group.watch("oom_kill") as watch:
            assert watch.wait(0.05) is None
            run(inside(group), HOG)
            assert expect(watch, "oom_kill") == [Event(kind="oom_kill")]

    def test_comes_in_a_thread(self, group: Cgroup) -> None:
        with group.watch("oom_kill") as watch, thread_of(watch) as told:
            run(inside(group), HOG)
            assert told.get(timeout=PATIENCE) == Event(kind="oom_kill")

    def test_of_each_comes_by_itself(self, group: Cgroup) -> None:
        # v1 tells before it kills, so that the count may not have changed when one looks. A group
        # that is not empty in between, and has no siblings, so that nothing makes one look again
        limits = Limits(memory_max="40M", memory_swap_max=0)
        with ExitStack() as stack:
            one = stack.enter_context(Cgroup.create(parent=group, limits=limits))
            stack.enter_context(clone_into(inside(one), ["cat"], stdin=-1))
            told = stack.enter_context(thread_of(one.watch("oom_kill")))
            is_v1 = any(Path(path, "memory.oom_control").exists() for path in one.paths)
            for _ in range(20 if is_v1 else 3):
                run(inside(one), HOG)
                assert told.get(timeout=PATIENCE) == Event(kind="oom_kill")

    def test_comes_in_an_iterator(self, group: Cgroup) -> None:
        with group.watch("oom_kill") as watch:
            process = clone_into(inside(group), HOG)
            for event in watch:
                assert event == Event(kind="oom_kill")
                break
            process.wait()

    def test_comes_in_asyncio(self, group: Cgroup) -> None:
        async def main() -> Event:
            process = clone_into(inside(group), HOG)
            try:
                async for event in watch:
                    return event
            finally:
                process.wait()
            raise AssertionError("it ended")

        with group.watch("oom_kill") as watch:
            told = asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert told == Event(kind="oom_kill")

    def test_comes_in_an_event_loop_of_ones_own(self, group: Cgroup) -> None:
        with group.watch("oom_kill") as watch, select.epoll() as loop:
            loop.register(watch, select.EPOLLIN)
            assert loop.poll(0) == []
            run(inside(group), HOG)
            event = None
            while event is None:
                assert loop.poll(PATIENCE), "nothing came"
                event = watch.wait(0)
        assert event == Event(kind="oom_kill")

    def test_in_a_private_group_is_not_lost_when_that_goes_at_once(self) -> None:
        limits = Limits(memory_max="40M", memory_swap_max=0)
        for _ in range(5):
            with clone_into(
                Container(namespaces=PLAIN, limits=limits),
                ["sh", "-c", 'read x; exec "$@"', "sh", *HOG],
                stdin=-1,
            ) as process:
                assert process.cgroup is not None
                with process.cgroup.watch(["oom_kill", "removed"]) as watch:
                    process.communicate(b"\n")
                    told = list(watch)
            assert told == [Event(kind="oom_kill"), Event(kind="removed")]

    def test_several_at_one_look_keep_the_fd_readable(self, group: Cgroup) -> None:
        with group.watch(["oom", "oom_kill"]) as watch:
            run(inside(group), HOG)
            watch.note()
            readable = select.poll()
            readable.register(watch, select.POLLIN)
            told: list[Event] = []
            while len(told) < 2:
                assert readable.poll(PATIENCE * 1000)
                told += [event for event in [watch.wait(0)] if event]
        assert {event.kind for event in told} == {"oom", "oom_kill"}


class TestOtherLimits:
    def test_memory_max(self, group: Cgroup) -> None:
        v2_path(group, "memory.events")
        with group.watch("memory_max") as watch:
            run(inside(group), HOG)
            [event] = expect(watch, "memory_max")
        assert event.count >= 1

    def test_memory_high(self, group: Cgroup) -> None:
        v2_path(group, "memory.high").write_text(str(10 << 20))
        eat = [*HOG[:-1], "x = bytearray(b'x') * (12 << 20)"]
        with group.watch("memory_high") as watch, clone_into(inside(group), eat) as process:
            told = expect(watch, "memory_high")
            process.kill()
        assert {event.kind for event in told} == {"memory_high"}

    def test_pids_max(self, group: Cgroup) -> None:
        v2_path(group, "pids.events")
        group.apply(Limits(pids_max=2))
        fork = [*HOG[:-1], "import os\ntry: os.fork() and os.fork()\nexcept OSError: pass"]
        with group.watch("pids_max") as watch:
            run(inside(group), fork)
            assert expect(watch, "pids_max") == [Event(kind="pids_max")]

    @pytest.mark.parametrize("kind", ["memory_low", "memory_high", "memory_max", "pids_max"])
    def test_on_v1_is_refused(self, group: Cgroup, kind: Kind) -> None:
        if any((Path(path) / "memory.events").exists() for path in group.paths):
            pytest.skip("the group's memory controller is v2's")
        with pytest.raises(CgroupError, match=f"watch for {kind} in the cgroup") as caught:
            group.watch(["oom_kill", kind])
        assert caught.value.errno == errno.EOPNOTSUPP
        assert "v1 hierarchies have oom, oom_kill and removed" in str(caught.value)


class TestState:
    def test_populated_and_empty(self, group: Cgroup) -> None:
        v2_path(group, "cgroup.events")
        with group.watch(["populated", "empty"]) as watch:
            with clone_into(inside(group), ["cat"], stdin=-1) as process:
                assert expect(watch, "populated") == [Event(kind="populated")]
                assert watch.wait(0) is None
                process.communicate()
            assert expect(watch, "empty") == [Event(kind="empty")]

    def test_frozen_and_thawed(self, group: Cgroup) -> None:
        switch = v2_path(group, "cgroup.freeze")
        with group.watch(["frozen", "thawed"]) as watch:
            switch.write_text("1")
            assert expect(watch, "frozen") == [Event(kind="frozen")]
            switch.write_text("0")
            assert expect(watch, "thawed") == [Event(kind="thawed")]

    def test_that_was_before_is_not_told(self, group: Cgroup) -> None:
        v2_path(group, "cgroup.events")
        with clone_into(inside(group), ["cat"], stdin=-1), group.watch() as watch:
            assert watch.wait(0) is None


class TestPressure:
    @pytest.fixture(autouse=True)
    def _has_pressure(self, group: Cgroup) -> None:
        v2_path(group, "cpu.pressure")
        try:
            group.watch((), pressure=PRESSURE).close()
        except CgroupError as error:
            pytest.skip(str(error))

    @pytest.fixture
    def stalled(self, group: Cgroup) -> Iterator[None]:
        """Have more programs run than there are CPUs."""
        spin = [*HOG[:-1], "while True: pass"]
        with ExitStack() as stack:
            for _ in range(2 * (os.cpu_count() or 1)):
                process = stack.enter_context(clone_into(inside(group), spin))
                stack.callback(process.kill)
            yield

    @pytest.mark.usefixtures("stalled")
    def test_is_told_with_its_trigger(self, group: Cgroup) -> None:
        other = Trigger(resource="memory", stall_seconds=1)
        with group.watch((), pressure=[other, PRESSURE]) as watch:
            assert watch.wait(PATIENCE) == Event(kind="pressure", trigger=PRESSURE)

    @pytest.mark.usefixtures("stalled")
    def test_comes_in_asyncio(self, group: Cgroup) -> None:
        async def main() -> Event:
            async for event in watch:
                return event
            raise AssertionError("it ended")

        with group.watch((), pressure=PRESSURE) as watch:
            told = asyncio.run(asyncio.wait_for(main(), PATIENCE))
        assert told == Event(kind="pressure", trigger=PRESSURE)

    @pytest.mark.usefixtures("stalled")
    def test_is_not_lost_by_who_polls_the_fd(self, group: Cgroup) -> None:
        with group.watch((), pressure=PRESSURE) as watch, select.epoll() as loop:
            loop.register(watch, select.EPOLLIN)
            event = None
            while event is None:
                assert loop.poll(PATIENCE), "nothing came"
                assert loop.poll(0), "polled once more: still there"
                event = watch.wait(0)
        assert event.kind == "pressure"

    def test_that_the_kernel_refuses(self, group: Cgroup) -> None:
        odd = Trigger(resource="cpu", stall_seconds=0.1, window_seconds=0.7)
        status = Path("/proc/self/status").read_text()
        if int(status.partition("CapEff:")[2].split()[0], 16) & 1 << 24:
            pytest.skip("CAP_SYS_RESOURCE is there: the kernel takes it")
        with pytest.raises(CgroupError, match="multiple of 2") as caught:
            group.watch(pressure=odd)
        assert (caught.value.errno, caught.value.value) == (errno.EINVAL, "some 100000 700000")


def test_pressure_without_v2_is_refused() -> None:
    with Cgroup.create() as group:
        of_v1 = {h: d for h, d in group._directories.items() if h.version == 1}
        if not of_v1:
            pytest.skip("no v1 hierarchy")
        with pytest.raises(CgroupError, match="v1 has no pressure") as caught:
            Watch(of_v1, None, [PRESSURE])
    assert caught.value.errno == errno.EOPNOTSUPP


class TestRemoval:
    def test_ends_a_thread(self) -> None:
        group = Cgroup.create()
        with group.watch("removed") as watch, thread_of(watch) as told:
            group.remove()
            assert told.get(timeout=PATIENCE) == Event(kind="removed")
            assert told.get(timeout=PATIENCE) is None
            assert watch.ended
            assert watch.wait() is None

    def test_ends_asyncio_also_when_it_was_not_asked_for(self) -> None:
        group = Cgroup.create()

        async def main() -> list[Event]:
            asyncio.get_running_loop().call_later(0.05, group.remove)
            return [event async for event in watch]

        with group.watch(()) as watch:
            assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == []

    def test_by_another_process(self) -> None:
        with Cgroup.create() as group, group.watch("removed") as watch:
            assert watch.wait(0.05) is None
            subprocess.run(["rmdir", *group.paths], check=True)
            assert watch.wait(PATIENCE) == Event(kind="removed")

    def test_of_another_group_is_none(self, group: Cgroup) -> None:
        with (
            Cgroup.create(parent=group) as one,
            Cgroup.create(parent=group) as other,
            one.watch() as watch,
        ):
            other.remove()
            assert watch.wait(0.05) is None

    def test_of_one_in_which_something_ran_says_that_it_is_empty(self) -> None:
        with Cgroup.create() as group:
            v2_path(group, "cgroup.events")
            with clone_into(inside(group), ["sleep", "60"]) as process:
                with group.watch(["empty", "removed"]) as watch:
                    group.remove()
                    assert list(watch) == [Event(kind="empty"), Event(kind="removed")]
                process.wait()

    def test_by_another_tells_that_it_is_empty_and_nothing_of_ooms(self) -> None:
        with Cgroup.create(limits=Limits(memory_max="40M")) as group:
            v2_path(group, "cgroup.events")
            with clone_into(inside(group), ["sleep", "60"]) as process:
                watch = group.watch()
                process.kill()
            for path in group.paths:
                while os.path.exists(path):
                    subprocess.run(["rmdir", path], check=False, stderr=subprocess.DEVNULL)
            told = list(watch)
            watch.close()
        assert told == [Event(kind="empty"), Event(kind="removed")]

    def test_of_the_v1_part_is_no_oom(self) -> None:
        with Cgroup.create(limits=Limits(memory_max="40M")) as group:
            memory = [path for path in group.paths if Path(path, "memory.oom_control").exists()]
            if not memory or len(group.paths) == 1:
                pytest.skip("memory is not a v1 hierarchy among others")
            with group.watch("oom") as watch:
                os.rmdir(memory[0])
                assert watch.wait(0.2) is None

    def test_before_is_refused(self) -> None:
        group = Cgroup.create()
        group.remove()
        with pytest.raises(CgroupError, match="removed") as caught:
            group.watch()
        assert caught.value.errno == errno.ENODEV

    def test_by_another_before_is_refused_and_leaves_nothing_open(self) -> None:
        with Cgroup.create() as group:
            subprocess.run(["rmdir", *group.paths], check=True)
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(CgroupError) as caught:
                group.watch()
            assert len(os.listdir("/proc/self/fd")) == before
        assert caught.value.errno in (errno.ENODEV, errno.ENOENT)

    def test_keeps_the_fd_readable_as_a_pipe_at_its_end(self) -> None:
        group = Cgroup.create()
        with group.watch() as watch:
            group.remove()
            for _ in range(2):
                assert select.select([watch], [], [], PATIENCE)[0] == [watch]
                watch.wait(0)
            assert watch.ended


class TestWatch:
    def test_closed_elsewhere_ends_the_wait(self, group: Cgroup) -> None:
        ended = threading.Event()
        watch = group.watch()

        def work() -> None:
            assert watch.wait() is None
            ended.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert not ended.wait(0.05)
        watch.close()
        assert ended.wait(PATIENCE)
        thread.join()

    def test_closed_ends_asyncio(self, group: Cgroup) -> None:
        async def main() -> list[Event]:
            asyncio.get_running_loop().call_later(0.05, watch.close)
            return [event async for event in watch]

        watch = group.watch()
        assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == []

    def test_that_is_closed_has_no_fd_and_no_events(self, group: Cgroup) -> None:
        watch = group.watch()
        watch.close()
        watch.close()
        assert watch.wait() is None
        assert list(watch) == []
        with pytest.raises(ValueError, match="closed"):
            watch.fileno()

    def test_that_is_forgotten_leaves_nothing_open(self, group: Cgroup) -> None:
        before = len(os.listdir("/proc/self/fd"))
        group.watch()
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize("kinds", ["nonsense", ["oom", "nonsense"], "pressure"])
    def test_for_an_unknown_kind_is_a_mistake(self, group: Cgroup, kinds: Kind) -> None:
        with pytest.raises(ValueError, match=r"nonsense|pressure"):
            group.watch(kinds)

    def test_by_threads_gives_each_event_once(self, group: Cgroup) -> None:
        told: list[Event] = []
        with group.watch("oom_kill") as watch:
            threads = [threading.Thread(target=lambda: told.extend(watch)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                run(inside(group), HOG)
            while sum(event.count for event in told) < 5:
                assert any(thread.is_alive() for thread in threads)
            watch.close()
            for thread in threads:
                thread.join()
        assert counts(told) == {"oom_kill": 5}
