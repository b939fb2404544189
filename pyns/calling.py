"""What subprocess's call, check_call and check_output are for a container."""

from __future__ import annotations

import subprocess
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from pyns.command import Arguments
from pyns.container import Container
from pyns.process import PopenOptions, Process, clone_into, run

if TYPE_CHECKING:
    from typing import Unpack


def call(
    target: Container | Process | int,
    args: Arguments,
    *,
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container and return its status, as subprocess.call does.

    Args:
        target: what to isolate; or a process, or a pid, whose container to enter.
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
        >>> from pyns import Namespace
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
    target: Container | Process | int,
    args: Arguments,
    *,
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> int:
    """Run a program in a container that must succeed, as subprocess.check_call does.

    Args:
        target: what to isolate; or a process, or a pid, whose container to enter.
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
        >>> from pyns import Namespace
        >>> check_call(Container(namespaces=Namespace(0)), ["true"])
        0
    """
    status = call(target, args, timeout=timeout, **popen_options)
    if status:
        raise subprocess.CalledProcessError(status, args)
    return 0


def check_output(
    target: Container | Process | int,
    args: Arguments,
    *,
    input: str | bytes | EllipsisType | None = ...,  # noqa: A002  subprocess's name
    timeout: float | None = None,
    **popen_options: Unpack[PopenOptions],
) -> Any:
    r"""Return what a program in a container prints, as subprocess.check_output does.

    Args:
        target: what to isolate; or a process, or a pid, whose container to enter.
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
        >>> from pyns import Namespace
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
