"""Whether the subjects do the same, before anything is said about how fast they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.calls import BareC, CloneInto
from bench.floor import Start
from bench.isolation import BASE, SETS
from bench.kinds import MOUNTS, mount_kinds, prepare_floor, prepare_pyns
from bench.seen import check, report
from bench.subjects import pairs
from bench.suite import Suite
from bench.trace import child_calls

# The floor copies the caller's mount table, and makes it private: pyns copies its template instead.
COPY = Counter(mount=1)


@pytest.mark.parametrize(("isolation", "subject"), pairs())
def test_isolation_is_the_one_that_is_stated(suite: Suite, isolation: str, subject: str) -> None:
    """The namespaces seen from inside are new, or the caller's, as the subject says."""
    suite.need(SETS[isolation])
    check(suite.subject(subject), SETS[isolation])


@pytest.mark.parametrize("isolation", SETS)
def test_floor_makes_no_call_that_pyns_does_not(
    suite: Suite, tmp_path: Path, isolation: str
) -> None:
    """The floor is no slower than it has to be; what pyns does besides, it is measured with."""
    namespaces = SETS[isolation]
    suite.need(namespaces)
    argv = [suite.place.probe(namespaces)]
    floor, pyns = (
        child_calls(kind(suite.place).prepare(namespaces, argv), tmp_path / kind.name)
        for kind in (BareC, CloneInto)
    )
    assert floor - pyns <= COPY


@pytest.mark.parametrize("kind", MOUNTS)
def test_mounts_of_floor_and_pyns_are_the_same(suite: Suite, tmp_path: Path, kind: str) -> None:
    """Their mount tables are the same, and the floor makes no call that pyns does not."""
    suite.need(BASE)
    place, kinds = suite.place, mount_kinds(suite.place)
    if kind not in kinds:
        pytest.skip("no cgroup2 is mounted")

    def floor(argv: list[str]) -> Start:
        return prepare_floor(place, argv, kinds[kind].floor)

    def pyns(argv: list[str]) -> Start:
        return prepare_pyns(place, argv, *kinds[kind].pyns)

    tables = [
        [line.split()[3:] for line in report(place, BASE, prepare)["mounts"].splitlines()]
        for prepare in (floor, pyns)
    ]
    assert sorted(tables[0]) == sorted(tables[1])
    argv = [place.probe(BASE)]
    beyond = child_calls(floor(argv), tmp_path / "floor") - child_calls(
        pyns(argv), tmp_path / "pyns"
    )
    assert beyond <= COPY
