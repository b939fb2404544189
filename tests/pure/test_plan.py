"""The order in which a container comes about."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from pyns import (
    Bind,
    Container,
    Dev,
    Device,
    Dir,
    File,
    Namespace,
    Overlay,
    Plan,
    Proc,
    Symlink,
    Tmpfs,
    UserNetwork,
    Veth,
)
from pyns.cgroups.entry import Entry
from pyns.command import Command
from pyns.idmap import Caller, IdMap
from pyns.joining import Joined
from pyns.mount_steps import ASIDE_MAX, AttachRoot, SetAside, Stage, TakeMasks, TakeUp
from pyns.plan import build_plan, entered_later
from pyns.steps import (
    Attach,
    BirthInCgroup,
    ChangeDirectory,
    Clone,
    CloneAgain,
    CloseRange,
    DefaultSignal,
    Duplicate,
    EnterCgroup,
    Execute,
    ExecuteInit,
    HideMemory,
    LoopbackUp,
    NewMount,
    NewRoot,
    NewSession,
    OpenTree,
    RestoreSignalMask,
    SetGid,
    SetGroups,
    SetHostname,
    SetNamespaces,
    SetPropagation,
    SetUid,
    ShowCgroups,
    Step,
    Unshare,
)
from pyns.terminal_steps import OpenTerminal, SetControllingTerminal, SetTerminalOwner
from pyns.usermode import StartUserNetwork

NONE = Entry()
V2 = Entry(birth=("/cg/a", 5))
V1 = Entry(tasks=(("/cg/cpu/a", 6), ("/cg/memory/a", 7)))
HYBRID = Entry(birth=V2.birth, tasks=V1.tasks)

PLAIN = Command((b"true",), (b"/bin/true",), ())
EVERYTHING = Command(
    (b"id", b"-u"),
    (b"/bin/id", b"/usr/bin/id"),
    (b"A=1",),
    cwd=b"/work",
    stdio=(10, 11, -1),
    pass_fds=((12, 12),),
    umask=0o77,
    start_new_session=True,
    process_group=0,
    groups=(4, 5),
    gid=100,
    uid=1000,
)
ROOT = Caller(0, 0)
FULL = Container(
    root="/srv/root",
    mounts=(Bind("/usr", read_only=True), Tmpfs("/tmp", size="1M"), Proc()),
    hostname="demo",
    domainname="nis",
)
FULL_PLAN = build_plan(FULL, EVERYTHING, HYBRID, ROOT)

GOLDEN = {
    "nothing": (
        Container(namespaces=Namespace(0)),
        Command((b"true",), (b"/bin/true",), (), restore_signals=False, close_fds=False),
        NONE,
        """\
         1. clone the child, in the caller's namespaces
         2. restore the caller's signal mask
         3. execute '/bin/true' with arguments ['true']""",
    ),
    "default": (
        Container(),
        PLAIN,
        NONE,
        """\
         1. clone the child into new namespaces: mount, cgroup, uts, ipc, pid, net
         2. bring the loopback interface up
         3. make the propagation of every mount private
         4. keep the caller's root
         5. make a new proc (nosuid, nodev, noexec)
         6. mount it on '/proc'
         7. restore the default action of SIGPIPE
         8. restore the default action of SIGXFSZ
         9. close every fd from 3 on
        10. restore the caller's signal mask
        11. execute '/bin/true' with arguments ['true']""",
    ),
    "v2": (
        Container(namespaces=Namespace.CGROUP),
        PLAIN,
        V2,
        """\
         1. be born in the cgroup /cg/a
         2. clone the child into new namespaces: cgroup
         3. restore the default action of SIGPIPE
         4. restore the default action of SIGXFSZ
         5. close every fd from 3 on
         6. restore the caller's signal mask
         7. execute '/bin/true' with arguments ['true']""",
    ),
    "v1": (
        Container(namespaces=Namespace.CGROUP | Namespace.UTS),
        PLAIN,
        V1,
        """\
         1. clone the child into new namespaces: uts
         2. enter the cgroup /cg/cpu/a
         3. enter the cgroup /cg/memory/a
         4. enter new namespaces: cgroup
         5. restore the default action of SIGPIPE
         6. restore the default action of SIGXFSZ
         7. close every fd from 3 on
         8. restore the caller's signal mask
         9. execute '/bin/true' with arguments ['true']""",
    ),
    "everything": (
        FULL,
        EVERYTHING,
        HYBRID,
        """\
         1. be born in the cgroup /cg/a
         2. clone the child into new namespaces: mount, uts, ipc, pid, net
         3. enter the cgroup /cg/cpu/a
         4. enter the cgroup /cg/memory/a
         5. enter new namespaces: cgroup
         6. set the hostname to 'demo'
         7. set the domainname to 'nis'
         8. bring the loopback interface up
         9. make the propagation of every mount private
        10. make '/srv/root' a mount, the new root
        11. take a copy of the mount at '/usr', with all mounts below it
        12. make it read-only
        13. mount it on '/usr'
        14. make a new tmpfs (mode=1777, size=1048576, nosuid, nodev)
        15. mount it on '/tmp'
        16. make a new proc (nosuid, nodev, noexec)
        17. mount it on '/proc'
        18. make the new root the root and let go of the old one
        19. change to the directory '/work'
        20. set the umask to 077
        21. restore the default action of SIGPIPE
        22. restore the default action of SIGXFSZ
        23. start a new session
        24. lead a new process group
        25. set the supplementary groups to [4, 5]
        26. become the group 100
        27. become the user 1000
        28. make fd 10 its stdin
        29. make fd 11 its stdout
        30. pass on fd 12
        31. close every fd from 3 to 11
        32. close every fd from 13 on
        33. restore the caller's signal mask
        34. execute ['id', '-u'], the first found of 2 places in PATH""",
    ),
}

GOLDEN["mounts"] = (
    Container(
        namespaces=Namespace.MOUNT,
        root="/srv/root",
        mounts=(
            Tmpfs("/etc", size="1M", read_only=True),
            Symlink("/etc/mtab", "/proc/mounts"),
            Dir("/home/me", 0o700),
            File("/etc/hosts", "127.0.0.1 localhost\n"),
            Overlay("/data", ["/srv/data"], size="1M"),
        ),
        read_only=True,
        masked_paths=["/data/secret"],
        read_only_paths=["/data/fixed"],
        propagation="shared",
    ),
    Command((b"true",), (b"/bin/true",), (), restore_signals=False, close_fds=False),
    NONE,
    """\
         1. clone the child into new namespaces: mount
         2. make the propagation of every mount private
         3. make '/srv/root' a mount, the new root
         4. take a copy of the mount at '/dev/null'
         5. make it read-only
         6. set it aside
         7. make a new tmpfs (mode=755, size=4096, nr_inodes=1, read-only, nosuid, nodev, noexec)
         8. keep it and the null device that was set aside to mask with
         9. make every mount below the root read-only
        10. make a new tmpfs (mode=1777, size=1048576, nosuid, nodev)
        11. make the link '/mtab' in it to '/proc/mounts'
        12. make it read-only
        13. mount it on '/etc'
        14. make the directory '/home/me' in the root, mode 700
        15. make a new tmpfs (size=65536, nr_inodes=2, nosuid, nodev)
        16. write the file 'file' in it, 20 bytes, mode 644
        17. take 'file' in it for a mount
        18. make it read-only
        19. mount it on '/etc/hosts'
        20. take a copy of the mount at '/srv/data'
        21. set it aside
        22. make a new tmpfs (size=1048576)
        23. make the directory '/0' in it, mode 755
        24. make the directory '/upper' in it, mode 755
        25. make the directory '/work' in it, mode 755
        26. mount it over the root for a moment, and what was set aside on '0'
        27. give 'upper' the mode and owner of '0'
        28. make a new overlay (lowerdir=0, upperdir=upper, workdir=work)
        29. unmount what lies over the root
        30. mount it on '/data'
        31. make the root read-only
        32. make '/data/fixed' read-only
        33. mask '/data/secret'
        34. make the new root the root and let go of the old one
        35. make the propagation of every mount shared
        36. restore the caller's signal mask
        37. execute '/bin/true' with arguments ['true']""",
)


@pytest.mark.parametrize(
    ("container", "command", "entry", "text"), GOLDEN.values(), ids=GOLDEN.keys()
)
def test_plan_is_printed(container: Container, command: Command, entry: Entry, text: str) -> None:
    assert str(build_plan(container, command, entry, ROOT)) == said(text)


def said(text: str) -> str:
    """Take off the indentation, which begins a number of one digit too."""
    return "\n".join(line.removeprefix(" " * 8) for line in text.splitlines())


# and what another order yields
ORDER = [
    ("birth_in_cgroup", "clone", "EINVAL of the shim"),
    ("clone", "enter_cgroup", "EINVAL of the shim"),
    ("enter_cgroup", "unshare", "the namespace would show the full paths"),
    ("enter_cgroup", "set_hostname", "would not be charged to the child's limits"),
    ("enter_cgroup", "new_mount", "would not be charged to the child's limits"),
    ("enter_cgroup", "set_uid", "EACCES"),
    ("unshare", "set_uid", "EPERM"),
    ("set_hostname", "set_uid", "EPERM"),
    ("set_domainname", "set_uid", "EPERM"),
    ("loopback_up", "set_uid", "EPERM"),
    ("set_propagation", "new_root", "would appear on the host"),
    ("set_propagation", "open_tree", "would appear on the host"),
    ("set_propagation", "new_mount", "would appear on the host"),
    ("set_propagation", "attach", "would appear on the host"),
    ("new_root", "open_tree", "a mount beneath it would be hidden"),
    ("new_root", "attach", "a mount beneath it would be hidden"),
    ("attach", "pivot_root", "ENOENT: sources are paths in the old root"),
    ("pivot_root", "change_directory", "the cwd would lie in the old root"),
    ("pivot_root", "set_uid", "EPERM"),
    ("attach", "set_umask", "targets would have other modes"),
    ("change_directory", "set_uid", "EACCES"),
    ("new_session", "set_process_group", "EPERM"),
    ("set_groups", "set_gid", "EPERM"),
    ("set_gid", "set_uid", "EPERM"),
    ("duplicate", "close_range", "EBADF"),
    ("enter_cgroup", "close_range", "EBADF"),
    ("loopback_up", "close_range", "an open fd"),
    ("new_root", "close_range", "an open fd"),
    ("open_tree", "close_range", "an open fd"),
    ("new_mount", "close_range", "an open fd"),
    ("attach", "close_range", "an open fd"),
    ("pivot_root", "close_range", "EBADF"),
    ("change_directory", "close_range", "an open fd"),
    ("default_signal", "restore_signal_mask", "a signal that ends the child half-way"),
    ("close_range", "restore_signal_mask", "a signal that ends the child half-way"),
    ("restore_signal_mask", "execute", "the program would have all signals blocked"),
]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(a, b) for a, b, _ in ORDER],
    ids=[f"{a} before {b}: {why}" for a, b, why in ORDER],
)
def test_order_matters(earlier: str, later: str) -> None:
    kinds = [step.kind for step in FULL_PLAN]
    last = max(n for n, kind in enumerate(kinds) if kind == earlier)
    first = min(n for n, kind in enumerate(kinds) if kind == later)
    assert last < first


@pytest.mark.parametrize("entry", [NONE, V2, V1, HYBRID], ids=["none", "v2", "v1", "hybrid"])
@pytest.mark.parametrize("container", [Container(), FULL], ids=["default", "full"])
@pytest.mark.parametrize("command", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_groups_are_entered_right_at_the_clone(
    container: Container, command: Command, entry: Entry
) -> None:
    steps: list[Step] = []
    if entry.birth:
        steps.append(BirthInCgroup("/cg/a", 5))
    late = Namespace.CGROUP if entry.tasks else Namespace(0)
    steps.append(Clone(container.namespaces & ~late))
    steps += [EnterCgroup(path, fd) for path, fd in entry.tasks]
    if entry.tasks:
        steps.append(Unshare(Namespace.CGROUP))
    plan = build_plan(container, command, entry, ROOT)
    assert list(plan)[: len(steps)] == steps
    rest = {step.kind for step in list(plan)[len(steps) :]}
    assert not rest & {"birth_in_cgroup", "clone", "enter_cgroup", "unshare"}


@pytest.mark.parametrize("entry", [NONE, V2, V1, HYBRID], ids=["none", "v2", "v1", "hybrid"])
def test_cgroup_namespace_is_made_only_when_asked_for(entry: Entry) -> None:
    plan = build_plan(Container(namespaces=Namespace.PID), PLAIN, entry, ROOT)
    assert not any(isinstance(step, Unshare) for step in plan)
    assert Clone(Namespace.PID) in plan.steps


@pytest.mark.parametrize("name", GOLDEN)
def test_execute_is_last_and_happens_once(name: str) -> None:
    container, command, entry, _ = GOLDEN[name]
    plan = build_plan(container, command, entry, ROOT)
    assert [n for n, step in enumerate(plan, 1) if isinstance(step, Execute)] == [len(plan)]
    assert isinstance(plan.steps[-2], RestoreSignalMask)


@pytest.mark.parametrize("last", [True, False], ids=["all", "none"])
def test_fds_are_closed_last_of_all_or_not_at_all(last: bool) -> None:
    command = Command((b"x",), (b"/x",), (), close_fds=last)
    plan = build_plan(FULL, command, HYBRID, ROOT)
    closing = [CloseRange(3, CloseRange.LAST)] if last else []
    assert [step for step in plan if isinstance(step, CloseRange)] == closing
    assert list(plan)[-2 - len(closing) : -2] == closing


@pytest.mark.parametrize(
    ("namespaces", "contained"),
    [(Namespace(0), False), (Namespace.MOUNT, True)],
    ids=["of the caller's", "of its own"],
)
def test_cwd_is_confined_where_the_root_is_a_containers(
    namespaces: Namespace, contained: bool
) -> None:
    command = Command((b"x",), (b"/x",), (), cwd=b"w")
    plan = build_plan(Container(namespaces=namespaces), command, NONE, ROOT)
    assert ChangeDirectory(b"w", contained) in plan.steps


def test_new_mount_namespace_is_private_even_without_mounts() -> None:
    plan = build_plan(Container(namespaces=Namespace.MOUNT), PLAIN, NONE, ROOT)
    assert [step.kind for step in plan][:2] == ["clone", "set_propagation"]


@pytest.mark.parametrize(
    ("propagation", "steps"),
    [
        ("private", ["private"]),
        ("slave", ["slave"]),
        ("shared", ["private", "shared"]),
        ("unbindable", ["private", "unbindable"]),
    ],
)
def test_propagation_is_cut_off_before_all_mounts_and_given_after_them(
    propagation: str, steps: list[str]
) -> None:
    container = dataclasses.replace(FULL, propagation=propagation)
    plan = build_plan(container, EVERYTHING, NONE, ROOT)
    assert [step.propagation for step in plan if isinstance(step, SetPropagation)] == steps
    kinds = [step.kind for step in plan]
    assert kinds.index("set_propagation") < kinds.index("new_root")
    if len(steps) == 2:
        assert kinds.index("pivot_root") < kinds.index("set_propagation", 10)


class TestLateUserNamespace:
    BOX = Container(
        namespaces=Container().namespaces | Namespace.USER,
        root=Tmpfs("/"),
        uid_map=[IdMap(1000, 65534)],
        gid_map=[IdMap(1000, 65534)],
        max_user_namespaces=0,
        max_inotify_instances=8,
        capabilities=(),
    )

    def test_is_a_privileged_callers_whose_program_keeps_no_capabilities(self) -> None:
        kinds = [step.kind for step in build_plan(self.BOX, PLAIN, NONE, ROOT, proc=9)]
        assert kinds.index("pivot_root") < kinds.index("unshare") < kinds.index("wait_for_parent")
        order = ["set_uid", "write_proc", "drop_bounding", "set_capabilities", "close_range"]
        assert [kinds.index(kind) for kind in order] == sorted(map(kinds.index, order))

    @pytest.mark.parametrize(
        ("changes", "caller"),
        [({}, Caller(1000, 1000)), ({"capabilities": ("chown",)}, ROOT)],
        ids=["ordinary user", "capabilities"],
    )
    def test_is_made_by_the_clone_otherwise(self, changes: Any, caller: Caller) -> None:
        box = dataclasses.replace(self.BOX, **changes)
        steps = list(build_plan(box, PLAIN, NONE, caller, proc=9))
        assert isinstance(steps[0], Clone)
        assert Namespace.USER in steps[0].namespaces
        assert "unshare" not in [step.kind for step in steps]
        limits = [n for n, step in enumerate(steps) if getattr(step, "proc", -1) == 9]
        assert [steps[n].describe() for n in limits] == [
            "write '0' to /proc/sys/user/max_user_namespaces",
            "write '8' to /proc/sys/user/max_inotify_instances",
        ]
        assert max(limits) < [step.kind for step in steps].index("set_propagation")


def test_zero_is_a_value() -> None:
    command = Command(
        (b"x",), (b"/x",), (), umask=0, process_group=0, groups=(), gid=0, uid=0, stdio=(0, 0, 0)
    )
    kinds = [
        step.kind for step in build_plan(Container(namespaces=Namespace(0)), command, NONE, ROOT)
    ]
    credentials = ["set_groups", "set_gid", "set_uid"]
    assert kinds[1:] == [
        "set_umask",
        "default_signal",
        "default_signal",
        "set_process_group",
        *credentials,
        *["duplicate"] * 3,
        "close_range",
        "restore_signal_mask",
        "execute",
    ]


def test_signals_that_python_ignores_are_restored() -> None:
    plan = build_plan(Container(), PLAIN, NONE, ROOT)
    numbers = [step.number for step in plan if isinstance(step, DefaultSignal)]
    assert numbers == [signal.SIGPIPE, signal.SIGXFSZ]


class TestInit:
    INIT = ExecuteInit(20, 21, 23)
    WITHOUT, WITH = (build_plan(FULL, EVERYTHING, HYBRID, ROOT, init=init) for init in (None, INIT))

    def test_takes_nothing_away_and_adds_one_step(self) -> None:
        def but_fds(plan: Plan) -> list[str]:
            return sorted(repr(step) for step in plan if not isinstance(step, CloseRange))

        assert but_fds(self.WITH) == sorted([*but_fds(self.WITHOUT), repr(self.INIT)])

    def test_leaves_to_the_program_what_is_its_own(self) -> None:
        kinds = [step.kind for step in self.WITH]
        assert kinds[kinds.index("execute_init") + 1 :] == [
            "default_signal",
            "default_signal",
            "new_session",
            "set_process_group",
            "restore_signal_mask",
            "execute",
        ]

    def test_keeps_its_fds_until_then(self) -> None:
        assert [step for step in self.WITH if isinstance(step, CloseRange)] == [
            CloseRange(3, 11),
            CloseRange(13, 19),
            CloseRange(22, 22),
            CloseRange(24, CloseRange.LAST),
        ]

    def test_is_shown_by_a_dry_run(self) -> None:
        plan = Container(namespaces=Namespace.PID, init=True).plan(["true"])
        assert ExecuteInit() in plan.steps
        assert CloseRange(3, CloseRange.LAST) in plan.steps
        assert json.loads(plan.to_json())


class TestInitOutside:
    INIT = ExecuteInit(20, 21, 23)
    V1 = Entry(("/cg/a", 5), (("/cg/cpu/a", 6),), later=(("/cg/memory/a", 7),))
    V2 = Entry(later=(("/cg/a", 8),), later_birth=("/cg/a", 5))
    BOX = Container(init=True, cpu_affinity=[0], capabilities=())

    def plan(self, entry: Entry, box: Container = BOX) -> list[Step]:
        return list(build_plan(box, PLAIN, entry, ROOT, init=self.INIT))

    def test_the_program_enters_what_counts_itself_and_first_of_all(self) -> None:
        for entry, path, fd in ((self.V1, "/cg/memory/a", 7), (self.V2, "/cg/a", 8)):
            steps = self.plan(entry)
            assert steps[steps.index(self.INIT) + 1] == EnterCgroup(path, fd)
            assert Duplicate(fd, fd) in steps[: steps.index(self.INIT)]
            assert CloseRange(fd, fd) in steps[steps.index(self.INIT) :]

    def test_the_rest_is_entered_before_it(self) -> None:
        steps = self.plan(self.V1)
        assert steps[0] == BirthInCgroup("/cg/a", 5)
        assert EnterCgroup("/cg/cpu/a", 6) in steps[: steps.index(self.INIT)]
        assert not [step for step in self.plan(self.V2) if isinstance(step, BirthInCgroup)]

    def test_the_namespace_shows_all_of_them(self) -> None:
        kinds = Namespace.CGROUP
        for entry, show in (
            (self.V1, ShowCgroups(("/cg/a", "/cg/cpu/a", "/cg/memory/a"), -1, (7,), 2)),
            (self.V2, ShowCgroups(("/cg/a",), 5, (), 2)),
        ):
            steps = self.plan(entry)
            assert show in steps
            made = [s for s in steps if isinstance(s, (Clone, Unshare)) and kinds in s.namespaces]
            assert made == []
            box = dataclasses.replace(self.BOX, namespaces=Namespace.PID)
            assert "show_cgroups" not in [step.kind for step in self.plan(entry, box)]

    def test_cpus_are_chosen_in_the_cpuset(self) -> None:
        for entry, is_later in ((self.V1, False), (self.V2, True)):
            kinds = [step.kind for step in self.plan(entry)]
            assert kinds.count("set_affinity") == 1
            assert (kinds.index("set_affinity") > kinds.index("execute_init")) is is_later

    def test_v1_is_entered_before_it_by_who_may_not_be_moved_later(self) -> None:
        user, other = Caller(1000, 1000), dataclasses.replace(PLAIN, uid=1001)
        assert entered_later(Container(), PLAIN, ROOT) == ()
        assert entered_later(self.BOX, PLAIN, user) == (1, 2)
        assert entered_later(self.BOX, other, user) == (2,)
        maps = (IdMap(0, 100_000, 65_536),)
        box = dataclasses.replace(self.BOX, namespaces=~Namespace.TIME, uid_map=maps, gid_map=maps)
        assert entered_later(box, PLAIN, user) == (2,)


class TestTerminal:
    TERMINAL = OpenTerminal(24, 80, 30)
    PLAN = build_plan(FULL, EVERYTHING, HYBRID, ROOT, terminal=TERMINAL)

    def test_is_opened_in_the_new_root_and_given_away_before_the_uid_changes(self) -> None:
        kinds = [step.kind for step in self.PLAN]
        first = self.PLAN.steps.index(self.TERMINAL)
        assert kinds[first - 1] == "pivot_root"
        assert self.PLAN.steps[first + 1] == SetTerminalOwner(1000, 30)
        assert kinds.index("set_uid") > first

    def test_stays_with_the_same_user(self) -> None:
        plan = build_plan(FULL, PLAIN, NONE, ROOT, terminal=self.TERMINAL)
        assert "set_terminal_owner" not in [step.kind for step in plan]

    def test_is_given_away_by_the_id_outside_before_a_user_namespace_that_comes_last(self) -> None:
        maps = (IdMap(1000, 4321), IdMap(5000, 6000, 10))
        kinds = Namespace.USER | Namespace.MOUNT
        box = Container(namespaces=kinds, uid_map=maps, capabilities=())
        for uid, outside in ((None, 4321), (1000, 4321), (5009, 6009)):
            command = dataclasses.replace(PLAIN, uid=uid)
            plan = build_plan(box, command, NONE, ROOT, terminal=self.TERMINAL)
            given = plan.steps.index(SetTerminalOwner(outside, 30))
            assert given < plan.steps.index(Unshare(Namespace.USER))
        command = dataclasses.replace(PLAIN, uid=7)
        with pytest.raises(ValueError, match="user: 7 is nobody"):
            build_plan(box, command, NONE, ROOT, terminal=self.TERMINAL)

    def test_becomes_that_of_a_new_session_asked_for_or_not(self) -> None:
        for command in (EVERYTHING, PLAIN):
            plan = build_plan(Container(), command, NONE, ROOT, terminal=self.TERMINAL)
            kinds = [step.kind for step in plan]
            assert kinds.count("new_session") == 1
            session = kinds.index("new_session")
            assert plan.steps[session + 1] == SetControllingTerminal(30)

    def test_is_what_is_not_given_of_stdio(self) -> None:
        duplicated = [step for step in self.PLAN if isinstance(step, Duplicate)]
        assert duplicated == [
            *(Duplicate(10, 0), Duplicate(11, 1), Duplicate(30, 2)),
            Duplicate(12, 12),
        ]
        assert CloseRange(13, CloseRange.LAST) in self.PLAN.steps

    @pytest.mark.parametrize("close_fds", [True, False])
    def test_is_kept_by_the_init_for_its_child_alone(self, close_fds: bool) -> None:
        command = dataclasses.replace(PLAIN, close_fds=close_fds)
        init, box = ExecuteInit(20, 21, 22), Container(init=True)
        plan = build_plan(box, command, NONE, ROOT, init=init, terminal=self.TERMINAL)
        child = plan.steps.index(init) + 1
        assert Duplicate(30, 30) in plan.steps[:child]
        assert not any(
            step.first <= 30 <= step.last
            for step in plan.steps[:child]
            if isinstance(step, CloseRange)
        )
        assert [step for step in plan.steps[child:] if not isinstance(step, DefaultSignal)] == [
            NewSession(),
            SetControllingTerminal(30),
            CloseRange(30, 30),
            RestoreSignalMask(),
            Execute(PLAIN.candidates, PLAIN.arguments, PLAIN.environment),
        ]


def test_plan_is_a_pure_function_of_what_is_asked() -> None:
    assert build_plan(FULL, EVERYTHING, HYBRID, ROOT) == FULL_PLAN
    assert len(FULL_PLAN) == len(FULL_PLAN.steps) == len(list(FULL_PLAN))


TEMPLATE = 9
FROM_TEMPLATE = Container(
    root="/srv/root",
    mounts=(
        Bind("/usr", read_only=True),
        Overlay("/data", ["/srv/a", "/srv/b"], nosuid=True),
        Dev(extra=["fuse"]),
        File("/etc/hosts", ""),
        Bind("/opt"),
    ),
    masked_paths=["/data/secret"],
    propagation="slave",
)


def test_template_is_copied_in_place_of_the_hosts_mounts() -> None:
    plan = build_plan(FULL, EVERYTHING, HYBRID, ROOT, template=TEMPLATE)
    assert str(Plan(plan.steps[1:20])) == said(
        """\
         1. clone the child into new namespaces: uts, ipc, pid, net
         2. enter the cgroup /cg/cpu/a
         3. enter the cgroup /cg/memory/a
         4. enter new namespaces: cgroup
         5. set the hostname to 'demo'
         6. set the domainname to 'nis'
         7. bring the loopback interface up
         8. take a copy of the new root '/srv/root', private, with all mounts below it
         9. set it aside
        10. take a copy of the mount at '/usr', private, with all mounts below it
        11. make it read-only
        12. set it aside
        13. join the namespaces of the template: mount
        14. enter new namespaces: mount
        15. take up the mount that was set aside first
        16. mount it on '/' for now, as the new root
        17. take up the mount that was set aside first
        18. mount it on '/usr'
        19. make a new tmpfs (mode=1777, size=1048576, nosuid, nodev)"""
    )
    rest = len(FULL_PLAN.steps) - FULL_PLAN.steps.index(Attach(b"/usr"))
    assert plan.steps[-rest:] == FULL_PLAN.steps[-rest:]


@pytest.mark.parametrize("root", ["/srv/root", Tmpfs("/"), Overlay("/", ["/srv/root"])])
def test_what_is_taken_from_the_host_comes_first_and_in_order(root: Any) -> None:
    container = dataclasses.replace(FROM_TEMPLATE, root=root)
    plain = build_plan(container, PLAIN, NONE, ROOT)
    steps = build_plan(container, PLAIN, NONE, ROOT, template=TEMPLATE).steps
    entered = steps.index(SetNamespaces(Namespace.MOUNT, "the template", TEMPLATE))
    assert steps[entered + 1] == Unshare(Namespace.MOUNT)
    sources = [step for step in steps if isinstance(step, OpenTree)]
    assert all(step in steps[:entered] for step in sources)
    assert {step.propagation for step in sources} == {"slave"}
    assert not any(isinstance(step, (SetPropagation, NewRoot)) for step in steps)
    # followed through to where each source ends up
    assert used(steps) == used(plain.steps)


def used(steps: Sequence[Step]) -> list[tuple[bytes, Step]]:
    """Return each source with the step that takes it out of hand; the template's are no other."""
    aside: list[bytes] = []
    in_hand: bytes | None = None
    found: list[tuple[bytes, Step]] = []
    for step in steps:
        if isinstance(step, NewRoot):
            found.append((step.path, AttachRoot(b"/")))
        elif isinstance(step, OpenTree):
            in_hand = step.source
        elif isinstance(step, NewMount):
            in_hand = None
        elif isinstance(step, SetAside) and in_hand is not None:
            aside.append(in_hand)
            in_hand = None
        elif isinstance(step, TakeUp):
            in_hand = aside.pop(0)
        elif isinstance(step, TakeMasks):
            found.append((aside.pop(0), step))
        elif isinstance(step, Stage):
            found += [(aside.pop(0), step) for _ in step.places]
        elif isinstance(step, (Attach, AttachRoot)) and in_hand is not None:
            found.append((in_hand, step))
            in_hand = None
    assert aside == []
    return found


