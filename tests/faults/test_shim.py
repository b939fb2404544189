"""Each system call of the shim and of pyns-init fails in turn: the error names its step.

Of many calls alike (same kind of step, same instruction) the first fails in every way and the
others in one; with PYNS_WHOLE=1 in the environment, all in every way.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import pytest

from pyns import (
    Bind,
    Container,
    Dev,
    Dir,
    File,
    IdMap,
    Limits,
    Namespace,
    Overlay,
    Proc,
    Process,
    Scratch,
    SpawnError,
    Symlink,
    Tmpfs,
    clone_into,
    seccomp,
)
from pyns._shim import ffi
from pyns.landlock import Landlock
from pyns.mount_steps import TakeMount
from pyns.plan import Plan
from pyns.steps import BirthInCgroup, Clone, CloneAgain, ExecuteInit

Told = Callable[[object], tuple[int, int] | None]
Watch = Callable[[], Callable[[], dict[str, object]]]
STEP_KINDS = ffi.typeof("enum step_kind")
PRIVILEGED = os.geteuid() == 0
OWN_IDS = (IdMap(0, os.geteuid()),), (IdMap(0, os.getegid()),)
# what others than root can only map with a set-user-ID program, which the filter forbids
IDS = ((IdMap(0, 100000, 10),), (IdMap(0, 100000, 10),)) if PRIVILEGED else OWN_IDS
PROGRAM = shutil.which("true") or "/bin/true"
LINKS = {
    path: os.readlink(path)
    for path in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
    if os.path.islink(path)
}


class Spawn(NamedTuple):
    """What is started: in which container, and with which options of Popen."""

    container: Container
    options: Mapping[str, Any] = MappingProxyType({})


def files(place: Path) -> Spawn:
    """Whatever is about mounts and names; the group and the root are the child's."""
    box = Container(
        root=place / "root",
        read_only=True,
        propagation="slave",
        hostname="faults",
        domainname="faults",
        mounts=(
            Bind("/usr", read_only=True),
            Proc(),
            Dev(),
            Tmpfs("/tmp", size="1M"),
            Dir("/tmp/a/b"),
            Symlink("/tmp/link", "a"),
            Dir("/made/here"),
            Symlink("/made/link", "here"),
            Symlink("/made/link", "here"),
            Symlink("/above/link", "here"),
            File("/etc/motd", "hello"),
            Overlay("/over", lower=[place / "one", place / "two"], size="1M", userxattr=True),
        ),
        masked_paths=("/proc/kcore", "/proc/meminfo", "/tmp", "/made/here", "/none"),
        read_only_paths=("/proc/sys", "/none"),
        limits=Limits(pids_max=100) if PRIVILEGED else None,
    )
    return Spawn(box, {"cwd": "/tmp", "stdout": subprocess.DEVNULL, "pass_fds": [2]})


def given(_: Path, scratch: Scratch) -> Spawn:
    """A filesystem that the caller is given."""
    return Spawn(Container(mounts=(scratch.mount, Proc())), {"cwd": "/"})


HARDENING: dict[str, Any] = {
    "rlimits": {"core": 0},
    "capabilities": ("net_bind_service",),
    "no_new_privileges": True,
    "seccomp": seccomp.default(),
    "landlock": Landlock(read=["/", "/etc/passwd"], execute=["/"], bind_tcp=[80]),
    "new_session": True,
    "new_keyring": True,
    "reset_signals": True,
    "die_with_parent": True,
    "oom_score_adj": 500,
    "nice": 1,
    "cpu_affinity": [min(os.sched_getaffinity(0))],
    "timer_slack_ns": 1000,
}


def hardened(_: Path) -> Spawn:
    """Whatever restricts the program."""
    options: dict[str, Any] = {"umask": 0o22}
    if PRIVILEGED:
        options |= {"user": 65534, "group": 65534, "extra_groups": [65534]}
    return Spawn(Container(**HARDENING), options)


def hardened_with_init(place: Path) -> Spawn:
    """The same, with some of it done by the child of an init."""
    limits = Limits(pids_max=100) if PRIVILEGED else None
    return Spawn(Container(**HARDENING, init=True, limits=limits), hardened(place).options)


