"""Each system call of the caller fails in turn: spawning, and what writes cgroups."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pyns import CgroupError, Container, IdMap, Limits, Namespace, Process, clone_into, init
from pyns.cgroups import Cgroup, Hierarchy, hierarchies, placing, sweep

Told = Callable[[object], tuple[int, int] | None]
Watch = Callable[[], Callable[[], dict[str, object]]]
Task = Callable[[], Any]

PRIVILEGED = os.geteuid() == 0
PLAIN = Container(namespaces=Namespace(0))
LIMITS = Limits(memory_max="50M", pids_max=10, cpu_max=1)

# How the calls of the caller and its helper may fail, all else being right.
FAILURES: dict[str, tuple[int, ...]] = {
    "clone3": (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EPERM),
    "epoll_create1": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "eventfd2": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "faccessat2": (errno.EACCES, errno.ENOMEM),
    "fchmod": (errno.EPERM,),
    "fcntl": (errno.EMFILE,),
    "getcwd": (errno.ENOMEM,),
    "getdents64": (errno.ENOENT, errno.ENOMEM),
    "getxattr": (errno.ENODATA, errno.EOPNOTSUPP),
    "inotify_add_watch": (errno.EACCES, errno.ENOMEM, errno.ENOSPC),
    "inotify_init1": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "ioctl": (errno.ENOTTY,),
    "memfd_create": (errno.EACCES, errno.EMFILE, errno.ENOMEM),
    "mkdir": (
        errno.EACCES,
        errno.EAGAIN,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    ),
    "mmap": (errno.ENOMEM,),
    "openat": (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM),
    "pidfd_open": (errno.EMFILE, errno.ENOMEM),
    "pidfd_send_signal": (errno.ESRCH, errno.EPERM),
    "pipe2": (errno.EMFILE, errno.ENFILE),
    "poll": (errno.ENOMEM,),
    "pread64": (errno.ENODEV, errno.ENOMEM),
    "read": (errno.ENODEV, errno.ENOMEM),
    "rmdir": (errno.EACCES, errno.EBUSY),
    "timerfd_create": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "timerfd_settime": (errno.ECANCELED,),
    "write": (
        errno.EACCES,
        errno.EBUSY,
        errno.EINVAL,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EOPNOTSUPP,
        errno.EPERM,
    ),
    "mount": (errno.EBUSY, errno.EINVAL, errno.ENODEV, errno.ENOENT, errno.EPERM),
    "umount2": (errno.EBUSY, errno.EINVAL, errno.EPERM),
    "writev": (errno.ENOMEM,),
}
# close(2) says EIO of a file that it closes nonetheless, which a fault can't do. The others can't
# fail: a child that is there, signals and memory that are the caller's own; and what Python 3.14
# does for its own in a new thread: its stack, its name, and without the GIL a random number.
INFALLIBLE = {
    *("close", "kill", "prctl:get_dumpable", "prctl:set_dumpable", "wait4"),
    *("getrandom", "prctl:set_name", "sched_getaffinity"),
}


def spawning(container: Any, **options: Any) -> Task:
    """Return what starts a program and waits for it."""

    def start() -> int:
        with clone_into(container, ["/bin/true"], **options) as process:
            process.communicate(timeout=20)
        return process.returncode

    return start


def using_a_group() -> None:
    """Do to a group all that can be done."""
    group = Cgroup.create("faults/group", limits=LIMITS)
    try:
        group.apply(Limits(pids_max=20, memory_max="60M"))
        with clone_into(PLAIN, ["/bin/sleep", "1000"]) as process:
            try:
                group.add(process.pid)
                with may_lack_freezer():
                    group.freeze()
                    group.thaw()
                group.stats()
                group.kill()
            finally:
                process.kill()
    finally:
        remove(group)


def watching_a_group() -> None:
    """Look at a group, and say what devices are for it: a program for the kernel, on v2."""
    group = Cgroup.create("faults/group", limits=Limits(pids_max=10, devices=["c 1:3 rwm"]))
    try:
        with group.watch() as watch:
            watch.wait(timeout=0)
            group.wait_empty(0)
    finally:
        remove(group)


@contextmanager
def may_lack_freezer() -> Iterator[None]:
    """Let it be without what freezes, in a hierarchy that it could do without."""
    try:
        yield
    except CgroupError as error:
        if error.file is not None:
            raise


def remove(group: Cgroup) -> None:
    try:
        group.remove()
    except OSError:
        group.remove()  # what a fault has left is removed by another attempt
        raise


def sleeping(undo: ExitStack) -> Process:
    process = undo.enter_context(clone_into(Container(), ["sleep", "1000"]))
    undo.callback(process.kill)
    return process


def pipes(_: ExitStack) -> Task:
    return spawning(PLAIN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def null(_: ExitStack) -> Task:
    return spawning(PLAIN, stdin=subprocess.DEVNULL)


def with_init(_: ExitStack) -> Task:
    return spawning(Container(init=True, die_with_parent=True))


def map_ids(_: ExitStack) -> Task:
    maps = (IdMap(0, 100000, 10),)
    fields: dict[str, Any] = {"uid_map": maps, "gid_map": maps} if PRIVILEGED else {}
    return spawning(
        Container(namespaces=Namespace.USER, capabilities=(), max_user_namespaces=0, **fields)
    )


def join(undo: ExitStack) -> Task:
    kinds = Namespace.PID | Namespace.UTS | (Namespace(0) if PRIVILEGED else Namespace.USER)
    return spawning(Container(namespaces=Namespace(0), join={kinds: sleeping(undo).pid}))


def enter(undo: ExitStack) -> Task:
    return spawning(sleeping(undo))


def limits(_: ExitStack) -> Task:
    return spawning(Container(namespaces=Namespace(0), limits=LIMITS))


def group(undo: ExitStack) -> Task:
    cgroup = undo.enter_context(Cgroup.create())
    return spawning(Container(namespaces=Namespace(0), cgroup=cgroup))


def cgroup(_: ExitStack) -> Task:
    return using_a_group


def watch_group(_: ExitStack) -> Task:
    return watching_a_group


def own_group(_: ExitStack) -> Task:
    def look() -> None:
        for own in (Cgroup.own(), Cgroup.of(os.getpid())):
            own.close()

    return look


def sweep_strays(_: ExitStack) -> Task:
    # of nobody: pid_max is 2**22
    name = f"999999999-1-{os.stat('/proc/self/ns/pid').st_ino}"

    def make_and_sweep() -> None:
        group = Cgroup.create(name)
        try:
            sweep()
        finally:
            remove(group)

    return make_and_sweep


def mount_hierarchy(undo: ExitStack) -> Task:
    path = undo.enter_context(TemporaryDirectory())

    def mount() -> None:
        hierarchy = Hierarchy.mount(path, name="pyns-faults")
        try:
            hierarchy.unmount()
        except OSError:
            hierarchy.unmount()
            raise

    return mount


TASKS: dict[str, Callable[[ExitStack], Task]] = {
    f.__name__: f
    for f in (
        *(pipes, null, with_init, map_ids, join, enter, limits, group),
        *(cgroup, watch_group, own_group, sweep_strays, mount_hierarchy),
    )
}
# What of a spawn each call is for, if it is for one step.
STEPS = {
    "clone3": {"clone", "birth_in_cgroup", "wait_for_parent"},
    "fchmod": {"execute_init"},
    "memfd_create": {"execute_init", ""},
    "mmap": {"clone", "birth_in_cgroup", "execute_init"},
    "openat": {"wait_for_parent"},
    "pidfd_open": {"clone_again", "die_with_parent"},
    "write": {"wait_for_parent"},
    "writev": {"execute_init"},
}
# Where it goes on all the same, and why: the call, how it fails, and of which files.
GOES_ON = [
    ("ioctl", {errno.ENOTTY}, ""),  # open() asks whether it is a terminal
    ("faccessat2", FAILURES["faccessat2"], ""),  # the caller's own group, then
    ("getxattr", FAILURES["getxattr"], ""),  # it is no leaf
    # a group that only counts is not needed; those above may be there, or gone meanwhile
    ("mkdir", {errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENOENT}, ""),
    ("openat", {errno.EACCES}, "/cgroup.controllers$|/pyns/[^/]*$|/faults/group$"),
    # what this kernel has not; or it is gone with the group
    ("openat", {errno.ENOENT}, "^/sys/fs/cgroup/"),
    ("read", {errno.ENODEV}, "^/sys/fs/cgroup/"),
    ("pread64", {errno.ENODEV}, "^/sys/fs/cgroup/"),
    ("getdents64", {errno.ENOENT}, "^/sys/fs/cgroup/"),
    ("write", {errno.ENODEV}, "/cgroup.kill$"),
    ("rmdir", FAILURES["rmdir"], ""),  # once more
    # what counts for the usage, if it can
    ("write", FAILURES["write"], "/memory.(max_usage_in_bytes|peak)$"),
    ("openat", FAILURES["openat"], "/memory.peak$"),
    ("pidfd_send_signal", {errno.ESRCH}, ""),
    # to be told of v1's ooms takes the right to write
    ("openat", {errno.EACCES}, "/memory.oom_control$|/cgroup.event_control$"),
    ("write", {errno.EACCES, errno.EPERM}, "/cgroup.event_control$"),
    ("pread64", FAILURES["pread64"], "/memory.oom_control$"),  # it is the end of the group
    # whether a child has memory of its own yet: a moment is waited, then
    ("openat", FAILURES["openat"], r"^/proc/\d+/stat$"),
    ("read", FAILURES["read"], r"^/proc/\d+/stat$"),
]


@pytest.fixture(scope="module")
def faults(supervise: Callable[[str], Any]) -> Any:
    return supervise("all")


def may_fail(call: Any) -> bool:
    if call.role not in ("caller", "helper") or call.name in INFALLIBLE:
        return False
    if call.name == "mmap" and call.role == "helper":
        return False  # a thread without memory never says that it has started, and Python waits
    if call.name == "pipe2" and sys.version_info < (3, 11, 4):
        return False  # subprocess itself leaves the pipes that it has made before
    # a group that was made above another: it is tried again at the exit
    return not (call.name == "rmdir" and call.path.endswith("/faults"))


def goes_on(fault: Any) -> bool:
    return any(
        fault.call.name == name and fault.error in errors and re.search(path, fault.call.path)
        for name, errors, path in GOES_ON
    )


def of_a_group(path: str) -> bool:
    """Whether a file is one of a cgroup, and not asked for to find out where there are any."""
    tops = [hierarchy.mount_point for hierarchy in hierarchies()]
    return any(f"{path}/".startswith(f"{top}/") for top in tops) and path not in tops


def check(result: Any, fault: Any, told: Told) -> None:
    """Raise AssertionError unless it is the right exception."""
    call, error, outcome = fault.call, fault.error, result.outcome
    if not isinstance(outcome, Exception):
        assert not result.has_failed or goes_on(fault), f"{fault}: it goes on"
        return
    if call.path.endswith("/cgroup.controllers") and error in (errno.EACCES, errno.ENOENT):
        return  # another mount seems to hide the hierarchy, and nothing is seen of it
    said = f"{fault}: {outcome!r} {getattr(outcome, '__notes__', '')}"
    if call.name == "mmap" and isinstance(outcome, MemoryError):
        return  # the interpreter's own
    if call.path == init.PROGRAM and error == errno.ENOENT:
        assert isinstance(outcome, RuntimeError), said
        return
    assert isinstance(outcome, OSError), said
    if of_a_group(call.path) and not call.path.endswith("/cgroup.controllers"):
        assert isinstance(outcome, CgroupError), said
        assert outcome.errno in (error, errno.EOPNOTSUPP if error == errno.ENOENT else error), said
        assert of_a_group(outcome.file or ""), said
        assert call.name != "write" or outcome.value is not None, said
        return
    steps = told(outcome)
    if steps is not None:
        index, step_error = steps
        kind = result.plan.steps[index].kind if result.plan else ""  # or there was none yet
        if call.name == "clone3" and kind == "wait_for_parent":
            error = errno.EAGAIN  # of a thread, and Python says no more
        assert step_error == error, said
        assert kind in STEPS[call.name], said
        return
    assert outcome.errno == error, said
    if call.name in STEPS:
        named = outcome.filename or getattr(outcome, "file", None)
        assert named or hasattr(outcome, "__notes__"), said


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TASKS)
def test_a_call_that_fails_is_told_and_leaves_nothing(
    name: str, faults: Any, told: Told, make_fault: Any, watch: Watch
) -> None:
    with ExitStack() as undo:
        try:
            task = TASKS[name](undo)
        except OSError as refused:
            pytest.skip(f"without any fault: {refused}")

        def attempt(*fault: Any) -> Any:
            placing.forget()  # each time what the first one does
            return faults.run(task, *fault)

        attempt()  # the first one imports
        good = attempt()
        if isinstance(good.outcome, OSError):
            pytest.skip(f"without any fault: {good.outcome}")
        missed = tried = 0
        for call in filter(may_fail, good.calls):
            for error in FAILURES[call.name]:  # missing: say how it may fail
                fault, left_behind = make_fault(call, error), watch()
                result = attempt(fault)
                missed += not result.has_failed
                tried += 1
                check(result, fault, told)
                left = left_behind()
                assert not left, f"{fault}: left behind: {left}"
        # What is waited for is looked at once or several times, as it comes
        assert missed * 5 < tried, f"{missed} of {tried} calls were not made again"
