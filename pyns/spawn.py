"""From a description to a running child: the pipeline, front to back."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from typing import NamedTuple

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


class Child(NamedTuple):
    """A process that has executed its program."""

    pid: int
    pidfd: int
    private_cgroup: Cgroup | None  # made for it, to be removed after it


def spawn(container: Container, command: Command, filename: object) -> Child:
    """Start a program in a container.

    Args:
        container: what to isolate.
        command: what to start.
        filename: what the caller called the program, for the error.

    Raises:
        CgroupError: its cgroup can't be made or entered.
        FileNotFoundError, PermissionError, ...: the program can't be executed, or the cwd entered.
        SpawnError: the kernel refused another step.
    """
    with ExitStack() as opened, ExitStack() as undo:
        group = container.cgroup
        private = None
        if container.limits is not None:
            group = private = Cgroup.create(limits=container.limits, parent=group)
            undo.callback(private.remove)
        entry = Entry() if group is None else opened.enter_context(group.open_entry())
        plan = build_plan(container, command, entry)
        report = marshal.spawn(plan)
        if report.error:
            raise explain(plan, report, filename)
        undo.pop_all()
        return Child(report.pid, report.pidfd, private)


def explain(plan: Plan, report: marshal.Report, filename: object) -> OSError:
    """Return the exception for a step that failed."""
    step, index = plan.steps[report.index], report.index
    if isinstance(step, Clone) and report.error in _BIRTH_ERRORS and index > 0:
        index -= 1
        step = plan.steps[index]
        assert isinstance(step, BirthInCgroup)
    if isinstance(step, (Execute, ChangeDirectory)):
        # as subprocess says it, because people catch that
        name = filename if isinstance(step, Execute) else os.fsdecode(step.path)
        error = OSError(report.error, os.strerror(report.error), name)
        error.add_note(f"step {index + 1} of {len(plan)}: {step.describe()}")
        return error
    hint = step.hint(report.error)
    if report.error == errno.ECANCELED:
        hint = "The child was killed before it reached the program (SIGKILL, the OOM killer)"
    return SpawnError(report.error, step, index, len(plan), hint)