def user_at_last(_: Path) -> Spawn:
    """A user namespace that is entered last, a time namespace, a root that is made."""
    box = Container(
        namespaces=~Namespace(0),
        root=Tmpfs("/", size="1M"),
        mounts=(
            Bind("/usr", read_only=True),
            *(Symlink(path, text) for path, text in LINKS.items()),
            Proc(),
        ),
        uid_map=IDS[0],
        gid_map=IDS[1],
        time_offsets={"monotonic": 100},
        capabilities=(),
        max_user_namespaces=0,
        init=True,
    )
    return Spawn(box, {"process_group": 0})


def user_at_first(place: Path) -> Spawn:
    """A user namespace that is entered first, with ids that the parent maps, also of files."""
    box = Container(
        namespaces=Namespace.USER | Namespace.UTS | Namespace.MOUNT,
        mounts=(Bind(place, "/mnt", idmap=Namespace.USER),) if PRIVILEGED else (),
        uid_map=IDS[0],
        gid_map=IDS[1],
        hostname="x",
    )
    return Spawn(box, {"process_group": 0})


def own_ids(place: Path) -> Spawn:
    """A user namespace whose ids the child maps itself, and a root in a copy of the mounts."""
    box = Container(
        namespaces=Namespace.USER | Namespace.MOUNT,
        root=place / "root",
        mounts=(Bind("/usr", read_only=True),),
        uid_map=OWN_IDS[0],
        gid_map=OWN_IDS[1],
    )
    return Spawn(box)


def joined(_: Path, target: Process) -> Spawn:
    """Namespaces of another container, and one beside them."""
    kinds = Namespace.PID | Namespace.UTS | (Namespace(0) if PRIVILEGED else Namespace.USER)
    return Spawn(Container(namespaces=Namespace.IPC, join={kinds: target.pid}))


def with_terminal(_: Path) -> Spawn:
    """A terminal, whose owner is the user that the program is; each step is timed."""
    options: dict[str, Any] = {"terminal": (24, 80), "timing": True}
    if PRIVILEGED:
        options["user"] = 65534
    return Spawn(Container(mounts=(Proc(), Dev())), options)


def scheduled(_: Path) -> Spawn:
    """A core of its own, where cores run several threads."""
    return Spawn(Container(core_scheduling=True))


def labelled(_: Path) -> Spawn:
    """A label of a security module."""
    return Spawn(Container(apparmor_profile="unconfined"))


# All kinds of steps are in one of these. A new kind: into the one that it fits.
SPAWNS: dict[str, Callable[..., Spawn]] = {
    f.__name__: f
    for f in (
        files,
        given,
        hardened,
        hardened_with_init,
        user_at_last,
        user_at_first,
        own_ids,
        joined,
        with_terminal,
        scheduled,
        labelled,
    )
}

