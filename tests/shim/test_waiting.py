"""A child that waits for its parent, and what the parent does meanwhile in another thread."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyns import marshal
from pyns.namespaces import Namespace
from pyns.plan import Plan
from pyns.signals import signals_blocked
from pyns.steps import Clone, Execute, Operands, SetHostname, WaitForParent, WriteProc

Failure = Callable[..., tuple[int, int]]
Output = Callable[..., str]
CLONE = Clone(Namespace(0))
TRUE = Execute((b"/bin/true",), (b"true",), ())


class Impatient(WaitForParent):
    def operands(self) -> Operands:
        return Operands(value=50)


def spawn_with_help(plan: Plan, work: Callable[[int], int]) -> Any:
    """Return the report, and what the helper was told the pid is."""
    report, pids = marshal.new_report(), []

    def help_child() -> None:
        pids.append(marshal.wait_for_child(report))
        if pids[0] > 0:
            marshal.let_go(report, work(pids[0]))

    thread = threading.Thread(target=help_child)
    thread.start()
    with signals_blocked() as mask:
        marshal.spawn(plan, mask, report)
    marshal.let_go(report, errno.ECANCELED)
    thread.join()
    if report.error == 0:
        os.waitid(os.P_PIDFD, report.pidfd, os.WEXITED)
        os.close(report.pidfd)
    return report, pids[0]


WAIT = WaitForParent(-1)


def test_the_child_waits_until_it_is_let_go() -> None:
    seen: list[str] = []

    def work(pid: int) -> int:
        for _ in range(2000):  # on its way from the word that it waits to the wait
            seen.append(Path(f"/proc/{pid}/wchan").read_text())
            if "futex" in seen[-1]:
                break
            time.sleep(0.005)
        return 0

    report, pid = spawn_with_help(Plan((CLONE, WAIT, TRUE)), work)
    assert (report.error, report.pid) == (0, pid)
    assert "futex" in seen[-1]


def test_the_step_fails_with_what_the_parent_says() -> None:
    report, pid = spawn_with_help(Plan((CLONE, WAIT, TRUE)), lambda _: errno.EDQUOT)
    assert pid > 0
    assert (report.pid, report.index, report.error) == (-1, 1, errno.EDQUOT)


def test_the_step_fails_when_nobody_comes(failure: Failure) -> None:
    assert failure(CLONE, Impatient(-1)) == (1, errno.ETIMEDOUT)


def test_the_child_may_wait_several_times() -> None:
    report, pids = marshal.new_report(), []

    def help_child() -> None:
        while (pid := marshal.wait_for_child(report)) > 0:
            pids.append(pid)
            marshal.let_go(report, errno.EDQUOT if len(pids) == 3 else 0)

    thread = threading.Thread(target=help_child)
    thread.start()
    with signals_blocked() as mask:
        marshal.spawn(Plan((CLONE, WAIT, WAIT, WAIT, TRUE)), mask, report)
    marshal.let_go(report, errno.ECANCELED)
    thread.join()
    assert (report.index, report.error) == (3, errno.EDQUOT)
    assert len(pids) == 3
    assert len(set(pids)) == 1


def test_who_helped_too_late_is_told_that_no_child_will_come() -> None:
    report = marshal.new_report()
    marshal.let_go(report, errno.ECANCELED)
    marshal.let_go(report, 0)
    assert marshal.wait_for_child(report) == -errno.ECANCELED


@pytest.mark.parametrize(
    "plan",
    [
        Plan((CLONE, SetHostname(b"x" * 100), WAIT, TRUE)),
        Plan((CLONE, Execute((b"/none",), (), ()))),
    ],
    ids=["fails before", "has no such step"],
)
def test_a_helper_is_told_when_no_child_will_come(plan: Plan) -> None:
    report, pid = spawn_with_help(plan, lambda _: 0)
    assert report.error != 0
    assert pid == -errno.ECANCELED


def test_a_file_is_written(output: Output, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    assert output(CLONE, WriteProc(str(tmp_path / "file"), "after!"), script="echo x") == "x"
    assert (tmp_path / "file").read_text() == "after!"


@pytest.mark.parametrize(
    ("path", "error"),
    [("/does/not/exist", errno.ENOENT), ("/", errno.EISDIR), ("/proc/self/uid_map", errno.EPERM)],
)
def test_a_file_that_can_not_be_written_fails_the_step(
    path: str, error: int, failure: Failure
) -> None:
    assert failure(CLONE, WriteProc(path, "0 0 1")) == (1, error)
    assert not Path("/does").exists()
