"""What is told of a program that was run to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from typing import Any

from pyns.command import Arguments
from pyns.container import Container
from pyns.deadline import check_timeout
from pyns.limited import check_cpu_time, check_output_max
from pyns.process import Process
from pyns.reason import Reason
from pyns.usage import Usage


class Completed(subprocess.CompletedProcess[Any]):
    """A subprocess.CompletedProcess that knows what ended the program, and what that has used.

    Attributes:
        usage: what it has used; None if it did not start.
        reason: what ended it.
        error: why it did not start; None if it did.
    """

    usage: Usage | None = None
    reason: Reason = Reason.NOT_STARTED
    error: OSError | None = None


def complete(
    process: Process, args: Arguments, stdout: Any, stderr: Any, *, check: bool
) -> Completed:
    """Return what is told of a program that has ended; CalledProcessError for `check`."""
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, args, stdout, stderr)
    completed = Completed(args, process.returncode, stdout, stderr)
    completed.usage = process.usage
    completed.reason = process.reason or Reason.EXITED
    return completed


def not_started(args: Arguments, failure: OSError) -> Completed:
    """Return what is told of one that could not be started."""
    completed = Completed(args, None)  # type: ignore[arg-type]  # nobody has returned anything
    completed.reason = getattr(failure, "reason", Reason.NOT_STARTED)
    completed.error = failure
    return completed


def check_limits(
    target: object,
    timeout: float | None,
    cpu_time: float | None,
    output_max: int | None,
    outputs: Collection[object],
) -> None:
    """Raise ValueError or TypeError for limits that make no sense, before anything starts."""
    check_timeout(timeout)
    check_cpu_time(cpu_time, target if isinstance(target, Container) else None)
    check_output_max(output_max)
    if output_max is not None and subprocess.PIPE not in outputs:
        raise ValueError(f"output_max={output_max!r}: neither stdout nor stderr is captured")