# What the kernel answers for a reason that has nothing to do with the arguments, as a rule: a
# limit, memory, rights, the filter of whoever started us.
FAILURES: dict[str, tuple[int, ...]] = {
    "capset": (errno.EPERM,),
    "chdir": (errno.EACCES, errno.ENOMEM),
    "clone3": (
        errno.EAGAIN,
        errno.EACCES,
        errno.EBUSY,
        errno.EINVAL,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EPERM,
    ),
    "close_range": (errno.ENOSYS, errno.ENOMEM),
    "dup3": (errno.EMFILE, errno.EBUSY),
    "execve": (
        errno.E2BIG,
        errno.EACCES,
        errno.EAGAIN,
        errno.ENOENT,
        errno.ENOEXEC,
        errno.ENOMEM,
        errno.ETXTBSY,
    ),
    "execveat": (errno.EACCES, errno.EAGAIN, errno.ENOMEM, errno.ENOEXEC),
    "exit_group": (errno.EPERM,),
    "fchdir": (errno.EACCES,),
    "fchmod": (errno.EPERM, errno.EROFS),
    "fchown": (errno.EDQUOT, errno.EINVAL, errno.EPERM),
    "fcntl": (errno.EBADF,),
    "fsconfig": (errno.EINVAL, errno.ENOMEM, errno.EPERM),
    "fsmount": (errno.EMFILE, errno.ENOMEM, errno.EPERM),
    "fsopen": (errno.EMFILE, errno.ENODEV, errno.ENOMEM, errno.EPERM),
    "fstatfs": (errno.EIO, errno.ENOSYS),
    "futex:wait": (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT),
    "getcwd": (errno.ENOENT, errno.ERANGE),
    "ioctl": (errno.ENODEV, errno.EPERM),
    "keyctl": (errno.EDQUOT, errno.ENOMEM, errno.ENOSYS),
    "landlock_add_rule": (errno.EINVAL, errno.ENOMEM),
    "landlock_create_ruleset": (errno.EMFILE, errno.EOPNOTSUPP, errno.ENOSYS),
    "landlock_restrict_self": (errno.E2BIG, errno.EPERM),
    "lseek": (errno.EBADF,),
    "mkdirat": (errno.EACCES, errno.EEXIST, errno.ENOSPC, errno.EROFS),
    "mknodat": (errno.EACCES, errno.EEXIST, errno.ENOSPC, errno.EROFS),
    "mmap": (errno.ENOMEM,),
    "mount": (errno.EINVAL, errno.ENOMEM, errno.EPERM),
    "mount_setattr": (errno.EINVAL, errno.ENOMEM, errno.EPERM),
    "move_mount": (errno.EINVAL, errno.ENOSPC, errno.EPERM),
    "mprotect": (errno.ENOMEM,),
    "open_tree": (errno.EACCES, errno.EINVAL, errno.EMFILE, errno.ENOMEM, errno.EPERM),
    "openat": (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM),
    "openat2": (
        errno.EACCES,
        errno.EAGAIN,
        errno.ELOOP,
        errno.EMFILE,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOSYS,
        errno.EXDEV,
    ),
    "pidfd_open": (errno.EMFILE, errno.ENOMEM),
    "pivot_root": (errno.EBUSY, errno.EINVAL, errno.EPERM),
    "ppoll": (errno.ENOMEM,),
    "prctl": (errno.EINVAL, errno.EPERM),
    "prctl:capbset_read": (errno.EINVAL, errno.EPERM),
    "prlimit64": (errno.EPERM,),
    "readlinkat": (errno.EACCES, errno.ENOMEM),
    "rt_sigaction": (errno.EINVAL,),
    "sched_setaffinity": (errno.EINVAL, errno.EPERM),
    "seccomp": (errno.EACCES, errno.EINVAL, errno.ENOMEM),
    "sendmsg": (errno.ENOBUFS, errno.ETOOMANYREFS),
    "setdomainname": (errno.EPERM,),
    "setgroups": (errno.EINVAL, errno.ENOMEM, errno.EPERM),
    "sethostname": (errno.EPERM,),
    "setns": (errno.EINVAL, errno.ENOMEM, errno.EPERM, errno.ESRCH),
    "setpgid": (errno.EACCES, errno.EPERM),
    "setpriority": (errno.EACCES,),
    "setresgid": (errno.EINVAL, errno.EPERM),
    "setresuid": (errno.EAGAIN, errno.EINVAL, errno.EPERM),
    "setsid": (errno.EPERM,),
    "socket": (errno.EACCES, errno.EMFILE, errno.EPERM),
    "statx": (errno.EACCES, errno.ENOSYS),
    "symlinkat": (errno.EACCES, errno.EEXIST, errno.ENOSPC, errno.EROFS),
    "umount2": (errno.EINVAL, errno.EPERM),
    "unshare": (errno.EINVAL, errno.ENOMEM, errno.ENOSPC, errno.EPERM),
    "write": (errno.EACCES, errno.EINVAL, errno.ENOMEM, errno.ENOSPC, errno.EPERM),
}
# Those that can't fail with the arguments that they have here, by who calls: "" is anybody.
INFALLIBLE = {
    "": "clock_gettime close exit futex:wake munmap prctl:get_dumpable prctl:set_dumpable "
    "rt_sigprocmask umask",
    # a child that is there, and the caller's own
    "caller": "kill wait4",
    "child 1": "wait4",
    # what pyns-init does to itself; a pipe that is empty, and whose other end is the caller's
    "init 1": "chdir close_range fcntl lseek prctl:set_name rt_sigaction rt_sigtimedwait setpgid "
    "wait4 write",
}
# Where the program runs all the same, and why: kind of step, name of the call → errors.
GOES_ON: dict[tuple[str, str], tuple[int, ...]] = {
    ("allow_path", "landlock_add_rule"): (errno.EINVAL,),  # the path is a file: other rights
    ("attach", "openat2"): (errno.EAGAIN, errno.ENOENT),  # once more; the target is made
    ("copy_mode", "fchown"): (errno.EINVAL, errno.EPERM),  # nobody's in this user namespace
    ("drop_bounding", "prctl:capbset_read"): (errno.EINVAL,),  # there are no more
    ("execute_init", "rt_sigaction"): (errno.EINVAL,),  # SIGCHLD's is put back: can't fail
    ("make_directory", "openat2"): (errno.EAGAIN, errno.ENOENT),
    ("make_read_only", "openat2"): (errno.EAGAIN, errno.ENOENT),  # what is not there is passed over
    ("make_symlink", "openat2"): (errno.EAGAIN, errno.ENOENT),
    ("make_symlink", "symlinkat"): (errno.EEXIST,),  # the same one
    ("mask", "openat2"): (errno.EAGAIN, errno.ENOENT),
    ("open_terminal", "openat2"): (errno.EACCES,),  # ptmx in /dev/pts, as a rule: /dev/ptmx then
    ("open_tree", "mount_setattr"): (errno.EPERM,),  # without the template, as with setns
    ("open_tree", "open_tree"): (errno.EMFILE, errno.EPERM),  # likewise
    ("open_within", "open_tree"): (errno.EINVAL,),  # Linux before 6.15: another way
    ("set_namespaces", "setns"): (errno.EINVAL, errno.ENOMEM, errno.EPERM, errno.ESRCH),
    ("wait_for_parent", "futex:wait"): (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT),  # once more
}
# Where another errno tells it better.
TOLD_AS = {
    ("attach", "mkdirat", errno.EEXIST): errno.ENOENT,  # and yet it is not there
    ("attach", "mknodat", errno.EEXIST): errno.ENOENT,
    ("make_directory", "mkdirat", errno.EEXIST): errno.ENOENT,
    ("make_symlink", "mkdirat", errno.EEXIST): errno.ENOENT,
    ("make_symlink", "readlinkat", errno.EACCES): errno.EEXIST,  # there is something
    ("make_symlink", "readlinkat", errno.ENOMEM): errno.EEXIST,
}
# What a step names, but makes in none of the plans here.
NEVER_MADE = {
    "birth_in_cgroup": {"clone3"},  # the one of clone
}
EVERY_WAY = "PYNS_WHOLE" in os.environ


