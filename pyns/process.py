"""What a started program is to the caller: a subprocess.Popen that knows its container."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from resource import struct_rusage
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypedDict

from pyns.cgroups import Cgroup, Stats
from pyns.cgroups.meter import Run
from pyns.command import (
    Arguments,
    Command,
    Environment,
    encode_arguments,
    encode_cwd,
    encode_environment,
    find_candidates,
    split_arguments,
)
from pyns.companions import Companions
from pyns.container import Container
from pyns.descriptors import arrange
from pyns.errors import CgroupError
from pyns.init import read_status
from pyns.joining import foreign
from pyns.master import Size, Terminal, check_size, parse_size
from pyns.mounts import StrPath
from pyns.namespaces import Fd, Namespace
from pyns.namespaces.targets import (
    HasFileno,
    check_alive,
    check_in_proc,
    check_process,
    opened,
    pid_of,
)
from pyns.signals import signals_blocked
from pyns.spawn import Child, spawn
from pyns.terminal import relay

if TYPE_CHECKING:
    from typing import Unpack

_NO_PIPES = (-1,) * 6
_NOT_ISOLATED = Container(namespaces=Namespace(0))
Stream = int | IO[Any] | None
# what to isolate; or a process (a Process, a pid, a pidfd), whose container to enter
Target = Container | int | HasFileno


class SpawnOptions(TypedDict, total=False):
    """The keyword arguments of subprocess.Popen that are about the child alone."""

    executable: StrPath | None
    close_fds: bool
    cwd: StrPath | None
    env: Environment | None
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Collection[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class PopenOptions(SpawnOptions, total=False):
    """The keyword arguments of subprocess.Popen that start a program here."""

    bufsize: int
    stdin: Stream
    stdout: Stream
    stderr: Stream
    shell: bool
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None
    text: bool | None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a program has used, once it has ended; None where the kernel does not tell.

    Whose figures they are:

    - `limits` (with or without `cgroup`): those of the group that was made for it, from its
      first instruction until its end was noticed. Whatever ran in the group is included, whether
      it was waited for or not.
    - `cgroup` alone: what the whole group has used between the start of the program and the
      notice of its end: the differences of two readings. Whoever else is in the group during that
      time is included, so that of several runs at once each has the use of all.
    - neither, or a group that is removed by then: those of the process and the children that it
      waited for; no more than the CPU time and wall_seconds.

    Attributes:
        wall_seconds: from before the clone until its end was noticed.
        cpu_seconds: CPU time.
        user_seconds: of it, in user mode.
        system_seconds: of it, in the kernel.
        memory_peak: bytes, the highest that the group was charged with, page cache and kernel
            memory included. `cgroup` alone: during the run, and including what the group was
            charged with before, such as files that an earlier run has read. It is known if
            no process and no other run was in the group at the start (on v2 since Linux 6.12), or
            if it is the highest since the group was made; else None.
        oom_kills: processes that the OOM killer took because of memory_max.
        pids_peak: most processes and threads at a time. `cgroup` alone: known only if it is the
            highest since the group was made, and else None.
    """

    wall_seconds: float
    cpu_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    memory_peak: int | None = None
    oom_kills: int | None = None
    pids_peak: int | None = None


