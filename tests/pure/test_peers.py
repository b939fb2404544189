"""What comes nearest with unshare and bwrap, and what these leave out."""

from __future__ import annotations

import pytest

from pyns import (
    Bind,
    Container,
    Dev,
    Dir,
    File,
    IdMap,
    Mqueue,
    Namespace,
    Overlay,
    Plan,
    Proc,
    Symlink,
    Tmpfs,
)
from pyns.cgroups.entry import Entry
from pyns.command import Command
from pyns.idmap import Caller, WriteMaps
from pyns.peers import Bwrap, Unshare, ranges
from pyns.plan import build_plan
from pyns.steps import Clone, Execute, ExecuteInit, SetGid, SetGroups, SetUid

NONE = Namespace(0)
MOUNT = Namespace.MOUNT
TRUE = Execute((b"/bin/true",), (b"true",), ())


def planned(box: Container, template: int | None = None) -> Plan:
    """Plan as root does: without a user namespace that nobody has asked for."""
    init = ExecuteInit() if box.init else None
    command = Command((b"true",), (b"true",), ())
    return build_plan(box, command, Entry(), Caller(0, 0), init=init, template=template)


def said(peer: type[Unshare | Bwrap], box: Container) -> tuple[str, list[str]]:
    """Return the options of the command line, and which kinds of steps are left out."""
    plan = planned(box)
    line, missing = peer(plan.steps).line()
    name, *_ = line.split()
    assert line.endswith(" -- true")
    options = line.removeprefix(name).removesuffix(" -- true").strip()
    return options, [plan.steps[number - 1].kind for number in missing]


@pytest.mark.parametrize(
    ("box", "options", "missing"),
    [
        (Container(namespaces=NONE), "", []),
        (Container(namespaces=Namespace.UTS, hostname="x"), "--uts", ["set_hostname"]),
        (Container(namespaces=Namespace.PID), "--pid --fork", []),
        (
            Container(namespaces=MOUNT | Namespace.PID),
            "--mount --pid --fork --propagation private --mount-proc=/proc",
            [],
        ),
        (
            Container(namespaces=MOUNT, root="/srv/a b", mounts=[Proc()]),
            "--mount --propagation private --root '/srv/a b' '--mount-proc=/srv/a b/proc'",
            [],
        ),
        (
            Container(namespaces=Namespace.TIME, time_offsets={"monotonic": 5, "boottime": -7}),
            "--time --monotonic 5 --boottime -7",
            [],
        ),
        (
            Container(namespaces=Namespace.TIME, time_offsets={"monotonic": 0.5}),
            "--time",
            ["write_proc"],
        ),
        (
            Container(
                namespaces=Namespace.USER,
                uid_map=[IdMap(5, 0)],
                gid_map=[IdMap(7, 0)],
            ),
            "--user --map-user 5 --map-group 7",
            [],
        ),
        (Container(namespaces=NONE, rlimits={"core": 0}), "", ["set_rlimit"]),
        (Container(namespaces=NONE, new_session=True), "", ["new_session"]),
    ],
)
def test_unshare(box: Container, options: str, missing: list[str]) -> None:
    assert said(Unshare, box) == (options, missing)


