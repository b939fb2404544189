"""A description is checked and completed when it is made."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    Container,
    Device,
    Dir,
    Limits,
    Namespace,
    Proc,
    Tmpfs,
    UserNetwork,
    Veth,
)

USUAL = (
    Namespace.MOUNT
    | Namespace.UTS
    | Namespace.IPC
    | Namespace.PID
    | Namespace.NET
    | Namespace.CGROUP
)


def test_defaults_are_a_containers() -> None:
    given = {
        field.name: getattr(Container(), field.name) for field in dataclasses.fields(Container)
    }
    assert given == {
        "namespaces": USUAL,
        "root": None,
        "mounts": None,
        "read_only": False,
        "nosuid": False,
        "nodev": False,
        "masked_paths": (),
        "read_only_paths": (),
        "propagation": "private",
        "hostname": None,
        "domainname": None,
        "loopback": None,
        "network": (),
        "join": (),
        "uid_map": None,
        "gid_map": None,
        "time_offsets": (),
        "cgroup": None,
        "limits": None,
        "rlimits": None,
        "capabilities": None,
        "no_new_privileges": False,
        "seccomp": None,
        "landlock": None,
        "new_session": False,
        "new_keyring": False,
        "reset_signals": False,
        "die_with_parent": False,
        "oom_score_adj": None,
        "nice": None,
        "cpu_affinity": None,
        "timer_slack_ns": None,
        "core_scheduling": False,
        "apparmor_profile": None,
        "selinux_label": None,
        "init": False,
        "env": None,
        "max_user_namespaces": None,
        "max_inotify_instances": None,
    }


@pytest.mark.parametrize(
    ("namespaces", "mounts", "loopback"),
    [
        (Namespace(0), (), False),
        (Namespace.MOUNT, (), False),
        (Namespace.PID, (), False),
        (Namespace.MOUNT | Namespace.PID, (Proc(),), False),
        (Namespace.NET, (), True),
    ],
    ids=["none", "mount", "pid", "mount and pid", "net"],
)
def test_proc_and_loopback_follow_from_the_namespaces(
    namespaces: Namespace, mounts: tuple[Any, ...], loopback: bool
) -> None:
    box = Container(namespaces=namespaces)
    assert (box.all_mounts, box.has_loopback) == (mounts, loopback)


def test_mounts_may_come_from_an_iterator() -> None:
    assert Container(mounts=iter([Proc()])).mounts == (Proc(),)  # type: ignore[arg-type]


def test_what_follows_from_the_namespaces_follows_replace() -> None:
    box = dataclasses.replace(Container(), namespaces=Namespace.UTS)
    assert (box.all_mounts, box.has_loopback) == ((), False)
    assert dataclasses.replace(box, namespaces=USUAL) == Container()


@pytest.mark.parametrize(
    ("mounts", "kept"),
    [
        ((), ()),
        ([], ()),
        ([Tmpfs("/tmp")], (Tmpfs("/tmp"),)),
    ],
    ids=["tuple", "empty list", "list"],
)
def test_given_mounts_are_taken_as_they_are(mounts: Any, kept: tuple[Any, ...]) -> None:
    assert Container(mounts=mounts).mounts == kept


def test_mounts_from_an_iterator_are_not_lost() -> None:
    mounts: Any = iter([Tmpfs("/tmp"), Proc()])
    assert Container(mounts=mounts).mounts == (Tmpfs("/tmp"), Proc())


def test_loopback_may_stay_down() -> None:
    assert Container(loopback=False).loopback is False


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("root", "/srv", "MOUNT"),
        ("root", Path("/srv"), "MOUNT"),
        ("mounts", (Bind("/usr"),), "MOUNT"),
        ("hostname", "demo", "UTS"),
        ("hostname", b"demo", "UTS"),
        ("domainname", "nis", "UTS"),
        ("loopback", True, "NET"),
        ("network", (Veth(),), "NET"),
        ("read_only", True, "MOUNT"),
        ("nosuid", True, "MOUNT"),
        ("nodev", True, "MOUNT"),
        ("masked_paths", ("/x",), "MOUNT"),
        ("read_only_paths", ("/x",), "MOUNT"),
        ("propagation", "slave", "MOUNT"),
    ],
    ids=str,
)
def test_what_would_change_the_callers_own_is_refused_with_the_namespace_to_add(
    field: str, value: Any, needed: str
) -> None:
    others = USUAL & ~Namespace[needed]
    said = f"{field}={value!r} would be the caller's own: add Namespace.{needed}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Container(namespaces=others, **{field: value})
    Container(namespaces=Namespace[needed], **{field: value})


@pytest.mark.parametrize("field", ["hostname", "domainname"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a" * 65, "is longer than the kernel's 64 bytes"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}" * 33, "is longer than the kernel's 64 bytes"),
        (b"a" * 65, "is longer than the kernel's 64 bytes"),
        ("a\0b", "contains a NUL"),
    ],
    ids=["chars", "encoded", "bytes", "nul"],
)
def test_name_that_the_kernel_does_not_take_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{field}={value!r} {said}')}$"):
        Container(**{field: value})


@pytest.mark.parametrize("value", ["a" * 64, b"\xff" * 64], ids=["text", "bytes"])
def test_name_of_64_bytes_is_kept(value: Any) -> None:
    box = Container(hostname=value, domainname=value)
    assert (box.hostname, box.domainname) == (value, value)


@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_empty_name_is_refused_without_asking_for_a_path(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is empty(?!.*path)"):
        Container(**{field: ""})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("root", "said"),
    [("", "root is empty: give a path"), ("/a\0", "root='/a\\x00' contains a NUL")],
    ids=["empty", "nul"],
)
def test_root_that_is_no_path_is_refused(root: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Container(root=root)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"namespaces": 0x20000}, "namespaces=131072: give Namespace.PID | ... , or parse()"),
        ({"namespaces": "pid"}, "namespaces='pid': give Namespace.PID | ... , or parse()"),
        ({"limits": {"pids_max": 1}}, "limits={'pids_max': 1}: give Limits(...)"),
        ({"cgroup": "/sys/fs/cgroup/a"}, "give a pyns.cgroups.Cgroup"),
        ({"mounts": ["/usr"]}, "mounts: '/usr' is not a mount, as Bind(...), Tmpfs(...)"),
        ({"mounts": [Proc(), None]}, "mounts: None is not a mount, as Bind(...), Tmpfs(...)"),
        ({"read_only": 1}, "read_only=1 is not a bool"),
        ({"masked_paths": "/x"}, "masked_paths='/x': give a sequence of paths"),
        ({"read_only_paths": b"/x"}, "read_only_paths=b'/x': give a sequence of paths"),
        ({"network": [Veth]}, "is no Veth(...), Device(...), UserNetwork()"),
        ({"network": ["eth0"]}, "'eth0' is no Veth(...), Device(...), UserNetwork()"),
        ({"memory_max": 1}, "unexpected keyword argument 'memory_max'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_value_of_another_type_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        Container(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"propagation": "public"}, "propagation='public': there are private, slave, shared, unb"),
        ({"masked_paths": ["x"]}, "masked_paths='x' is not absolute: it is a path inside"),
        ({"masked_paths": ["/"]}, "masked_paths='/' is the root"),
        ({"mounts": [Tmpfs("/")]}, "is the root: that is Container(root=...)"),
        ({"root": Tmpfs("/x")}, "root=Tmpfs(target='/x'"),
        ({"mounts": [Bind("/a", idmap=Namespace.USER)]}, "add Namespace.USER, with ids in uid_map"),
        (
            {
                "mounts": [Bind("/a", idmap=Namespace.USER)],
                "namespaces": Namespace.USER | Namespace.MOUNT,
                "gid_map": [],
            },
            "add Namespace.USER, with ids in uid_map",
        ),
        ({"root": Proc()}, "root=Proc(target='/proc'"),
        ({"env": {"A=B": "x"}}, "illegal environment variable name"),
        (
            {"max_user_namespaces": 0, "capabilities": ()},
            "max_user_namespaces=0 would be the caller's own: add Namespace.USER",
        ),
        (
            {"namespaces": Namespace.USER, "max_user_namespaces": 0},
            "could be raised again by the program",
        ),
        (
            {
                "namespaces": Namespace.USER,
                "max_user_namespaces": 0,
                "capabilities": ["sys_resource"],
            },
            "could be raised again by the program",
        ),
        ({"namespaces": Namespace.USER, "max_user_namespaces": -1}, "max_user_namespaces=-1"),
        (
            {"max_inotify_instances": 1, "capabilities": ()},
            "max_inotify_instances=1 would be the caller's own: add Namespace.USER",
        ),
        (
            {"namespaces": Namespace.USER, "max_inotify_instances": 1},
            "max_inotify_instances could be raised again by the program",
        ),
        ({"read_only_paths": ["/a/../b"]}, "read_only_paths='/a/../b' contains '..'"),
        ({"network": [Veth(), Device("eth0")]}, "two devices have one name, of lo, eth0, eth0"),
        ({"network": [Veth("lo")]}, "two devices have one name, of lo, lo"),
        ({"network": [UserNetwork(), UserNetwork("b")]}, "one UserNetwork reaches all"),
        ({"mounts": [Dir("/x")]}, "Dir(target='/x', mode=493) would be made in the caller's own"),
        ({"mounts": [Bind("/a"), Dir("/a/x")], "root": "/r"}, "is not the container's own"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_value_that_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Container(**fields)


def test_a_mask_may_hide_the_callers_directory() -> None:
    assert Container(mounts=(), masked_paths=["/home"]).may_hide_cwd
    assert not Container(mounts=(), read_only_paths=["/home"]).may_hide_cwd


def test_fields_are_keywords_only() -> None:
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        Container(USUAL)  # type: ignore[call-arg]


def test_containers_are_values() -> None:
    box = Container(hostname="a", mounts=[Proc()], limits=Limits(pids_max=1))
    assert box == Container(hostname="a", mounts=(Proc(),), limits=Limits(pids_max=1))
    assert box != Container(hostname="b", mounts=(Proc(),), limits=Limits(pids_max=1))
    assert len({box, dataclasses.replace(box)}) == 1


def test_container_cannot_be_changed() -> None:
    box = Container()
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'root'"):
        box.root = "/srv"  # type: ignore[misc]
