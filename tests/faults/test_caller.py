"""Each system call of the caller fails in turn: spawning, and what writes cgroups."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryDirectory
from typing import Any, Self

import pytest

from pyns import CgroupError, Container, IdMap, Limits, Namespace, Process, clone_into, init
from pyns.cgroups import Cgroup, Hierarchy, current, hierarchies, placing, sweep, systemd

Told = Callable[[object], tuple[int, int] | None]
Watch = Callable[[], Callable[[], dict[str, object]]]
Task = Callable[[], Any]

PRIVILEGED = os.geteuid() == 0
PLAIN = Container(namespaces=Namespace(0))
LIMITS = Limits(memory_max="50M", pids_max=10, cpu_max=1)

# How the calls of the caller and its helper may fail, all else being right.
FAILURES: dict[str, tuple[int, ...]] = {
    "bpf:attach": (errno.E2BIG, errno.EINVAL, errno.ENOMEM, errno.EPERM),
    "bpf:detach": (errno.EINVAL, errno.ENOENT, errno.ENOMEM, errno.EPERM),
    "bpf:list": (errno.EINVAL, errno.ENOSYS, errno.EPERM),
    "bpf:load": (errno.EACCES, errno.EINVAL, errno.EMFILE, errno.ENOMEM, errno.EPERM),
    "bpf:look_at": (errno.EINVAL, errno.ENOMEM),
    "bpf:open": (errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.EPERM),
    "clone3": (errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EPERM),
    "connect": (errno.EACCES, errno.EAGAIN, errno.ECONNREFUSED, errno.ENOENT),
    "epoll_create1": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "eventfd2": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "faccessat2": (errno.EACCES, errno.EROFS),
    "fchmod": (errno.EPERM,),
    "fcntl": (errno.EMFILE,),
    "getcwd": (errno.ENOMEM,),
    "getdents64": (errno.ENOENT, errno.ENOMEM),
    "getxattr": (errno.EACCES, errno.ENODATA, errno.ENOMEM, errno.EOPNOTSUPP),
    "inotify_add_watch": (errno.EACCES, errno.ENOMEM, errno.ENOSPC),
    "inotify_init1": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    "ioctl": (errno.ENOTTY,),
    "memfd_create": (errno.EACCES, errno.EMFILE, errno.ENOMEM),
    "mkdir": (
        errno.EACCES,
        errno.EAGAIN,
        errno.EEXIST,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EROFS,
    ),
    "mmap": (errno.ENOMEM,),
    "newfstatat": (errno.EACCES, errno.ENOENT, errno.ENOMEM),
    "openat": (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM),
    "pidfd_open": (errno.EMFILE, errno.ENOMEM),
    "pidfd_send_signal": (errno.ESRCH, errno.EPERM),
    "pipe2": (errno.EMFILE, errno.ENFILE),
    "poll": (errno.ENOMEM,),
    "pread64": (errno.ENODEV, errno.ENOMEM),
    "read": (errno.ENODEV, errno.ENOMEM),
    "recvfrom": (errno.ECONNRESET, errno.ENOMEM),
    "rmdir": (errno.EACCES, errno.EBUSY),
    "sendto": (errno.ENOBUFS, errno.EPIPE),
    "setxattr": (errno.EACCES, errno.ENOSPC, errno.EOPNOTSUPP),
    "socket": (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
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
# fail: a child and fds that are there, signals and memory that are the caller's own; and what
# Python 3.14 does for its own in a new thread: its stack, its name, and without the GIL a random
# number.
INFALLIBLE = {
    *("close", "epoll_wait", "kill", "newfstatat:fd", "wait4"),
    *("prctl:get_dumpable", "prctl:set_dumpable"),
    *("getrandom", "prctl:set_name", "sched_getaffinity"),
}
# What only a group is asked for here, or the scope of one.
OF_A_GROUP = {
    *("bpf:attach", "bpf:detach", "bpf:list", "bpf:load", "bpf:look_at", "bpf:open"),
    *("connect", "epoll_create1", "epoll_ctl", "recvfrom", "sendto", "socket"),
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
    twice(group.remove)  # what a fault has left is removed by another attempt


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


def devices(_: ExitStack) -> Task:
    def change() -> None:
        group = Cgroup.create(limits=Limits(devices=["c 1:3 rwm"]))
        try:
            group.apply(Limits(devices=["c 1:5 r"]))
            group.apply(Limits(devices="max"))
        finally:
            remove(group)

    return change


def own_leaf(undo: ExitStack) -> Task:
    """Leave a v2 group, which nobody else is in, for a child of it."""
    v2 = next((h for h in hierarchies() if h.version == 2), None)
    own = None if v2 is None else v2.directory(current()[v2])
    if v2 is None or own is None:
        pytest.skip(f"no directory of a v2 hierarchy: {current()}")
    group = f"{v2.mount_point if PRIVILEGED else os.path.dirname(own)}/faults"
    os.mkdir(group)
    undo.callback(os.rmdir, group)
    enter_group(group)
    undo.callback(enter_group, own)
    aside = undo.enter_context(ThreadPoolExecutor(1))
    aside.submit(os.getpid).result()  # it has a thread now, none of whose calls fails

    def go_back() -> None:
        if v2.directory(current()[v2]) == f"{group}/main":  # where it has moved, it stays
            enter_group(group)
            os.rmdir(f"{group}/main")

    def leave() -> None:
        try:
            Cgroup.own(leaf="main").close()
        finally:
            aside.submit(go_back).result()

    return leave


def enter_group(path: str) -> None:
    with open(f"{path}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))


def twice(action: Callable[[], None]) -> None:
    try:
        action()
    except OSError:
        action()
        raise


def scope(undo: ExitStack) -> Task:
    pytest.importorskip("jeepney", reason="the extra `systemd` is not installed")
    bus = undo.enter_context(Bus())
    return lambda: systemd.start_scope("pyns-faults.scope", "", bus.address, timeout=20)


class Bus:
    """A D-Bus with a systemd on it that starts what it is told to, or so it says."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        place = self._undo.enter_context(TemporaryDirectory())
        self.address = f"unix:path={place}/bus"
        self._listener = self._undo.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(f"{place}/bus")
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is shut down
                return
            with client, suppress(OSError):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        import jeepney

        told = client.makefile("rb")
        while (line := told.readline()) != b"BEGIN\r\n":
            if not line:
                return
            client.sendall(b"OK 0123\r\n" if b"AUTH" in line else b"ERROR\r\n")
        parser, path = jeepney.Parser(), "/org/freedesktop/systemd1"
        systemd1 = jeepney.DBusAddress(path, interface="org.freedesktop.systemd1.Manager")
        while data := told.read1(4096):
            parser.add_data(data)
            while message := parser.get_next_message():
                member = message.header.fields[jeepney.HeaderFields.member]
                body: tuple[str, tuple[Any, ...]] = {
                    "Hello": ("s", (":1.1",)),
                    "StartTransientUnit": ("o", ("/job/1",)),
                }.get(member, ("", ()))
                answer = jeepney.new_method_return(message, *body)
                client.sendall(answer.serialise(serial=1))
                if member == "StartTransientUnit":
                    said = jeepney.new_signal(
                        systemd1, "JobRemoved", "uoss", (1, "/job/1", "x.scope", "done")
                    )
                    client.sendall(said.serialise(serial=2))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._undo.close()


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
        twice(hierarchy.unmount)

    return mount


