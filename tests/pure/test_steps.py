"""Each step describes itself, and is what csrc/plan.h says."""

from __future__ import annotations

import copy
import errno
import re
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import _cffi_backend
import pytest
from cffi import FFI

from pyns._shim import ffi, lib
from pyns.capabilities import DropBounding, KeepCapabilities, RaiseAmbient, SetCapabilities
from pyns.idmap import WriteMaps
from pyns.idmapped import OpenUserNamespace
from pyns.labels import SetExecLabel
from pyns.landlock import AllowPath, AllowPort, CreateRuleset, RestrictSelf
from pyns.links import AddVeth, Device, MoveDevice, Veth
from pyns.mount_steps import (
    AttachRoot,
    CopyMode,
    MakeDirectory,
    MakeEntry,
    MakeReadOnly,
    MakeSymlink,
    Mask,
    OpenWithin,
    SendMount,
    SetAside,
    SetRootAttributes,
    Stage,
    TakeMasks,
    TakeMount,
    TakeUp,
    Unstage,
    WriteFile,
)
from pyns.namespaces import Namespace
from pyns.rlimits import INFINITY, SetRlimit
from pyns.scheduling import NewCoreCookie, SetAffinity, SetNice, SetOomScoreAdj, SetTimerSlack
from pyns.seccomp import InstallFilter
from pyns.steps import (
    Attach,
    BirthInCgroup,
    ChangeDirectory,
    Clone,
    CloneAgain,
    CloseRange,
    DefaultSignal,
    DieWithParent,
    Duplicate,
    EnterCgroup,
    Execute,
    ExecuteInit,
    HideMemory,
    HostRoot,
    LoopbackUp,
    NewKeyring,
    NewMount,
    NewRoot,
    NewSession,
    NoNewPrivileges,
    OpenTree,
    Operands,
    PivotRoot,
    ResetSignals,
    RestoreSignalMask,
    SetAttributes,
    SetDomainname,
    SetGid,
    SetGroups,
    SetHostname,
    SetNamespaces,
    SetProcessGroup,
    SetPropagation,
    SetUid,
    SetUmask,
    ShowCgroups,
    Step,
    Unshare,
    WaitForParent,
    WriteProc,
)
from pyns.template import OpenMountNamespace
from pyns.terminal_steps import OpenTerminal, SetControllingTerminal, SetTerminalOwner
from pyns.usermode import StartUserNetwork, UserNetwork

PLAN_H = Path(__file__).parents[2] / "csrc" / "plan.h"


