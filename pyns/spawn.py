"""From a description to a running child: the pipeline, front to back."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from pyns import marshal
from pyns.cgroups import Cgroup
from pyns.cgroups.cgroup import Entry
from pyns.command import Command
from pyns.container import Container
from pyns.errors import SpawnError
from pyns.plan import Plan, build_plan
from pyns.steps import BirthInCgroup, ChangeDirectory, Clone, Execute

# What clone3 says of the cgroup to be born in, and of nothing else (clone(2)).
_BIRTH_ERRORS = {errno.EACCES, errno.EBUSY, errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV}

_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2)


class Child:
    """A process in the making, and all that is to be undone if it does not come about.

    It is made before anything is started and belongs to the caller: a signal handler may raise
    between any two lines, and what is not noted by then is lost.

    Attributes:
        report: what the shim says of it; `pid` and `pidfd` are -1 unless it runs.
        private_cgroup: the group that was made for it, to be removed after it; None without one.
    """

    def __init__(self) -> None:
        self.report = marshal.new_report()
        self.private_cgroup: Cgroup | None = None

    def abandon(self) -> None:
        """Kill it if it runs, reap it and remove its group."""
        if self.report.pid > 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.report.pidfd, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self.report.pidfd, os.WEXITED)
            os.close(self.report.pidfd)
            self.report.pid = self.report.pidfd = -1
        if self.private_cgroup is not None:
            self.private_cgroup.remove()
            self.private_cgroup = None


def spawn(child: Child, container: Container, command: Command) -> None:
    """Start a program in a container.

    Args:
        child: what becomes of it; to be abandoned if this raises.
        container: what to isolate.
        command: what to start.

    Raises:
        OSError: an fd to be passed on is not open (EBADF).
        CgroupError: its cgroup can't be made or entered.
        FileNotFoundError, PermissionError, ...: the program can't be executed, or the cwd entered.
        SpawnError: the kernel refused another step.
    """
    command.check_fds()
    group = container.cgroup
    with marshal.signals_blocked() as mask, ExitStack() as opened:
        if container.limits is not None:
            group = child.private_cgroup = Cgroup.create(limits=container.limits, parent=group)
        entry = Entry() if group is None else opened.enter_context(group.open_entry())
        parent_pidfd = opened.enter_context(_own_pidfd()) if container.die_with_parent else -1
        plan = build_plan(container, command, entry, parent_pidfd=parent_pidfd)
        marshal.spawn(plan, mask, child.report)
    if child.report.error:
        raise explain(plan, child.report.index, child.report.error, command)


@contextmanager
def _own_pidfd() -> Iterator[int]:
    """Open a pidfd of the calling thread, whose end is what a child that is to die with it sees."""
    try:
        fd = os.pidfd_open(threading.get_native_id(), _PIDFD_THREAD)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Before Linux 6.9 a process's only. It tells a little later, when all threads are gone.
        fd = os.pidfd_open(os.getpid())
    try:
        yield fd
    finally:
        os.close(fd)


def explain(plan: Plan, index: int, error: int, command: Command) -> OSError:
    """Return the exception for a step that failed."""
    step = plan.steps[index]
    if isinstance(step, Clone) and error in _BIRTH_ERRORS and index > 0:
        index -= 1
        step = plan.steps[index]
        assert isinstance(step, BirthInCgroup)
    if error == errno.ECANCELED:
        hint = "The child was killed before it reached the program (SIGKILL, the OOM killer)"
        return SpawnError(error, step, index, len(plan), hint)
    if isinstance(step, (Execute, ChangeDirectory)):
        # as subprocess says it, because people catch that
        if isinstance(step, Execute):
            name = command.name
        else:  # without a name it is the caller's own
            name = step.path if command.cwd_name is None else command.cwd_name
        told = OSError(error, os.strerror(error), name)
        told.add_note(f"step {index + 1} of {len(plan)}: {step.describe()}")
        return told
    return SpawnError(error, step, index, len(plan), step.hint(error))
