"""What subprocess's run, call, check_call and check_output are for a container."""

from __future__ import annotations

import subprocess
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from pyns.command import Arguments
from pyns.master import Size
from pyns.options import PopenOptions, Target
from pyns.process import Process
from pyns.reason import Reason
from pyns.starting import clone_into, start
from pyns.terminal import relay
from pyns.usage import Usage

if TYPE_CHECKING:
    from typing import Unpack


class Completed(subprocess.CompletedProcess[Any]):
    """A subprocess.CompletedProcess that knows what ended the program, and what that has used.

    Attributes:
        usage: what it has used.
        reason: what ended it.
    """

    usage: Usage | None = None
    reason: Reason = Reason.NOT_STARTED


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
        >>> from pyns import Container, Namespace
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
        start(process, target, args, terminal, popen_options)
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
    completed.reason = process.reason or Reason.NOT_STARTED
    return completed


def call(
    target: Target,
    args: Arguments,
    *,
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container and return its status, as subprocess.call does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        timeout: seconds, after which it is killed.
        popen_options: as for `clone_into`.

    Returns:
        Its status; the negative number of the signal that ended it.

    Raises:
        subprocess.TimeoutExpired: it was killed because of the timeout.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> call(Container(namespaces=Namespace(0)), ["sh", "-c", "exit 3"])
        3
    """
    with clone_into(target, args, **popen_options) as process:
        try:
            return process.wait(timeout)
        except BaseException:
            process.kill()  # the with statement waits
            raise


def check_call(
    target: Target,
    args: Arguments,
    *,
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container that must succeed, as subprocess.check_call does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        timeout: seconds, after which it is killed.
        popen_options: as for `clone_into`.

    Returns:
        0.

    Raises:
        subprocess.CalledProcessError: its status is not 0.
        subprocess.TimeoutExpired: it was killed because of the timeout.
        ValueError, OSError: as `clone_into`.

    Needs: as `clone_into`.
    Source: subprocess.

    Example:
        >>> from pyns import Container, Namespace
        >>> check_call(Container(namespaces=Namespace(0)), ["true"])
        0
    """
    status = call(target, args, timeout=timeout, **popen_options)
    if status:
        raise subprocess.CalledProcessError(status, args)
    return 0


def check_output(
    target: Target,
    args: Arguments,
    *,
    input: str | bytes | EllipsisType | None = ...,  # noqa: A002  subprocess's name
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> Any:
    r"""Return what a program in a container prints, as subprocess.check_output does.

    Args:
        target: what to isolate, or the process whose container to enter, as for `clone_into`.
        args: as for `clone_into`.
        input: what it reads from stdin, None for nothing; left out, stdin is the caller's.
        timeout: seconds, after which it is killed.
        popen_options: as for `clone_into`, but for stdout.

    Returns:
        What it printed: text if `text`, `encoding`, `errors` or `universal_newlines` say so.

    Raises:
        subprocess.CalledProcessError: its status is not 0.
        subprocess.TimeoutExpired: it was killed because of the timeout.
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
    popen_options["stdout"] = subprocess.PIPE
    if input is ...:
        done = run(target, args, timeout=timeout, check=True, **popen_options)
    else:
        is_text = any(
            popen_options.get(name) for name in ("text", "encoding", "errors", "universal_newlines")
        )
        given = ("" if is_text else b"") if input is None else input
        done = run(target, args, input=given, timeout=timeout, check=True, **popen_options)
    return done.stdout
