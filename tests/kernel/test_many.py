"""A thousand spawns, and eight threads at once, leave nothing and grow nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyns import Container, Limits, Namespace, clone_into, run

PLAIN = Container(namespaces=Namespace(0))


# with PYNS_WHOLE=1 in the environment, fifty times as many; that takes a quarter of an hour
WHOLE = "PYNS_WHOLE" in os.environ
MANY = 50_000 if WHOLE else 1000
# what a start makes in the kernel, and its end has to free (slabinfo(5)). Not the nodes of sysfs
# and cgroups: one cgroup of somebody else's has sixty
KERNEL_OBJECTS = """
    cred_jar filp mnt_cache net_namespace nsproxy pid pid_namespace task_struct user_namespace
    uts_namespace
"""


def maps() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kernel_objects() -> dict[str, int]:
    """Return name → how many there are on this machine; nothing where only root may know."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    except OSError:
        return {}
    counts = {name: int(active) for name, active, *_ in map(str.split, lines)}
    return {name: counts[name] for name in KERNEL_OBJECTS.split() if name in counts}


def grow_nothing(work: Callable[[], object], times: int) -> None:
    for _ in range(50):  # caches of the interpreter and the allocator fill up
        work()
    before = (maps(), resident(), len(os.listdir("/proc/self/fd")))
    objects = kernel_objects()
    for _ in range(times):
        work()
    after = (maps(), resident(), len(os.listdir("/proc/self/fd")))
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + (1 << 20)
    assert after[2] == before[2]
    if WHOLE:  # of a few, others on this machine would have as many
        grown = {}
        for _ in range(300):  # namespaces are freed later, one after the other
            now = kernel_objects()
            grown = {n: now[n] - objects[n] for n in now if now[n] - objects[n] > times // 4}
            if not grown:
                break
            time.sleep(0.1)
        assert grown == {}


@pytest.mark.timeout(3600 if WHOLE else 300)
class TestManyInARow:
    def test_programs(self) -> None:
        grow_nothing(lambda: run(PLAIN, ["true"]), MANY)

    @pytest.mark.usefixtures("namespaces")
    def test_containers(self) -> None:
        grow_nothing(lambda: run(Container(hostname="x"), ["true"]), MANY)

    @pytest.mark.usefixtures("limits")
    def test_containers_with_limits(self) -> None:
        box = Container(namespaces=Namespace(0), limits=Limits(memory_max="50M", pids_max=10))
        grow_nothing(lambda: run(box, ["true"]), MANY // 5)

    def test_failures(self) -> None:
        def fail() -> None:
            with pytest.raises(FileNotFoundError):
                run(PLAIN, ["/does/not/exist"], stdin=-1)

        grow_nothing(fail, MANY)


def together(work: Callable[[int], None], count: int) -> list[BaseException]:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("namespaces")
def test_eight_threads_get_each_its_own_status_and_output() -> None:
    def work(number: int) -> None:
        box = Container(hostname=f"box-{number}")
        for turn in range(25):
            status = (number * 25 + turn) % 256
            completed = run(
                box, ["sh", "-c", f"uname -n; exit {status}"], capture_output=True, text=True
            )
            assert (completed.returncode, completed.stdout) == (status, f"box-{number}\n")

    assert together(work, 8) == []


@pytest.mark.timeout(120)
def test_threads_that_spawn_in_every_way_at_once() -> None:
    def work(number: int) -> None:
        for _ in range(50):
            if number % 2:
                assert run(PLAIN, ["true"]).returncode == 0
            else:
                assert subprocess.run(["true"], check=False).returncode == 0

    assert together(work, 8) == []


def test_signals_meanwhile_are_handled_by_the_caller_only() -> None:
    caller, handled_by = os.getpid(), []
    old = signal.signal(signal.SIGALRM, lambda *_: handled_by.append(os.getpid()))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        statuses = {run(PLAIN, ["true"]).returncode for _ in range(200)}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert statuses == {0}
    assert set(handled_by) == {caller}


def test_caller_that_ignores_sigchld() -> None:
    # the kernel reaps by itself then; the status is lost, as with subprocess
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert clone_into(PLAIN, ["true"]).wait() == 0
        with pytest.raises(FileNotFoundError):
            clone_into(PLAIN, ["/does/not/exist"])
    finally:
        signal.signal(signal.SIGCHLD, old)
