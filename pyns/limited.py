"""How a subprocess.Popen is waited for and communicated with, up to limits."""

from __future__ import annotations

import math
import select
import subprocess
from typing import Any

from pyns.container import Container
from pyns.deadline import Deadline, check_timeout
from pyns.exceeded import CpuTimeExpired, OutputExceeded, TimeoutExpired
from pyns.exchange import Exchange, decode
from pyns.reason import Reason
from pyns.usage import Usage


class LimitedPopen(subprocess.Popen[Any]):
    """A subprocess.Popen whose waits have more limits than time.

    What makes the child says what it has used, and lets go of what is left when it has ended.
    """

    container: Container | None

    _pidfd = -1
    _is_plain = True  # nothing is isolated, and everything as subprocess has it
    _shows = False  # stdout or stderr is its terminal
    _limit: Reason | None = None  # for which it was ended
    _exchange: Exchange | None = None

    def _cpu_seconds(self) -> float | None:
        """Return the CPU time of all its processes; None when they are gone."""
        raise NotImplementedError

    def _cpus(self) -> int:
        """Return how many CPUs they can use at the same time, at most."""
        raise NotImplementedError

    @property
    def _ends_whole(self) -> bool:
        """Whether all that it has started is ended when its end is noticed, and not before."""
        raise NotImplementedError

    @property
    def usage(self) -> Usage | None:
        """What it has used; None until its end was noticed."""
        raise NotImplementedError

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Return its pid and its status if it has ended."""
        raise NotImplementedError

    def _settle(self, *, blocking: bool) -> None:
        """Once it has ended: let go of what is left."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None, *, cpu_time: float | None = None) -> int:
        """Wait for its end, as subprocess does; nothing is killed.

        Args:
            timeout: seconds.
            cpu_time: seconds of CPU time since its start, of all processes of its group together.

        Returns:
            Its status; the negative number of the signal that ended it.

        Raises:
            TimeoutExpired: it has not ended by then; as CpuTimeExpired if `cpu_time` is used up.
            ValueError: `cpu_time` without a group that counts it.

        Needs: for `cpu_time`, `limits` or `cgroup` of its container.
        Source: pidfd_open(2), cgroups(7).

        Example:
            >>> from pyns import Process
            >>> Process(["true"]).wait(timeout=10)
            0
        """
        if cpu_time is None:
            return super().wait(timeout)
        self._wait_until(self._deadline(timeout, cpu_time))
        self._settle(blocking=True)
        assert self.returncode is not None
        return self.returncode

    def _deadline(self, timeout: float | None, cpu_time: float | None = None) -> Deadline:
        if cpu_time is None:
            return Deadline(self.args, timeout)
        check_cpu_time(cpu_time, self.container)
        return Deadline(self.args, timeout, cpu_time, self._cpu_seconds, self._cpus())

    def _wait(self, timeout: float | None) -> int:
        if timeout is None or self._pidfd < 0:
            super()._wait(timeout)  # type: ignore[misc]
        else:  # subprocess would look again and again
            self._wait_until(Deadline(self.args, timeout))
        self._settle(blocking=True)
        assert self.returncode is not None
        return self.returncode

    def _wait_until(self, deadline: Deadline) -> None:
        poll = select.poll()
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        left: float | None = 0.0
        while self.returncode is None:
            # without a pidfd it had ended before one could be opened
            if self._pidfd >= 0 and not poll.poll(None if left is None else math.ceil(left * 1000)):
                left = deadline.left()
                continue
            with self._waitpid_lock:  # type: ignore[attr-defined]
                self._reap(0)

    def _reap(self, wait_flags: int) -> None:
        """Note its status if it has ended, unless that is done; with `_waitpid_lock`."""
        if self.returncode is None:
            pid, status = self._try_wait(wait_flags)
            if pid == self.pid:
                self._handle_exitstatus(status)  # type: ignore[attr-defined]

    def communicate(
        self,
        input: Any = None,  # noqa: A002  subprocess's name
        timeout: float | None = None,
        *,
        cpu_time: float | None = None,
        output_max: int | None = None,
    ) -> tuple[Any, Any]:
        r"""Write and read its pipes and wait for its end, as subprocess does; nothing is killed.

        Args:
            input: what it reads from stdin.
            timeout: seconds.
            cpu_time: seconds of CPU time since its start, of all processes of its group together.
            output_max: bytes of each of stdout and stderr, for all calls from the first on.

        Returns:
            What it printed to stdout and stderr; None for what is no pipe.

        Raises:
            ValueError: its stdout or stderr is its terminal. Nobody would read that, and the
                program wait for ever. `terminal.read()` reads it, `pyns.terminal.relay` shows it.
                Or `cpu_time` without a group that counts it.
            TimeoutExpired: it has not ended by then; as CpuTimeExpired if `cpu_time` is used up.
            OutputExceeded: it has written more.

        Needs: for `cpu_time`, `limits` or `cgroup` of its container.
        Source: subprocess, cgroups(7).

        Example:
            >>> from pyns import Process
            >>> with Process(["echo", "hello"], stdout=subprocess.PIPE) as process:
            ...     process.communicate(output_max=1000)
            (b'hello\n', None)
        """
        if self._shows:
            raise ValueError("communicate() reads pipes, not a terminal: use process.terminal")
        check_timeout(timeout)
        is_begun: bool = self._communication_started
        is_subprocess_s = is_begun or self._is_plain or (timeout is None and not self._ends_whole)
        if self._exchange is None and cpu_time is output_max is None and is_subprocess_s:
            return super().communicate(input, timeout)
        if self._exchange is None and is_begun:
            raise ValueError("cpu_time, output_max: they have to be given from the first call on")
        if is_begun and input:
            raise ValueError("Cannot send input after starting communication")
        check_output_max(output_max)
        deadline = self._deadline(timeout, cpu_time)
        if self._exchange is None:
            self._exchange = self._begin_exchange(input, output_max)
        try:
            self._exchange.go_on(deadline, self._pidfd if self._ends_whole else -1, self.poll)
            self._wait_until(deadline)
        except (TimeoutExpired, OutputExceeded) as exceeded:
            exceeded.output, exceeded.stderr = (data or None for data in self._outputs)
            raise
        self._settle(blocking=True)
        return self._as_text(*self._outputs)

    def _check_used(self, cpu_time: float | None, *outputs: bytes | None) -> None:
        """Raise CpuTimeExpired if it has used more by its end, which came between two looks."""
        usage = self.usage
        if cpu_time is not None and usage is not None and (usage.cpu_seconds or 0) > cpu_time:
            self._limit = Reason.CPU_TIME
            expired = CpuTimeExpired(self.args, cpu_time, *(data or None for data in outputs))
            expired.usage = usage
            raise expired

    @property
    def _outputs(self) -> list[bytes | None]:
        return [None, None] if self._exchange is None else self._exchange.outputs

    def _kept(self) -> tuple[Any, Any]:
        """Return what was read before a limit was reached."""
        return self._as_text(*self._outputs, is_whole=False)

    def _begin_exchange(self, given: Any, output_max: int | None) -> Exchange:
        stdin: Any = self.stdin
        if given is not None and self.text_mode and stdin is not None:  # type: ignore[attr-defined]
            given = given.encode(stdin.encoding, stdin.errors)
        self._communication_started = True
        return Exchange(self.args, stdin, (self.stdout, self.stderr), given or b"", output_max)

    def _as_text(self, *outputs: bytes | None, is_whole: bool = True) -> tuple[Any, Any]:
        """Return outputs as the caller wants them; of one that is not whole, whole characters."""
        streams: list[Any] = [self.stdout, self.stderr]
        stdout, stderr = (
            decode(data, stream.encoding, stream.errors, is_whole=is_whole)
            if data is not None and self.text_mode  # type: ignore[attr-defined]
            else data
            for data, stream in zip(outputs, streams, strict=True)
        )
        return stdout, stderr

    def _check_timeout(
        self,
        endtime: float | None,
        orig_timeout: float,
        stdout_seq: list[bytes] | None,
        stderr_seq: list[bytes] | None,
        skip_check_and_raise: bool = False,
    ) -> None:
        try:
            super()._check_timeout(  # type: ignore[misc]
                endtime, orig_timeout, stdout_seq, stderr_seq, skip_check_and_raise
            )
        except subprocess.TimeoutExpired as expired:
            seen = expired.cmd, expired.timeout, expired.output, expired.stderr
            raise TimeoutExpired(*seen) from None


def check_cpu_time(cpu_time: float | None, container: Container | None) -> None:
    """Raise ValueError or TypeError for a limit that makes no sense, or that nobody could hold."""
    if cpu_time is None:
        return
    if isinstance(cpu_time, bool) or not isinstance(cpu_time, (int, float)):
        raise TypeError(f"cpu_time={cpu_time!r} is not a number of seconds")
    if not cpu_time >= 0:
        raise ValueError(f"cpu_time={cpu_time!r}: it can't be below 0")
    if container is None or (container.limits is None and container.cgroup is None):
        raise ValueError(
            "cpu_time: nothing counts the CPU time of all processes. Give the container limits: "
            "Limits() makes a group for it that only counts"
        )


def check_output_max(output_max: int | None) -> None:
    """Raise ValueError or TypeError for a limit that makes no sense."""
    if output_max is None:
        return
    if isinstance(output_max, bool) or not isinstance(output_max, int):
        raise TypeError(f"output_max={output_max!r} is not a number of bytes")
    if output_max < 0:
        raise ValueError(f"output_max={output_max}: it can't be below 0")