TASKS: dict[str, Callable[[ExitStack], Task]] = {
    f.__name__: f
    for f in (
        *(pipes, null, with_init, map_ids, join, enter, limits, group),
        *(cgroup, watch_group, devices, own_group, own_leaf, scope, sweep_strays, mount_hierarchy),
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
NO_LEAF = {errno.ENODATA, errno.EOPNOTSUPP}
NOT_HANDED_DOWN = {
    *(errno.EACCES, errno.EBUSY, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP, errno.EPERM),
}
# Where it goes on all the same, and why: the call, how it fails, and of which files.
GOES_ON = [
    ("ioctl", {errno.ENOTTY}, ""),  # open() asks whether it is a terminal
    ("faccessat2", FAILURES["faccessat2"], ""),  # the caller's own group, then
    ("getxattr", NO_LEAF, ""),
    # a group that only counts is not needed; those above may be there, or gone meanwhile
    ("mkdir", {errno.EACCES, errno.EROFS, errno.EEXIST, errno.ENODEV, errno.ENOENT}, ""),
    ("openat", {errno.EACCES}, "/cgroup.(controllers|subtree_control)$|/pyns/[^/]*$|/group$"),
    # nor are controllers that only count; or the group that is to hand them down is made again
    ("write", NOT_HANDED_DOWN, "/cgroup.subtree_control$"),
    # of a topmost group, below which one may have to be made again
    ("newfstatat", {errno.EACCES}, "^/sys/fs/cgroup/[^/]*/cgroup.procs$"),
    ("openat", {errno.EACCES}, "^/sys/fs/cgroup/[^/]*$"),
    ("newfstatat", FAILURES["newfstatat"], "/pyns$|/faults$"),  # then they are looked for, or made
    # what this kernel has not; or it is gone with the group, and that is made again if need be
    ("newfstatat", {errno.ENOENT}, "/cgroup.procs$"),
    ("openat", {errno.ENOENT}, "^/sys/fs/cgroup(/|$)"),
    ("bpf:open", {errno.ENOENT}, ""),
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
# Where another errno tells it better.
TOLD_AS = {
    ("mkdir", errno.EEXIST): {errno.ENOENT},  # and yet it is not there
    ("newfstatat", errno.ENOENT): {errno.ENODEV},  # the group is removed
    ("openat", errno.ENOENT): {errno.EOPNOTSUPP},  # the controller is not there
    ("write", errno.ENOENT): {errno.EOPNOTSUPP},
}


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
    if call.name == "newfstatat" and not of_a_group(call.path):
        return False  # the interpreter's own
    if call.name == "ioctl" and call.path.startswith("socket:"):
        return False  # whether it is to block
    if call.time > 1 and (call.name == "mount" or re.search(r"^/proc/\d+/stat$", call.path)):
        return False  # once more, while the last hierarchy goes, or until a child has executed
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
    # the caller's own group is another one then, and may be occupied
    if call.name == "faccessat2" or (call.name == "getxattr" and error in NO_LEAF):
        assert isinstance(outcome, CgroupError), said
        assert outcome.errno in (error, errno.EBUSY), said
        return
    if call.name in OF_A_GROUP:
        assert isinstance(outcome, CgroupError), said
        assert outcome.errno == error, said
        return
    if of_a_group(call.path) and not call.path.endswith("/cgroup.controllers"):
        assert isinstance(outcome, CgroupError), said
        assert outcome.errno in (error, *TOLD_AS.get((call.name, error), ())), said
        assert of_a_group(f"{outcome.file}/"), said
        assert call.name != "write" or outcome.value is not None, said
        return
    if call.name == "getxattr":  # it is no leaf then, but a group with processes
        assert isinstance(outcome, CgroupError), said
        assert outcome.errno == errno.EBUSY, said
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
