"""What a program sees is exactly what the plan said, and else what the caller has.

`Expected` walks through a plan as the kernel does, beginning with what a program of the caller's
own sees. The two are compared as a whole: nothing more, nothing less.
"""

# ruff: noqa: ARG002  each kind of step is given to the method of its name

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pyns import (
    Bind,
    CgroupFs,
    Container,
    Dev,
    Devpts,
    Dir,
    File,
    IdMap,
    Limits,
    Mqueue,
    Namespace,
    Overlay,
    Plan,
    Proc,
    Symlink,
    Sysfs,
    Tmpfs,
    clone_into,
    kernel,
    masks,
    run,
    seccomp,
)
from pyns.capabilities import last_of_kernel
from pyns.mounts import Mount
from pyns.rlimits import INFINITY
from pyns.steps import Step
from pyns.syscalls import numbers

pytestmark = pytest.mark.usefixtures("namespaces")

View = dict[str, Any]
PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).with_name("view.py")
OVERFLOW = 65534  # an id that is not mapped
FILES = {Namespace.MOUNT: "mnt"}
FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}  # MOUNT_ATTR_...


@dataclass(frozen=True)
class Mounted:
    """A mount: where, what, with which of FLAGS and which propagation."""

    place: str
    fstype: str
    flags: frozenset[str]
    tags: frozenset[str] = frozenset()
    number: int = 0
    parent: int = 0


def mounted(fields: list[str]) -> Mounted:
    """Return a line of mountinfo (proc_pid_mountinfo(5))."""
    dash = fields.index("-")
    tags = frozenset(word.partition(":")[0] for word in fields[6:dash])
    flags = frozenset(fields[5].split(",")) & FLAGS.keys()
    return Mounted(fields[4], fields[dash + 1], flags, tags, int(fields[0]), int(fields[1]))


def listed(path: str) -> list[str]:
    return os.listdir(path) if os.path.isdir(path) else []


def below(path: str, place: str) -> bool:
    return place == "/" or path == place or path.startswith(f"{place}/")


class Table(list[Mounted]):
    """The mounts of a namespace."""

    def at(self, path: str) -> Mounted:
        """Return the one that a path lies on: the longest place, of those the uppermost."""
        longest = max(len(each.place) for each in self if below(path, each.place))
        found = [each for each in self if below(path, each.place) and len(each.place) == longest]
        covered = {each.parent for each in found}
        return next(each for each in found if len(found) == 1 or each.number not in covered)

    def copy_of(self, path: str, *, recursive: bool) -> list[Mounted]:
        """Return what open_tree(2) copies, with places below the path."""
        base = self.at(path)
        copied, inside = [replace(base, place="")], {base.number}
        for each in sorted(self, key=lambda each: each.number):
            if (
                recursive
                and each.parent in inside
                and each.place != path
                and below(each.place, path)
            ):
                copied.append(replace(each, place=each.place.removeprefix(path.rstrip("/"))))
                inside.add(each.number)
            elif each.parent in inside and each.place == path and each is not base:
                inside.add(each.number)
        return copied

    def attach(self, tree: list[Mounted], place: str) -> None:
        parent = self.at(place).number if self else 0
        number = max((each.number for each in self), default=0)
        for each in tree:
            number += 1
            self.append(
                replace(
                    each, place=place.rstrip("/") + each.place or "/", number=number, parent=parent
                )
            )
            parent = number if each.place == "" else parent


def words(attributes: int) -> frozenset[str]:
    return frozenset(word for word, bit in FLAGS.items() if attributes & bit)


def marked(tree: list[Mounted], attributes: int) -> list[Mounted]:
    return [replace(each, flags=each.flags | words(attributes)) for each in tree]


