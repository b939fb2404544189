"""What ended a program is told apart, and out of memory only by the group's counter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pyns import Container, Limits, Namespace, Reason, SpawnError, clone_into, run
from pyns.aio import create_subprocess_exec
from pyns.cgroups import Cgroup

NOTHING = Container(namespaces=Namespace(0))
TIGHT = Limits(memory_max="48M", memory_swap_max=0, pids_max=50)
EAT = "x = bytearray(b'x') * (200 << 20)"
# a child of it is a memory hog; it says how that ended, and goes on
PARENT = f"""
import os, sys
pid = os.fork()
if pid == 0:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    {EAT}
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-P", "-c", code]


@contextmanager
def noting(said: dict[Reason, str]) -> Iterator[None]:
    try:
        yield
    except SpawnError as failure:
        said[failure.reason] = str(failure)
        raise


@pytest.fixture
def box(limited: Callable[[Limits], Container]) -> Container:
    """Describe a container that is tight in memory."""
    return limited(TIGHT)


@pytest.fixture(params=["nothing", "init"])
def mortal(request: pytest.FixtureRequest) -> Container:
    """Describe a container whose program is not PID 1."""
    if request.param == "nothing":
        return NOTHING
    request.getfixturevalue("namespaces")
    return Container(init=True)


class TestOwnEnd:
    @pytest.mark.parametrize("status", [0, 3, 137, 255])
    def test_by_a_status(self, mortal: Container, status: int) -> None:
        done = run(mortal, ["sh", "-c", f"exit {status}"])
        assert (done.reason, done.returncode) == (Reason.EXITED, status)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    def test_by_a_signal(self, mortal: Container, number: int) -> None:
        done = run(mortal, ["sh", "-c", f"ulimit -c 0; kill -{number} $$"])
        assert (done.reason, done.returncode) == (Reason.SIGNALED, -number)

    def test_is_none_while_it_runs(self) -> None:
        with clone_into(NOTHING, ["cat"], stdin=subprocess.PIPE) as process:
            assert process.reason is None
        assert process.reason == Reason.EXITED

    def test_is_known_in_a_loop_too(self) -> None:
        async def main() -> None:
            process = await create_subprocess_exec(NOTHING, "cat", stdin=subprocess.PIPE)
            assert process.reason is None
            await process.communicate(b"")
            assert process.reason is Reason.EXITED

        asyncio.run(main())

    def test_is_a_word(self) -> None:
        assert f"{run(NOTHING, ['true']).reason}" == "exited"


class TestOutOfMemory:
    def test_of_the_program(self, box: Container) -> None:
        done = run(box, python(EAT))
        assert (done.reason, done.returncode) == (Reason.OOM_KILLED, -signal.SIGKILL)
        assert done.usage is not None
        assert done.usage.oom_kills == 1

    @pytest.mark.parametrize("status", [0, 137])
    def test_of_another_one_leaves_the_program_its_end(self, box: Container, status: int) -> None:
        done = run(box, python(f"{PARENT}sys.exit({status})"), stdout=-1)
        assert done.stdout == b"-9\n"
        assert (done.reason, done.returncode) == (Reason.EXITED, status)
        assert done.usage is not None
        assert done.usage.oom_kills == 1

    def test_is_not_what_we_have_killed(self, box: Container) -> None:
        args = python(f"{PARENT}import time; time.sleep(60)")
        with clone_into(box, args, stdout=-1) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"-9\n"
            process.kill()
        assert (process.reason, process.returncode) == (Reason.SIGNALED, -signal.SIGKILL)
        assert process.usage is not None
        assert process.usage.oom_kills == 1

    def test_is_not_page_cache(self, box: Container, disk: Path) -> None:
        script = "dd if=/dev/zero of=file bs=1M count=100 && rm file && kill -9 $$; exit 137"
        done = run(box, ["sh", "-c", script], cwd=disk, stderr=subprocess.DEVNULL)
        # PID 1 does not hear a signal of its own
        expected = {-9: Reason.SIGNALED, 137: Reason.EXITED}
        assert done.reason == expected[done.returncode]
        assert done.usage is not None
        assert done.usage.oom_kills == 0

    @pytest.mark.usefixtures("limits")
    def test_in_a_group_that_was_given_counts_this_run_only(self) -> None:
        with Cgroup.create(limits=TIGHT) as group:
            box = Container(namespaces=Namespace(0), cgroup=group)
            assert run(box, python(EAT)).reason == Reason.OOM_KILLED
            killed = run(box, ["sh", "-c", "kill -9 $$"])
            assert killed.reason == Reason.SIGNALED

    def test_of_the_whole_group_on_v2(self, limited: Callable[[Limits], Container]) -> None:
        limits = Limits(memory_max="48M", memory_swap_max=0, memory_oom_group=True)
        try:
            Cgroup.create(limits=limits).remove()
        except (ValueError, OSError) as refused:
            pytest.skip(str(refused))
        done = run(limited(limits), python(PARENT), stdout=-1)
        assert (done.reason, done.returncode, done.stdout) == (Reason.OOM_KILLED, -9, b"")
        assert done.usage is not None
        assert (done.usage.oom_kills or 0) >= 2  # Linux 6.1 counts the first one twice

    @pytest.mark.usefixtures("limits", "namespaces")
    def test_before_the_program_runs_is_an_error_or_a_kill(self) -> None:
        # from too little for its arguments to enough for the program
        said = set()
        for size in ("32K", "64K", "96K", "128K", "160K"):
            box = Container(init=True, limits=Limits(memory_max=size, memory_swap_max=0))
            with suppress(OSError):
                said.add(run(box, ["true", "x" * 100_000]).reason)
        assert said == {Reason.OOM_KILLED}


def test_start_that_was_refused() -> None:
    with pytest.raises(SpawnError) as caught:
        run(Container(root="/does/not/exist", namespaces=Namespace.MOUNT), ["true"])
    assert caught.value.reason == Reason.NOT_STARTED


def test_what_is_sent_from_outside_is_a_signal() -> None:
    with clone_into(NOTHING, ["sleep", "60"]) as process:
        os.kill(process.pid, signal.SIGKILL)
    assert process.reason == Reason.SIGNALED