class Process(subprocess.Popen[Any]):
    r"""A program in a container: subprocess.Popen in everything, but for how the child is made.

    Args:
        args: as for subprocess.Popen, like all other arguments.
        container: what to isolate; None for nothing.
        terminal: whether it has a controlling terminal of its own, see `clone_into`.

    Attributes:
        container: what it was given; None for nothing.
        cgroup: the group that it is or was in; None if that is the caller's own.
        terminal: master end of its terminal, an unbuffered binary file; None without one. Its
            end is b"". Closing it, as the end of `with` does, hangs up (SIGHUP).
        usage: what it has used; None until its end was noticed (poll, wait, communicate, with).

    Raises:
        ValueError: preexec_fn was given (Python can't run in the child), or args make no sense.
        SpawnError, CgroupError, FileNotFoundError, ...: see `clone_into`.

    Needs: what the container needs.
    Source: clone(2), subprocess.

    Example:
        >>> with Process(["echo", "hello"], stdout=subprocess.PIPE, text=True) as process:
        ...     process.stdout.read()
        'hello\n'
    """

    container: Container | None
    cgroup: Cgroup | None = None
    terminal: Terminal | None = None

    _pidfd = -1
    _told = -1  # fd on which its init tells how the program ended
    _owner = -1  # pid of the process that it is a child of
    _private_cgroup: Cgroup | None = None
    _companions: Companions | None = None
    _run: Run | None = None  # in the group that it was given
    _rusage: struct_rusage | None = None
    _usage: Usage | None = None
    _settled = False
    _shows = False  # stdout or stderr is its terminal
    _signal_mask = 0  # of the caller
    _start = _wall = 0.0

    def __init__(
        self,
        *args: Any,
        container: Container | None = None,
        terminal: Size = False,
        **options: Any,
    ) -> None:
        if container is not None and not isinstance(container, Container):
            raise TypeError(f"container={container!r} is not a Container")
        self.container = container
        self._size = parse_size(terminal)
        self._settle_lock = threading.Lock()
        try:
            # What a signal handler raises comes before the program is there, or when it is known
            # here; subprocess's own fds would be lost in between.
            with signals_blocked() as self._signal_mask:
                super().__init__(*args, **options)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """End the program if it runs: the caller gets no Process to wait for."""
        if self._child_created and self.returncode is None:
            with signals_blocked():
                self.kill()
                for stream in (self.stdin, self.stdout, self.stderr, self.terminal):
                    if stream is not None:
                        with suppress(OSError):  # what was buffered can't be written any more
                            stream.close()
            self.wait()
            self._close_pidfd()

    @property
    def pidfd(self) -> int:
        """The pidfd, for poll, waitid and pidfd_send_signal; closed by `with`, else at the end."""
        return self._pidfd

    @property
    def usage(self) -> Usage | None:
        """What it has used; None until its end was noticed (poll, wait, communicate, with)."""
        if self._usage is None and self._settled:
            self._usage = _usage_of_process(self._wall, self._rusage)
        return self._usage

    def fileno(self) -> int:
        """Return the pidfd, which is readable once it has ended: for select, selectors, asyncio.

        Raises:
            ProcessLookupError: it has ended, and the pidfd is closed.
        """
        if self._pidfd < 0:
            raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")
        return self._pidfd

    def _get_handles(self, stdin: Stream, stdout: Stream, stderr: Stream) -> tuple[int, ...]:
        if self._size is not None and stdout is None and stderr == subprocess.STDOUT:
            stderr = None  # where stdout goes, the terminal; to subprocess it is the caller's
        handles: tuple[int, ...] = super()._get_handles(stdin, stdout, stderr)  # type: ignore[misc]
        return handles

    def _execute_child(  # the signature is subprocess.Popen's
        self,
        args: Arguments,
        executable: StrPath | None,
        preexec_fn: object,
        close_fds: bool,
        pass_fds: Collection[int],
        cwd: StrPath | None,
        env: Environment | None,
        startupinfo: object,  # noqa: ARG002  both are Windows', and checked by Popen
        creationflags: int,  # noqa: ARG002
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        gid: int | None,
        gids: Collection[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int,
    ) -> None:
        if preexec_fn is not None:
            raise ValueError(
                "preexec_fn: Python can't run in the child, which shares our memory. There are "
                "start_new_session, process_group, umask, user, ... and the fields of Container, "
                "such as rlimits, nice, cpu_affinity, die_with_parent"
            )
        argv = split_arguments(args, shell, executable)
        program = argv[0] if executable is None else executable
        sys.audit("subprocess.Popen", program, argv, cwd, env)
        container, child = self.container or _NOT_ISOLATED, Child()
        if env is None and container.env is not None:
            env = container.environment
        pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        try:
            with ExitStack() as copies:
                stdio, passed = arrange((p2cread, c2pwrite, errwrite), pass_fds, copies)
                command = Command(
                    arguments=encode_arguments(argv),
                    candidates=find_candidates(program, env),
                    environment=encode_environment(env),
                    cwd=encode_cwd(cwd, may_be_hidden=container.may_hide_cwd),
                    stdio=stdio,
                    pass_fds=tuple(passed.items()),
                    close_fds=close_fds,
                    restore_signals=restore_signals,
                    umask=umask,
                    start_new_session=start_new_session,
                    process_group=process_group,
                    groups=None if gids is None else tuple(gids),
                    gid=gid,
                    uid=uid,
                    name=program,
                    cwd_name=cwd,
                )
                if container.cgroup is not None and container.limits is None:
                    with _gone_is_fine():  # spawn says it
                        self._run = container.cgroup.start_run()
                self._start = time.monotonic()
                spawn(child, container, command, self._signal_mask, self._size)
            if pipes != _NO_PIPES:
                self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
            self.pid, self._pidfd = child.report.pid, child.report.pidfd
            self._owner, self._private_cgroup = os.getpid(), child.private_cgroup
            self._told, self.terminal = child.told, child.terminal
            self._shows = self.terminal is not None and -1 in (c2pwrite, errwrite)
            if container.network:
                self._companions = child.companions
            self.cgroup = child.private_cgroup or container.cgroup
            self._child_created = True
        except BaseException:
            # also when a signal handler raised: the caller gets no Process to wait for
            self._child_created, self._pidfd, self._told = False, -1, -1
            self._private_cgroup, self.terminal = None, None
            child.abandon()
            if self._run is not None:
                self._run.close()
            raise

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        # subprocess's own, but for wait4 instead of waitpid
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        self._settle(blocking=False)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        returncode: int = super()._wait(timeout)  # type: ignore[misc]
        self._settle(blocking=True)
        return returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            if sys.is_finalizing():  # wait4 imports a module, which is too late then
                pid, status = os.waitpid(self.pid, wait_flags)
            else:
                pid, status, rusage = os.wait4(self.pid, wait_flags)
                if pid == self.pid:
                    self._rusage = rusage
        except ChildProcessError:  # reaped by somebody else, its status is lost
            pid, status = self.pid, 0
        return pid, self._status_of_program(status) if pid == self.pid else status

    def _status_of_program(self, status: int) -> int:
        """Return what its init has told: PID 1 can't end by a signal of its own. Else `status`."""
        if self._told < 0 or self._owner != os.getpid():  # a forked child must not read it
            return status
        told = read_status(self._told)
        return status if told is None else told

    def _handle_exitstatus(self, sts: int, *_: Any) -> None:
        super()._handle_exitstatus(sts)  # type: ignore[misc]
        self._wall = time.monotonic() - self._start

    def _settle(self, *, blocking: bool) -> None:
        """Once it has ended: note what it has used, and remove its group; until that is done."""
        # a forked child inherits this object, but neither the process nor its group
        if self.returncode is None or self._settled or self._owner != os.getpid():
            return
        if (
            self._private_cgroup is None
            and self._run is None
            and self._companions is None
            and self._told < 0
        ):
            self._settled = True  # nothing is to be let go of
            return
        with signals_blocked():
            if not self._settle_lock.acquire(blocking):
                return  # another thread, or the code that this signal handler interrupts, is at it
            try:
                if self._companions is not None:
                    self._companions.end()
                group, run = self._private_cgroup, self._run
                if group is not None:
                    group.end_processes()
                    self._note_usage(group.usage)
                    group.discard()
                elif run is not None:
                    self._note_usage(run.end)
                    run.close()
                self._private_cgroup, self._run, self._settled = None, None, True
                self._close_told()
            finally:
                self._settle_lock.release()

    def _note_usage(self, read: Callable[[], Stats]) -> None:
        if self._usage is None:
            with _gone_is_fine():
                self._usage = _usage_of_group(self._wall, read())

    def send_signal(self, sig: int) -> None:
        """Send a signal through the pidfd, which can't mean another process of the same pid."""
        if self._pidfd < 0:
            super().send_signal(sig)
            return
        self.poll()
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, sig)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal's window; the foreground gets SIGWINCH if it is another one.

        Args:
            rows: lines, 1 to 65535.
            columns: characters in each, 1 to 65535.

        Raises:
            ValueError: it has no terminal, it is closed, or a number is out of range.
        """
        if self.terminal is None:
            raise ValueError("the program has no terminal: start it with terminal=True")
        termios.tcsetwinsize(self.terminal, check_size(rows, columns))

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Read and write pipes, as subprocess does; no terminal.

        Args:
            input: what it reads from stdin.
            timeout: seconds.

        Raises:
            ValueError: its stdout or stderr is its terminal. Nobody would read that, and the
                program wait for ever. `terminal.read()` reads it, `pyns.terminal.relay` shows it.
            subprocess.TimeoutExpired: it has not ended by then.
        """
        if self._shows:
            raise ValueError("communicate() reads pipes, not a terminal: use process.terminal")
        return super().communicate(input, timeout)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.terminal is not None:
                self.terminal.close()
            super().__exit__(exc_type, value, traceback)
        finally:
            if self.returncode is not None:
                self._close_pidfd()

    def __del__(self, *args: Any, **options: Any) -> None:
        if not self._child_created:
            return
        with signals_blocked():  # what a handler raised would be lost, and with it the rest of this
            if self.returncode is None:
                super().__del__(*args, **options)
            self._settle(blocking=False)
            self._close_pidfd()
            self._close_told()

    def _close_told(self) -> None:
        fd, self._told = self._told, -1
        if fd >= 0:
            os.close(fd)

    def _close_pidfd(self) -> None:
        with signals_blocked():
            fd, self._pidfd = self._pidfd, -1
            if fd >= 0:
                os.close(fd)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Let somebody remove the group meanwhile."""
    try:
        yield
    except CgroupError as error:
        if error.errno != errno.ENODEV:
            raise


def _usage_of_process(wall: float, rusage: struct_rusage | None) -> Usage:
    if rusage is None:
        return Usage(wall_seconds=wall)
    # not ru_maxrss: a vfork child's begins with the resident size of its parent
    user, system = rusage.ru_utime, rusage.ru_stime
    return Usage(
        wall_seconds=wall, cpu_seconds=user + system, user_seconds=user, system_seconds=system
    )


def _usage_of_group(wall: float, stats: Stats) -> Usage:
    return Usage(
        wall_seconds=wall,
        cpu_seconds=stats.cpu_seconds,
        user_seconds=stats.user_seconds,
        system_seconds=stats.system_seconds,
        memory_peak=stats.memory_peak,
        oom_kills=stats.oom_kills,
        pids_peak=stats.pids_peak,
    )


class Completed(subprocess.CompletedProcess[Any]):
    """A subprocess.CompletedProcess that knows what the program has used."""

    usage: Usage | None = None


def clone_into(
    target: Target,
    args: Arguments,
    *,
    terminal: Size = False,
    **popen_options: Unpack[PopenOptions],
) -> Process:
    """Start a program in a new container, or in one that is running.

    It is PID 1 of a new container if PID is among its namespaces. In a running one it is another
    process: in all its namespaces but that of time, in its cgroups, with its root.

    Args:
        target: what to isolate; or the process whose container to enter: a `Process`, a pid, or a
            pidfd (`Fd(pidfd)`, or what has it as `fileno()`).
        args: the program and its arguments, as for subprocess.Popen; it is looked up in PATH inside
            the new root.
        terminal: whether it leads a session with a controlling terminal of its own, which is also
            its stdin, stdout and stderr unless these are given. True: as large as the caller's, or
            24 rows of 80 columns; else (rows, columns), or what os.get_terminal_size says. It is
            opened in the /dev/pts that the program sees: with `Dev`, the container's own.
        popen_options: stdin, stdout, env, cwd, text, ... of subprocess.Popen. `pass_fds` may be a
            mapping as well, from numbers inside to fds. `cwd`, `executable` and the shell are those
            inside; names of a `user` and of groups are looked up outside.

    Returns:
        The running program, a subprocess.Popen.

    Raises:
        ValueError: what was asked makes no sense. Like all that follow, it leaves nothing behind.
        ProcessLookupError: the process to enter has ended.
        FileNotFoundError, PermissionError: the program or its cwd, as subprocess raises them.
        SpawnError: the kernel refused another step: EPERM without the privilege, ENOENT for a root
            or a source that is not there.
        CgroupError: a cgroup can't be made or entered: EOPNOTSUPP for a controller that this host
            lacks, EACCES without the right, EBUSY if it is frozen.
        ImportError: Veth or Device without pyroute2.

    Needs: CAP_SYS_ADMIN for namespaces, write access to cgroups for limits; Linux 5.14.
    Source: clone(2), pivot_root(2), cgroups(7).

    Example:
        >>> box = Container(namespaces=Namespace(0))
        >>> clone_into(box, ["true"]).wait()
        0
    """
    process = Process.__new__(Process)
    _start(process, target, args, terminal, popen_options)
    return process


def _start(
    process: Process,
    target: Container | int | HasFileno,
    args: Arguments,
    terminal: Size,
    options: PopenOptions,
) -> None:
    """Start a program as a Process that the caller has already: a handler may raise at any time."""
    try:
        with _container_of(target) as container:
            Process.__init__(process, args, container=container, terminal=terminal, **options)
        if container is not target:
            process.container = None  # it has names for what is closed now
    except BaseException:
        process._abandon()
        raise


@contextmanager
def _container_of(target: Container | int | HasFileno) -> Iterator[Container]:
    """Yield what a target is: of a process, its namespaces and cgroups."""
    if isinstance(target, Container):
        yield target
        return
    check_process("target=", target, "a Container, a Process, a pid or a pidfd")
    with opened(target) as pidfd:
        pid = pid_of(pidfd)
        if pid is None:
            raise ValueError(f"target: fd {pidfd} is not a pidfd")
        check_in_proc(pid)
        kinds = foreign(pid) & ~Namespace.TIME
        group = Cgroup.of(pid, foreign=True)
        try:
            # what was read is about this process; of one that has ended, it would be less than all
            check_alive(pidfd)
            yield Container(
                namespaces=Namespace(0),
                join={kinds: Fd(pidfd)} if kinds else {},
                cgroup=group if group.paths else None,
            )
        finally:
            group.close()


def run(
    target: Target,
    args: Arguments,
    *,
    input: str | bytes | None = None,  # noqa: A002  subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    terminal: Size = False,
    **popen_options: Unpack[PopenOptions],
) -> Completed:
    r"""Run a program in a container and wait for its end, as subprocess.run does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        input: what it reads from stdin.
        capture_output: whether stdout and stderr are returned.
        timeout: seconds, after which it is killed.
        check: whether a status other than 0 is an error.
        terminal: as for `clone_into`. Unless there are pipes, it is connected with the caller's
            stdin and stdout (`pyns.terminal.relay`).
        popen_options: as for `clone_into`.

    Returns:
        Its status, output and usage.

    Raises:
        subprocess.TimeoutExpired: it was killed because of the timeout.
        subprocess.CalledProcessError: its status is not 0, and `check` is set.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> run(Container(namespaces=Namespace(0)), ["echo", "hello"], capture_output=True).stdout
        b'hello\n'
    """
    if input is not None:
        if popen_options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        popen_options["stdin"] = subprocess.PIPE
    if capture_output:
        if popen_options.get("stdout") is not None or popen_options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        popen_options["stdout"] = popen_options["stderr"] = subprocess.PIPE
    given = [popen_options.get(name) for name in ("stdin", "stdout", "stderr")]
    relayed = terminal is not False and subprocess.PIPE not in given
    if terminal is not False and not relayed and None in given[1:]:
        raise ValueError("beside a terminal, stdout and stderr are both pipes or files, or neither")
    process, stdout, stderr = Process.__new__(Process), None, None
    try:
        _start(process, target, args, terminal, popen_options)
        if relayed:
            relay(process, timeout=timeout)
        else:
            stdout, stderr = process.communicate(input, timeout=timeout)
        with process:
            returncode = process.wait()
    except BaseException:
        process._abandon()
        raise
    if check and returncode:
        raise subprocess.CalledProcessError(returncode, args, stdout, stderr)
    completed = Completed(args, returncode, stdout, stderr)
    completed.usage = process.usage
    return completed