class Expected:
    """What a program will see that is started by a plan."""

    def __init__(self, outside: View, target: View | None = None) -> None:
        self.outside = outside
        self.target = target or {}
        self.view: View = json.loads(json.dumps(outside))
        # of each kind: that of the caller, of the target, or a new one
        self.view["namespaces"] = dict.fromkeys(outside["namespaces"], "the caller's")
        self.new = Namespace(0)
        self.joined = Namespace(0)
        self.caller = Table(map(mounted, outside["mounts"]))
        self.table = self.caller
        self.hand: list[Mounted] = []
        self.aside: list[tuple[list[Mounted], str]] = []
        self.empty: list[Mounted] = []
        self.made: list[str] = []  # names in the mount in hand
        self.source = ""
        self.layers: set[str] = set()  # names in what was set aside
        self.names: dict[str, set[str]] = {}  # of directories that are new
        self.has_init = self.takes_ids = self.has_loopback = False

    def walk(self, plan: Plan) -> View:
        for step in plan:
            getattr(self, step.kind, self.ignore)(step)
        self.conclude()
        return self.view

    def ignore(self, step: Step) -> None:
        """Steps that are seen by what they do to others."""
        assert step.kind in {
            "birth_in_cgroup", "enter_cgroup", "host_root", "hide_memory", "keep_capabilities",
            "restore_signal_mask", "duplicate", "close_range", "raise_ambient", "copy_mode",
            "default_signal", "reset_signals",
        }, step  # fmt: skip

    # namespaces and ids

    def clone(self, step: Any) -> None:
        self.new |= step.namespaces
        for kind in step.namespaces:
            self.view["namespaces"][FILES.get(kind, str(kind.name).lower())] = "new"
        if Namespace.MOUNT in step.namespaces:
            self.table = Table(self.table)
            self.caller = self.table if self.table else self.caller
        if Namespace.USER in step.namespaces:
            self.view |= {"uid_map": [], "gid_map": [], "securebits": 0}
            self.view["user_limits"] = dict.fromkeys(self.view["user_limits"], str(2**31 - 1))
            everything = (1 << last_of_kernel() + 1) - 1
            self.view["capabilities"] = {**self.view["capabilities"], "CapBnd": everything}

    unshare = clone_again = clone

    def show_cgroups(self, _: Any) -> None:
        self.new |= Namespace.CGROUP
        self.view["namespaces"]["cgroup"] = "new"

    def set_namespaces(self, step: Any) -> None:
        if step.path == "the template":
            self.table = Table()  # of which nothing is left after the pivot
            return
        self.joined |= step.namespaces
        for kind in step.namespaces:
            self.view["namespaces"][FILES.get(kind, str(kind.name).lower())] = "the target's"
        for kind, fields in (
            (Namespace.MOUNT, ("mounts", "root", "dev", "cwd")),
            (Namespace.UTS, ("hostname", "domainname")),
            (Namespace.NET, ("interfaces",)),
            (Namespace.CGROUP, ("cgroups",)),
            (Namespace.USER, ("uid_map", "gid_map", "setgroups", "user_limits", "capabilities")),
        ):
            if kind in step.namespaces:
                self.view |= {name: self.target[name] for name in fields}
        if Namespace.MOUNT in step.namespaces:
            self.table = self.caller = Table(map(mounted, self.target["mounts"]))

    def write_proc(self, step: Any) -> None:
        name = step.path.rpartition("/")[2]
        if name in ("uid_map", "gid_map"):
            self.view[name] = [line.split() for line in step.content.splitlines()]
        elif name == "setgroups":
            self.view[name] = step.content
        else:
            self.view["user_limits"][name] = step.content

    def wait_for_parent(self, step: Any) -> None:
        self.view["uid_map"] = [line.split() for line in step.uid_map]
        self.view["gid_map"] = [line.split() for line in step.gid_map]

    def set_uid(self, step: Any) -> None:
        self.view["uids"], self.takes_ids = [step.uid] * 3, True

    def set_gid(self, step: Any) -> None:
        self.view["gids"] = [step.gid] * 3

    def set_groups(self, step: Any) -> None:
        self.view["groups"] = sorted(step.gids)

    # mounts

    def set_propagation(self, step: Any) -> None:
        def tags(each: Mounted) -> set[str]:
            if step.propagation == "slave":  # of a mount that is shared outside
                return {"master"} if each.tags & {"shared", "master"} else set()
            return {step.propagation} - {"private"}

        self.table[:] = [replace(each, tags=frozenset(tags(each))) for each in self.table]

    def new_root(self, step: Any) -> None:
        path = os.path.realpath(os.fsdecode(step.path))
        self.table = Table()
        self.table.attach(self.caller.copy_of(path, recursive=True), "/")
        self.names["/"] = set(os.listdir(path))

    def new_mount(self, step: Any) -> None:
        fstype = step.fstype.decode()
        self.hand = [Mounted("", fstype, words(step.attributes))]
        self.made, self.source = [], ""

    def open_tree(self, step: Any) -> None:
        source = os.path.realpath(os.fsdecode(step.source))
        self.hand = self.caller.copy_of(source, recursive=step.recursive)
        if step.propagation is not None:
            self.hand = [replace(each, tags=frozenset()) for each in self.hand]
        self.made, self.source = [], source

    def open_within(self, step: Any) -> None:
        self.made = []

    def send_mount(self, step: Any) -> None:
        """It is mounted all the same."""

    def set_attributes(self, step: Any) -> None:
        self.hand = marked(self.hand, step.attributes)

    def set_aside(self, step: Any) -> None:
        self.aside.append((self.hand, self.source))

    def take_up(self, step: Any) -> None:
        (self.hand, self.source), self.made = self.aside.pop(0), []

    def stage(self, step: Any) -> None:
        for _ in step.places:
            self.layers |= set(listed(self.aside.pop(0)[1]))
        self.made = []

    def unstage(self, step: Any) -> None:
        self.made = []

    def attach_root(self, step: Any) -> None:
        self.table = Table()
        if self.hand[0].fstype not in ("tmpfs", "overlay") or self.source:
            self.names["/"] = set(listed(self.source))
            self.table.attach(self.hand, "/")
        else:
            self.attach_at("/")

    def attach(self, step: Any) -> None:
        self.attach_at(os.fsdecode(step.target))

    def attach_at(self, place: str) -> None:
        self.table.attach(self.hand, place)
        self.name(place)
        if self.hand[0].fstype in ("tmpfs", "overlay"):
            self.names[place] = set(self.made)
        if self.hand[0].fstype == "overlay":
            self.names[place] |= self.layers

    def name(self, path: str) -> None:
        """Note that something is there: in its directory, if that is new, and so on above."""
        while path != "/":
            path, name = os.path.split(path)
            if path in self.names:
                self.names[path].add(name)

    def write_file(self, step: Any) -> None:
        self.made.append(os.fsdecode(step.path).strip("/").partition("/")[0])

    def make_directory(self, step: Any) -> None:
        if step.in_hand:
            self.write_file(step)
        else:
            self.name(os.fsdecode(step.path))

    make_symlink = make_directory

    def set_root_attributes(self, step: Any) -> None:
        for index, each in enumerate(self.table):
            if step.below != (each.place == "/"):
                self.table[index] = replace(each, flags=each.flags | words(step.attributes))

    def take_masks(self, step: Any) -> None:
        self.empty = self.hand
        self.null = self.aside.pop(0)[0]

    def is_there(self, path: str) -> bool:
        # the same in each /proc; in no container here is there a /sys but the caller's
        return os.path.lexists(path) and (not path.startswith("/sys") or "/sys" in self.places)

    @property
    def places(self) -> set[str]:
        return {each.place for each in self.table}

    def mask(self, step: Any) -> None:
        path = os.fsdecode(step.path)
        if self.is_there(path):
            mask = self.empty
            if not os.path.isdir(path):
                mask = self.null
            self.table.attach([replace(each, place="") for each in mask], path)
        if path == "/proc/keys":
            self.view["key_file"] = False

    def make_read_only(self, step: Any) -> None:
        path = os.fsdecode(step.path)
        if self.is_there(path):
            tree = self.table.copy_of(path, recursive=True)
            self.table.attach(marked(tree, FLAGS["ro"]), path)

    def pivot_root(self, step: Any) -> None:
        self.view["cwd"] = "/"

    # what is the process's

    def set_hostname(self, step: Any) -> None:
        self.view["hostname"] = os.fsdecode(step.name)

    def set_domainname(self, step: Any) -> None:
        self.view["domainname"] = os.fsdecode(step.name)

    def loopback_up(self, step: Any) -> None:
        self.has_loopback = True

    def change_directory(self, step: Any) -> None:
        self.view["cwd"] = os.fsdecode(step.path)

    def set_umask(self, step: Any) -> None:
        self.view["umask"] = f"{step.mask:04o}"

    def set_rlimit(self, step: Any) -> None:
        limits = [-1 if n == INFINITY else n for n in (step.soft, step.hard)]
        self.view["rlimits"][step.resource] = limits

    def drop_bounding(self, step: Any) -> None:
        self.view["capabilities"]["CapBnd"] = step.operands().flags

    def set_capabilities(self, step: Any) -> None:
        self.kept = step.operands().flags
        self.view["capabilities"] |= dict.fromkeys(
            ("CapInh", "CapPrm", "CapEff", "CapAmb"), self.kept
        )

    def no_new_privileges(self, step: Any) -> None:
        self.view["no_new_privileges"] = "1"

    def install_filter(self, step: Any) -> None:
        _, count = self.view["seccomp"]
        self.view["seccomp"] = ["2", str(int(count) + 1)]
        if step.program == seccomp.default():
            self.view["session_keyring"] = "errno 1"

    def die_with_parent(self, step: Any) -> None:
        self.view["death_signal"] = int(signal.SIGKILL)

    def new_keyring(self, step: Any) -> None:
        self.view["session_keyring"] = "new"

    def new_session(self, step: Any) -> None:
        self.view |= {"session": "own", "group": "own", "terminal": "0"}

    def set_process_group(self, step: Any) -> None:
        self.view["group"] = "own"

    def set_oom_score_adj(self, step: Any) -> None:
        self.view["oom_score_adj"] = str(step.value)

    def set_nice(self, step: Any) -> None:
        self.view["nice"] = step.value

    def set_affinity(self, step: Any) -> None:
        self.view["affinity"] = list(step.cpus)

    def set_timer_slack(self, step: Any) -> None:
        self.view["timer_slack"] = step.nanoseconds

    def execute_init(self, step: Any) -> None:
        self.has_init = True
        self.view["death_signal"] = 0  # that is the init's

    def execute(self, step: Any) -> None:
        self.view["environment"] = sorted(map(os.fsdecode, step.environment))

    def conclude(self) -> None:
        """What follows from all of it."""
        view, isolated = self.view, self.new | self.joined
        if Namespace.USER in isolated and not self.takes_ids:
            self.map_ids()
        if Namespace.USER in isolated and not hasattr(self, "kept"):
            rights = view["capabilities"]["CapBnd"] if view["uids"][0] == 0 else 0
            view["capabilities"] |= {"CapPrm": rights, "CapEff": rights}
        if Namespace.MOUNT in self.new:
            view["mounts"] = shown(self.table)
            for field, place in (("root", "/"), ("dev", "/dev")):
                if place in self.names:
                    view[field] = sorted(self.names[place])
        else:
            view["mounts"] = shown(map(mounted, view["mounts"]))
        if Namespace.NET in self.new:
            view["interfaces"] = {"lo": self.has_loopback}
        if Namespace.CGROUP in self.new:
            view["cgroups"] = sorted(f"{line.rpartition(':')[0]}:/" for line in view["cgroups"])
        if Namespace.PID in self.new:
            view["pid"], view["ppid"] = (2, 1) if self.has_init else (1, 0)
            view["pids"] = ["1", "2"] if self.has_init else ["1"]
        elif Namespace.PID in self.joined:
            view |= {"pid": 2, "ppid": 0, "pids": ["1", "2"]}
        if Namespace.PID in isolated:
            for name in "group", "session":
                view[name] = view["pid"] if view[name] == "own" else 0
        else:
            # of a process that is like any other
            view |= {"pid": "any", "pids": "any", "ppid": os.getpid()}

    def map_ids(self) -> None:
        def inside(number: int, lines: list[list[str]]) -> int:
            for first, outside, count in (map(int, line) for line in lines):
                if outside <= number < outside + count:
                    return first + number - outside
            return OVERFLOW

        view, own = self.view, self.outside
        view["uids"] = [inside(each, view["uid_map"]) for each in own["uids"]]
        view["gids"] = [inside(each, view["gid_map"]) for each in own["gids"]]
        view["groups"] = sorted(inside(each, view["gid_map"]) for each in own["groups"])