NO_TEMPLATE: dict[str, dict[str, Any]] = {
    "host's root": {"root": None},
    "user namespace": {"namespaces": FULL.namespaces | Namespace.USER},
    "paths in an option": {"mounts": [Overlay("/data", ["/a"], upper="/u", work="/w")]},
    "paths in the root's": {"root": Overlay("/", ["/a"], upper="/u", work="/w")},
    "source beneath the root": {"mounts": [Tmpfs("/a"), Bind("/usr/../srv//root/a/b", "/b")]},
    "root with two slashes": {"root": "//srv/root", "mounts": [Bind("/srv/root/a", "/b")]},
    "source that may be": {"mounts": [Bind("b", "/b")]},
    "root that may be above": {"root": "root"},
    "root above all": {"root": "/"},
    "too many to set aside": {"mounts": [Bind("/usr", f"/{n}") for n in range(ASIDE_MAX)]},
}


@pytest.mark.parametrize("case", NO_TEMPLATE)
def test_template_is_not_used_where_it_would_make_a_difference(case: str) -> None:
    container = dataclasses.replace(FULL, **NO_TEMPLATE[case])
    plan = build_plan(container, PLAIN, NONE, ROOT, template=TEMPLATE)
    assert plan == build_plan(container, PLAIN, NONE, ROOT)
    joined = build_plan(FULL, PLAIN, NONE, ROOT, [Joined(Namespace.NET, "x")], template=TEMPLATE)
    assert joined == build_plan(FULL, PLAIN, NONE, ROOT, [Joined(Namespace.NET, "x")])