@pytest.mark.parametrize(
    ("box", "options", "missing"),
    [
        (Container(namespaces=NONE), "--dev-bind / /", []),
        (
            Container(namespaces=Namespace.UTS | Namespace.NET, hostname="x"),
            "--dev-bind / / --unshare-uts --unshare-net --hostname x",
            [],
        ),
        (
            Container(namespaces=Namespace.PID, init=True),
            "--dev-bind / / --unshare-pid",
            [],
        ),
        (
            Container(namespaces=Namespace.PID),
            "--dev-bind / / --as-pid-1 --unshare-pid",
            [],
        ),
        (
            Container(
                namespaces=MOUNT,
                root="/srv/box",
                read_only=True,
                mounts=[
                    Bind("/usr", read_only=True),
                    Bind("/home"),
                    Proc(),
                    Dev(),
                    Mqueue("/mq"),
                    Tmpfs("/tmp", size=4096, mode=0o700),
                    Dir("/tmp/a"),
                    Symlink("/tmp/l", "a"),
                ],
            ),
            "--bind /srv/box / --ro-bind /usr /usr --bind /home /home --proc /proc --dev /dev "
            "--mqueue /mq --perms 700 --size 4096 --tmpfs /tmp --dir /tmp/a --symlink a /tmp/l "
            "--remount-ro /",
            ["set_root_attributes"],  # of the mounts below
        ),
        (
            Container(namespaces=MOUNT, root=Tmpfs("/"), mounts=[Dir("/a"), File("/f", "x")]),
            "--dir /a",
            ["new_mount", "write_file", "open_within", "set_attributes", "attach"],
        ),
        (
            Container(namespaces=NONE, capabilities=["chown"], no_new_privileges=True),
            "--dev-bind / / --cap-drop ALL --cap-add CAP_CHOWN",
            [],
        ),
        (
            Container(namespaces=NONE, new_session=True, die_with_parent=True, nice=3),
            "--dev-bind / / --new-session --die-with-parent",
            ["set_nice"],
        ),
    ],
)
def test_bwrap(box: Container, options: str, missing: list[str]) -> None:
    assert said(Bwrap, box) == (options, missing)


def test_an_overlay_is_left_out_as_a_whole() -> None:
    box = Container(mounts=[Overlay("/over", lower=["/usr"])])
    _, missing = said(Bwrap, box)
    plan = planned(box)
    kinds = [step.kind for step in plan]
    first = kinds.index("open_tree")
    assert missing == kinds[first : kinds.index("attach") + 1]


def test_ids_of_others_are_those_of_unshare() -> None:
    maps = WriteMaps(-1, ("0 100000 10",), ("5 200000 3",), privileged=True)
    plan = Plan((Clone(Namespace.USER), maps, SetGroups(()), SetGid(5), SetUid(0), TRUE))
    assert Unshare(plan.steps).line() == (
        "unshare --user --map-users 100000,0,10 --map-groups 200000,5,3 --setgid 5 --setuid 0 "
        "-- /bin/true",
        [],
    )


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([4], "4"), ([1, 2], "1, 2"), ([1, 2, 3, 9], "1 to 3, 9")]
)
def test_numbers_are_said_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_explain_names_the_calls_of_each_step_that_makes_any() -> None:
    plan = Container(mounts=[Dev()]).plan(["true"])
    lines = plan.explain().splitlines()
    assert [line for line in lines if line[:2].strip().isdigit()] == str(plan).splitlines()
    calls = [line for line in lines if line.startswith(8 * " ")]
    assert [line.strip() for line in calls] == [
        ", ".join(step.calls.split()) for step in plan if step.calls
    ]
    assert sum(line.startswith("nearest: ") for line in lines) == 2


@pytest.mark.parametrize(
    "box",
    [
        Container(namespaces=MOUNT, root="/srv/x", read_only=True, mounts=[Bind("/usr"), Dev()]),
        Container(
            namespaces=MOUNT,
            root=Tmpfs("/", size=4096),
            mounts=[Overlay("/over", lower=["/usr", "/etc"]), Bind("/usr", read_only=True)],
            masked_paths=["/none"],
        ),
    ],
    ids=["directory", "tmpfs"],
)
@pytest.mark.parametrize("peer", [Unshare, Bwrap])
def test_a_template_makes_no_difference(peer: type[Unshare | Bwrap], box: Container) -> None:
    plans = planned(box), planned(box, template=-1)
    (line, missing), (same, also_missing) = (peer(plan.steps).line() for plan in plans)
    assert "take_up" in [step.kind for step in plans[1]]
    # the namespace comes later, and is private without being asked
    assert set(line.split()) - {"--propagation", "private"} == set(same.split())
    left, also_left = (
        {plan.steps[number - 1].kind for number in numbers}
        for plan, numbers in zip(plans, (missing, also_missing), strict=True)
    )
    assert left ^ also_left <= {"set_aside", "take_up"}
