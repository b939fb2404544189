"""Whatever is asked for is refused, or makes a plan; and what the kernel says is read right."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pyns import (
    Bind,
    Container,
    Dev,
    Dir,
    File,
    IdMap,
    IoMax,
    Landlock,
    Limits,
    Namespace,
    Overlay,
    Proc,
    Symlink,
    Tmpfs,
    cgroups,
    marshal,
    seccomp,
)
from pyns.cgroups import IoStats, Stats, hierarchy, stats_v1, stats_v2, v1, v2
from pyns.cgroups.stats import ALL_FIELDS, chosen, collect
from pyns.sizes import parse_size

REFUSED = (ValueError, TypeError)
# with PYNS_WHOLE=1 in the environment, a hundred times as many
EXAMPLES = 5000 if "PYNS_WHOLE" in os.environ else 50
settings.register_profile("pyns", database=None, deadline=None, max_examples=EXAMPLES)
settings.load_profile("pyns")

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.integers() | st.text(max_size=4), max_size=3),
)
path = st.sampled_from(["/", "/a", "/a/b", "/a/../b", "a", "", "/\0", "/ü", b"/\xff", "/proc", "."])
size = st.sampled_from([0, 1, 4096, "1M", "1.5GiB", "x", -1, "max", 2**63, 2**64])
flag = st.booleans()
mount = st.one_of(
    st.builds(lambda *a, **k: ("Bind", a, k), path, path, read_only=flag, recursive=flag),
    st.builds(lambda *a, **k: ("Tmpfs", a, k), path, size=size, noexec=flag),
    st.builds(lambda *a, **k: ("Overlay", a, k), path, lower=st.lists(path, max_size=2)),
    st.builds(lambda *a, **k: ("File", a, k), path, st.text(max_size=5)),
    st.builds(lambda *a, **k: ("Dir", a, k), path),
    st.builds(lambda *a, **k: ("Symlink", a, k), path, path),
    st.builds(lambda *a, **k: ("Proc", a, k)),
    st.builds(lambda *a, **k: ("Dev", a, k), read_only=flag),
)
CLASSES = {c.__name__: c for c in (Bind, Tmpfs, Overlay, File, Dir, Symlink, Proc, Dev)}
number = st.integers(-2, 5) | st.sampled_from([1000, 65534, 2**32 - 2, 2**32 - 1, 2**32])
id_map = st.lists(st.tuples(number, number, number), max_size=3)


def few(of: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of them: of many at once one is refused, always."""
    names = st.lists(st.sampled_from(sorted(of)), unique=True, max_size=4)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({n: of[n] for n in chosen}))


fields = few(
    {
        "namespaces": st.sampled_from([Namespace(0), ~Namespace(0), *Namespace]) | junk,
        "root": path | junk,
        "mounts": st.lists(mount, max_size=4),
        "read_only": flag | junk,
        "masked_paths": st.lists(path, max_size=2) | junk,
        "read_only_paths": st.lists(path, max_size=2),
        "propagation": st.sampled_from(["private", "slave", "shared", "x"]) | junk,
        "hostname": st.text(max_size=70) | junk,
        "domainname": st.text(max_size=70),
        "loopback": flag | junk,
        "uid_map": id_map,
        "gid_map": id_map,
        "max_user_namespaces": number | junk,
        "time_offsets": st.dictionaries(
            st.sampled_from(["monotonic", "boottime", "x"]), st.floats() | number, max_size=2
        ),
        "rlimits": st.dictionaries(
            st.sampled_from(["core", "nofile", "x"]), number | st.tuples(number, number), max_size=2
        )
        | junk,
        "capabilities": st.lists(st.sampled_from(["chown", "CAP_KILL", "x"]), max_size=2) | junk,
        "no_new_privileges": flag | junk,
        "seccomp": st.sampled_from([seccomp.deny(["ptrace"]), b"", b"x", None]),
        "new_session": flag,
        "die_with_parent": flag,
        "oom_score_adj": number | junk,
        "nice": number,
        "cpu_affinity": st.lists(number, max_size=3) | junk,
        "timer_slack_ns": number,
        "env": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3) | junk,
        "init": flag | junk,
    },
)


