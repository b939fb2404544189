"""Where the steps that restrict the program stand in a plan, and what a Container takes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from pyns import Bind, Container, Landlock, Namespace, Proc
from pyns.cgroups.entry import Entry
from pyns.command import Command
from pyns.idmap import Caller
from pyns.labels import SetExecLabel
from pyns.plan import build_plan
from pyns.steps import DieWithParent, NewSession

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
    landlock=Landlock(read=["/usr"], connect_tcp=[80]),
    new_session=True,
    new_keyring=True,
    reset_signals=True,
    die_with_parent=True,
    oom_score_adj=500,
    nice=5,
    cpu_affinity=[0],
    timer_slack_ns=1,
    core_scheduling=True,
    apparmor_profile="docker-default",
    selinux_label="container_t",
)
ENTRY = Entry(tasks=(("/cg/cpu/a", 6),))
ROOT = Caller(0, 0)
PLAN = build_plan(HARDENED, COMMAND, ENTRY, parent_pidfd=7, caller=ROOT)

# and what another order yields
ORDER = [
    ("attach", "set_rlimit", "EMFILE"),
    ("change_directory", "set_rlimit", "EMFILE"),
    ("set_rlimit", "set_uid", "EPERM"),
    ("enter_cgroup", "set_affinity", "EINVAL, or undone by the cpuset"),
    ("set_oom_score_adj", "new_root", "ENOENT, or another /proc"),
    ("set_exec_label", "new_root", "ENOENT, or another /proc"),
    ("set_oom_score_adj", "set_uid", "EACCES"),
    ("set_nice", "set_uid", "EACCES"),
    ("set_uid", "new_keyring", "it would be another user's"),
    ("new_keyring", "install_filter", "EPERM"),
    ("reset_signals", "restore_signal_mask", "they would stay blocked"),
    ("pivot_root", "allow_path", "another path, or ENOENT"),
    ("create_ruleset", "allow_path", "EBADF"),
    ("create_ruleset", "allow_port", "EBADF"),
    ("allow_path", "set_rlimit", "EMFILE"),
    ("allow_path", "set_uid", "EACCES"),
    ("no_new_privileges", "restrict_self", "EPERM"),
    ("attach", "restrict_self", "EPERM"),
    ("restrict_self", "close_range", "EBADF"),
    ("restrict_self", "install_filter", "it might forbid the call"),
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


@pytest.mark.parametrize(
    "field",
    [
        "no_new_privileges",
        "new_session",
        "new_keyring",
        "reset_signals",
        "die_with_parent",
        "core_scheduling",
    ],
)
@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_switch_is_a_bool(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{field}={value!r} is not a bool")):
        Container(**{field: value})


@pytest.mark.parametrize("given", [True, False], ids=["container", "not container"])
@pytest.mark.parametrize("option", [True, False], ids=["command", "not command"])
def test_session_is_started_once(given: bool, option: bool) -> None:
    box = Container(namespaces=Namespace(0), new_session=given)
    command = Command((b"x",), (b"/x",), (), start_new_session=option)
    plan = build_plan(box, command, Entry(), caller=ROOT)
    started = [step for step in plan if isinstance(step, NewSession)]
    assert len(started) == (1 if given or option else 0)


def test_labels_are_written_where_the_module_reads_them() -> None:
    found = [step for step in PLAN if isinstance(step, SetExecLabel)]
    assert found == [
        SetExecLabel("AppArmor", b"/proc/self/attr/apparmor/exec", b"exec docker-default"),
        SetExecLabel("SELinux", b"/proc/self/attr/exec", b"container_t"),
    ]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("nice", -21, "nice=-21 is out of range: -20 to 19"),
        ("nice", 20, "nice=20 is out of range: -20 to 19"),
        ("oom_score_adj", -1001, "oom_score_adj=-1001 is out of range: -1000 to 1000"),
        ("oom_score_adj", 1001, "oom_score_adj=1001 is out of range: -1000 to 1000"),
        ("timer_slack_ns", -1, "timer_slack_ns=-1 is out of range: 0 to "),
        ("cpu_affinity", [-1], "cpu_affinity=-1 is out of range: 0 to 65535"),
        ("cpu_affinity", [2**16], "cpu_affinity=65536 is out of range: 0 to 65535"),
        ("cpu_affinity", [], "cpu_affinity is empty: give at least one CPU, or None"),
        ("apparmor_profile", "", "apparmor_profile='': give the name of one, or None"),
        ("selinux_label", "a\0", "selinux_label='a\\x00': give the name of one, or None"),
        ("selinux_label", "a\nb", "selinux_label='a\\nb': give the name of one, or None"),
    ],
)
def test_value_that_the_kernel_would_not_take_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Container(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nice", "5"),
        ("nice", True),
        ("oom_score_adj", 1.5),
        ("timer_slack_ns", "1"),
        ("cpu_affinity", 1),
        ("cpu_affinity", "0-3"),
        ("cpu_affinity", ["0"]),
        ("apparmor_profile", b"x"),
        ("selinux_label", 5),
    ],
)
def test_value_of_another_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{field}="):
        Container(**{field: value})


def test_container_is_a_value() -> None:
    assert len({HARDENED, dataclasses.replace(HARDENED)}) == 1
    assert Container(cpu_affinity={1, 0}) == Container(cpu_affinity=[0, 1, 1])
