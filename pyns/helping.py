"""What the parent does while its child waits for it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pyns import marshal
from pyns.errors import SpawnError
from pyns.hints import hint_for
from pyns.plan import Plan
from pyns.steps import Execute, Keep, Step, WaitForParent

_NOTHING = Execute((), (), ())  # ENOENT, whatever there is


def waiting_of(steps: Iterable[Step]) -> tuple[WaitForParent, ...]:
    """Return those steps at which the child waits for its parent."""
    return tuple(step for step in steps if isinstance(step, WaitForParent))


def carry_out(*steps: Step) -> tuple[Plan, Any]:
    """Have a child take steps and end, as it has no program to execute.

    Returns:
        All that it did, and its report: where all went well, the last step has failed.
    """
    plan, report = Plan((*steps, _NOTHING)), marshal.new_report()
    with helping(plan, waiting_of(steps), report, lambda _: None):
        marshal.spawn(plan, 0, report)
    return plan, report


@contextmanager
def helping(
    plan: Plan, waiting: tuple[WaitForParent, ...], report: Any, keep: Keep
) -> Iterator[None]:
    """Do in a thread what the parent has to do while the child waits and this thread is suspended.

    If that fails, so does the step, and what went wrong is the cause of the SpawnError.

    Args:
        plan: what the child does.
        waiting: those of its steps that wait.
        report: of the child.
        keep: is given what ends what is to end with the container.
    """
    if not waiting:
        yield
        return
    failures: list[Exception] = []

    def help_child() -> None:
        try:
            for step in waiting:
                pid = marshal.wait_for_child(report)
                if pid < 0:
                    return
                step.help_child(pid, keep)
                marshal.let_go(report, 0)
        except Exception as failure:
            failures.append(failure)
            marshal.let_go(report, getattr(failure, "errno", None) or errno.ECHILD)

    thread = threading.Thread(target=help_child, name="pyns helper")
    try:
        thread.start()
    except RuntimeError as failure:  # what Python makes of EAGAIN, and of any other
        hint = "The thread that does it can't be started: a limit of processes, or no memory"
        index = plan.steps.index(waiting[0])
        raise SpawnError(errno.EAGAIN, waiting[0], index, len(plan), hint) from failure
    try:
        yield
    finally:
        marshal.let_go(report, errno.ECANCELED)  # the child may never have come there
        thread.join()
    if report.error and failures:
        raise explain_help(plan, report, failures[0]) from failures[0]


def explain_help(plan: Plan, report: Any, failure: Exception) -> SpawnError:
    """Return the exception for a step in which the parent's part failed."""
    step = plan.steps[report.index]
    said = getattr(failure, "strerror", None)
    if said == os.strerror(report.error) and getattr(failure, "filename", None) is None:
        said = None  # the errno tells as much
    elif said in (None, os.strerror(report.error)):
        said = str(failure)
    hint = hint_for(plan, report.index, report.error) or said
    return SpawnError(report.error, step, report.index, len(plan), hint)
