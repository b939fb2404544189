"""Where the steps that restrict the program stand in a plan, and what a Container takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pyns import Bind, Container, Namespace, Proc
from pyns.cgroups.cgroup import Entry
from pyns.command import Command
from pyns.idmap import Caller
from pyns.plan import build_plan
from pyns.steps import DieWithParent

COMMAND = Command(
    (b"id",),
    (b"/bin/id",),
    (),
    cwd=b"/work",
    stdio=(10, 11, -1),
    umask=0o77,
    process_group=0,
    groups=(),
    gid=100,
    uid=1000,
)
HARDENED = Container(
    root="/srv/root",
    mounts=(Bind("/usr", read_only=True), Proc()),
    rlimits={"nofile": 64, "core": 0},
    capabilities=("net_raw",),
    no_new_privileges=True,
    seccomp=bytes(8),
    die_with_parent=True,
)
ENTRY = Entry(tasks=(("/cg/cpu/a", 6),))
ROOT = Caller(0, 0)
PLAN = build_plan(HARDENED, COMMAND, ENTRY, parent_pidfd=7, caller=ROOT)

# and what another order yields
ORDER = [
    ("attach", "set_rlimit", "EMFILE"),
    ("change_directory", "set_rlimit", "EMFILE"),
    ("set_rlimit", "set_uid", "EPERM"),
    ("drop_bounding", "set_uid", "EPERM"),
    ("drop_bounding", "set_capabilities", "EPERM"),
    ("keep_capabilities", "set_uid", "the permitted set would be empty"),
    ("set_groups", "set_capabilities", "EPERM"),
    ("set_uid", "set_capabilities", "EPERM"),
    ("pivot_root", "set_capabilities", "EPERM"),
    ("set_rlimit", "set_capabilities", "EPERM"),
    ("set_capabilities", "raise_ambient", "EPERM"),
    ("raise_ambient", "die_with_parent", "the change could take it back"),
    ("set_uid", "die_with_parent", "the change would take it back"),
    ("die_with_parent", "duplicate", "the pidfd might be replaced"),
    ("die_with_parent", "close_range", "EBADF"),
    ("no_new_privileges", "install_filter", "EACCES"),
    ("close_range", "install_filter", "it might forbid the calls"),
    ("restore_signal_mask", "install_filter", "it might forbid the calls"),
]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(a, b) for a, b, _ in ORDER],
    ids=[f"{a} before {b}: {why}" for a, b, why in ORDER],
)
def test_order_matters(earlier: str, later: str) -> None:
    kinds = [step.kind for step in PLAN]
    last = max(n for n, kind in enumerate(kinds) if kind == earlier)
    first = min(n for n, kind in enumerate(kinds) if kind == later)
    assert last < first


def test_nothing_that_is_not_asked_for_is_done() -> None:
    plan = build_plan(Container(namespaces=Namespace(0)), COMMAND, Entry(), caller=ROOT)
    usual = {
        "clone",
        "change_directory",
        "set_umask",
        "default_signal",
        "set_process_group",
        "set_groups",
        "set_gid",
        "set_uid",
        "duplicate",
        "close_range",
        "restore_signal_mask",
        "execute",
    }
    assert {step.kind for step in plan} == usual


def test_pidfd_of_the_parent_is_that_of_the_step() -> None:
    assert [step for step in PLAN if isinstance(step, DieWithParent)] == [DieWithParent(7)]


def test_dry_run_opens_no_pidfd() -> None:
    assert DieWithParent(-1) in HARDENED.plan(["id"]).steps


@pytest.mark.parametrize("field", ["no_new_privileges", "die_with_parent"])
@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_switch_is_a_bool(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{field}={value!r} is not a bool")):
        Container(**{field: value})