def test_template_is_used_when_the_user_namespace_comes_last() -> None:
    container = dataclasses.replace(
        FULL, namespaces=FULL.namespaces | Namespace.USER, capabilities=()
    )
    plan = build_plan(container, PLAIN, NONE, ROOT, template=TEMPLATE)
    assert plan.steps.index(Unshare(Namespace.MOUNT)) < plan.steps.index(Unshare(Namespace.USER))


def test_json_has_kind_sentence_and_fields() -> None:
    plan = Plan(
        (
            Clone(Namespace.PID | Namespace.UTS),
            SetHostname(b"caf\xe9"),
            OpenTree(b"/usr", True),
            SetGroups((1, 2)),
            LoopbackUp(),
            Execute((b"/x",), (b"x", b"y"), (b"A=1",)),
        )
    )
    assert json.loads(plan.to_json()) == [
        {
            "kind": "clone",
            "sentence": "clone the child into new namespaces: uts, pid",
            "namespaces": "uts, pid",
        },
        {
            "kind": "set_hostname",
            "sentence": "set the hostname to 'caf\\udce9'",
            "name": "caf\udce9",
        },
        {
            "kind": "open_tree",
            "sentence": "take a copy of the mount at '/usr', with all mounts below it",
            "source": "/usr",
            "recursive": True,
            "propagation": None,
            "is_root": False,
        },
        {
            "kind": "set_groups",
            "sentence": "set the supplementary groups to [1, 2]",
            "gids": [1, 2],
        },
        {"kind": "loopback_up", "sentence": "bring the loopback interface up"},
        {
            "kind": "execute",
            "sentence": "execute '/x' with arguments ['x', 'y']",
            "candidates": ["/x"],
            "arguments": ["x", "y"],
            "environment": ["A=1"],
        },
    ]


