"""The subjects that are called in this process."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import fcntl
import importlib.util
import os
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.metadata import version as version_of

from bench.floor import FloorMount, Start, expect_success
from bench.isolation import EVERY, HOSTNAME, own_id_maps
from bench.subject import Subject, first_line
from pyns import Namespace, aio, clone_into, run


class BareC(Subject):
    """limit.c, called by ctypes."""

    name = "bare C"
    differences = (
        "limit.c: the same system calls as pyns, but for checks, and a stack mapped for each "
        "start, where pyns keeps one. One ctypes call."
    )

    def version(self) -> str:
        return first_line(["cc", "--version"])

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        has_root = Namespace.MOUNT in namespaces
        return self.place.floor.prepare(
            argv,
            namespaces=namespaces,
            root=self.place.root if has_root else None,
            hostname=HOSTNAME if Namespace.UTS in namespaces else None,
            id_maps=own_id_maps() if Namespace.USER in namespaces else None,
            mounts=[FloorMount("PROC", "/proc")] if has_root else (),
        )


class CloneInto(Subject):
    """pyns.clone_into and wait."""

    name = "pyns"
    differences = "clone_into(container, args).wait()."

    def version(self) -> str:
        return version_of("pyns-linux")

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        container = self.place.container(namespaces)
        return lambda: expect_success(clone_into(container, argv).wait())


class Run(CloneInto):
    """pyns.run."""

    name = "pyns.run"
    differences = "run(container, args): communicate() and the usage, besides."

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        container = self.place.container(namespaces)
        return lambda: expect_success(run(container, argv).returncode)


class SubprocessRun(Subject):
    """subprocess.run."""

    name = "subprocess.run"
    differences = "Isolates nothing. vfork and exec in C; no pidfd."
    makes = Namespace(0)

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:  # noqa: ARG002
        return lambda: expect_success(subprocess.run(argv, check=False).returncode)


class PosixSpawn(Subject):
    """os.posix_spawn."""

    name = "os.posix_spawn"
    differences = "Isolates nothing. libc's vfork and exec; closes no fds, resets no signals."
    makes = Namespace(0)

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:  # noqa: ARG002
        def start() -> None:
            _, status = os.waitpid(os.posix_spawn(argv[0], list(argv), os.environ), 0)
            expect_success(status)

        return start


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _in_loop(create: Callable[[], Awaitable[asyncio.subprocess.Process]]) -> Start:
    async def one() -> None:
        expect_success(await (await create()).wait())

    return lambda: _loop().run_until_complete(one())


class Aio(CloneInto):
    """pyns.aio."""

    name = "pyns.aio"
    differences = "aio.create_subprocess_exec(container, *args) and wait, in a loop that is there."

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        container = self.place.container(namespaces)
        return _in_loop(lambda: aio.create_subprocess_exec(container, *argv))


class AsyncioExec(Subject):
    """asyncio.create_subprocess_exec."""

    name = "asyncio"
    differences = "Isolates nothing. create_subprocess_exec and wait, in a loop that is there."
    makes = Namespace(0)

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:  # noqa: ARG002
        return _in_loop(lambda: asyncio.create_subprocess_exec(*argv))


class PreexecFn(Subject):
    """subprocess.Popen with unshare in preexec_fn, and what else that takes."""

    name = "preexec_fn"
    differences = (
        "subprocess.Popen(preexec_fn=...): Python in a fork of the parent, another fork for the "
        "program to be PID 1, system calls by ctypes; chroot, which leaves the old root mounted."
    )
    always = Namespace.PID
    forks = True

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        libc = ctypes.CDLL(None, use_errno=True)
        root, (uids, gids) = os.fsencode(self.place.root), own_id_maps()

        def call(result: int) -> None:
            if result < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

        def isolate() -> None:
            call(libc.unshare(ctypes.c_int(namespaces.value)))  # os.unshare is Python 3.12's
            if Namespace.USER in namespaces:
                for name, text in (("uid_map", uids), ("setgroups", "deny"), ("gid_map", gids)):
                    with open(f"/proc/self/{name}", "w") as file:
                        file.write(text)
            if pid := os.fork():  # the namespace is for children
                os.closerange(3, 256)  # among them the pipe that tells Popen of the exec
                os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            if Namespace.UTS in namespaces:
                socket.sethostname(HOSTNAME)
            if Namespace.NET in namespaces:
                _loopback_up()
            if Namespace.MOUNT in namespaces:
                call(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
                os.chroot(root)
                os.chdir("/")
                call(libc.mount(b"proc", b"/proc", b"proc", 0xE, None))  # nosuid, nodev, noexec

        return lambda: expect_success(subprocess.Popen(argv, preexec_fn=isolate).wait())


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        up = struct.pack("16sh", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(made, 0x8914, up)  # SIOCSIFFLAGS


class BenchExec(Subject):
    """BenchExec's container API, in this process."""

    name = "BenchExec"
    differences = (
        "Less: no cgroup and no time namespace, chroot. More: a fork of Python that "
        "stays inside as PID 1, pipes to it, the caller's /dev, all capabilities dropped."
    )
    makes = EVERY & ~(Namespace.CGROUP | Namespace.TIME)
    always = Namespace.PID | Namespace.MOUNT | Namespace.UTS | Namespace.IPC | Namespace.USER
    forks = True
    pid = 2
    sets_hostname = False  # to one of its own

    def missing(self) -> str | None:
        if importlib.util.find_spec("benchexec") is None:
            return "no benchexec among Python's packages"
        return None

    def version(self) -> str:
        return version_of("benchexec")

    def prepare(self, namespaces: Namespace, argv: Sequence[str]) -> Start:
        from benchexec.containerexecutor import ContainerExecutor

        network = Namespace.NET not in namespaces
        executor = ContainerExecutor(uid=os.geteuid(), gid=os.getegid(), network_access=network)
        root = str(self.place.root)

        def start() -> None:
            done = executor.execute_run(list(argv), workingDir="/", rootDir=root)
            expect_success(done.raw)

        return start
