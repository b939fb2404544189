"""What the options of the command line make of a container."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from pyns import (
    Bind,
    Container,
    Dev,
    Device,
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
    UserNetwork,
    Veth,
    seccomp,
)
from pyns.cgroups import Cgroup
from pyns.cli import _COMMANDS, pyns
from pyns.cli.enter import command as enter
from pyns.cli.options import (
    TYPES_OF_MOUNTS,
    TYPES_OF_NETWORKS,
    ContainerOption,
    options,
    seconds,
)
from pyns.cli.program import given_of
from pyns.cli.run import command as run
from pyns.container import DEFAULT_NAMESPACES
from pyns.description import MOUNTS, NETWORKS

# fields without an option, and why
WITHOUT: dict[str, str] = {}


def container(*words: str) -> Container:
    return given_of(run.make_context("run", [*words, "--", "true"])).container()


def test_each_field_of_container_and_limits_has_its_option() -> None:
    there = {name for option in options() for name in option.sets}
    wanted = {f.name for f in fields(Container)} | {f"limits.{f.name}" for f in fields(Limits)}
    missing = wanted - there - WITHOUT.keys() - {"limits"}
    assert missing == set()
    assert there - wanted == {
        f"process.{name}" for name in ("user", "group", "extra_groups", "cwd", "umask")
    }


def test_help_names_the_types_that_there_are() -> None:
    assert tuple(MOUNTS) == TYPES_OF_MOUNTS
    assert tuple(NETWORKS) == TYPES_OF_NETWORKS


def test_no_two_options_have_one_name() -> None:
    names = [name for param in run.params for name in (*param.opts, *param.secondary_opts)]
    assert len(names) == len(set(names))


def test_every_option_is_explained_and_named_for_shell_completion() -> None:
    for param in run.params:
        assert isinstance(param, click.Option)
        assert param.help
    assert all(isinstance(o, ContainerOption) and o.section for o in options())


def test_no_option_makes_the_default_container() -> None:
    box = container()
    assert box == Container(mounts=[Proc()])
    assert str(box.plan(["true"])) == str(Container().plan(["true"]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--hostname box --domainname nis", {"hostname": "box", "domainname": "nis"}),
        ("--share net,ipc", {"namespaces": DEFAULT_NAMESPACES & ~(Namespace.NET | Namespace.IPC)}),
        ("--unshare time", {"namespaces": DEFAULT_NAMESPACES | Namespace.TIME}),
        ("--net host", {"namespaces": DEFAULT_NAMESPACES & ~Namespace.NET}),
        ("--net none", {}),
        ("--net user", {"network": [UserNetwork()]}),
        ("--net /run/netns/x", {"namespaces": DEFAULT_NAMESPACES & ~Namespace.NET,
                                "join": {Namespace.NET: "/run/netns/x"}}),
        ("--join uts,ipc=7", {"namespaces": DEFAULT_NAMESPACES & ~(Namespace.UTS | Namespace.IPC),
                              "join": {Namespace.UTS | Namespace.IPC: 7}}),
        ("--network type=veth,addresses=10.0.0.2/24,gateway=10.0.0.1",
         {"network": [Veth(addresses="10.0.0.2/24", gateway="10.0.0.1")]}),
        ("--network type=device,device=eth1", {"network": [Device("eth1")]}),
        ("--network type=user,tcp_ports=8080:80+1:2",
         {"network": [UserNetwork(tcp_ports={8080: 80, 1: 2})]}),
        ("--no-loopback", {"loopback": False}),
        ("--monotonic 5 --boottime 7.5", {"namespaces": DEFAULT_NAMESPACES | Namespace.TIME,
                                          "time_offsets": {"monotonic": 5.0, "boottime": 7.5}}),
        ("--root /srv --read-only --nosuid --nodev",
         {"root": "/srv", "read_only": True, "nosuid": True, "nodev": True}),
        ("--root type=tmpfs,size=1M", {"root": Tmpfs("/", size="1M")}),
        ("--mask /a --mask /b --read-only-path /c",
         {"masked_paths": ("/a", "/b"), "read_only_paths": ("/c",)}),
        ("--propagation slave", {"propagation": "slave"}),
        ("--uid 0 --gid 0", {"namespaces": DEFAULT_NAMESPACES | Namespace.USER,
                             "uid_map": IdMap.current("uid", 0),
                             "gid_map": IdMap.current("gid", 0)}),
        ("-r", {"namespaces": DEFAULT_NAMESPACES | Namespace.USER,
                "uid_map": IdMap.current("uid", 0), "gid_map": IdMap.current("gid", 0)}),
        ("--uid-map 0:100000:10 --gid-map 0:1:2 --gid-map 2:8:1",
         {"namespaces": DEFAULT_NAMESPACES | Namespace.USER,
          "uid_map": [IdMap(0, 100000, 10)], "gid_map": [IdMap(0, 1, 2), IdMap(2, 8)]}),
        ("-c --capabilities none --max-user-namespaces 0 --max-inotify-instances 8",
         {"namespaces": DEFAULT_NAMESPACES | Namespace.USER, "uid_map": IdMap.current("uid"),
          "gid_map": IdMap.current("gid"), "capabilities": (), "max_user_namespaces": 0,
          "max_inotify_instances": 8}),
        ("--cap-drop ALL --cap-add net_raw,CAP_CHOWN", {"capabilities": ["net_raw", "chown"]}),
        ("--no-new-privileges --seccomp default",
         {"no_new_privileges": True, "seccomp": seccomp.default()}),
        ("--landlock read=/usr:/etc,connect_tcp=443:80,scope_signals",
         {"landlock": Landlock(read=["/usr", "/etc"], connect_tcp=[443, 80], scope_signals=True)}),
        ("--new-session --new-keyring --reset-signals --die-with-parent --core-scheduling --init",
         {"new_session": True, "new_keyring": True, "reset_signals": True,
          "die_with_parent": True, "core_scheduling": True, "init": True}),
        ("--apparmor a --selinux-label b", {"apparmor_profile": "a", "selinux_label": "b"}),
        ("--nice 5 --oom-score-adj -5 --cpu-affinity 0-2,7 --timer-slack-ns 9",
         {"nice": 5, "oom_score_adj": -5, "cpu_affinity": [0, 1, 2, 7], "timer_slack_ns": 9}),
        ("--rlimit nofile=64 --ulimit core=0:unlimited",
         {"rlimits": {"nofile": 64, "core": (0, "unlimited")}}),
        ("--clearenv -e A=b=c --setenv X y --unsetenv NOT", {"env": {"A": "b=c", "X": "y"}}),
    ],
)  # fmt: skip
def test_options_say_what_the_fields_say(words: str, expected: dict[str, Any]) -> None:
    expected = {"mounts": [Proc()]} | expected
    assert container(*words.split()) == Container(**expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m 100M --memory-high 90M --memory-low 1M --memory-min 0 --memory-swap-max 0",
         Limits(memory_max="100M", memory_high="90M", memory_low="1M", memory_min=0,
                memory_swap_max=0)),
        ("--memory max --pids max --cpus max", Limits(memory_max="max", pids_max="max",
                                                      cpu_max="max")),
        ("--pids 5 --cpus 0.5 --cpu-max-burst 0.1 --cpu-weight 7",
         Limits(pids_max=5, cpu_max=0.5, cpu_max_burst=0.1, cpu_weight=7)),
        ("--cpu-idle --memory-oom-group", Limits(cpu_idle=True, memory_oom_group=True)),
        ("--cpuset-cpus 0-1 --cpuset-mems 0", Limits(cpuset_cpus="0-1", cpuset_mems="0")),
        ("--io-weight 50 --hugetlb-max 2MB=1G", Limits(io_weight=50, hugetlb_max={"2MB": "1G"})),
        ("--limit memory.swap.high=1M --limit pids.max=3",
         Limits(extra={"memory.swap.high": "1M", "pids.max": "3"})),
        ("--io-max 7:0,rbps=10M,wiops=3", Limits(io_max=[IoMax("7:0", rbps="10M", wiops=3)])),
    ],
)  # fmt: skip
def test_options_say_what_the_limits_say(words: str, expected: Limits) -> None:
    assert container(*words.split()).limits == expected


def test_devices_are_rules_of_several_words() -> None:
    box = container("--device", "/dev/null rw", "--device", "c 1:* r")
    assert box.limits == Limits(devices=["/dev/null rw", "c 1:* r"])


def test_mounts_are_in_the_order_of_the_command_line() -> None:
    box = container(
        *("--tmpfs", "/a:size=1M,mode=755", "--bind", "/usr", "/a/usr", "--tmpfs", "/b"),
        *("--ro-bind", "/etc", "/a/etc", "--dev", "/dev", "--symlink", "usr/bin", "/a/bin"),
        *("-v", "/usr:/c:ro", "--mount", "type=overlay,target=/o,lower=/usr:/etc,size=4M"),
        *("--dir", "/b/x", "--mount", "type=file,target=/f,content=hello"),
    )
    assert box.mounts == (
        Proc(),
        Tmpfs("/a", size="1M", mode=0o755),
        Bind("/usr", "/a/usr"),
        Tmpfs("/b"),
        Bind("/etc", "/a/etc", read_only=True),
        Dev(),
        Symlink("/a/bin", "usr/bin"),
        Bind("/usr", "/c", read_only=True),
        Overlay("/o", lower=["/usr", "/etc"], size="4M"),
        Dir("/b/x"),
        File("/f", "hello"),
    )


def test_no_proc_leaves_the_default_out_and_not_what_is_given() -> None:
    assert container("--no-proc").mounts == ()
    assert container("--no-proc", "--proc", "/p").mounts == (Proc("/p"),)
    assert container("--share", "pid").mounts is None or container("--share", "pid").mounts == ()


def test_last_one_counts_of_what_can_be_said_once() -> None:
    assert container("--net", "user", "--hostname", "a", "--net", "host", "--hostname", "b") == (
        container("--net", "host", "--hostname", "b")
    )


def test_sandbox_is_what_the_other_options_change() -> None:
    box = container("--hostname", "x", "--tmpfs", "/b", "--sandbox", "--cap-add", "chown")
    preset = Container.sandbox()
    assert (box.hostname, box.capabilities, box.seccomp) == ("x", ("cap_chown",), preset.seccomp)
    assert box.mounts == (*(preset.mounts or ()), Tmpfs("/b"))
    assert box.namespaces == preset.namespaces


def test_options_change_a_file_and_add_to_its_lists(tmp_path: Path) -> None:
    base = Container(
        mounts=[Tmpfs("/a")], limits=Limits(pids_max=3, memory_max=1), rlimits={"core": 0},
        masked_paths=["/x"], env={"A": "1"}, init=True,
    )  # fmt: skip
    words = "--tmpfs /b -m 5 --rlimit nofile=9 --mask /y -e B=2 --no-init"
    file = tmp_path / "base.toml"
    file.write_text(base.to_toml())
    box = container(str(file), *words.split())
    assert box == Container(
        mounts=[Tmpfs("/a"), Tmpfs("/b")], limits=Limits(pids_max=3, memory_max=5),
        rlimits={"core": 0, "nofile": 9}, masked_paths=["/x", "/y"], env={"A": "1", "B": "2"},
    )  # fmt: skip


def test_environment_is_the_callers_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSIDE", "1")
    assert container().env is None
    assert ("OUTSIDE", "1") in (container("-e", "X=2").env or ())
    assert container("--clearenv", "-e", "OUTSIDE").env == (("OUTSIDE", "1"),)
    assert "NOT_OUTSIDE" not in dict(container("-e", "NOT_OUTSIDE").env or ())
    assert ("OUTSIDE", "1") not in (container("--unsetenv", "OUTSIDE").env or ())


@pytest.mark.usefixtures("limits")
def test_cgroup_is_one_that_is_there() -> None:
    with Cgroup.create("cli-test") as group:
        box = container("--cgroup", "cli-test", "-m", "1M")
        assert box.cgroup is not None
        assert box.cgroup.paths == group.paths
        box.cgroup.close()


def test_user_has_the_groups_of_that_user_and_no_others() -> None:
    context = run.make_context("run", ["-u", "0", "--", "true"])
    assert given_of(context).process == {"user": 0, "group": 0, "extra_groups": ()}
    context = run.make_context("run", ["-u", "nobody:7", "--groups", "8,9", "--", "true"])
    assert given_of(context).process == {"user": "nobody", "group": 7, "extra_groups": (8, 9)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mount type=nothing", "has the type 'nothing'; there are bind"),
        ("--mount target=/x", "no type"),
        ("--mount type=tmpfs,target=/x,soze=1", "soze"),
        ("--tmpfs relative", "not absolute"),
        ("-v /a", "SOURCE:TARGET"),
        ("--uid-map 0:1:2:3", "INSIDE:OUTSIDE:COUNT"),
        ("--timeout soon", "no duration"),
        ("--limit memory.high", "NAME=VALUE"),
        ("--landlock no=/", "landlock has no 'no'; there are read, write"),
        ("--tmpfs /x:no=1", "tmpfs has no 'no'; there are target, size"),
        ("--net bridge", "--net: 'bridge' is not none, host, user, a pid or a path"),
        ("--namespaces pod", "unknown namespace 'pod'"),
        ("--seccomp /does/not/exist", "/does/not/exist: No such file or directory (ENOENT)"),
        ("--cap-drop chown,chwon", "no capability 'chwon'"),
        ("--cap-add chwon", "no capability 'chwon'"),
        ("--share pid,pid=4", "unknown namespace"),
        ("-u does-not-exist", "no user 'does-not-exist'"),
    ],
)
def test_what_is_no_value_is_told_with_its_option(words: str, said: str) -> None:
    with pytest.raises((click.UsageError, ValueError)) as refused:
        container(*words.split())
    error = refused.value
    assert said in (error.format_message() if isinstance(error, click.UsageError) else str(error))


@pytest.mark.parametrize("words", ["0", "-1", "1x", "", "1 2"])
def test_what_is_no_duration_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds(words)


def test_program_is_what_follows_the_dashes_or_the_options(tmp_path: Path) -> None:
    def parts(*words: str) -> tuple[str | None, list[str]]:
        context = run.make_context("run", list(words))
        return context.meta["first"], context.meta["program"]

    assert parts("box.toml", "--init", "--", "a", "-b", "--", "c") == (
        "box.toml",
        ["a", "-b", "--", "c"],
    )
    assert parts("--init", "a", "-b", "--init") == (None, ["a", "-b", "--init"])
    assert parts("--", "a") == (None, ["a"])
    # what can't be executed can only be a container, also without dashes
    (tmp_path / "box.toml").touch()
    file, directory = str(tmp_path / "box.toml"), f"{tmp_path}/"
    assert parts(file, "--init", "a") == (file, ["a"])
    assert parts("--init", directory) == (directory, [])
    assert parts(".") == (".", [])
    with pytest.raises(click.UsageError, match="all of the program stands after --"):
        parts("git", "log", "--", "file")


def test_enter_has_only_options_that_are_about_the_program() -> None:
    names = {name for param in enter.params for name in param.opts}
    assert {"--user", "--workdir", "--env", "--umask", "--timeout", "--tty"} <= names
    assert "--root" not in names
    context = enter.make_context("enter", ["7", "ps", "-ef"])
    assert (context.meta["first"], context.meta["program"]) == ("7", ["ps", "-ef"])


@pytest.mark.parametrize("name", _COMMANDS)
def test_each_command_has_help_with_examples(name: str) -> None:
    context = click.Context(pyns, info_name="pyns")
    command = pyns.get_command(context, name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=f"pyns {name}", parent=context))
    assert "Examples:" in text
    assert f"pyns {name}" in text
    assert command.get_short_help_str(limit=100) == _COMMANDS[name]


def test_paths_of_binds_are_absolute_where_the_caller_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert container("--bind", "x", "/x").mounts == (
        Proc(),
        Bind(os.path.join(tmp_path, "x"), "/x"),
    )