def test_every_plan_can_be_said_in_json() -> None:
    steps = json.loads(FULL_PLAN.to_json())
    assert [step["sentence"] for step in steps] == [step.describe() for step in FULL_PLAN]


def test_container_shows_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    plan = Container(namespaces=Namespace(0)).plan(["ls", "-l"])
    assert str(plan) == said("""\
         1. clone the child, in the caller's namespaces
         2. restore the default action of SIGPIPE
         3. restore the default action of SIGXFSZ
         4. close every fd from 3 on
         5. restore the caller's signal mask
         6. execute '/bin/ls' with arguments ['ls', '-l']""")


def test_container_plans_no_program_for_no_arguments() -> None:
    with pytest.raises(ValueError, match="args is empty: its first item is the program"):
        Container().plan([])


ORDINARY = Caller(1000, 100)


def first_steps(container: Container, caller: Caller) -> list[str]:
    plan = build_plan(container, PLAIN, NONE, caller)
    return str(plan).split(" restore ")[0].splitlines()[:-1]


def test_an_ordinary_caller_gets_a_user_namespace_with_any_other() -> None:
    assert first_steps(Container(namespaces=Namespace.PID), ORDINARY) == [
        " 1. clone the child into new namespaces: user, pid",
        " 2. write '1000 1000 1' to /proc/self/uid_map",
        " 3. write 'deny' to /proc/self/setgroups",
        " 4. write '100 100 1' to /proc/self/gid_map",
    ]
    assert first_steps(Container(namespaces=Namespace(0)), ORDINARY) == [
        " 1. clone the child, in the caller's namespaces"
    ]


