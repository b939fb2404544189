"""The doctor says what works here, and is right."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pyns import Container, Limits, Namespace, SpawnError, clone_into, doctor
from pyns.cgroups import Cgroup
from pyns.errors import CgroupError

Admin = Callable[..., str]
ASK = """
import json
from pyns import doctor
print(json.dumps([finding._asdict() for finding in doctor()]))
"""


def test_every_finding_has_a_name_of_its_own_and_a_line() -> None:
    report = doctor()
    names = [finding.name for finding in report]
    assert len(set(names)) == len(names)
    assert [report[name] for name in names] == list(report)
    lines = [line for line in str(report).splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["yes" if f.works else "no" for f in report]


def test_name_that_there_is_not_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="namespace: none"):
        doctor()["namespace: none"]


@pytest.mark.parametrize("kind", list(Namespace), ids=Namespace.words)
def test_namespace_works_when_a_container_can_have_it(kind: Namespace) -> None:
    try:
        refused = clone_into(Container(namespaces=kind), ["true"]).wait() != 0
    except SpawnError:
        refused = True
    assert doctor()[f"namespace: {kind.words()}"].works is not refused


@pytest.mark.parametrize(
    ("name", "limits"),
    [("memory", Limits(memory_max="10M")), ("pids", Limits(pids_max=9))],
)
def test_limit_works_when_a_group_can_have_it(name: str, limits: Limits) -> None:
    try:
        Cgroup.create(limits=limits).remove()
        refused = None
    except CgroupError as error:
        refused = error
    finding = doctor()[f"cgroup: {name}"]
    assert finding.works is (refused is None)
    if refused is not None:
        assert finding.fix is not None
        # but for the pid of who asks
        assert finding.fix.split(":")[0] == str(refused.hint).split(":")[0]


@pytest.mark.usefixtures("namespaces")
def test_what_is_forbidden_does_not_work(admin: Admin) -> None:
    code = """
        import os, sys
        from pyns import Container, IdMap, Namespace, run
        box = Container(namespaces=Namespace.USER | Namespace.MOUNT,
                        capabilities=(), max_user_namespaces=0)
        done = run(box, [sys.executable, "-P", "-c", sys.argv[1]], capture_output=True, text=True)
        print(done.stdout, done.stderr)
    """
    found = {f["name"]: f for f in json.loads(admin(code, ASK))}
    assert not found["namespace: user"]["works"]
    assert "(ENOSPC)" in found["namespace: user"]["said"]
    assert not found["sandbox"]["works"]
    assert found["start a program"]["works"]
    assert not found["namespace: pid"]["works"]  # nobody lends the right to it
