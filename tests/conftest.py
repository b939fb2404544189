"""What this machine allows, found out by trying it; and the guard that nothing is left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pyns import CgroupError, Limits, Namespace
from pyns.cgroups import Cgroup, current, hierarchies
from pyns.signals import signals_blocked
from pyns.template import open_template

INITIAL = "4026531836"  # the PID namespace above all others, PROC_PID_INIT_INO of proc_ns.h


def in_words(error: int) -> str:
    return f"{errno.errorcode.get(error, error)}: {os.strerror(error)}"


def refusal_of_unshare(namespaces: Namespace) -> str | None:
    """Try unshare(2) in a process of its own; for an ordinary user, with a user namespace."""
    if os.geteuid() != 0:
        namespaces |= Namespace.USER
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if libc.unshare(ctypes.c_int(namespaces.value)) == 0 else ctypes.get_errno())
    error = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return in_words(error) if error else None


def pytest_configure() -> None:
    # v2 lets nobody have limited groups below one with processes, such as that of a login
    if os.geteuid() != 0:
        with suppress(CgroupError):
            Cgroup.own(leaf="tests", everyone=True).close()


@pytest.fixture(scope="session")
def _namespaces_refused() -> str | None:
    return refusal_of_unshare(Namespace.MOUNT | Namespace.UTS | Namespace.NET)


@pytest.fixture
def namespaces(_namespaces_refused: str | None) -> None:
    """Skip where this user may not make namespaces."""
    if _namespaces_refused:
        pytest.skip(f"unshare(CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWNET): {_namespaces_refused}")


@pytest.fixture
def privileged() -> None:
    """Skip where ids can't be changed."""
    try:
        os.setgroups(os.getgroups())
    except PermissionError as error:
        pytest.skip(f"setgroups(the same): {error}")


@pytest.fixture(scope="session")
def _limits_refused() -> str | None:
    limits = Limits(memory_max="100M", pids_max=100, cpu_max=1)
    try:
        Cgroup.create(limits=limits).remove()
    except CgroupError as error:
        return str(error)
    return None


@pytest.fixture
def limits(_limits_refused: str | None) -> None:
    """Skip where this user may not make cgroups with memory, pids and cpu limits."""
    if _limits_refused:
        pytest.skip(f"Cgroup.create(limits=memory, pids, cpu): {_limits_refused}")


@pytest.fixture
def core_scheduling_refused() -> int:
    """Try it in a process of its own; the errno, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        os._exit(ctypes.get_errno() if libc.prctl(62, 1, 0, 0, 0) else 0)  # PR_SCHED_CORE_CREATE
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def ordinary() -> None:
    """Skip where the kernel would refuse this user nothing."""
    if os.geteuid() == 0:
        pytest.skip("geteuid() is 0: this is about what is refused to others")


@pytest.fixture
def new_root(tmp_path: Path) -> Path:
    """Make a directory that becomes a root once the host's /usr is bound into it."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        host = Path("/", name)
        if host.is_symlink():
            (root / name).symlink_to(os.readlink(host))
    return root


def children() -> set[int]:
    pids: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            pids.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except FileNotFoundError:
            continue  # a thread that has just ended
    return pids


def fds() -> set[tuple[str, str]]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
        except FileNotFoundError:
            continue  # the listing's own
    return found


def mounts() -> set[str]:
    return set(Path("/proc/self/mountinfo").read_text().splitlines())


def cgroups() -> set[str]:
    """Return the groups below the default parent and below the caller's own."""
    found: set[str] = set()
    for hierarchy, own in current().items():
        default = f"{hierarchy.mount_point}/pyns"
        for parent in {default, hierarchy.directory(own) or default}:
            if parent != hierarchy.mount_point:
                found.update(path for path, _, _ in os.walk(parent) if path != parent)
    return {path for path in found if not is_of_another(path)}


def is_of_another(group: str) -> bool:
    """Whether the group's name says that it belongs to a living process that is not this one."""
    owner, *rest = os.path.basename(group).split("-")
    if INITIAL in rest and os.stat("/proc/self/ns/pid").st_ino != int(INITIAL):
        return True  # of one outside of the container that this one is in
    return owner.isdigit() and int(owner) != os.getpid() and os.path.isdir(f"/proc/{owner}")


def threads() -> set[int]:
    return set(map(int, os.listdir("/proc/self/task")))


WATCHED = {f.__name__: f for f in (children, fds, mounts, cgroups, threads)}


def watch() -> Callable[[], dict[str, object]]:
    """Return a function: what there is that was not there before, as if nobody had made it."""
    before = {name: look() for name, look in WATCHED.items()}

    def look_again() -> dict[str, object]:
        left: dict[str, object] = {}
        for name, look in WATCHED.items():
            # a thread that is joined and a process that is killed are gone a moment later
            for _ in range(100):
                left[name] = look() - before[name]
                if not left[name]:
                    del left[name]
                    break
                time.sleep(0.01)
        return left

    return look_again


@pytest.fixture(scope="session", autouse=True)
def _template() -> None:
    """Have the fd opened that a process keeps."""
    with signals_blocked():
        open_template()


@pytest.fixture(autouse=True)
def leak_guard() -> Iterator[None]:
    """Fail a test that leaves a child, fd, mount, cgroup or thread behind."""
    left_behind = watch()
    yield
    left = left_behind()
    assert not left, f"left behind: {left}"


@pytest.fixture(name="watch", scope="session")
def watch_function() -> Callable[[], Callable[[], dict[str, object]]]:
    """Return the guard's function, for those who look more often."""
    return watch


def pytest_report_header() -> list[str]:
    found = ", ".join(f"v{h.version}[{','.join(h.controllers)}]" for h in hierarchies())
    return [
        f"uid {os.geteuid()}, Linux {os.uname().release}, Python {sys.version.split()[0]}",
        f"cgroup hierarchies: {found or 'none'}",
    ]