def test_ranges_are_the_parents_to_write_and_a_mapped_id_is_taken() -> None:
    maps = (IdMap(0, 100000, 65536),)
    box = Container(namespaces=Namespace.USER, uid_map=maps, gid_map=maps)
    assert first_steps(box, ROOT) == [
        " 1. clone the child into new namespaces: user",
        " 2. have the parent map uids 0 100000 65536 and gids 0 100000 65536",
        " 3. set the supplementary groups to []",
        " 4. become the group 0",
        " 5. become the user 0",
    ]
    own = (IdMap(0, 1000), IdMap(1, 100000, 65536))
    box = Container(namespaces=Namespace.USER, uid_map=own, gid_map=(IdMap(0, 100),))
    assert first_steps(box, ORDINARY)[1:] == [
        " 2. have the parent map uids 0 1000 1, 1 100000 65536 and gids 0 100 1 with newuidmap and "
        "newgidmap"
    ]


def test_time_is_entered_by_the_program_and_its_offsets_are_set_before() -> None:
    box = Container(namespaces=Namespace.TIME, time_offsets={"boottime": 1.5, "monotonic": -0.5})
    assert first_steps(box, ROOT) == [
        " 1. clone the child, in the caller's namespaces",
        " 2. enter new namespaces: time",
        " 3. write 'boottime 1 500000000\\nmonotonic -1 500000000\\n' to /proc/self/timens_offsets",
    ]


