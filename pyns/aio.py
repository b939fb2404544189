"""What asyncio's subprocesses are for a container.

`Process` is an asyncio.subprocess.Process for those who use it, but nothing of asyncio's own is in
it: that needs a transport for which the loop itself makes the child. A loop of any kind connects
the pipes and says when the pidfd is readable: no thread and no child watcher waits.
"""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from pyns.cgroups import Cgroup
from pyns.command import Arguments
from pyns.completed import Completed, check_limits, complete, not_started
from pyns.container import Container
from pyns.deadline import Deadline
from pyns.exceeded import OutputExceeded, TimeoutExpired
from pyns.limited import check_output_max
from pyns.mounts import StrPath
from pyns.options import PopenOptions, SpawnOptions, Stream, ask_for_pipes
from pyns.options import Target as PopenTarget
from pyns.process import Process as Popen
from pyns.reason import Reason
from pyns.starting import clone_into
from pyns.turns import in_turn, turn
from pyns.usage import Usage

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["Process", "create_subprocess_exec", "create_subprocess_shell", "run"]

_LIMIT = 2**16  # asyncio's
_CHUNK = 2**16  # bytes


class _Pipe:
    """One end of a pipe, for a loop to own: an fd that is closed once.

    asyncio closes the file that it is given. uvloop closes the fd by its number, then the file as
    well, by when another thread may have been given that number.
    """

    _fd = -1

    def __init__(self, file: IO[Any]) -> None:
        self._fd = os.dup(file.fileno())
        self._status = os.fstat(self._fd)
        file.close()

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # EBADF
            if os.path.samestat(os.fstat(fd), self._status):
                os.close(fd)

    def __del__(self) -> None:
        self.close()