def shown(table: Iterator[Mounted] | Table) -> list[str]:
    return sorted(
        f"{each.place} {each.fstype} {','.join(sorted(each.flags))} {','.join(sorted(each.tags))}"
        for each in table
    )


def seen(said: str, outside: View, target: View | None, expected: View) -> View:
    """Return a view in the words of what is expected."""
    view: View = json.loads(said)
    for kind, link in view["namespaces"].items():
        if target and link == target["namespaces"][kind] != outside["namespaces"][kind]:
            view["namespaces"][kind] = "the target's"
        else:
            view["namespaces"][kind] = (
                "the caller's" if link == outside["namespaces"][kind] else "new"
            )
    view["mounts"] = shown(map(mounted, view["mounts"]))
    # in a new user namespace it is still that of the user outside, and no longer that of the user
    expected.pop("user_session_keyring", None)
    del view["user_session_keyring"]
    if view["session_keyring"] == outside["user_session_keyring"]:
        view["session_keyring"] = "the user's"
    if expected["session_keyring"] == "new" and isinstance(view["session_keyring"], int):
        known = outside["session_keyring"], (target or {}).get("session_keyring")
        view["session_keyring"] = "known" if view["session_keyring"] in known else "new"
    for name in "group", "session":
        if expected[name] == "own" and view[name] == view["pid"]:
            view[name] = "own"
    if expected["pid"] == "any":
        view["pid"] = view["pids"] = "any"
    return view


