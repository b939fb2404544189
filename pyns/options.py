"""Which arguments of subprocess.Popen start a program here."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from typing import IO, Any, TypedDict

from pyns.command import Environment
from pyns.container import Container
from pyns.mounts import StrPath
from pyns.namespaces.targets import HasFileno

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


def ask_for_pipes(options: PopenOptions, given: object, *, capture_output: bool) -> None:
    """Put those into options that `input` and `capture_output` of subprocess.run ask for."""
    if given is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = subprocess.PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = subprocess.PIPE
