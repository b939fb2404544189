"""What is done is told to logging, if somebody listens."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from pyns import Container, Limits, Namespace, run

PLAIN = Container(namespaces=Namespace(0))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelno for record in caplog.records} <= {logging.DEBUG}
    return [record.getMessage() for record in caplog.records if record.name == "pyns"]


def test_nothing_is_said_unless_somebody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pyns"):
        run(PLAIN, ["true"])
    assert said(caplog) == []


def test_what_is_started_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="pyns"):
        run(PLAIN, ["sh", "-c", "exit 3"])
    plan, pid, end = said(caplog)
    assert plan == f"start a program:\n{PLAIN.plan(['sh', '-c', 'exit 3'])}"
    number = pid.removeprefix("it is pid ")
    assert end.startswith(f"pid {number} ended after ")
    assert end.endswith(" s: 3")


def test_what_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, logger="pyns"),
        pytest.raises(FileNotFoundError) as caught,
    ):
        run(PLAIN, ["/does/not/exist"])
    assert said(caplog)[1:] == [f"it is refused: {caught.value}"]


@pytest.mark.usefixtures("limits")
def test_cgroups_that_are_made_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    box = Container(namespaces=Namespace(0), limits=Limits(pids_max=10))
    with caplog.at_level(logging.DEBUG, logger="pyns"):
        run(box, ["true"])
    made, *_, end = said(caplog)
    removed = {line.split()[-1] for line in said(caplog) if line.startswith("removed the cgroup ")}
    assert made.startswith("made the cgroup /")
    assert end.startswith("removed the cgroup /")
    assert set(made.removeprefix("made the cgroup ").split(", ")) == removed


def test_logging_is_not_imported_for_it() -> None:
    code = """if True:
        import sys
        from pyns import Container, Namespace, run
        before = "logging" in sys.modules
        run(Container(namespaces=Namespace(0)), ["true"])
        print(before, "logging" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=20
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")