def command() -> list[str]:
    keyctl = str(numbers(os.uname().machine)["keyctl"])
    return [PYTHON, "-I", "-c", PROGRAM.read_text(), keyctl]


def look_from_outside(**options: Any) -> View:
    """Return what a program of the caller's own sees."""
    done = subprocess.run(command(), capture_output=True, text=True, check=True, **options)
    view: View = json.loads(done.stdout)
    return view


def compare(container: Container | Any, target: View | None = None, **options: Any) -> None:
    if not os.path.exists(PYTHON):
        pytest.skip(f"{PYTHON} is not there: it looks from inside")
    given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True} | options
    for _ in range(5):
        outside = look_from_outside(stdin=subprocess.DEVNULL)
        plan = container.plan(command()) if isinstance(container, Container) else joining(container)
        done = run(container, command(), **given)
        assert (done.returncode, done.stderr) == (0, "")
        if outside == {**look_from_outside(stdin=subprocess.DEVNULL), **same_as(outside)}:
            break
    expected = Expected(outside, target).walk(plan)
    assert seen(done.stdout, outside, target, expected) == expected


def same_as(outside: View) -> View:
    """Return what differs from one look to the next."""
    return {name: outside[name] for name in ("pid", "pids")}


def joining(process: Any) -> Plan:
    from pyns.joining import foreign

    kinds = foreign(process.pid) & ~Namespace.TIME
    return Container(namespaces=Namespace(0), join={kinds: process.pid}).plan(command())


