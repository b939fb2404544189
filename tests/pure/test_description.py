"""A container written as TOML or JSON is the same one when it is read again, field by field."""

from __future__ import annotations

import json
import os
import tomllib
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Device,
    Devpts,
    Dir,
    Fd,
    File,
    IdMap,
    IoMax,
    Landlock,
    Limits,
    Mqueue,
    Namespace,
    Overlay,
    Proc,
    Symlink,
    Sysfs,
    Tmpfs,
    UserNetwork,
    Veth,
    seccomp,
)
from pyns.capabilities import NAMES
from pyns.cgroups import Cgroup, Hierarchy
from pyns.description import MOUNTS, NETWORKS, READERS, to_table
from pyns.rlimits import NUMBERS

# any characters but NUL, and but those that only Python has (lone surrogates come as bytes)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
octets = st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b)
path = text | octets
# none of ".", "..", "/", and each another place
names = st.text(st.characters(codec="utf-8", exclude_characters="\0/.="), min_size=1, max_size=9)
target = names.map("/t{}".format) | octets.map(lambda b: b"/" + b.replace(b"/", b"-") + b"x")
absolute = names.map("/{}".format)
small = st.integers(0, 2**31 - 1)
flag = st.booleans()
size = st.integers(1, 2**40) | st.sampled_from(["64M", "1.5G"])
mode = st.integers(0, 0o777)
pairs = st.dictionaries(names, text, max_size=3)
ID_MAPS = st.just([IdMap(0, 1000), IdMap(1, 100000, 65536)])
HIERARCHIES = st.lists(
    st.builds(Hierarchy, st.just(1), st.just(("memory",)), absolute, st.just("/"), st.just("")),
    max_size=2,
).map(tuple)

