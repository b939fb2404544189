"""What pyns-init, the optional PID 1, is started with, and what it tells the caller."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress

from pyns import linux
from pyns.descriptors import copy_clear_of
from pyns.errors import SpawnError, noted
from pyns.steps import ExecuteInit

PROGRAM = os.path.join(os.path.dirname(__file__), "pyns-init")

_MFD_ALLOW_SEALING, _MFD_EXEC = 2, 0x10  # memfd_create(2); EXEC since Linux 6.3
_F_ADD_SEALS = 1033  # fcntl(2)
_SEALS = 0x01 | 0x02 | 0x04 | 0x08  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_STARTED = struct.Struct("=Ii")  # what pyns-init writes, see struct init_plan
_ENDED = struct.Struct("=i")


def open_init(
    opened: ExitStack, keep: Callable[[int], object], numbers: Collection[int] = (0, 1, 2)
) -> ExecuteInit:
    """Open what pyns-init needs, as its step.

    Args:
        opened: gets what is to be closed once it runs.
        keep: is given the fd on which it tells what became of the program.
        numbers: those that the program's fds get, where the child overwrites what there is.

    Raises:
        SpawnError: this host executes no memfd (EACCES).
        OSError: there are no fds, or there is no memory left (EMFILE, ENOMEM).
        RuntimeError: pyns-init is not where it was installed.
    """
    with noted(ExecuteInit().describe()):
        told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        keep(told)
        return ExecuteInit(
            tell=_clear_of(numbers, tell, opened),
            program=_clear_of(numbers, _open_program(), opened),
            plan=_clear_of(numbers, linux.memfd_create("pyns-plan"), opened),
        )


def _clear_of(numbers: Collection[int], fd: int, opened: ExitStack) -> int:
    if fd not in numbers:
        opened.callback(os.close, fd)
        return fd
    try:
        return copy_clear_of(numbers, fd, opened)
    finally:
        os.close(fd)


def _open_program() -> int:
    """Return a sealed copy in memory: nobody in a container can reach the file, or change either.

    Who may not read a program can't read the process that executes it either, so it is for
    execution only (would_dump() of the kernel).
    """
    try:
        with open(PROGRAM, "rb") as file:
            program = file.read()
    except FileNotFoundError:
        raise RuntimeError(f"{PROGRAM} is missing: install pyns again") from None
    fd = _create_executable()
    try:
        if os.write(fd, program) != len(program):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        os.fchmod(fd, 0o111)
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _create_executable() -> int:
    flags = linux.MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        return linux.memfd_create("pyns-init", flags | _MFD_EXEC)
    except PermissionError as error:
        hint = "vm.memfd_noexec is 2: pyns-init is executed from memory. Set it to 1 or 0"
        raise SpawnError(errno.EACCES, ExecuteInit(), 0, 1, hint) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return linux.memfd_create("pyns-init", flags)


def read_start(told: int, pidfd: int) -> tuple[int | None, int]:
    """Wait until the program runs or a step has failed, or pyns-init is dead.

    Returns:
        The index of the last step and its errno, 0 when the program runs. None and an errno when
        pyns-init could not tell: ENOMEM, or ECANCELED when it was killed.
    """
    poll = select.poll()
    # the pidfd too: a process that another thread forks may have a copy of the pipe's other end
    poll.register(told, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    message = _read(told, _STARTED)
    return (None, _exit_errno(pidfd)) if message is None else (message[0], message[1])


def _exit_errno(pidfd: int) -> int:
    """Return the errno that pyns-init had for its exit status, where it could not even begin."""
    with suppress(ChildProcessError):  # reaped by somebody else
        end = os.waitid(linux.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        if end is not None and end.si_code == os.CLD_EXITED:
            return end.si_status or errno.ECANCELED
    return errno.ECANCELED


def program_of(pid: int) -> int:
    """Return the pid of the program whose init a process is; of any other process, its own.

    Who merely calls himself so is in the same cgroups as his children.
    """
    with open(f"/proc/{pid}/comm", "rb") as file:
        if file.read() != ExecuteInit.NAME + b"\n":
            return pid
    # the oldest first, and with the program ends the init
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = file.read().split()
    return int(children[0]) if children else pid


def read_status(told: int) -> int | None:
    """Return the wait status of the program; None when pyns-init was killed before it ended."""
    message = _read(told, _ENDED)
    return None if message is None else message[0]


def _read(told: int, layout: struct.Struct) -> tuple[int, ...] | None:
    try:
        message = os.read(told, layout.size)
    except BlockingIOError:
        return None
    return layout.unpack(message) if len(message) == layout.size else None