def subclasses(cls: type[Step]) -> Iterator[type[Step]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


CLASSES = [
    cls
    for cls in subclasses(Step)
    if cls.__module__.startswith("pyns.") and cls not in (MakeEntry, WaitForParent)
]

# each with its sentence and what crosses to the shim
SAMPLES: list[tuple[Step, str, Operands]] = [
    (BirthInCgroup("/cg/a", 7), "be born in the cgroup /cg/a", Operands(fd=7)),
    (
        Clone(Namespace.PID | Namespace.UTS),
        "clone the child into new namespaces: uts, pid",
        Operands(flags=0x24000000),
    ),
    (Clone(Namespace(0)), "clone the child, in the caller's namespaces", Operands()),
    (EnterCgroup("/cg/a", 8), "enter the cgroup /cg/a", Operands(fd=8)),
    (
        ShowCgroups(("/cg/a", "/cg/b"), 7, (8, 9), 2),
        "enter a new cgroup namespace, with / for /cg/a, /cg/b",
        Operands(flags=2, value=2, fd=7, data=struct.pack("=2i", 8, 9)),
    ),
    (
        WriteMaps(-1, ("0 100000 65536",), ("0 5 1", "1 7 1"), True),
        "have the parent map uids 0 100000 65536 and gids 0 5 1, 1 7 1",
        Operands(value=10_000),
    ),
    (
        WriteMaps(-1, ("0 1 1", "1 2 1", "2 3 1", "3 4 1"), (), False),
        "have the parent map uids 0 1 1, 1 2 1, 2 3 1, ... with newuidmap and newgidmap",
        Operands(value=10_000),
    ),
    (
        OpenMountNamespace(7, print),
        "have the parent open the mount namespace",
        Operands(value=10_000, fd=7),
    ),
    (
        OpenUserNamespace(-1, ("0 5 1",), ("0 5 1",), True, print),
        "have the parent map uids 0 5 1 and gids 0 5 1",
        Operands(value=10_000),
    ),
    (
        WriteProc("/proc/sys/user/max_user_namespaces", "0", 7),
        "write '0' to /proc/sys/user/max_user_namespaces",
        Operands((b"sys/user/max_user_namespaces", b"0"), fd=7),
    ),
    (
        AddVeth(-1, Veth(addresses="10.0.0.2/24", gateway="10.0.0.1")),
        "have the parent add a veth pair: 'eth0' (10.0.0.2/24, default route via 10.0.0.1) inside, "
        "'veth*' outside",
        Operands(value=10_000),
    ),
    (
        AddVeth(-1, Veth("a", outside_name="b", outside_addresses=["fd00::1/64"], bridge="br0")),
        "have the parent add a veth pair: 'a' inside, 'b' (fd00::1/64) of 'br0' outside",
        Operands(value=10_000),
    ),
    (
        MoveDevice(-1, Device("eth1", name="eth0", addresses="10.0.0.2/24")),
        "have the parent move the device 'eth1' into it as 'eth0' (10.0.0.2/24)",
        Operands(value=10_000),
    ),
    (
        StartUserNetwork(-1, UserNetwork(), "/usr/bin/pasta", True, False),
        "have the parent start /usr/bin/pasta for the network of 'eth0' (10.0.2.100/24, default "
        "route via 10.0.2.2)",
        Operands(value=10_000),
    ),
    (
        WriteProc("/proc/self/uid_map", "0 1000 1"),
        "write '0 1000 1' to /proc/self/uid_map",
        Operands((b"/proc/self/uid_map", b"0 1000 1")),
    ),
    (Unshare(Namespace.CGROUP), "enter new namespaces: cgroup", Operands(flags=0x02000000)),
    (
        SetNamespaces(Namespace.NET, "/run/netns/a", 6),
        "join the namespaces of /run/netns/a: net",
        Operands(fd=6, flags=0x40000000),
    ),
    (CloneAgain(Namespace(0)), "go on in another child, born in what is joined", Operands()),
    (HideMemory(), "hide the caller's memory from those who are in there", Operands()),
    (
        CloneAgain(Namespace.PID),
        "go on in another child, in new namespaces: pid",
        Operands(flags=0x20000000),
    ),
    (SetHostname(b"demo"), "set the hostname to 'demo'", Operands((b"demo",))),
    (SetDomainname(b"nis"), "set the domainname to 'nis'", Operands((b"nis",))),
    (LoopbackUp(), "bring the loopback interface up", Operands()),
    (SetPropagation(), "make the propagation of every mount private", Operands(flags=0x44000)),
    (
        SetPropagation("slave"),
        "make the propagation of every mount slave",
        Operands(flags=0x84000),
    ),
    (
        SetPropagation("shared"),
        "make the propagation of every mount shared",
        Operands(flags=0x104000),
    ),
    (
        SetPropagation("unbindable"),
        "make the propagation of every mount unbindable",
        Operands(flags=0x24000),
    ),
    (HostRoot(), "keep the caller's root", Operands()),
    (NewRoot(b"/srv"), "make '/srv' a mount, the new root", Operands((b"/srv",))),
    (
        OpenTree(b"/usr", True),
        "take a copy of the mount at '/usr', with all mounts below it",
        Operands((b"/usr",), flags=0x8000),
    ),
    (OpenTree(b"/usr", False), "take a copy of the mount at '/usr'", Operands((b"/usr",))),
    (
        OpenTree(b"/usr", False, "slave"),
        "take a copy of the mount at '/usr', slave",
        Operands((b"/usr",), value=0x80000),
    ),
    (
        OpenTree(b"/srv", True, "private", True),
        "take a copy of the new root '/srv', private, with all mounts below it",
        Operands((b"/srv/",), flags=0x8000, value=0x40000),
    ),
    (
        TakeMount(b"/srv", True, ("0 100000 65536", "65536 7 1"), 9),
        "take a copy of the mount at '/srv', with all mounts below it, which maps ids "
        "0 100000 65536, 65536 7 1",
        Operands(fd=9),
    ),
    (
        TakeMount(b"/srv", False, ()),
        "take a copy of the mount at '/srv', which maps the ids of the user namespace",
        Operands(),
    ),
    (SetAttributes(1), "make it read-only", Operands(flags=1)),
    (SetAttributes(0xE), "make it nosuid, nodev, noexec", Operands(flags=0xE)),
    (
        NewMount(b"tmpfs", ((b"mode", b"755"), (b"size", b"9")), 2),
        "make a new tmpfs (mode=755, size=9, nosuid)",
        Operands((b"tmpfs", b"mode", b"755", b"size", b"9"), flags=2),
    ),
    (NewMount(b"proc"), "make a new proc", Operands((b"proc",))),
    (
        NewMount(b"cgroup", ((b"cpu", b""), (b"name", b"x"))),
        "make a new cgroup (cpu, name=x)",
        Operands((b"cgroup", b"cpu", b"", b"name", b"x")),
    ),
    (
        MakeDirectory(b"/a", True, 0o700),
        "make the directory '/a' in it, mode 700",
        Operands((b"/a",), flags=0x1000004, value=0o700),
    ),
    (
        MakeDirectory(b"/a", False),
        "make the directory '/a' in the root, mode 755",
        Operands((b"/a",), flags=1, value=0o755),
    ),
    (
        MakeSymlink(b"/a", True, b"b"),
        "make the link '/a' in it to 'b'",
        Operands((b"/a", b"b"), flags=0x1000004),
    ),
    (
        MakeSymlink(b"/a", False, b"b"),
        "make the link '/a' in the root to 'b'",
        Operands((b"/a", b"b"), flags=1),
    ),
    (
        WriteFile(b"f", 0o640, b"a\0b"),
        "write the file 'f' in it, 3 bytes, mode 640",
        Operands((b"f",), flags=0o640, value=3, data=b"a\0b"),
    ),
    (SendMount(5), "give it to the caller", Operands(fd=5)),
    (OpenWithin(b"f"), "take 'f' in it for a mount", Operands((b"f",))),
    (SetAside(), "set it aside", Operands()),
    (TakeUp(), "take up the mount that was set aside first", Operands()),
    (Stage(), "mount it over the root for a moment", Operands()),
    (
        Stage((b"0", b"1")),
        "mount it over the root for a moment, and what was set aside on '0', '1'",
        Operands((b"0", b"1")),
    ),
    (CopyMode(b"0", b"u"), "give 'u' the mode and owner of '0'", Operands((b"0", b"u"))),
    (Unstage(), "unmount what lies over the root", Operands()),
    (
        AttachRoot(),
        "mount it on '/proc/self/fdinfo' for now, as the new root",
        Operands((b"/proc/self/fdinfo",)),
    ),
    (SetRootAttributes(1, False), "make the root read-only", Operands(flags=1)),
    (
        SetRootAttributes(1, True),
        "make every mount below the root read-only",
        Operands(flags=1, value=1),
    ),
    (TakeMasks(), "keep it and the null device that was set aside to mask with", Operands()),
    (Mask(b"/a"), "mask '/a'", Operands((b"/a",))),
    (MakeReadOnly(b"/a"), "make '/a' read-only", Operands((b"/a",))),
    (Attach(b"/mnt"), "mount it on '/mnt'", Operands((b"/mnt",))),
    (PivotRoot(), "make the new root the root and let go of the old one", Operands()),
    (ChangeDirectory(b"/w"), "change to the directory '/w'", Operands((b"/w",))),
    (
        ChangeDirectory(b"/w", contained=True),
        "change to the directory '/w'",
        Operands((b"/w",), flags=2),
    ),
    (SetUmask(0o22), "set the umask to 022", Operands(value=0o22)),
    (NewSession(), "start a new session", Operands()),
    (SetProcessGroup(0), "lead a new process group", Operands()),
    (SetProcessGroup(12), "join the process group 12", Operands(value=12)),
    (
        SetGroups((5, 4000000000)),
        "set the supplementary groups to [5, 4000000000]",
        Operands(value=2, data=struct.pack("=II", 5, 4000000000)),
    ),
    (SetGroups(()), "set the supplementary groups to []", Operands()),
    (SetGid(100), "become the group 100", Operands(value=100)),
    (SetUid(1000), "become the user 1000", Operands(value=1000)),
    (
        DefaultSignal(signal.SIGPIPE),
        "restore the default action of SIGPIPE",
        Operands(value=signal.SIGPIPE),
    ),
    (Duplicate(9, 1), "make fd 9 its stdout", Operands(fd=9, value=1)),
    (Duplicate(9, 9), "pass on fd 9", Operands(fd=9, value=9)),
    (Duplicate(9, 8), "pass on fd 9 as its fd 8", Operands(fd=9, value=8)),
    (CloseRange(3, 6), "close every fd from 3 to 6", Operands(flags=3, value=6)),
    (CloseRange(5, 5), "close the fd 5", Operands(flags=5, value=5)),
    (
        CloseRange(7, CloseRange.LAST),
        "close every fd from 7 on",
        Operands(flags=7, value=0xFFFFFFFF),
    ),
    (
        ExecuteInit(7, 8, 9),
        "execute pyns-init, which is PID 1 and does what follows in a child",
        Operands((b"pyns-init", b"8"), fd=7, flags=8, value=9),
    ),
    (RestoreSignalMask(), "restore the caller's signal mask", Operands()),
    (
        SetRlimit("nofile", 64, 128),
        "set the resource limit nofile to 64, the hard limit to 128",
        Operands(value=7, data=struct.pack("=QQ", 64, 128)),
    ),
    (
        SetRlimit("core", INFINITY, INFINITY),
        "set the resource limit core to unlimited",
        Operands(value=4, data=b"\xff" * 16),
    ),
    (
        DropBounding(("cap_chown", "cap_bpf")),
        "drop all capabilities from the bounding set but cap_chown, cap_bpf",
        Operands(flags=1 | 1 << 39),
    ),
    (KeepCapabilities(), "keep capabilities over the change of the uid", Operands()),
    (SetCapabilities(()), "have the capabilities none", Operands()),
    (
        SetCapabilities(("cap_net_raw",)),
        "have the capabilities cap_net_raw",
        Operands(flags=1 << 13),
    ),
    (
        RaiseAmbient(("cap_net_raw",)),
        "keep over execve the capabilities cap_net_raw",
        Operands(flags=1 << 13),
    ),
    (NoNewPrivileges(), "gain no new privileges by execve", Operands()),
    (
        InstallFilter(bytes(24)),
        "install a seccomp filter of 3 instructions",
        Operands(value=24, data=bytes(24)),
    ),
    (NewKeyring(), "join a new session keyring", Operands()),
    (ResetSignals(), "give every signal its default action, and block none", Operands()),
    (SetOomScoreAdj(-500), "set oom_score_adj to -500", Operands((b"-500",))),
    (SetNice(-5), "set the nice value to -5", Operands(value=2**64 - 5)),
    (
        SetAffinity((0, 3, 65)),
        "run on the CPUs 0, 3, 65",
        Operands(value=16, data=struct.pack("=QQ", 9, 2)),
    ),
    (SetTimerSlack(1), "let timers be 1 ns late", Operands(value=1)),
    (
        NewCoreCookie(),
        "share a CPU core only with its own children: a new core scheduling cookie",
        Operands(),
    ),
    (
        SetExecLabel("AppArmor", b"/proc/x", b"exec a\nb"),
        "have execve set the AppArmor label: 'exec a\\nb'",
        Operands((b"/proc/x", b"exec a\nb")),
    ),
    (
        CreateRuleset(("read", "bind_tcp", "scope_signals")),
        "make a Landlock ruleset against reading, TCP bind, signals to outside",
        Operands(value=24, data=struct.pack("=QQQ", 0xC, 1, 2)),
    ),
    (
        CreateRuleset(("write", "execute", "ioctl", "refer", "connect_tcp", "scope_abstract_unix")),
        "make a Landlock ruleset against writing, executing, ioctl on devices, moving, "
        "TCP connect, abstract UNIX sockets outside",
        Operands(value=24, data=struct.pack("=QQQ", 0xFFF3, 2, 1)),
    ),
    (
        AllowPath(b"/usr", ("read", "execute")),
        "allow reading, executing beneath '/usr'",
        Operands((b"/usr",), flags=0xD, value=0x5),
    ),
    (
        AllowPath(b"/tmp", ("write", "refer")),
        "allow writing, moving beneath '/tmp'",
        Operands((b"/tmp",), flags=0x77B2, value=0x4002),
    ),
    (
        AllowPort(80, ("bind_tcp", "connect_tcp")),
        "allow TCP bind, TCP connect for port 80",
        Operands(flags=3, value=80),
    ),
    (RestrictSelf(), "put the Landlock ruleset into force", Operands()),
    (
        OpenTerminal(24, 80, 7),
        "open a terminal of 24 rows and 80 columns in /dev/pts",
        Operands((b"/dev/pts", b"/dev/ptmx"), fd=7, value=24 << 16 | 80),
    ),
    (
        SetTerminalOwner(1000, 7),
        "give the terminal to the user 1000",
        Operands(fd=7, value=1000),
    ),
    (
        SetControllingTerminal(7),
        "make the terminal the controlling one of the session",
        Operands(fd=7),
    ),
    (DieWithParent(9), "be killed when the thread that started it ends", Operands(fd=9)),
    (
        Execute((b"/bin/ls",), (b"ls", b"-l"), (b"A=1",)),
        "execute '/bin/ls' with arguments ['ls', '-l']",
        Operands((b"/bin/ls", b"ls", b"-l"), flags=1, value=2, data=b"A=1\0", more=1),
    ),
    (
        Execute((b"/bin/ls", b"/usr/bin/ls"), (b"ls",), ()),
        "execute ['ls'], the first found of 2 places in PATH",
        Operands((b"/bin/ls", b"/usr/bin/ls", b"ls"), flags=2, value=1),
    ),
]
STEPS = [pytest.param(step, id=f"{step.kind}-{n}") for n, (step, _, _) in enumerate(SAMPLES)]

HOSTILE = b"a\nb\xff"
HOSTILE_STEPS = [
    SetHostname(HOSTILE),
    AllowPath(HOSTILE, ("read",)),
    SetDomainname(HOSTILE),
    NewRoot(HOSTILE),
    OpenTree(HOSTILE, True),
    TakeMount(HOSTILE, True, ()),
    Attach(HOSTILE),
    MakeDirectory(HOSTILE, True),
    MakeSymlink(HOSTILE, True, HOSTILE),
    WriteFile(HOSTILE, 0),
    OpenWithin(HOSTILE),
    Stage((HOSTILE,)),
    CopyMode(HOSTILE, HOSTILE),
    Mask(HOSTILE),
    MakeReadOnly(HOSTILE),
    ChangeDirectory(HOSTILE),
    Execute((HOSTILE,), (HOSTILE,), (HOSTILE,)),
    Execute((HOSTILE, HOSTILE), (HOSTILE,), (HOSTILE,)),
]

# where advice is certain
HINTED: dict[type[Step], set[int]] = {
    SetPropagation: {errno.EINVAL},
    Duplicate: {errno.EBADF},
    BirthInCgroup: {errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES},
    Clone: {errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EAGAIN, errno.ENOSYS},
    Unshare: {errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EAGAIN, errno.ENOSYS},
    ShowCgroups: {
        *(errno.EBUSY, errno.EOPNOTSUPP, errno.EACCES),
        *(errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EAGAIN, errno.ENOSYS),
    },
    WriteProc: {errno.EPERM, errno.EROFS},
    AttachRoot: {errno.ENOENT, errno.ENOSPC},
    SetNamespaces: {errno.EPERM, errno.EINVAL, errno.EUSERS, errno.ESRCH},
    CloneAgain: {errno.EPERM, errno.ENOSPC, errno.EINVAL, errno.EAGAIN, errno.ENOSYS, errno.ENOMEM},
    NewRoot: {errno.ENOENT, errno.ENOTDIR, errno.ENOSPC},
    OpenTree: {errno.ENOENT, errno.EINVAL},
    TakeMount: {errno.EPERM, errno.EINVAL},
    NewMount: {errno.EPERM, errno.ENODEV},
    MakeDirectory: {errno.EXDEV, errno.EROFS, errno.ENOSPC, errno.ENOTDIR},
    MakeSymlink: {errno.EXDEV, errno.EROFS, errno.ENOSPC, errno.EEXIST},
    Stage: {errno.EINVAL, errno.ENOSPC},
    TakeMasks: {errno.ENODEV},
    Mask: {errno.ELOOP, errno.ENOSPC},
    MakeReadOnly: {errno.ELOOP, errno.ENOSPC},
    Attach: {errno.EROFS, errno.ENOSPC, errno.ELOOP, errno.ENOTDIR, errno.EINVAL},
    PivotRoot: {errno.EINVAL},
    SetRlimit: {errno.EPERM},
    DropBounding: {errno.EPERM},
    KeepCapabilities: {errno.EPERM},
    SetCapabilities: {errno.EPERM},
    RaiseAmbient: {errno.EPERM},
    CreateRuleset: {errno.EINVAL, errno.E2BIG, errno.ENOSYS, errno.EOPNOTSUPP},
    AllowPath: {errno.ENOENT, errno.ELOOP},
    RestrictSelf: {errno.EPERM, errno.E2BIG},
    NewKeyring: {errno.EDQUOT, errno.ENOSYS},
    SetOomScoreAdj: {errno.EACCES, errno.ENOENT},
    SetNice: {errno.EACCES},
    SetAffinity: {errno.EINVAL},
    NewCoreCookie: {errno.EINVAL, errno.ENODEV},
    SetExecLabel: {errno.EINVAL, errno.ENOENT},
    InstallFilter: {errno.EACCES, errno.EINVAL},
    ExecuteInit: {errno.EAGAIN, errno.ENOEXEC},
    OpenTerminal: {errno.ENOENT, errno.ENODEV, errno.ENOSPC},
    AddVeth: {errno.EPERM, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EHOSTUNREACH},
    MoveDevice: {errno.EPERM, errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH},
    StartUserNetwork: {errno.ENOENT},
    NewSession: {errno.EPERM},
    SetProcessGroup: {errno.EPERM},
    SetGroups: {errno.EPERM, errno.EINVAL},
    SetGid: {errno.EPERM, errno.EINVAL},
    SetUid: {errno.EPERM, errno.EINVAL},
}
# a hint begins as a sentence does, or with the name of a parameter or system call
HINT = re.compile(r"(?:[A-Z]|root= |source |clone3 )[^\n]*[^\s.]")


def declared() -> FFI:
    declarations = FFI()
    declarations.cdef(PLAN_H.read_text())
    return declarations


def enumerators() -> dict[str, int]:
    relements = declared().typeof("enum step_kind").relements
    return {str(name): int(value) for name, value in relements.items()}


def test_samples_hold_every_step() -> None:
    assert {type(step) for step, _, _ in SAMPLES} == set(CLASSES)


@pytest.mark.parametrize(
    ("step", "sentence"), [(step, said) for step, said, _ in SAMPLES], ids=[p.id for p in STEPS]
)
def test_describe_says_what_the_step_does(step: Step, sentence: str) -> None:
    assert step.describe() == sentence


@pytest.mark.parametrize(
    ("step", "operands"), [(step, given) for step, _, given in SAMPLES], ids=[p.id for p in STEPS]
)
def test_operands_are_what_the_shim_reads(step: Step, operands: Operands) -> None:
    assert step.operands() == operands


@pytest.mark.parametrize("step", [*STEPS, *(pytest.param(s, id=s.kind) for s in HOSTILE_STEPS)])
def test_describe_is_one_printable_fragment_of_a_sentence(step: Step) -> None:
    said = step.describe()
    assert re.fullmatch(r"[a-z][^\n]*[^\s.]", said)
    assert said.isprintable()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_step_is_documented_with_its_man_page(cls: type[Step]) -> None:
    assert re.fullmatch(r"[A-Z].*\.", cls.__doc__ or "")


def test_every_kind_of_plan_h_has_exactly_one_step_class() -> None:
    # to the child, all that its parent does is one
    kinds = [cls.kind for cls in CLASSES if not issubclass(cls, WaitForParent)]
    names = sorted(f"STEP_{kind.upper()}" for kind in [*kinds, WaitForParent.kind])
    assert names == sorted(enumerators().keys() - {"STEP_END"})


def test_shim_was_built_from_this_plan_h() -> None:
    built = {name: getattr(lib, name) for name in dir(lib) if name.startswith("STEP_")}
    assert built == enumerators()


def test_kinds_are_numbered_from_one_and_end_counts_them() -> None:
    numbers = sorted(enumerators().values())
    assert numbers == list(range(1, len(numbers) + 1))
    assert enumerators()["STEP_END"] == len(numbers)


@pytest.mark.parametrize("name", ["struct step", "struct report"])
def test_compiled_structs_are_those_of_plan_h(name: str) -> None:
    def layout(types: FFI | _cffi_backend.FFI) -> list[tuple[str, int, int]]:
        fields = types.typeof(name).fields
        return [(key, field.offset, types.sizeof(field.type)) for key, field in fields]

    assert layout(ffi) == layout(declared())
    assert ffi.sizeof(name) == declared().sizeof(name)


@pytest.mark.parametrize("step", STEPS)
def test_hints_are_given_for_certain_errnos_only(step: Step) -> None:
    given = {number for number in errno.errorcode if step.hint(number) is not None}
    expected = HINTED.get(type(step), set())
    if step in (Clone(Namespace(0)), CloneAgain(Namespace(0))):
        expected = expected - {errno.EPERM}  # without namespaces it is about something else
    if isinstance(step, OpenTree) and not step.recursive:
        expected = expected | {errno.EINVAL}
    if isinstance(step, OpenTree) and step.is_root:
        expected = expected | {errno.ENOTDIR}
    if isinstance(step, WriteMaps) and not step.privileged:
        expected = {errno.ENOENT, errno.EPERM}
    if isinstance(step, WriteProc) and not step.path.endswith("id_map"):
        expected = {errno.EROFS}
    if isinstance(step, NewMount) and step.fstype == b"tmpfs":
        expected = {errno.ENODEV}
    assert given == expected


@pytest.mark.parametrize("step", STEPS)
def test_hints_are_sentences(step: Step) -> None:
    hints = [hint for number in errno.errorcode if (hint := step.hint(number)) is not None]
    assert [hint for hint in hints if not HINT.fullmatch(hint)] == []


def test_steps_are_values() -> None:
    samples = [step for step, _, _ in SAMPLES]
    assert [step for step in samples if copy.copy(step) != step] == []
    assert len(set(samples)) == len(samples)
    named: set[Step] = {SetHostname(b"a"), SetHostname(b"a"), SetDomainname(b"a")}
    assert len(named) == 2


def test_step_cannot_be_changed() -> None:
    step = SetUid(1)
    with pytest.raises(AttributeError, match="cannot assign to field 'uid'"):
        step.uid = 0  # type: ignore[misc]