def made(asked: dict[str, Any]) -> Container:
    """Return the container; what it consists of may refuse as well."""
    ready = dict(asked)
    if "mounts" in ready:
        ready["mounts"] = [CLASSES[name](*a, **k) for name, a, k in ready["mounts"]]
    for name in ("uid_map", "gid_map"):
        if name in ready:
            ready[name] = [IdMap(*numbers) for numbers in ready[name]]
    return Container(**ready)


@given(fields, st.lists(st.text(max_size=5), min_size=1, max_size=3))
def test_a_container_is_refused_or_has_a_plan_that_can_be_told_and_packed(
    asked: dict[str, Any], args: list[str]
) -> None:
    try:
        box = made(asked)
        plan = box.plan(args)
    except REFUSED:
        return
    assert hash(box) == hash(made(asked))
    assert box == made(asked)
    assert len(str(plan).splitlines()) == len(plan)
    assert plan.explain().isprintable() or "\n" in plan.explain()
    assert [step["kind"] for step in json.loads(plan.to_json())] == [step.kind for step in plan]
    steps, _ = marshal.pack(plan)
    assert len(steps) == marshal._STEP.size * len(plan)


limit = few(
    {
        "memory_max": size | junk,
        "memory_high": size,
        "memory_low": size,
        "memory_swap_max": size | junk,
        "pids_max": number | st.just("max") | junk,
        "cpu_max": st.floats() | number | st.just("max") | junk,
        "cpu_max_burst": st.floats(),
        "cpu_weight": number | junk,
        "cpu_idle": flag | junk,
        "cpuset_cpus": st.sampled_from(["0-3", "0,2", "", "x", "3-1", "max"]) | st.lists(number),
        "cpuset_mems": junk,
        "io_weight": number | junk,
        "hugetlb_max": st.dictionaries(st.sampled_from(["2MB", "1GB", "x"]), size, max_size=2),
        "devices": st.lists(st.sampled_from(["c 1:3 rwm", "b *:* m", "x", "/dev/null r"])),
        "extra": st.dictionaries(
            st.sampled_from(["memory.max", "../x", "pids.max", "x"]), st.text(max_size=4) | number
        ),
    },
)


@pytest.mark.parametrize("version", [v1, v2], ids=["v1", "v2"])
@given(asked=limit)
def test_limits_are_refused_or_become_one_line_for_each_file(
    version: Any, asked: dict[str, Any]
) -> None:
    try:
        limits = Limits(**asked)
        writes = version.writes(limits)
    except REFUSED:
        return
    assert Limits(**asked) == limits
    for controller, file, value, *_ in writes:
        assert controller == file.split(".")[0] or controller in ("io", "blkio", "devices")
        assert "/" not in file
        assert "\0" not in value
        assert value.count("\n") <= 1 or file.startswith(("devices", "io", "blkio"))


@given(st.integers(0, 2**63 - 4096))
def test_a_size_is_itself(number_of_bytes: int) -> None:
    assert parse_size("x", number_of_bytes) == number_of_bytes
    assert parse_size("x", str(number_of_bytes)) == number_of_bytes


@given(st.text(max_size=8))
def test_a_size_of_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_size("x", text) <= 2**63 - 4096
    except ValueError:
        assume(True)


@given(junk, junk, junk)
def test_rules_and_disks_are_refused_or_values(one: Any, two: Any, three: Any) -> None:
    for make in (
        lambda: Landlock(read=one, write=two, bind_tcp=three),
        lambda: IoMax("254:0", rbps=one, wiops=two),
        lambda: IdMap(one, two, three),
        lambda: Namespace.parse(one),
    ):
        try:
            value = make()
        except (*REFUSED, AttributeError):
            continue
        assert value == make()


# what a directory may be called, also by those who want to be misread
name = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda text: text not in (".", ".."))
directory = st.lists(name, max_size=3).map(lambda names: "/" + "/".join(names))