MOUNT_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "bind": st.builds(Bind, path, target, flag, flag, flag, flag, flag,
                      st.none() | ID_MAPS | st.just(Namespace.USER)),
    "cgroup": st.builds(CgroupFs, target, st.none() | HIERARCHIES),
    "dev": st.builds(
        Dev, target, st.just(("fuse",)), flag, size, size, small.map(lambda n: n + 1),
        st.none() | small, st.none() | st.integers(1, 99), flag,
    ),
    "devpts": st.builds(Devpts, target, mode, st.none() | small, mode, st.integers(1, 99)),
    "dir": st.builds(Dir, target, mode),
    "file": st.builds(File, target, text | st.binary(), mode, flag),
    "mqueue": st.builds(Mqueue, target),
    "overlay": st.builds(
        Overlay, target, st.lists(path, min_size=1, max_size=3), size=st.none() | size,
        userxattr=flag, read_only=flag, nosuid=flag, nodev=flag, noexec=flag,
    ),
    "proc": st.builds(Proc, target, st.sampled_from([None, 0, 2, "ptraceable"]),
                      st.sampled_from([None, "pid"])),
    "symlink": st.builds(Symlink, target, path),
    "sysfs": st.builds(Sysfs, target, flag),
    "tmpfs": st.builds(Tmpfs, target, st.none() | size, mode, st.none() | st.integers(1, 9), flag,
                       flag),
}  # fmt: skip
NETWORK_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "device": st.builds(Device, st.just("eth1"), st.just("eth0"), st.just("10.0.0.1/24")),
    "user": st.builds(UserNetwork, host_loopback=flag, tcp_ports=st.just({80: 8080})),
    "veth": st.builds(
        Veth, st.just("eth0"), st.just(["10.0.0.1/24", "fd00::1/64"]), st.just("10.0.0.9"),
        st.just("out"), st.just("10.0.0.2/24"), st.just("br0"), st.integers(68, 65535),
    ),
}  # fmt: skip
LIMITS: dict[str, st.SearchStrategy[Any]] = {
    **{
        f"memory_{each}": size | st.just("max")
        for each in ("max", "high", "low", "min", "swap_max")
    },
    "memory_oom_group": flag,
    "pids_max": st.integers(1, 2**22) | st.just("max"),
    "cpu_max": st.floats(0.01, 10**6) | st.just("max"),
    "cpu_max_burst": st.floats(0, 0.01),
    "cpu_weight": st.integers(1, 10000),
    "cpu_idle": flag,
    "cpuset_cpus": st.just("0-3,6"),
    "cpuset_mems": st.just("0"),
    "io_max": st.just([IoMax("7:0", rbps="10M", wiops="max")]),
    "io_weight": st.integers(1, 10000) | st.just({"7:0": 5, "7:1": "default"}),
    "hugetlb_max": st.dictionaries(st.sampled_from(["2MB", "1GB"]), size),
    "devices": st.just(["c 1:3 rwm"]) | st.just("max") | st.just([]),
    "extra": st.just({"memory.swap.high": "1M"}),
}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "namespaces": st.just(~Namespace(0)),
    "root": path | st.builds(Tmpfs, st.just("/"), st.none() | size),
    "mounts": st.lists(st.one_of(*MOUNT_STRATEGIES.values()), max_size=3),
    "read_only": flag,
    "nosuid": flag,
    "nodev": flag,
    "masked_paths": st.lists(target, max_size=3),
    "read_only_paths": st.lists(target, max_size=3),
    "propagation": st.sampled_from(["private", "slave", "shared", "unbindable"]),
    "hostname": names | st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b),
    "domainname": names,
    "loopback": st.none() | flag,
    "network": st.lists(st.one_of(*NETWORK_STRATEGIES.values()), max_size=1),
    "join": st.just({}),  # see below
    "uid_map": st.none() | ID_MAPS,
    "gid_map": st.none() | ID_MAPS,
    "max_user_namespaces": st.none() | small,
    "max_inotify_instances": st.none() | small,
    "time_offsets": st.dictionaries(
        st.sampled_from(["monotonic", "boottime"]), st.integers(-9, 9) | st.floats(-1e9, 1e9)
    ),
    "cgroup": st.none(),  # see below
    "limits": st.none() | st.just(Limits(memory_max="1G")),  # see below
    "rlimits": st.dictionaries(
        st.sampled_from(sorted(NUMBERS)), small | st.just("unlimited") | st.just((1, "unlimited"))
    ),
    "capabilities": st.lists(st.sampled_from(NAMES[:20])).filter(lambda c: "sys_resource" not in c),
    "no_new_privileges": st.just(True),
    "seccomp": st.none() | st.just(seccomp.default()) | st.binary(min_size=8, max_size=8),
    "landlock": st.none()
    | st.builds(
        Landlock, read=st.none() | st.lists(absolute), write=st.lists(absolute),
        bind_tcp=st.none() | st.lists(st.integers(0, 65535)), scope_signals=flag,
    ),
    "new_session": flag,
    "new_keyring": flag,
    "reset_signals": flag,
    "die_with_parent": flag,
    "oom_score_adj": st.none() | st.integers(-1000, 1000),
    "nice": st.none() | st.integers(-20, 19),
    "cpu_affinity": st.none() | st.lists(st.integers(0, 99), min_size=1),
    "timer_slack_ns": st.none() | st.integers(0, 2**63 - 1),
    "core_scheduling": flag,
    "apparmor_profile": st.none() | st.just("profile"),
    "selinux_label": st.none() | st.just("a:b:c"),
    "env": st.none() | pairs,
    "init": flag,
}  # fmt: skip

