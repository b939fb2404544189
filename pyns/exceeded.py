"""What is raised when a program has reached a limit that pyns holds, and not the kernel."""

from __future__ import annotations

import subprocess
from typing import Any, ClassVar

from pyns.reason import Reason
from pyns.usage import Usage


class TimeoutExpired(subprocess.TimeoutExpired):
    """A program has not ended by its `timeout`.

    Attributes:
        cmd: its arguments.
        timeout: seconds.
        output: what of its stdout was read, as bytes; None for nothing.
        stderr: likewise.
        usage: what it has used, if it was ended: by `run`, `call`, ..., not by `Process.wait`.
        reason: Reason.TIMEOUT.
    """

    reason: ClassVar[Reason] = Reason.TIMEOUT
    usage: Usage | None = None


class CpuTimeExpired(TimeoutExpired):
    """A program and all with it have used their `cpu_time`; whoever catches a time-out has it too.

    Attributes:
        timeout: seconds of CPU time that it had; the others are those of `TimeoutExpired`.
        reason: Reason.CPU_TIME.
    """

    reason = Reason.CPU_TIME

    def __str__(self) -> str:
        return f"Command {self.cmd!r} has used {self.timeout} seconds of CPU time"


class OutputExceeded(subprocess.SubprocessError):
    """A program has written more than `output_max` to one of its captured streams.

    Attributes:
        cmd: its arguments.
        output_max: bytes that each stream could have.
        output: those of its stdout, and no more; None for nothing.
        stderr: likewise.
        usage: what it has used, if it was ended: by `run`, not by `Process.communicate`.
        reason: Reason.OUTPUT.
    """

    reason: ClassVar[Reason] = Reason.OUTPUT
    usage: Usage | None = None

    def __init__(
        self, cmd: Any, output_max: int, output: bytes | None = None, stderr: bytes | None = None
    ) -> None:
        super().__init__(cmd, output_max, output, stderr)
        self.cmd = cmd
        self.output_max = output_max
        self.output = output
        self.stderr = stderr

    @property
    def stdout(self) -> bytes | None:
        """The output, as subprocess's exceptions have it."""
        return self.output

    def __str__(self) -> str:
        return f"Command {self.cmd!r} has written more than {self.output_max} bytes"