class Spawner:
    """Starts the program of a spawn, once and again."""

    def __init__(self, name: str, place: Path) -> None:
        self.place = place
        self._undo = ExitStack()
        for directory in ("one", "two"):
            (place / directory).mkdir()
        with ExitStack() as undo:
            arguments: list[Any] = []
            if name == "given":
                arguments.append(undo.enter_context(Scratch("/tmp", "1M")))
            if name == "joined":
                target = undo.enter_context(clone_into(Container(), ["sleep", "1000"]))
                undo.callback(target.kill)
                arguments.append(target)
            self.spawn = SPAWNS[name](place, *arguments)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def __call__(self) -> int:
        with clone_into(self.spawn.container, [PROGRAM], **self.spawn.options) as process:
            return process.wait(20)

    def prepare(self) -> None:
        """Make the root anew, for the mount targets to be made in it."""
        shutil.rmtree(self.place / "root", ignore_errors=True)
        (self.place / "root").mkdir()
        for path, text in LINKS.items():
            (self.place / f"root{path}").symlink_to(text)


@pytest.fixture(scope="module")
def faults(supervise: Callable[[str], Any]) -> Any:
    return supervise("the shim")


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Callable[[str], Spawner]]:
    with ExitStack() as undo:
        yield lambda name: undo.enter_context(Spawner(name, tmp_path))


def attempt(faults: Any, start: Spawner, *failing: Any) -> Any:
    start.prepare()
    return faults.run(start, *failing)


