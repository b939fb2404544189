"""What subprocess's run, call, check_call and check_output are for a container."""

from __future__ import annotations

import subprocess
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from pyns.command import Arguments
from pyns.completed import Completed, check_limits, complete, not_started
from pyns.exceeded import OutputExceeded, TimeoutExpired
from pyns.master import Size
from pyns.options import PopenOptions, Target, ask_for_pipes
from pyns.process import Process
from pyns.starting import start
from pyns.terminal import relay

if TYPE_CHECKING:
    from typing import Unpack


def run(
    target: Target,
    args: Arguments,
    *,
    input: str | bytes | None = None,  # noqa: A002  subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    cpu_time: float | None = None,
    output_max: int | None = None,
    check: bool = False,
    verdict: bool = False,
    terminal: Size = False,
    **popen_options: Unpack[PopenOptions],
) -> Completed:
    r"""Run a program in a container and wait for its end, as subprocess.run does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        input: what it reads from stdin.
        capture_output: whether stdout and stderr are returned.
        timeout: seconds, after which it is killed, with all that it has started: with what is in
            its PID namespace, or in its group if it has `limits`.
        cpu_time: seconds of CPU time, of all processes of its group together; likewise.
        output_max: bytes of stdout, and of stderr, that are kept; after one more, likewise.
        check: whether a status other than 0 is an error.
        verdict: whether the limits above, and a program that can't be started, are told by the
            result's `reason`, and not by an exception.
        terminal: as for `clone_into`. Unless there are pipes, it is connected with the caller's
            stdin and stdout (`pyns.terminal.relay`).
        popen_options: as for `clone_into`.

    Returns:
        Its status, output and usage, and what ended it.

    Raises:
        TimeoutExpired: it was killed because of the timeout; as CpuTimeExpired because of
            `cpu_time`, which is also raised if it has used more when it ends.
        OutputExceeded: it was killed because of `output_max`.
        subprocess.CalledProcessError: its status is not 0, and `check` is set.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> run(Container(namespaces=Namespace(0)), ["echo", "hello"], capture_output=True).stdout
        b'hello\n'
    """
    ask_for_pipes(popen_options, input, capture_output=capture_output)
    given = [popen_options.get(name) for name in ("stdin", "stdout", "stderr")]
    relayed = terminal is not False and subprocess.PIPE not in given
    if terminal is not False and not relayed and None in given[1:]:
        raise ValueError("beside a terminal, stdout and stderr are both pipes or files, or neither")
    check_limits(target, timeout, cpu_time, output_max, given[1:])
    process, stdout, stderr = Process.__new__(Process), None, None
    try:
        try:
            start(process, target, args, terminal, popen_options)
        except OSError as failure:
            if not verdict:
                raise
            return not_started(args, failure)
        try:
            if relayed:
                relay(process, timeout=timeout, cpu_time=cpu_time)
            else:
                stdout, stderr = process.communicate(
                    input, timeout, cpu_time=cpu_time, output_max=output_max
                )
            with process:
                process.wait()
            process._check_used(cpu_time, *process._outputs)
        except (TimeoutExpired, OutputExceeded) as reached:
            process._abandon(reached.reason)
            reached.usage = process.usage
            if not verdict:
                raise
            stdout, stderr = process._kept()
    except BaseException:
        process._abandon()
        raise
    return complete(process, args, stdout, stderr, check=check)


def call(
    target: Target,
    args: Arguments,
    *,
    timeout: float | None = None,
    cpu_time: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container and return its status, as subprocess.call does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        timeout: as for `run`.
        cpu_time: as for `run`.
        popen_options: as for `clone_into`.

    Returns:
        Its status; the negative number of the signal that ended it.

    Raises:
        TimeoutExpired: as `run`.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> call(Container(namespaces=Namespace(0)), ["sh", "-c", "exit 3"])
        3
    """
    check_limits(target, timeout, cpu_time, None, ())
    process = Process.__new__(Process)
    try:
        start(process, target, args, False, popen_options)
        try:
            process.wait(timeout, cpu_time=cpu_time)
            with process:
                process._check_used(cpu_time)
        except TimeoutExpired as reached:
            process._abandon(reached.reason)
            reached.usage = process.usage
            raise
    except BaseException:
        process._abandon()
        raise
    return process.returncode


def check_call(
    target: Target,
    args: Arguments,
    *,
    timeout: float | None = None,
    cpu_time: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container that must succeed, as subprocess.check_call does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        timeout: as for `run`.
        cpu_time: as for `run`.
        popen_options: as for `clone_into`.

    Returns:
        0.

    Raises:
        subprocess.CalledProcessError: its status is not 0.
        TimeoutExpired: as `run`.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> check_call(Container(namespaces=Namespace(0)), ["true"])
        0
    """
    status = call(target, args, timeout=timeout, cpu_time=cpu_time, **popen_options)
    if status:
        raise subprocess.CalledProcessError(status, args)
    return 0


def check_output(
    target: Target,
    args: Arguments,
    *,
    input: str | bytes | EllipsisType | None = ...,  # noqa: A002  subprocess's name
    timeout: float | None = None,
    cpu_time: float | None = None,
    output_max: int | None = None,
    **popen_options: Unpack[PopenOptions],
) -> Any:
    r"""Return what a program in a container prints, as subprocess.check_output does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        input: what it reads from stdin, None for nothing; left out, stdin is the caller's.
        timeout: as for `run`.
        cpu_time: as for `run`.
        output_max: as for `run`.
        popen_options: as for `clone_into`, but for stdout.

    Returns:
        What it printed: text if `text`, `encoding`, `errors` or `universal_newlines` say so.

    Raises:
        subprocess.CalledProcessError: its status is not 0.
        TimeoutExpired, OutputExceeded: as `run`.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> check_output(Container(namespaces=Namespace(0)), ["echo", "hello"])
        b'hello\n'
    """
    for name in ("stdout", "check"):
        if name in popen_options:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    given = None
    if input is not ...:
        is_text = any(
            popen_options.get(name) for name in ("text", "encoding", "errors", "universal_newlines")
        )
        given = ("" if is_text else b"") if input is None else input
    popen_options["stdout"] = subprocess.PIPE
    return run(
        target,
        args,
        input=given,
        timeout=timeout,
        cpu_time=cpu_time,
        output_max=output_max,
        check=True,
        **popen_options,
    ).stdout