def test_devices_come_in_their_order_before_the_ids() -> None:
    maps = (IdMap(0, 100000, 65536),)
    network = (Device("eth1"), Veth(), UserNetwork("tap0", program="pasta"))
    box = Container(
        namespaces=Namespace.NET | Namespace.USER, network=network, uid_map=maps, gid_map=maps
    )
    plan = build_plan(box, PLAIN, NONE, ROOT)
    assert [type(step).__name__ for step in plan.steps[1:5]] == [
        "MoveDevice",
        "AddVeth",
        "StartUserNetwork",
        "WriteMaps",
    ]
    assert {step.kind for step in plan.steps[1:5]} == {"wait_for_parent"}
    shown = json.loads(plan.to_json())[1]
    assert shown["device"] == {"device": "eth1", "name": None, "addresses": [], "gateway": []}


@pytest.mark.parametrize(
    ("namespaces", "capabilities", "caller", "own_user", "privileged"),
    [
        (Namespace.NET, None, ROOT, False, True),
        (Namespace.NET | Namespace.USER, None, ROOT, True, True),
        (Namespace.NET | Namespace.USER, (), ROOT, False, True),
        (Namespace.NET, (), ORDINARY, True, False),
    ],
    ids=["root", "root with a user namespace", "one that is entered last", "ordinary"],
)
def test_a_user_network_knows_whose_namespace_it_is_for(
    namespaces: Namespace,
    capabilities: tuple[()] | None,
    caller: Caller,
    own_user: bool,
    privileged: bool,
) -> None:
    box = Container(namespaces=namespaces, network=[UserNetwork()], capabilities=capabilities)
    step = build_plan(box, PLAIN, NONE, caller).steps[1]
    assert isinstance(step, StartUserNetwork)
    assert (step.own_user, step.privileged) == (own_user, privileged)


