"""How a program is started in a new container, or in one that is running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pyns.cgroups import Cgroup
from pyns.command import Arguments
from pyns.container import Container
from pyns.init import program_of
from pyns.joining import foreign
from pyns.master import Size
from pyns.namespaces import Fd, Namespace
from pyns.namespaces.targets import (
    HasFileno,
    check_alive,
    check_in_proc,
    check_process,
    opened,
    pid_of,
)
from pyns.options import PopenOptions, Target
from pyns.process import Process

if TYPE_CHECKING:
    from typing import Unpack


def clone_into(
    target: Target,
    args: Arguments,
    *,
    terminal: Size = False,
    timing: bool = False,
    **popen_options: Unpack[PopenOptions],
) -> Process:
    """Start a program in a new container, or in one that is running.

    It is PID 1 of a new container if PID is among its namespaces. In a running one it is another
    process: in all its namespaces but that of time, in its cgroups, with its root. Where the
    target is a `Process`, it gets what that one's container says of the program, too: rlimits,
    capabilities, seccomp, ..., env.

    Args:
        target: what to isolate; or the process whose container to enter: a `Process`, a pid, or a
            pidfd (`Fd(pidfd)`, or what has it as `fileno()`).
        args: the program and its arguments, as for subprocess.Popen; it is looked up in PATH inside
            the new root.
        terminal: whether it leads a session with a controlling terminal of its own, which is also
            its stdin, stdout and stderr unless these are given. True: as large as the caller's, or
            24 rows of 80 columns; else (rows, columns), or what os.get_terminal_size says. It is
            opened in the /dev/pts that the program sees: with `Dev`, the container's own.
        timing: whether it is noted how long each step takes, for `Process.timing`.
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
    start(process, target, args, terminal, popen_options, timing=timing)
    return process


def start(
    process: Process,
    target: Container | int | HasFileno,
    args: Arguments,
    terminal: Size,
    options: PopenOptions,
    *,
    timing: bool = False,
) -> None:
    """Start a program as a Process that the caller has already: a handler may raise at any time."""
    try:
        with _container_of(target) as container:
            Process.__init__(
                process, args, container=container, terminal=terminal, timing=timing, **options
            )
        if container is not target:
            # not what is closed now
            process.container = replace(container, join=(), cgroup=None)
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
        of_program = {}
        if isinstance(target, Process) and target.container is not None:
            of_program = target.container.of_program()
        group = Cgroup.of(program_of(pid), foreign=True)
        try:
            # what was read is about this process; of one that has ended, it would be less than all
            check_alive(pidfd)
            yield Container(
                namespaces=Namespace(0),
                join={kinds: Fd(pidfd)} if kinds else {},
                cgroup=group if group.paths else None,
                **of_program,
            )
        finally:
            group.close()