# the guard of the tests looks once for all examples of one test
many = settings(
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(box: Container) -> None:
    assert Container.from_toml(box.to_toml()) == box
    assert Container.from_json(box.to_json()) == box
    assert tomllib.loads(box.to_toml()) == json.loads(box.to_json())


def test_each_field_and_each_type_is_tried() -> None:
    assert list(FIELDS) == [field.name for field in fields(Container)]
    assert MOUNT_STRATEGIES.keys() == MOUNTS.keys()
    assert NETWORK_STRATEGIES.keys() == NETWORKS.keys()
    assert LIMITS.keys() == {field.name for field in fields(Limits)}


def test_fields_of_other_types_than_toml_has_are_read() -> None:
    classes = [Container, Limits, *MOUNTS.values(), *NETWORKS.values()]
    special = ("IdMap", "Namespace", "Cgroup", "Hierarchy", "Limits", "IoMax", "Landlock", "Mount")
    needed = {
        field.name
        for cls in classes
        for field in fields(cls)
        if any(name in str(field.type) for name in special)
    }
    assert needed <= READERS.keys()


@pytest.mark.parametrize("name", FIELDS)
@many
@given(data=st.data())
def test_field(name: str, data: st.DataObject) -> None:
    base: dict[str, Any] = {
        "namespaces": ~Namespace(0),
        "no_new_privileges": True,
        "capabilities": (),
        "root": "/srv",
    }
    made: list[Container] = []
    with suppress(*([ValueError] if name == "mounts" else [])):  # two that contradict each other
        made.append(Container(**base | {name: data.draw(FIELDS[name])}))
    for box in made:
        check(box)


@pytest.mark.parametrize("name", LIMITS)
@many
@given(data=st.data())
def test_limit(name: str, data: st.DataObject) -> None:
    check(Container(limits=Limits(**{name: data.draw(LIMITS[name])})))


@many
@given(
    box=st.fixed_dictionaries(
        {}, optional={k: v for k, v in FIELDS.items() if k not in ("mounts", "seccomp", "landlock")}
    )
)
def test_fields_together(box: dict[str, Any]) -> None:
    base: dict[str, Any] = {"namespaces": ~Namespace(0), "capabilities": ()}
    check(Container(**base | box))


def test_default_is_nothing() -> None:
    assert Container().to_toml() == ""
    assert Container.from_toml("") == Container() == Container.from_json("{}")


def test_preset_for_code_that_nobody_trusts() -> None:
    box = Container.sandbox(limits=None)
    check(box)
    assert 'seccomp = "default"' in box.to_toml()


@pytest.mark.parametrize("target", ["/run/netns/x", b"/run/\xff", 4711])
def test_namespaces_to_join(target: Any) -> None:
    check(Container(namespaces=Namespace(0), join={Namespace.NET: target}))


def test_process_whose_namespaces_are_joined_is_of_several_kinds() -> None:
    box = Container(namespaces=Namespace(0), join={Namespace.NET | Namespace.UTS: 7})
    assert to_table(box)["join"] == {"uts, net": 7}
    check(box)


def test_open_file_can_not_be_written_down() -> None:
    with pytest.raises(ValueError, match="open file"):
        Container(namespaces=Namespace(0), join={Namespace.NET: Fd(0)}).to_toml()


@pytest.mark.usefixtures("limits")
def test_cgroup_is_named_as_it_is_opened() -> None:
    with Cgroup.create("description/one") as group:
        table = to_table(Container(cgroup=group))
        assert table == {"cgroup": "description/one"}
        again = Container.from_json(json.dumps(table)).cgroup
        assert again is not None
        assert again.paths == group.paths
        again.close()


def test_cgroup_without_a_name_can_not_be_written_down() -> None:
    group = Cgroup.of(1)  # the caller's own may be below the default parent
    try:
        with pytest.raises(ValueError, match="no name"):
            Container(cgroup=group).to_toml()
    finally:
        group.close()


def test_path_of_the_callers_types() -> None:
    box = Container(root=os.fsdecode(b"/srv/\xff"), mounts=[Bind("/a", "/b")])
    assert Container.from_toml(box.to_toml()).root == b"/srv/\xff"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("hostnam = 'x'", "unknown hostnam; there are namespaces, root"),
        ("hostname = ''", "hostname is empty"),
        ("limits = {memory = 1}", "limits: unknown memory; there are memory_max"),
        ("limits = {memory_max = '1x'}", "memory_max='1x' is not a size"),
        ("limits = 5", "limits=5 is not a table"),
        ("namespaces = ['pod']", "namespaces: unknown namespace 'pod'"),
        (
            "mounts = [{type = 'tmpfs', target = '/a'}, {type = 'tmp'}]",
            r"mounts\[1\].* the type 'tmp'",
        ),
        ("mounts = [{type = 'tmpfs', target = 'a'}]", r"^mounts\[0\]: target='a' is not absolute"),
        ("mounts = [{type = 'bind', source = '/a', ro = true}]", r"mounts\[0\]: unknown ro"),
        ("mounts = 'x'", "mounts: 'x' is not a list"),
        ("mounts = ['x']", r"mounts\[0\]='x' has no type"),
        ("network = [{type = 'tmpfs'}]", "there are device, user, veth"),
        ("uid_map = [[0]]", "uid_map.*outside"),
        ("seccomp = {base64 = '!'}", "no base64"),
        ("init = 1", "init=1 is not a bool"),
        ("=", "Invalid|line 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Container.from_toml(document)


def test_defaults_that_are_not_none_can_be_given() -> None:
    for field in fields(Container):
        assert field.default is not MISSING