def test_what_is_joined_comes_first_and_new_ones_are_made_in_it() -> None:
    join: dict[Namespace, Any] = {Namespace.NET: "/run/netns/a", Namespace.USER: 5}
    box = Container(namespaces=Namespace.PID | Namespace.CGROUP, join=join)
    joins = (Joined(Namespace.NET, "a", 6), Joined(Namespace.USER, "process 5", 7, uid=0, gid=3))
    plan = build_plan(box, PLAIN, HYBRID, ORDINARY, joins)
    entered = 2 + len(HYBRID.tasks)  # birth, clone, v1 groups
    assert plan.steps[1] == Clone(Namespace(0))
    assert plan.steps[entered : entered + 7] == (
        HideMemory(),
        SetNamespaces(Namespace.USER, "process 5", 7),
        SetNamespaces(Namespace.NET, "a", 6),
        CloneAgain(Namespace.PID | Namespace.CGROUP),
        SetGroups(()),
        SetGid(3),
        SetUid(0),
    )


@pytest.mark.parametrize(
    ("new", "last"),
    [
        ("", "set_oom_score_adj"),
        ("uts", "set_oom_score_adj"),
        ("user", "write_proc"),
        ("time", "unshare"),
    ],
)
def test_memory_is_hidden_from_whom_the_child_joins(new: str, last: str) -> None:
    both = Namespace.PID | Namespace.MOUNT
    namespaces = Namespace.parse(new) if new else Namespace(0)
    box = Container(namespaces=namespaces, join={both: 5}, oom_score_adj=5)
    steps = build_plan(box, PLAIN, NONE, ROOT, (Joined(both, "process 5", 7),)).steps
    at = steps.index(HideMemory())
    assert steps[at - 1].kind == last
    # of what is written as the owner of /proc/self, nothing comes later
    assert not {"write_proc", "set_oom_score_adj"} & {step.kind for step in steps[at:]}


def test_memory_is_not_hidden_where_nobody_else_is() -> None:
    for join in ({}, {Namespace.NET: 5}):
        joins = tuple(Joined(kind, "", 7) for kind in join)
        plan = build_plan(Container(namespaces=Namespace.UTS, join=join), PLAIN, NONE, ROOT, joins)
        assert HideMemory() not in plan.steps


def test_joined_ones_alone_need_no_second_child() -> None:
    box = Container(namespaces=Namespace.UTS, join={Namespace.NET: "/run/netns/a"})
    plan = build_plan(box, PLAIN, NONE, ROOT, (Joined(Namespace.NET, "a", 6),))
    kinds = [step.kind for step in plan]
    assert kinds[:3] == ["clone", "set_namespaces", "unshare"]
    assert "clone_again" not in kinds