class _End(asyncio.StreamReaderProtocol):
    """The caller's end of a pipe."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.is_closed = loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.is_closed.done():
            self.is_closed.set_result(None)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # or uvloop keeps the pipe open


class Process(asyncio.subprocess.Process):
    """A program in a container, as `create_subprocess_exec` returns it.

    Attributes:
        pid: of the process.
        stdin: an asyncio.StreamWriter if it is a pipe; else None.
        stdout, stderr: asyncio.StreamReader if it is a pipe; else None.
    """

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader | None
    stderr: asyncio.StreamReader | None

    def __init__(self, popen: Popen) -> None:
        # not asyncio's, which takes a transport of the loop's
        self._popen = popen
        self._loop = asyncio.get_running_loop()
        files = popen.stdin, popen.stdout, popen.stderr
        self._pipes = [None if file is None else _Pipe(file) for file in files]
        popen.stdin = popen.stdout = popen.stderr = None
        self._ends: list[tuple[asyncio.BaseTransport, _End]] = []  # of pipes that are the loop's
        self.pid = popen.pid
        self.stdin = self.stdout = self.stderr = None
        self._ended = self._loop.create_future()
        if popen.pidfd < 0:  # it was gone before one could be opened
            self._loop.call_soon(self._note_end)
        else:
            self._loop.add_reader(popen.pidfd, self._note_end)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid}>"

    @property
    def returncode(self) -> int | None:
        """Its status; the negative number of the signal that ended it; None while it runs."""
        return self._popen.returncode

    @property
    def pidfd(self) -> int:
        """The pidfd; -1 once the process has ended."""
        return self._popen.pidfd

    @property
    def usage(self) -> Usage | None:
        """What it has used; None until it has ended."""
        return self._popen.usage

    @property
    def reason(self) -> Reason | None:
        """What ended it; None until it has ended."""
        return self._popen.reason

    @property
    def container(self) -> Container | None:
        """What it was given; None for nothing."""
        return self._popen.container

    @property
    def cgroup(self) -> Cgroup | None:
        """The group that it is or was in; None if that is the caller's own."""
        return self._popen.cgroup

    async def wait(self, *, timeout: float | None = None, cpu_time: float | None = None) -> int:
        """Wait for its end; whoever is cancelled meanwhile has it killed, and reaped.

        asyncio.wait_for cancels at its timeout. To look on without killing, wait for
        `asyncio.shield(process.wait())`.

        Args:
            timeout: seconds, after which it is killed, with all that is in its PID namespace or its
                group.
            cpu_time: seconds of CPU time since its start, of all processes of its group together;
                likewise.

        Returns:
            Its status.

        Raises:
            TimeoutExpired: it was killed because of the timeout; as CpuTimeExpired because of
                `cpu_time`.
            ValueError: `cpu_time` without a group that counts it.
            CgroupError: its group can't be removed.

        Needs: for `cpu_time`, `limits` or `cgroup` of its container.
        Source: asyncio.subprocess, pidfd_open(2).

        Example:
            >>> from asyncio.subprocess import PIPE
            >>> from pyns import Container, Namespace
            >>> NOTHING = Container(namespaces=Namespace(0))
            >>> async def main():
            ...     process = await create_subprocess_exec(NOTHING, "true")
            ...     return await process.wait()
            >>> asyncio.run(main())
            0
        """
        deadline = self._popen._deadline(timeout, cpu_time)
        try:
            await _until(deadline, self._ended)
        except TimeoutExpired as reached:
            await self._abandon(reached.reason)
            reached.usage = self.usage
            raise
        except asyncio.CancelledError:
            await self._abandon()
            raise
        assert self.returncode is not None
        return self.returncode

    async def communicate(
        self,
        input: bytes | bytearray | memoryview | None = None,  # noqa: A002  asyncio's name
        *,
        timeout: float | None = None,
        cpu_time: float | None = None,
        output_max: int | None = None,
    ) -> tuple[Any, Any]:
        """Write its input, read its output and wait for its end; cancelled, it is as `wait`.

        Args:
            input: what it reads from stdin, if that is a pipe.
            timeout: as for `wait`.
            cpu_time: as for `wait`.
            output_max: bytes of stdout, and of stderr, that are kept; after one more it is killed.

        Returns:
            What it printed to stdout and stderr, as bytes; None for what is no pipe.

        Raises:
            TimeoutExpired, ValueError: as `wait`, with what was read.
            OutputExceeded: it was killed because of `output_max`.
            CgroupError: its group can't be removed.

        Needs: as `wait`.
        Source: asyncio.subprocess.

        Example:
            >>> from asyncio.subprocess import PIPE
            >>> from pyns import Container, Namespace
            >>> NOTHING = Container(namespaces=Namespace(0))
            >>> async def main():
            ...     process = await create_subprocess_exec(
            ...         NOTHING, "cat", stdin=PIPE, stdout=PIPE
            ...     )
            ...     return await process.communicate(b"hello")
            >>> asyncio.run(main())
            (b'hello', None)
        """
        check_output_max(output_max)
        deadline = self._popen._deadline(timeout, cpu_time)
        given = _Output(self.stdout, output_max), _Output(self.stderr, output_max)
        work: list[asyncio.Future[Any]] = []
        try:
            work.append(asyncio.ensure_future(self._feed(input)))
            for output in given:  # one by one, as the loop may refuse a task
                work.append(asyncio.ensure_future(output.read()))  # noqa: PERF401
            await _until(deadline, *work)
            await _until(deadline, self._ended)
        except (TimeoutExpired, OutputExceeded) as reached:
            await self._abandon(reached.reason, work)
            reached.cmd, reached.usage = self._popen.args, self.usage
            reached.output, reached.stderr = (output.kept or None for output in given)
            raise
        except BaseException:
            await self._abandon(None, work)
            raise
        return given[0].kept, given[1].kept

    def send_signal(self, signal: int) -> None:
        """Send a signal; harmless once it has ended, for which asyncio has ProcessLookupError."""
        self._popen.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM; harmless once it has ended."""
        self._popen.terminate()

    def kill(self, *, tree: bool = False) -> None:
        """Send SIGKILL, or kill all that there is in its container; harmless once it has ended.

        Args:
            tree: as for `pyns.Process.kill`.
        """
        self._popen.kill(tree=tree)

    async def stop(self, grace: float) -> int:
        """Ask it to end (SIGTERM), kill all of it after the grace time, and wait for that.

        Args:
            grace: seconds, as for `pyns.Process.stop`.

        Returns:
            Its status.

        Raises:
            CgroupError: its group can't be removed.

        Needs: nothing more.
        Source: kill(2), pid_namespaces(7).

        Example:
            >>> from pyns import Container, Namespace
            >>> NOTHING = Container(namespaces=Namespace(0))
            >>> async def main():
            ...     process = await create_subprocess_exec(NOTHING, "sleep", "60")
            ...     return await process.stop(grace=10)
            >>> asyncio.run(main())
            -15
        """
        self.terminate()
        try:
            await _until(self._popen._deadline(grace), self._ended)
        except TimeoutExpired:
            self._popen._end()
        except asyncio.CancelledError:
            await self._abandon()
            raise
        return await self.wait()

    def _note_end(self) -> None:
        self._popen._note_wall()
        if self._popen.pidfd >= 0:
            self._loop.remove_reader(self._popen.pidfd)
        in_turn(self._settle, self._loop)

    def _settle(self) -> None:
        try:
            with self._popen:
                pass  # it is a zombie: reaps it, notes its usage, removes its group
        except Exception as failure:
            self._ended.set_exception(failure)
        else:
            self._ended.set_result(None)

    async def _connect(self, limit: int) -> None:
        stdin = self._pipes[0]
        if stdin is not None:
            end = _End(asyncio.StreamReader(loop=self._loop), self._loop)
            transport, _ = await self._loop.connect_write_pipe(lambda: end, stdin)
            self._hand_over(0, transport, end)
            self.stdin = asyncio.StreamWriter(transport, end, None, self._loop)
        self.stdout = await self._connect_reader(1, limit)
        self.stderr = await self._connect_reader(2, limit)
        await asyncio.sleep(0)  # whoever cancels meanwhile is heard, also without pipes

    async def _connect_reader(self, number: int, limit: int) -> asyncio.StreamReader | None:
        pipe = self._pipes[number]
        if pipe is None:
            return None
        reader = asyncio.StreamReader(limit, self._loop)
        end = _End(reader, self._loop)
        transport, _ = await self._loop.connect_read_pipe(lambda: end, pipe)
        self._hand_over(number, transport, end)
        return reader

    def _hand_over(self, number: int, transport: asyncio.BaseTransport, end: _End) -> None:
        self._ends.append((transport, end))
        self._pipes[number] = None

    async def _feed(self, given: bytes | bytearray | memoryview | None) -> None:
        if self.stdin is None:
            return
        try:
            if given is not None and not self.stdin.is_closing():  # uvloop: RuntimeError
                self.stdin.write(given)
            await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it does not want to read
        self.stdin.close()

    async def _abandon(
        self, limit: Reason | None = None, work: Iterable[asyncio.Future[Any]] = ()
    ) -> None:
        """Kill all of it, reap it and close its pipes.

        Args:
            limit: which one makes it so.
            work: what nobody waits for any more.
        """
        for task in work:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # no warning
            task.cancel()
        try:
            self._popen._end(limit)
        finally:
            if self.stdin is not None:
                self.stdin.transport.abort()  # whoever else has the pipe may never read
            for transport, _ in self._ends:
                transport.close()
        try:
            await asyncio.shield(self._ended)
            await asyncio.gather(*(end.is_closed for _, end in self._ends))
        except asyncio.CancelledError:
            self._popen.wait()  # once more: so without letting others run
            raise
        finally:
            for pipe in self._pipes:
                if pipe is not None:
                    pipe.close()


class _Output:
    """What is read of a stream, up to a limit; of None, nothing.

    Attributes:
        kept: what was read.
    """

    def __init__(self, reader: asyncio.StreamReader | None, most: int | None) -> None:
        self._reader = reader
        self._most = most
        self._parts: list[bytes] = []

    @property
    def kept(self) -> bytes | None:
        return None if self._reader is None else b"".join(self._parts)

    async def read(self) -> None:
        """Read to the end; OutputExceeded at the first byte that is too much."""
        left = self._most
        while self._reader is not None:
            data = await self._reader.read(_CHUNK if left is None else min(_CHUNK, left + 1))
            if not data:
                return
            self._parts.append(data[:left])
            if left is not None and self._most is not None:
                if len(data) > left:
                    raise OutputExceeded((), self._most)
                left -= len(data)


async def _until(deadline: Deadline, *work: asyncio.Future[Any]) -> None:
    """Wait for all of it, or for the first that has failed; TimeoutExpired at the deadline.

    Whoever is cancelled, the work is not.
    """
    pending = set(work)
    while pending:
        done = {task for task in pending if task.done()}
        if not done:
            left = deadline.left()
            done, _ = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        pending -= done


Target = PopenTarget | Process


async def create_subprocess_exec(
    target: Target,
    program: StrPath,
    *args: StrPath,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    limit: int = _LIMIT,
    **options: Unpack[SpawnOptions],
) -> Process:
    r"""Start a program in a container, as asyncio.create_subprocess_exec does without.

    The loop's own thread starts it, as asyncio does: it can do nothing else for a few milliseconds,
    nor while the group of `limits` is removed at the end. Many starts and ends at once take turns:
    the loop goes round after each. In a thread of a pool, `die_with_parent` would kill the program
    when that thread ends.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        program: what to execute.
        args: its arguments.
        stdin: as for subprocess.Popen; asyncio.subprocess.PIPE for a stream.
        stdout: likewise.
        stderr: likewise.
        limit: bytes of a line, and half of those that are read ahead of their use.
        options: as for `clone_into`, but for those about text and buffering: streams are of bytes.

    Returns:
        The running program.

    Raises:
        ValueError, OSError: as `clone_into`.
        asyncio.CancelledError: the caller was cancelled; nothing runs.

    Needs: as `clone_into`. A loop with `add_reader`: asyncio's, uvloop's; of any thread.
    Source: asyncio.subprocess, pidfd_open(2).

    Example:
        >>> from asyncio.subprocess import PIPE
        >>> from pyns import Container, Namespace
        >>> NOTHING = Container(namespaces=Namespace(0))
        >>> async def main():
        ...     process = await create_subprocess_exec(
        ...         NOTHING, "echo", "hello", stdout=PIPE
        ...     )
        ...     return await process.communicate()
        >>> asyncio.run(main())
        (b'hello\n', None)
    """
    streams: PopenOptions = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return await _create(target, [program, *args], limit, {**streams, **options})


async def create_subprocess_shell(
    target: Target,
    cmd: str | bytes,
    *,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    limit: int = _LIMIT,
    **options: Unpack[SpawnOptions],
) -> Process:
    """Start a shell in a container, as asyncio.create_subprocess_shell does without.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        cmd: what /bin/sh is to do.
        stdin: as for subprocess.Popen; asyncio.subprocess.PIPE for a stream.
        stdout: likewise.
        stderr: likewise.
        limit: bytes of a line, and half of those that are read ahead of their use.
        options: as for `create_subprocess_exec`.

    Returns:
        The running shell.

    Raises:
        ValueError, OSError, asyncio.CancelledError: as `create_subprocess_exec`.

    Needs: as `create_subprocess_exec`, and a shell inside.
    Source: asyncio.subprocess.

    Example:
        >>> from asyncio.subprocess import PIPE
        >>> from pyns import Container, Namespace
        >>> NOTHING = Container(namespaces=Namespace(0))
        >>> async def main():
        ...     process = await create_subprocess_shell(NOTHING, "exit 3")
        ...     return await process.wait()
        >>> asyncio.run(main())
        3
    """
    if not isinstance(cmd, (str, bytes)):
        raise ValueError("cmd must be a string")
    shell: PopenOptions = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "shell": True}
    return await _create(target, cmd, limit, {**shell, **options})


async def run(
    target: Target,
    args: Arguments,
    *,
    input: bytes | None = None,  # noqa: A002  subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    cpu_time: float | None = None,
    output_max: int | None = None,
    check: bool = False,
    verdict: bool = False,
    **popen_options: Unpack[PopenOptions],
) -> Completed:
    r"""Run a program in a container and wait for its end: `pyns.run` for a loop.

    Whoever is cancelled meanwhile has all of it killed, and reaped.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        input: what it reads from stdin.
        capture_output: whether stdout and stderr are returned.
        timeout: as for `pyns.run`, as are all that follow.
        cpu_time: seconds of CPU time.
        output_max: bytes of stdout, and of stderr.
        check: whether a status other than 0 is an error.
        verdict: whether limits and a failed start are told by the result's `reason` alone.
        popen_options: as for `create_subprocess_exec`; and `shell`.

    Returns:
        Its status, output and usage, and what ended it.

    Raises:
        TimeoutExpired, OutputExceeded, subprocess.CalledProcessError: as `pyns.run`.
        ValueError, OSError: as `create_subprocess_exec`.
        asyncio.CancelledError: the caller was cancelled; nothing runs.

    Needs: as `create_subprocess_exec`.
    Source: asyncio.subprocess, pidfd_open(2).

    Example:
        >>> from pyns import Container, Namespace
        >>> NOTHING = Container(namespaces=Namespace(0))
        >>> asyncio.run(run(NOTHING, ["echo", "hello"], capture_output=True)).stdout
        b'hello\n'
    """
    ask_for_pipes(popen_options, input, capture_output=capture_output)
    outputs = [popen_options.get(name) for name in ("stdout", "stderr")]
    check_limits(target, timeout, cpu_time, output_max, outputs)
    try:
        process = await _create(target, args, _LIMIT, popen_options)
    except OSError as failure:
        if not verdict:
            raise
        return not_started(args, failure)
    try:
        stdout, stderr = await process.communicate(
            input, timeout=timeout, cpu_time=cpu_time, output_max=output_max
        )
        process._popen._check_used(cpu_time, stdout, stderr)
    except (TimeoutExpired, OutputExceeded) as reached:
        if not verdict:
            raise
        stdout = None if process.stdout is None else reached.output or b""
        stderr = None if process.stderr is None else reached.stderr or b""
    return complete(process._popen, args, stdout, stderr, check=check)


async def _create(target: Target, args: Arguments, limit: int, options: PopenOptions) -> Process:
    for name in ("universal_newlines", "text", "encoding", "errors", "bufsize"):
        if options.get(name):
            raise ValueError(f"{name}={options.get(name)!r}: the streams are of bytes, unbuffered")
    options["bufsize"] = 0
    await turn()
    # by its pidfd: its pid may be another's by now
    popen = clone_into(target._popen if isinstance(target, Process) else target, args, **options)
    try:
        process = Process(popen)
    except BaseException:
        with popen:
            popen.kill()
        raise
    try:
        await process._connect(limit)
    except BaseException:
        await process._abandon()
        raise
    return process