EACH = [Namespace.MOUNT, Namespace.UTS, Namespace.IPC, Namespace.NET, Namespace.CGROUP]
USUAL = Container().namespaces
PROGRAMS = (
    Bind("/usr", read_only=True),
    *(
        Symlink(f"/{name}", os.readlink(f"/{name}"))
        for name in ("bin", "lib", "lib64", "sbin")
        if os.path.islink(f"/{name}")
    ),
)


@pytest.fixture(autouse=True)
def peculiar() -> Iterator[None]:
    """Have what may be inherited, and is not to be mistaken for a default."""
    old_umask = os.umask(0o027)
    yield
    os.umask(old_umask)


CONTAINERS: dict[str, Callable[[], Container]] = {
    "nothing": lambda: Container(namespaces=Namespace(0)),
    "default": Container,
    **{
        str(kind.name): lambda kind=kind: Container(namespaces=kind)  # type: ignore[misc]
        for kind in EACH
    },
    "PID": lambda: Container(namespaces=Namespace.PID | Namespace.MOUNT),
    "USER": lambda: Container(namespaces=Namespace.USER),
    "USER, as root": lambda: Container(
        namespaces=USUAL | Namespace.USER,
        uid_map=IdMap.current("uid", 0),
        gid_map=IdMap.current("gid", 0),
    ),
    "init": lambda: Container(init=True),
    "names": lambda: Container(hostname="view", domainname="nis", loopback=False),
    "read-only": lambda: Container(
        mounts=[Proc(), Tmpfs("/mnt", noexec=True)],
        read_only=True,
        nosuid=True,
        masked_paths=masks.MASKED_PATHS,
        read_only_paths=[*masks.READ_ONLY_PATHS, "/usr"],
    ),
    "shared": lambda: Container(propagation="shared"),
    "unbindable": lambda: Container(propagation="unbindable"),
    "slave": lambda: Container(propagation="slave"),
    "new root": lambda: Container(
        root=Tmpfs("/"),
        mounts=[*PROGRAMS, Proc(), Dev(mqueue=True), Dir("/a/b"), File("/etc/x", "x")],
        read_only=True,
    ),
    "hardened": lambda: Container(
        namespaces=USUAL | Namespace.USER,
        capabilities=(),
        no_new_privileges=True,
        seccomp=seccomp.default(allow=["keyctl"]),
        new_session=True,
        new_keyring=True,
        reset_signals=True,
        die_with_parent=True,
        rlimits={"core": 0, "nofile": (100, 200)},
        oom_score_adj=700,
        nice=5,
        cpu_affinity=[max(os.sched_getaffinity(0))],
        timer_slack_ns=70_000,
        max_user_namespaces=3,
    ),
    "capabilities": lambda: Container(
        namespaces=USUAL | Namespace.USER, capabilities=["chown", "net_raw"]
    ),
    "sandbox": lambda: Container.sandbox(limits=None),
    "sandbox, PID 1": lambda: Container.sandbox(limits=None, init=False),
    "sandbox, some walls": lambda: Container.sandbox(
        limits=None, seccomp=None, new_session=False, env=None, read_only=False
    ),
    "sandbox of an overlay": lambda: Container.sandbox(
        Overlay("/", ["/usr/share"], userxattr=os.geteuid() != 0), mounts=PROGRAMS, limits=None
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_is_exactly_what_the_plan_said(name: str) -> None:
    compare(CONTAINERS[name]())


# each as it usually is, and with all its options; its target is on any host
EVERY_MOUNT: tuple[Mount, ...] = (
    Bind("/usr", "/mnt"),
    Bind("/usr", "/mnt", read_only=True, nosuid=True, nodev=True, noexec=True),
    Tmpfs("/mnt"),
    Tmpfs("/mnt", "1M", 0o700, 10, noexec=True, read_only=True),
    Proc("/mnt"),
    Proc("/mnt", hidepid=2, subset="pid"),
    Sysfs("/mnt"),
    Sysfs("/mnt", read_only=False),
    Dev(),
    Dev(mqueue=True, size="64K", shm_size="1M", inodes=100, pts_max=3, read_only=True),
    Devpts("/mnt"),
    Devpts("/mnt", mode=0o600, gid=0, ptmxmode=0o600, max=3),
    Mqueue("/mnt"),
    CgroupFs(),
    CgroupFs("/mnt"),
    # with no mount of the host's below
    Overlay("/mnt", ["/usr/share"]),
    Overlay("/mnt", ["/usr/share", "/usr/bin"], size="1M", inodes=50, userxattr=True),
    Overlay("/mnt", ["/usr/share"], read_only=True, nosuid=True, nodev=True, noexec=True),
    File("/etc/hostname", "x"),
    File("/etc/hostname", "x", mode=0o600, read_only=False),
)
IDS_INSIDE: dict[str, Callable[[], dict[str, Any]]] = {
    "root, the caller outside": lambda: {
        "uid_map": IdMap.current("uid", 0),
        "gid_map": IdMap.current("gid", 0),
    },
    "root, another outside": lambda: {
        "uid_map": [IdMap(0, 100000, 1000)],
        "gid_map": [IdMap(0, 100000, 1000)],
    },
    "the caller": dict,
}


def in_a_user_namespace(who: str, request: pytest.FixtureRequest, **fields: Any) -> Container:
    if "another" in who:
        request.getfixturevalue("privileged")
    return Container(**{"namespaces": USUAL | Namespace.USER, **IDS_INSIDE[who](), **fields})


@pytest.mark.parametrize("mount", EVERY_MOUNT, ids=repr)
@pytest.mark.parametrize("who", IDS_INSIDE)
def test_of_every_mount_in_a_user_namespace(
    who: str, mount: Mount, request: pytest.FixtureRequest
) -> None:
    if "gid=0" in repr(mount) and "root" not in who:
        pytest.skip("there is no gid 0 in there: that is refused, see test_user_mounts.py")
    compare(in_a_user_namespace(who, request, mounts=[Proc(), mount]))


@pytest.mark.parametrize(
    "name", ["read-only", "shared", "unbindable", "slave", "new root", "sandbox of an overlay"]
)
@pytest.mark.parametrize("who", IDS_INSIDE)
def test_of_every_root_in_a_user_namespace(
    who: str, name: str, request: pytest.FixtureRequest
) -> None:
    usual = CONTAINERS[name]()
    root = {"root": usual.root, "mounts": usual.all_mounts, "read_only": usual.read_only}
    rest = {"nosuid": usual.nosuid, "propagation": usual.propagation}
    paths = {"masked_paths": usual.masked_paths, "read_only_paths": usual.read_only_paths}
    compare(in_a_user_namespace(who, request, **root, **rest, **paths))


def test_of_every_namespace_there_is() -> None:
    if not kernel.is_at_least((6, 2), os.uname().release):
        pytest.skip(f"Linux {os.uname().release}: execve enters a time namespace since 6.2")
    compare(Container(namespaces=~Namespace(0), hostname="all", init=True))


def test_of_an_image(new_root: Path) -> None:
    new_root.chmod(0o755)
    (new_root / "there").mkdir()
    compare(Container.sandbox(new_root, mounts=[Bind("/usr", read_only=True)], limits=None))


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("container", [Container, Container.sandbox])
def test_in_a_cgroup(container: Any) -> None:
    compare(container(limits=Limits(pids_max=50)))


@pytest.mark.parametrize(
    "container",
    [Container, CONTAINERS["USER, as root"], CONTAINERS["new root"]],
    ids=["default", "root of a user namespace", "new root"],
)
def test_of_a_container_that_is_entered(container: Callable[[], Container]) -> None:
    box = container()
    done = run(box, command(), capture_output=True, text=True, check=True, cwd="/")
    with clone_into(box, ["sleep", "60"], cwd="/") as process:
        try:
            target = json.loads(done.stdout)
            target["namespaces"] = {
                kind: os.readlink(f"/proc/{process.pid}/ns/{kind}") for kind in target["namespaces"]
            }
            mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
            target["mounts"] = [line.split() for line in mounts]
            compare(process, target)
        finally:
            process.kill()


class TestSignals:
    """Seen by a program that changes none itself, unlike Python."""

    def status(self, text: str) -> dict[str, int]:
        lines = dict(line.split(":\t") for line in text.splitlines())
        return {name: int(lines[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")}

    @pytest.mark.parametrize("name", ["nothing", "default", "init", "hardened", "sandbox"])
    def test_are_those_of_the_plan(self, name: str) -> None:
        container = CONTAINERS[name]()
        old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        try:
            cat = ["cat", "/proc/self/status"]
            said = run(container, cat, capture_output=True, text=True).stdout
            outside = subprocess.run(cat, capture_output=True, text=True, check=True).stdout
        finally:
            signal.signal(signal.SIGUSR1, old)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        expected = self.status(outside)
        assert expected["SigIgn"] & 1 << signal.SIGUSR1 - 1
        assert expected["SigBlk"] & 1 << signal.SIGUSR2 - 1
        if "reset_signals" in [step.kind for step in container.plan(cat)]:
            expected = dict.fromkeys(expected, 0)
        assert self.status(said) == expected


def test_expectation_is_not_of_what_is_seen() -> None:
    """A view that lacks what the plan said is told from one that has it."""
    outside = look_from_outside(stdin=subprocess.DEVNULL)
    box = Container(hostname="view", nice=5)
    expected = Expected(outside).walk(box.plan(command()))
    for changes in ({"hostname": "other"}, {"nice": 6}, {"propagation": "shared"}, {"init": True}):
        other = Container(**{"hostname": "view", "nice": 5, **changes})  # type: ignore[arg-type]
        done = run(other, command(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert seen(done.stdout, outside, None, expected) != expected
