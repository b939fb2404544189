"""pyns-init is a program that needs nothing of the machine it is for, and talks to its caller."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from pyns import init
from pyns.steps import ExecuteInit

MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of elf(5)
ET_EXEC, PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK = 2, 1, 2, 3, 0x6474E551
CSRC = Path(__file__).parents[2] / "csrc"
LIBLESS = ["-std=gnu11", "-O2", "-ffreestanding", "-fno-stack-protector", "-nostdlib", "-static"]


class Program(NamedTuple):
    machine: int
    kind: int
    segments: dict[int, int]  # p_type: p_flags


def read_elf(path: Path) -> Program:
    elf = path.read_bytes()
    assert elf[:7] == b"\x7fELF\x02\x01\x01", "a 64-bit little-endian ELF file"
    kind, machine = struct.unpack_from("<HH", elf, 16)
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<II", elf, offset + n * size) for n in range(count)]
    assert not any(kind == PT_LOAD and flags & 3 == 3 for kind, flags in segments), "W and X"
    return Program(machine, kind, dict(segments))


def check(program: Program, machine: str) -> None:
    assert (program.machine, program.kind) == (MACHINES[machine], ET_EXEC)
    assert not {PT_INTERP, PT_DYNAMIC} & program.segments.keys(), "it is static"
    assert program.segments[PT_GNU_STACK] & 1 == 0, "no executable stack"


def test_is_installed_executable_static_and_for_this_machine() -> None:
    check(read_elf(Path(init.PROGRAM)), platform.machine())
    assert stat.S_IMODE(os.stat(init.PROGRAM).st_mode) & 0o111 == 0o111
    assert os.stat(init.PROGRAM).st_size < 100_000


@pytest.mark.parametrize("machine", MACHINES)
def test_can_be_built_for(machine: str, tmp_path: Path) -> None:
    compiler = "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
    if shutil.which(compiler) is None or not CSRC.is_dir():
        pytest.skip(f"no {compiler} in PATH, or no {CSRC}")
    output = tmp_path / "pyns-init"
    sources = [CSRC / "init.c", CSRC / "child.c"]
    subprocess.run([compiler, *LIBLESS, f"-I{CSRC}", *sources, "-o", output], check=True)
    check(read_elf(output), machine)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["99"]], ids=["none", "option", "number"])
def test_says_what_it_is_when_somebody_else_starts_it(arguments: list[str]) -> None:
    done = subprocess.run([init.PROGRAM, *arguments], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pyns-init is started by pyns, as PID 1 of a container\n"


@pytest.fixture
def opened() -> Iterator[tuple[ExecuteInit, int]]:
    told: list[int] = []
    with ExitStack() as stack:
        step = init.open_init(stack, told.append)
        stack.callback(os.close, told[0])
        yield step, told[0]


class TestFiles:
    def test_are_not_inherited(self, opened: tuple[ExecuteInit, int]) -> None:
        step, told = opened
        assert not any(os.get_inheritable(fd) for fd in (*step.fds, told))

    def test_program_can_only_be_executed(self, opened: tuple[ExecuteInit, int]) -> None:
        program = opened[0].program
        assert stat.S_IMODE(os.fstat(program).st_mode) == 0o111
        assert os.fstat(program).st_nlink == 0
        for attempt in (
            lambda: os.pwrite(program, b"x", 0),
            lambda: os.ftruncate(program, 0),
            lambda: os.ftruncate(program, 10**6),
        ):
            with pytest.raises(PermissionError):
                attempt()

    def test_are_above_those_that_the_program_gets(self) -> None:
        saved = os.dup(0)
        os.close(0)
        try:
            with ExitStack() as stack:
                step = init.open_init(stack, lambda told: stack.callback(os.close, told))
                assert min(step.fds) > 2
        finally:
            os.dup2(saved, 0)
            os.close(saved)

    def test_are_closed_when_there_are_no_more(self) -> None:
        # the guard sees that none is left
        script = (
            "import os, resource; from contextlib import ExitStack; from pyns import init\n"
            "before = os.listdir('/proc/self/fd')\n"
            "for limit in range(4, 9):\n"
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 20))\n"
            "    with ExitStack() as stack:\n"
            "        try: init.open_init(stack, lambda told: stack.callback(os.close, told))\n"
            "        except OSError as error: print(error.errno)\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
            "assert os.listdir('/proc/self/fd') == before\n"
        )
        done = subprocess.run([sys.executable, "-P", "-c", script], stdout=-1, check=True)
        assert set(done.stdout.split()) == {str(errno.EMFILE).encode()}


class TestMessages:
    def test_of_the_start(self, opened: tuple[ExecuteInit, int]) -> None:
        step, told = opened
        pidfd = os.pidfd_open(os.getpid())
        try:
            os.write(step.tell, struct.pack("=Ii", 7, errno.ENOENT))
            assert init.read_start(told, pidfd) == (7, errno.ENOENT)
        finally:
            os.close(pidfd)

    def test_of_the_start_may_never_come(self, opened: tuple[ExecuteInit, int]) -> None:
        # though somebody has the other end of the pipe still
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        pidfd = os.pidfd_open(pid)
        try:
            assert init.read_start(opened[1], pidfd) == (None, errno.ECANCELED)
        finally:
            os.close(pidfd)
            os.waitpid(pid, 0)

    @pytest.mark.parametrize("closed", [True, False])
    def test_of_the_end_may_be_missing(self, closed: bool, opened: tuple[ExecuteInit, int]) -> None:
        copy = os.dup(opened[0].tell)
        os.set_blocking(copy, False)
        os.write(copy, struct.pack("=i", 9))
        assert init.read_status(opened[1]) == 9
        if closed:
            os.write(copy, b"x")  # half of one
        os.close(copy)
        assert init.read_status(opened[1]) is None