def escaped(text: str) -> str:
    """Write a path as the kernel does (mangle_path of fs/seq_file.c)."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in text)


def files_of(mountinfo: str, cgroup: str) -> str:
    """Return a process filesystem in which these are of the calling process."""
    proc = tempfile.mkdtemp()
    Path(proc, "self").mkdir()
    for file, content in (("mountinfo", mountinfo), ("cgroup", cgroup)):
        Path(proc, "self", file).write_bytes(os.fsencode(content))
    return proc


@given(directory, directory, directory)
@example("/a\rb", "/", "/c\rd")
def test_a_hierarchy_is_where_it_is_whatever_it_is_called(
    mount_point: str, root: str, group: str
) -> None:
    assume("\n" not in group)  # the kernel refuses it in a group's name
    proc = files_of(
        "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
        f"31 22 0:28 {escaped(root)} {escaped(mount_point)} rw shared:9 - cgroup cgroup rw,pids\n",
        f"3:pids:{group}\n",
    )
    try:
        [(found, path)] = cgroups.current(proc=proc).items()
    finally:
        for file in ("mountinfo", "cgroup"):
            Path(proc, "self", file).unlink()
        Path(proc, "self").rmdir()
        Path(proc).rmdir()
    assert (found.version, found.controllers) == (1, ("pids",))
    assert (found.mount_point, found.root, path) == (mount_point, root, group)


@given(st.lists(st.text(max_size=40).map(lambda text: text.replace("\n", " ")), max_size=5))
def test_lines_of_other_mounts_are_passed_over(lines: list[str]) -> None:
    ours = "31 22 0:28 / /cg rw - cgroup2 cgroup2 rw"
    others = [line for line in lines if " - cgroup" not in line]
    mixed = (*(f"{line} - tmpfs tmpfs rw" for line in others), ours)
    found = hierarchy._parse(tuple(line for line in mixed if " - cgroup" in line), ("",))
    assert [h.mount_point for h in found] == ["/cg"]


class Texts(dict[str, str]):
    """The files of a group, by name."""

    def text(self, file: str) -> str | None:
        return self.get(file)

    def names(self) -> list[str]:
        return list(self)


EVERY = ("cpu", "cpuacct", "memory", "pids", "io", "blkio", "hugetlb")
count = st.integers(0, 2**63 - 1)


@given(count, count, count, st.dictionaries(st.sampled_from(["8:0", "254:16"]), count))
def test_figures_are_those_of_the_files(
    usage: int, kills: int, peak: int, read: dict[str, int]
) -> None:
    files = Texts(
        {
            "cpu.stat": f"usage_usec {usage}\nuser_usec 1\nnew_figure 5\n",
            "memory.events": f"low 0\nhigh 0\nmax 2\noom 3\noom_kill {kills}\n",
            "memory.peak": f"{peak}\n",
            "io.stat": "".join(f"{d} rbytes={n} wbytes=0 rios=1 wios=0\n" for d, n in read.items()),
        }
    )
    stats = Stats(**collect(chosen(stats_v2.SOURCES, EVERY, ALL_FIELDS), files))
    assert stats.cpu_seconds == usage / 10**6
    assert (stats.oom_kills, stats.memory_peak) == (kills, peak)
    assert stats.io == {
        device: IoStats(read_bytes=number, write_bytes=0, reads=1, writes=0)
        for device, number in read.items()
    }


@pytest.mark.parametrize("version", [stats_v1, stats_v2], ids=["v1", "v2"])
@given(data=st.data())
def test_empty_and_missing_files_are_unknown_figures(version: Any, data: st.DataObject) -> None:
    class Asked(Texts):
        def text(self, file: str) -> str | None:
            return data.draw(st.sampled_from([None, "", "\n"]), file)

    stats = Stats(**collect(chosen(version.SOURCES, EVERY, ALL_FIELDS), Asked()))
    assert stats.cpu_seconds is None
    assert stats.memory_peak is None