def record(faults: Any, start: Spawner) -> Any:
    """Return the attempt in which nothing fails."""
    result = attempt(faults, start)
    if isinstance(result.outcome, OSError):
        pytest.skip(f"without any fault: {result.outcome}")
    assert result.outcome == 0
    return result


def to_fail(good: Any) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield each call that may fail, and how."""
    seen: set[tuple[str, str, int]] = set()
    for call in good.calls:
        if call.name in f"{INFALLIBLE['']} {INFALLIBLE.get(call.role, '')}".split():
            continue
        errors = FAILURES[call.name]  # missing: say how it may fail
        like = call.role, kind_of(call, good.plan), call.site
        yield call, errors if EVERY_WAY or like not in seen else errors[:1]
        seen.add(like)


def kind_of(call: Any, plan: Plan) -> str:
    """Return the kind of the step that a call is part of, as far as can be told."""
    if call.role.startswith("child"):
        kind: str = plan.steps[call.step].kind
        return kind
    return {"caller": "clone", "helper": "wait_for_parent"}.get(call.role, "execute_init")


def check(result: Any, fault: Any, told: Told, calls_of: Mapping[str, Collection[str]]) -> None:
    """Raise AssertionError unless the exception is the right one."""
    call, error = fault
    if result.plan is None:  # what a step would have taken is made before, and failed
        assert isinstance(result.outcome, SpawnError), f"{fault}: {result.outcome!r}"
        assert isinstance(result.outcome.step, TakeMount), f"{fault}: {result.outcome}"
        assert result.outcome.errno == error, f"{fault}: {result.outcome}"
        return
    kind, plan = kind_of(call, result.plan), result.plan
    if call.name == "exit_group":
        assert result.outcome == 0, f"{fault}: {result.outcome!r}"  # exit, then
        return
    if result.outcome == 0:
        assert error in GOES_ON.get((kind, call.name), ()), f"{fault}: the program runs"
        return
    found = told(result.outcome)
    assert found is not None, f"{fault}: {result.outcome!r} names no step"
    index, said = found
    step = plan.steps[index]
    assert said == TOLD_AS.get((kind, call.name, error), error), f"{fault}: {result.outcome}"
    if call.role.startswith("child"):
        assert index == call.step, f"{fault}: {result.outcome}"
    elif call.role == "init 2":
        assert call.name in calls_of[step.kind], f"{fault}: {result.outcome}"
    elif call.role == "init 1":
        assert isinstance(step, ExecuteInit), f"{fault}: {result.outcome}"
    elif call.name == "pidfd_open":
        assert isinstance(step, CloneAgain), f"{fault}: {result.outcome}"
    else:
        assert isinstance(step, (Clone, BirthInCgroup)), f"{fault}: {result.outcome}"


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", SPAWNS)
def test_a_call_that_fails_is_told_as_the_step_and_leaves_nothing(
    name: str,
    faults: Any,
    spawner: Callable[[str], Spawner],
    told: Told,
    make_fault: Any,
    watch: Watch,
) -> None:
    start = spawner(name)
    good = record(faults, start)
    calls_of = calls_by_kind(faults, start) if start.spawn.container.init else {}
    for call, errors in to_fail(good):
        for error in errors:
            fault, left_behind = make_fault(call, error), watch()
            result = attempt(faults, start, fault)
            # a futex is waited for or not, as it comes
            assert result.has_failed or call.name == "futex:wait", f"{fault}: it was not called"
            check(result, fault, told, calls_of)
            left = left_behind()
            assert not left, f"{fault}: left behind: {left}"


def before_6_15(good: Any, make_fault: Any) -> list[Any]:
    """Return the faults with which a mount that is attached nowhere can't be copied."""
    first: dict[int, Any] = {}
    for call in good.calls:
        if call.name == "open_tree" and kind_of(call, good.plan) == "open_within":
            first.setdefault(call.step, make_fault(call, errno.EINVAL))
    return list(first.values())


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("namespaces")
def test_a_call_that_fails_on_linux_before_6_15_is_told_as_well(
    faults: Any, spawner: Callable[[str], Spawner], told: Told, make_fault: Any, watch: Watch
) -> None:
    start = spawner("files")
    old = before_6_15(record(faults, start), make_fault)
    good = attempt(faults, start, *old)
    assert (good.outcome, good.has_failed) == (0, True)
    refused = [fault.call for fault in old]
    for call, errors in to_fail(good):
        if kind_of(call, good.plan) == "open_within" and call not in refused:
            until = [fault for fault in old if fault.call.step <= call.step]
            for error in errors:
                fault, left_behind = make_fault(call, error), watch()
                result = attempt(faults, start, *until, fault)
                assert result.has_failed, f"{fault}: it was not called"
                assert result.outcome != 0, f"{fault}: the program runs"
                check(result, fault, told, {})
                left = left_behind()
                assert not left, f"{fault}: left behind: {left}"


