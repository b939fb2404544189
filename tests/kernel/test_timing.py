"""How long each step has taken is told when it is asked for."""

from __future__ import annotations

import time

import pytest

from pyns import Container, Namespace, Process, clone_into
from pyns.timing import Timing

PLAIN = Container(namespaces=Namespace(0))


def nanoseconds(process: Process) -> list[int]:
    assert process.timing is not None
    return [taken for _, taken in process.timing if taken is not None]


def test_nothing_is_noted_unless_it_is_asked_for() -> None:
    with clone_into(PLAIN, ["true"]) as process:
        assert process.timing is None


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("box", [PLAIN, Container(), Container(hostname="x")])
def test_every_step_is_timed_and_all_took_no_longer_than_the_call(box: Container) -> None:
    begin = time.monotonic_ns()
    with clone_into(box, ["true"], timing=True) as process:
        end = time.monotonic_ns()
        taken = nanoseconds(process)
        assert process.timing is not None
        assert [step.kind for step, _ in process.timing] == [s.kind for s in box.plan(["true"])]
    assert len(taken) == len(process.timing)
    assert min(taken) >= 0
    assert 0 < sum(taken) <= end - begin


@pytest.mark.usefixtures("namespaces")
def test_what_the_init_does_is_not_known() -> None:
    with clone_into(Container(init=True), ["true"], timing=True) as process:
        assert process.timing is not None
        known = [timing.nanoseconds is not None for timing in process.timing]
        kinds = [timing.step.kind for timing in process.timing]
    first = kinds.index("execute_init") + 1
    assert known == [True] * first + [False] * (len(kinds) - first)


@pytest.mark.usefixtures("namespaces")
def test_a_child_that_clones_again_goes_on_with_the_times() -> None:
    with clone_into(Container(), ["sleep", "1000"]) as target:
        with clone_into(target, ["true"], timing=True) as process:
            assert "clone_again" in [timing.step.kind for timing in process.timing or ()]
            assert len(nanoseconds(process)) == len(process.timing or ())
        target.kill()


def test_it_is_said_in_microseconds() -> None:
    with clone_into(PLAIN, ["true"], timing=True) as process:
        first = (process.timing or ())[0]
    assert str(Timing(first.step, 12_345)) == f"    12.3 us  {first.step.describe()}"
    assert str(Timing(first.step, None)) == f"          -  {first.step.describe()}"
