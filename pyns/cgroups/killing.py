"""How a cgroup's processes are killed, and its directories removed."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from pyns import linux
from pyns.cgroups.files import NOT_THERE, Directory
from pyns.cgroups.freezing import wait_for_event
from pyns.cgroups.hierarchy import Hierarchy
from pyns.errors import CgroupError

_PATIENCE = 10.0  # seconds that a killed process may take to go: it may be in the middle of I/O


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Let a directory be removed by somebody else meanwhile."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


def is_populated(directory: Directory) -> bool:
    """Whether there is a process in a v2 group or below; not in one that is gone."""
    return "populated 1" in (directory.kept_text("cgroup.events") or "")


def wait_killed(directory: Directory) -> None:
    """Wait until what was killed in a v2 group is gone; CgroupError (EBUSY) if it does not go."""
    with gone_is_fine():
        if not wait_for_event(directory, b"populated 0", time.monotonic() + _PATIENCE):
            raise _still_busy(directory)


def wait_empty(directories: Mapping[Hierarchy, Directory], timeout: float | None) -> bool:
    """Wait until no process is in a group and below; see `Cgroup.wait_empty`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for hierarchy, directory in directories.items():
        if hierarchy.version == 2:
            with gone_is_fine():
                return wait_for_event(directory, b"populated 0", deadline)
            return True
    while pids := _pids_below(list(directories.values())):
        for pid in pids:
            with suppress(ProcessLookupError):
                pidfd = linux.pidfd_open(pid)
                try:
                    if not _wait(pidfd, select.POLLIN, deadline):
                        return False
                finally:
                    os.close(pidfd)
    return True


def refuse_children(directory: Directory) -> None:
    """Raise CgroupError (ENOTEMPTY) if there are groups below."""
    with gone_is_fine():
        names = []
        for child in directory.children():
            names.append(os.path.basename(child.path))
            child.close()
        if names:
            raise CgroupError(
                errno.ENOTEMPTY,
                f"remove the cgroup {directory.path}",
                file=directory.path,
                hint=f"There are groups below: {', '.join(names)}",
            )


def kill_v1(directories: Sequence[Directory], freezer: Directory | None) -> None:
    """Kill what is in v1 groups and below, frozen, so that none forks out of sight; wait for it."""
    deadline = time.monotonic() + _PATIENCE
    while pids := _pids_below(directories):
        with ExitStack() as undo:
            pidfds = {}
            for pid in pids:
                with suppress(ProcessLookupError):
                    pidfds[pid] = linux.pidfd_open(pid)
                    undo.callback(os.close, pidfds[pid])
            with _frozen(freezer):
                # still listed: it is the process that it was when its pidfd was opened
                for pid in _pids_below(directories) & pidfds.keys():
                    with suppress(ProcessLookupError):
                        linux.pidfd_send_signal(pidfds[pid], signal.SIGKILL)
            if not all(_wait(fd, select.POLLIN, deadline) for fd in pidfds.values()):
                raise _still_busy(directories[0])


def _pids_below(directories: Sequence[Directory]) -> set[int]:
    pids: set[int] = set()
    for directory in directories:
        with gone_is_fine():
            pids.update(directory.pids())
            for child in directory.children():
                pids |= _pids_below([child])
                child.close()
    if 0 in pids:
        raise CgroupError(
            errno.EPERM,
            f"kill the processes of {directories[0].path}",
            file=directories[0].path,
            hint="One of them is in a PID namespace that the caller can't see",
        )
    return pids


@contextmanager
def _frozen(freezer: Directory | None) -> Iterator[None]:
    if freezer is None:
        yield
        return
    freezer.write("freezer.state", "FROZEN", "freezer")
    try:
        yield
    finally:
        freezer.write("freezer.state", "THAWED", "freezer")


def _wait(fd: int, event: int, deadline: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    return bool(poll.poll(left))


def _still_busy(directory: Directory) -> CgroupError:
    return CgroupError(
        errno.EBUSY,
        f"kill the processes of {directory.path}: {directory.pids()} do not go",
        file=directory.path,
        hint="A process ends when its I/O does (state D in proc_pid_stat(5)), or, if a group above "
        "is frozen, when that is thawed",
    )


def remove_if_unused(directory: Directory) -> bool:
    """Remove a group unless there are processes in it or groups below; tell whether it is gone."""
    try:
        os.rmdir(directory.path)
    except OSError as error:
        return error.errno in NOT_THERE
    return True


def remove(directory: Directory) -> None:
    """Remove a group that has no processes, children first; harmless when it is gone."""
    if remove_if_unused(directory):
        return
    with gone_is_fine():
        for child in directory.children():
            remove(child)
            child.close()
        _rmdir(directory)


def _rmdir(directory: Directory) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            os.rmdir(directory.path)
            return
        except OSError as error:
            # Linux lets a dying task go only after its parent was told, and v1 has no event for it
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise CgroupError(
                    error.errno or 0,
                    f"remove the cgroup {directory.path}",
                    file=directory.path,
                ) from None
        time.sleep(0.001)