def calls_by_kind(faults: Any, start: Spawner) -> dict[str, set[str]]:
    """Return kind of step → what is called; where the child does all, it is known who calls."""
    container = start.spawn.container
    start.spawn = start.spawn._replace(container=replace(container, init=False))
    calls: dict[str, set[str]] = {}
    good = record(faults, start)
    for call in good.calls:
        if call.role.startswith("child"):
            calls.setdefault(kind_of(call, good.plan), set()).add(call.name)
    start.spawn = start.spawn._replace(container=container)
    return calls


@pytest.mark.usefixtures("namespaces", "privileged")
class TestNothingIsForgotten:
    @pytest.fixture
    def recorded(self, faults: Any, tmp_path: Path, make_fault: Any) -> list[Any]:
        found = []
        for name in SPAWNS:
            (tmp_path / name).mkdir()
            with Spawner(name, tmp_path / name) as start:
                found.append(attempt(faults, start))
                good = found[-1]
                ends = [make_fault(c, errno.EPERM) for c in good.calls if c.name == "exit_group"]
                others = before_6_15(good, make_fault), ends
                found += [attempt(faults, start, *failing) for failing in others if failing]
        return found

    def test_every_kind_of_step_is_in_one_of_the_plans(self, recorded: list[Any]) -> None:
        kinds = {name.removeprefix("STEP_").lower() for name in STEP_KINDS.relements} - {"end"}
        planned = {step.kind for result in recorded for step in result.plan}
        assert kinds - planned == set(), "add it to one of SPAWNS"

    def test_every_step_names_the_calls_that_it_makes(self, recorded: list[Any]) -> None:
        made: dict[str, set[str]] = {}
        named: dict[str, set[str]] = {}
        for result in recorded:
            named |= {step.kind: set(step.calls.split()) for step in result.plan}
            for call in result.calls:
                if call.role.startswith("child"):
                    kind = result.plan.steps[call.step].kind
                    made.setdefault(kind, set()).add(call.name.partition(":")[0])
        # any may be timed, and close what it has opened; who has cloned again, or failed, ends
        ends = {"clock_gettime", "close", "exit", "exit_group"}
        assert {k: calls - named[k] for k, calls in made.items() if calls - named[k] - ends} == {}

    def test_every_call_that_a_step_names_is_made(self, recorded: list[Any]) -> None:
        named: dict[str, set[str]] = {}
        made: dict[str, set[str]] = {}
        for result in recorded:
            if isinstance(result.outcome, OSError):
                continue  # what this host lacks
            for step in result.plan:
                named.setdefault(step.kind, set()).update(step.calls.split())
            for call in result.calls:
                kind = kind_of(call, result.plan)
                made.setdefault(kind, set()).add(call.name.partition(":")[0])
        never = {kind: calls - made.get(kind, set()) for kind, calls in named.items()}
        assert {kind: calls for kind, calls in never.items() if calls} == NEVER_MADE

    def test_every_call_of_the_shim_is_made(self, recorded: list[Any]) -> None:
        header = Path(__file__).parents[2] / "csrc" / "raw.h"
        if not header.exists():
            pytest.skip(f"no {header}")
        names = {name.lower() for name in re.findall(r"\b(?:SYS|NR)_(\w+)", header.read_text())}
        made = {call.name.partition(":")[0] for result in recorded for call in result.calls}
        assert names - made == set(), "add to one of SPAWNS what needs it"
