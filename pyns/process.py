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
from types import TracebackType
from typing import Any

from pyns import linux, log, marshal
from pyns.cgroups import Cgroup, Stats
from pyns.cgroups.meter import Meter, Run
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
from pyns.errors import CgroupError, SpawnError
from pyns.init import read_status
from pyns.limited import LimitedPopen
from pyns.master import Size, Terminal, check_size, parse_size
from pyns.mounts import StrPath
from pyns.namespaces import Namespace
from pyns.options import Stream
from pyns.reason import Reason, reason_of_status
from pyns.signals import signals_blocked
from pyns.spawn import Child, spawn
from pyns.timing import Timing
from pyns.usage import Usage, of_group, of_process

_NO_PIPES = (-1,) * 6
_NOT_ISOLATED = Container(namespaces=Namespace(0))


class Process(LimitedPopen):
    r"""A program in a container: subprocess.Popen in everything, but for how the child is made.

    Args:
        args: as for subprocess.Popen, like all other arguments.
        container: what to isolate; None for nothing.
        terminal: whether it has a controlling terminal of its own, see `clone_into`.
        timing: whether it is noted how long each step of its start takes.

    Attributes:
        container: what it was given, or what it has of that of the process whose container it
            entered; None for nothing.
        cgroup: the group that it is or was in; None if that is the caller's own.
        terminal: master end of its terminal, an unbuffered binary file; None without one. Its
            end is b"". Closing it, as the end of `with` does, hangs up (SIGHUP).
        usage: what it has used; None until its end was noticed (poll, wait, communicate, with).
        reason: what ended it; likewise.
        timing: a `pyns.timing.Timing` for each step of its start, to be printed; None unless asked
            for.

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
    timing: tuple[Timing, ...] | None = None

    _pidfd = -1
    _told = -1  # fd on which its init tells how the program ended
    _told_status: int | None = None
    _owner = -1  # pid of the process that it is a child of
    _private_cgroup: Cgroup | None = None
    _companions: Companions | None = None
    _run: Run | None = None  # in the group that it was given
    _usage: Usage | None = None
    _stats: Callable[[], Stats] | None = None  # of its group, to be understood when asked for
    _settled = False
    _killed = False  # by us
    _shows = False  # stdout or stderr is its terminal
    _signal_mask = 0  # of the caller
    _start = _wall = 0.0

    def __init__(
        self,
        *args: Any,
        container: Container | None = None,
        terminal: Size = False,
        timing: bool = False,
        **options: Any,
    ) -> None:
        if container is not None and not isinstance(container, Container):
            raise TypeError(f"container={container!r} is not a Container")
        self.container = container
        self._is_plain = container is None
        self._size, self._is_timed = parse_size(terminal), timing
        self._settle_lock = threading.Lock()
        self._ending = marshal.new_ending()
        try:
            # What a signal handler raises comes before the program is there, or when it is known
            # here; subprocess's own fds would be lost in between.
            with signals_blocked() as self._signal_mask:
                super().__init__(*args, **options)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self, limit: Reason | None = None) -> None:
        """End all of it if it runs: the caller gets no Process to wait for.

        Args:
            limit: which one makes it so.
        """
        if self._child_created:
            with signals_blocked():
                self._end(limit)
                for stream in (self.stdin, self.stdout, self.stderr, self.terminal):
                    if stream is not None:
                        with suppress(OSError):  # what was buffered can't be written any more
                            stream.close()
            self.wait()
            self._close_pidfd()

    def _end(self, limit: Reason | None = None) -> None:
        """Kill it. Who is left then goes with PID 1, or before its group is removed."""
        self._limit = limit or self._limit
        # PID 1 takes all others along, once it has a CPU. Those who have them go first
        self._killed = self._killed or self.poll() is None
        with signals_blocked(), self._settle_lock:
            if self._private_cgroup is not None:
                with suppress(CgroupError):
                    self._private_cgroup.begin_to_end()
        self.kill()
        with signals_blocked(), self._settle_lock:
            if self._private_cgroup is not None:
                with suppress(CgroupError):
                    self._private_cgroup.thaw()  # on v1 nobody dies frozen

    @property
    def pidfd(self) -> int:
        """The pidfd, for poll, waitid and pidfd_send_signal; closed by `with`, else at the end."""
        return self._pidfd

    @property
    def usage(self) -> Usage | None:
        """What it has used; None until its end was noticed (poll, wait, communicate, with)."""
        if self._usage is None and self._settled:
            if self._stats is None:
                self._usage = of_process(self._wall, self._ending)
            else:
                self._usage = of_group(self._wall, self._stats())
        return self._usage

    @property
    def reason(self) -> Reason | None:
        """What ended it; None until its end was noticed (poll, wait, communicate, with)."""
        if self.returncode is None or self.usage is None:
            return None
        if self._limit is not None:
            return self._limit
        oom_kills = self.usage.oom_kills
        return reason_of_status(self.returncode, oom_kills=oom_kills, is_ours=self._killed)

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
        container, child = self.container or _NOT_ISOLATED, Child(is_timed=self._is_timed)
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
            self._told, self.terminal, self.timing = child.told, child.terminal, child.timing
            self._shows = self.terminal is not None and -1 in (c2pwrite, errwrite)
            if container.network:
                self._companions = child.companions
            self.cgroup = child.private_cgroup or container.cgroup
            self._child_created = True
        except BaseException as failure:
            # also when a signal handler raised: the caller gets no Process to wait for
            if isinstance(failure, SpawnError) and failure.errno == errno.ECANCELED:
                self._note_oom(failure, child)
            self._child_created, self._pidfd, self._told = False, -1, -1
            self._private_cgroup, self.terminal = None, None
            child.abandon()
            if self._run is not None:
                self._run.close()
            raise

    def _note_oom(self, failure: SpawnError, child: Child) -> None:
        """Have it said if a child that was killed on its way was a victim of the OOM killer."""
        stats = None
        with suppress(CgroupError):  # what is told matters more
            if child.private_cgroup is not None:
                stats = child.private_cgroup.usage()
            elif self._run is not None:
                stats = self._run.end()()
            if stats is not None and stats.oom_kills:
                failure.reason = Reason.OOM_KILLED
                failure.hint = "The OOM killer took it: no program starts within this memory_max"

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        # as subprocess, but a handler that raises does not leave the lock taken
        if self.returncode is None:
            with signals_blocked():
                if self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
                    try:
                        self._reap(os.WNOHANG)
                    finally:
                        self._waitpid_lock.release()  # type: ignore[attr-defined]
        self._settle(blocking=False)
        return self.returncode

    @property
    def _ends_whole(self) -> bool:
        return self._private_cgroup is not None

    @property
    def _meter(self) -> Meter | Run | None:
        return self._run if self._private_cgroup is None else self._private_cgroup.meter

    def _cpus(self) -> int:
        with signals_blocked(), self._settle_lock:
            return 1 if self._meter is None else self._meter.cpus()

    def _cpu_seconds(self) -> float | None:
        """Return the CPU time of all its processes; None when they are gone."""
        with signals_blocked(), self._settle_lock, _gone_is_fine():
            if self._meter is not None:
                return self._meter.cpu_seconds()
        return None

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        try:
            pid = marshal.take_ending(self.pid, wait_flags, self._ending)
        except ChildProcessError:  # reaped by somebody else, its status is lost
            return self.pid, self._status_of_program(0)
        return pid, self._status_of_program(self._ending.status) if pid else 0

    def _status_of_program(self, status: int) -> int:
        """Return what its init has told: PID 1 can't end by a signal of its own. Else `status`."""
        if self._told < 0 or self._owner != os.getpid():  # a forked child must not read it
            return status
        with signals_blocked():  # it can be read once
            if self._told_status is None:
                self._told_status = read_status(self._told)
        return status if self._told_status is None else self._told_status

    def _handle_exitstatus(self, sts: int, *_: Any) -> None:
        self._note_wall()
        super()._handle_exitstatus(sts)  # type: ignore[misc]
        log.debug("pid %d ended after %.6f s: %d", self.pid, self._wall, self.returncode)

    def _note_wall(self) -> None:
        """Note how long it has taken, if its end was not seen before."""
        self._wall = self._wall or time.monotonic() - self._start

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
                    with _gone_is_fine():
                        stats = group.usage()
                        self._stats = lambda: stats
                    group.remove()
                elif run is not None:
                    with _gone_is_fine():
                        self._stats = run.end()
                    run.close()
                self._private_cgroup, self._run, self._settled = None, None, True
                self._close_told()
            finally:
                self._settle_lock.release()

    def send_signal(self, sig: int) -> None:
        """Send a signal through the pidfd, which can't mean another process of the same pid."""
        if self._pidfd < 0:
            super().send_signal(sig)
            return
        self.poll()
        if self.returncode is None:
            with suppress(ProcessLookupError):
                linux.pidfd_send_signal(self._pidfd, sig)
                self._killed = self._killed or sig == signal.SIGKILL

    def kill(self, *, tree: bool = False) -> None:
        """Kill it (SIGKILL), as subprocess does; or all that there is in its container.

        Args:
            tree: whether to kill what it has started as well, wherever that has gone; also if it is
                stopped or frozen. `wait` returns when all are gone.

        Raises:
            ValueError: `tree`, and neither a PID namespace nor a group of its own (`limits`) says
                what belongs to it.
            CgroupError: one does not go within ten seconds (EBUSY).

        Needs: nothing more.
        Source: kill(2), pid_namespaces(7), cgroups(7) (cgroup.kill).

        Example:
            >>> with Process(["sleep", "60"]) as process:
            ...     process.kill()
            >>> process.returncode
            -9
        """
        namespaces = Namespace(0) if self.container is None else self.container.namespaces
        has_bounds = Namespace.PID in namespaces or self._private_cgroup is not None
        if tree and not has_bounds and not self._settled:
            raise ValueError(
                "tree=True: nothing says what belongs to the program. Give its container a PID "
                "namespace, or limits: Limits() makes a group for it that only counts"
            )
        super().kill()  # PID 1 takes all others along
        if tree:
            with signals_blocked(), self._settle_lock:
                if self._private_cgroup is not None:
                    self._private_cgroup.end_processes()

    def stop(self, grace: float) -> int:
        """Ask it to end (SIGTERM), kill all of it after the grace time, and wait for that.

        Args:
            grace: seconds. PID 1 of a container needs all of them, unless it handles SIGTERM or has
                `init`.

        Returns:
            Its status.

        Raises:
            CgroupError: one does not go within ten seconds (EBUSY).

        Needs: nothing more.
        Source: kill(2), pid_namespaces(7).

        Example:
            >>> Process(["sleep", "60"]).stop(grace=10)
            -15
        """
        try:
            self.terminate()
            self.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._end()
        return self.wait()

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
        if not self._child_created or (self._settled and self._pidfd < 0):
            return
        with signals_blocked():  # what a handler raised would be lost, and with it the rest of this
            try:
                if self.returncode is None:
                    super().__del__(*args, **options)
            finally:  # a warning may be an error
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
